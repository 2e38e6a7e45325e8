//! `login` and `logout`: a person's session, and the end of this device. Decides where credentials
//! come from and what is forgotten in which order; `invitation` accepts one, `sso` logs in by an
//! identity provider, `request` waits for what is granted elsewhere.

pub(crate) mod invitation;
mod request;
mod sso;

use clap::Args;
use overlan::program::enrol::{ForgetError, forget, is_gone};
use overlan::program::socket::{CallError, Request, call_until_stopped};
use overlan::program::state::{Login, StateDir, StateError};
use overlan_protocol::api::{
    JoinString, LoginRequest, LoginResponse, PASSWORD_MIN, ProblemKind, path,
};
use overlan_protocol::key::Secret;
use overlan_protocol::proof::Principal;
use overlan_transport::https::{Connection, HttpsError};

use crate::commands::exit::{Code, Failure};
use crate::commands::secret::SecretSource;
use crate::commands::{StateArgs, api, output, prompt, secret, upstream};

#[derive(Debug, Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArgs {
    /// Join string of the controller, as `overlan controller serve` prints it
    /// [default: that of the last login or enrolment]
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    server: Option<JoinString>,
    /// Account; asked for on a terminal
    #[arg(long, env = "OVERLAN_EMAIL")]
    email: Option<String>,
    /// Organisation, by name or number, for an account that is in several
    #[arg(long, env = "OVERLAN_ORGANISATION", value_name = "NAME")]
    organisation: Option<String>,
    /// Accept an invitation: file with its link; - is a line of standard input (or use
    /// $OVERLAN_INVITATION)
    #[arg(long, env = "OVERLAN_INVITATION_FILE", value_name = "PATH")]
    invitation_file: Option<SecretSource>,
    /// Accept an invitation whose link is asked for
    #[arg(long, conflicts_with = "invitation_file")]
    invitation: bool,
    /// Read the password from standard input instead of asking, after the link if that comes from
    /// there, too (or use $OVERLAN_PASSWORD)
    #[arg(long)]
    password_stdin: bool,
    /// Log in by the organisation's identity provider, in a browser
    #[arg(long, conflicts_with_all = ["email", "password_stdin", "invitation", "invitation_file"])]
    sso: bool,
    /// Print the address for the browser, and start none
    #[arg(long, requires = "sso")]
    no_browser: bool,
    /// Show a code that a person enters where they are logged in: `overlan session approve CODE`
    #[arg(
        long,
        conflicts_with_all =
            ["email", "organisation", "password_stdin", "invitation", "invitation_file", "sso"]
    )]
    device_code: bool,
    #[command(flatten)]
    state: StateArgs,
}

const LOGIN_EXAMPLES: &str = "\
Examples:
  overlan login --server 'https://controller.example:8443#sha256:…' --email you@example.com
  pass show overlan | overlan login --email you@example.com --password-stdin
  overlan login --organisation Acme        one of several that the account is in
  overlan login --sso                      by the organisation's identity provider
  overlan login --device-code              by a code, where no password is to be typed
  overlan login --invitation-file link.txt";

/// `overlan login`.
pub(crate) async fn login(args: LoginArgs) -> Result<(), Failure> {
    let state = args.state.create()?;
    let link = invitation::given(args.invitation_file.as_ref(), args.invitation)?;
    if let Some(link) = link {
        let accepted = invitation::accept(&state, &link, args.server, args.password_stdin);
        let login = accepted.await?;
        output::note(&format!(
            "{} is in {} now, and logged in here. Next, this device: overlan up",
            login.email, login.organisation
        ));
        return Ok(());
    }
    let join = match args.server {
        Some(join) => join,
        None => known_server(&state)?,
    };
    let login = if args.sso {
        sso::log_in(&state, &join, args.organisation, !args.no_browser).await?
    } else if args.device_code {
        request::log_in_by_code(&state, &join).await?
    } else {
        let who = Who {
            email: args.email,
            organisation: args.organisation,
        };
        log_in_asking(&state, join, who, args.password_stdin).await?
    };
    output::note(&format!(
        "Logged in as {} ({}).",
        login.email, login.organisation
    ));
    Ok(())
}

/// The person who logs in, as far as that is given.
#[derive(Debug, Default)]
pub(crate) struct Who {
    pub(crate) email: Option<String>,
    /// Name or number of one of several organisations.
    pub(crate) organisation: Option<String>,
}

/// Logs in by what is given, and asks a person for the rest. Who mistypes a password is asked
/// again.
pub(crate) async fn log_in_asking(
    state: &StateDir,
    join: JoinString,
    who: Who,
    from_stdin: bool,
) -> Result<LoginResponse, Failure> {
    let mut request = LoginRequest {
        email: email(who.email)?,
        password: Secret::new(""),
        organisation: who.organisation,
    };
    let mut tries = match asks_for_password(from_stdin) {
        true => TRIES,
        false => 1,
    };
    loop {
        request.password = password(from_stdin)?;
        tries -= 1;
        match log_in_choosing(state, &join, &mut request).await {
            Err(failure) if tries > 0 && failure.code() == Code::NeedsLogin => {
                output::note(&format!("{failure}. Try again, or end by Ctrl-C."));
            }
            done => return done,
        }
    }
}

/// Logs in; a person whose account is in several organisations is asked for one.
async fn log_in_choosing(
    state: &StateDir,
    join: &JoinString,
    request: &mut LoginRequest,
) -> Result<LoginResponse, Failure> {
    match log_in(state, join, request).await {
        Err(error) if is_choice(&error) && request.organisation.is_none() && prompt::can_ask() => {
            output::note(&error.to_string());
            request.organisation = Some(prompt::ask("Organisation")?);
            Ok(log_in(state, join, request).await?)
        }
        Err(error) if is_choice(&error) => {
            Err(Failure::from(error).next("Give --organisation NAME."))
        }
        done => Ok(done?),
    }
}

fn is_choice(error: &LoginError) -> bool {
    match error {
        LoginError::Controller(error) => error.problem() == Some(ProblemKind::ChooseOrganisation),
        LoginError::State(_) => false,
    }
}

/// The reason why a login failed.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    /// The controller refused, or was not reached.
    #[error(transparent)]
    Controller(#[from] HttpsError),
    /// The session could not be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Controller(error) => error.into(),
            LoginError::State(error) => error.into(),
        }
    }
}

/// Times that a person may mistype a password, as `login` and `sudo` count.
const TRIES: u32 = 3;

/// Logs in and keeps the session.
async fn log_in(
    state: &StateDir,
    join: &JoinString,
    request: &LoginRequest,
) -> Result<LoginResponse, LoginError> {
    let mut connection = Connection::open_through(&upstream::outgoing(), join, api::WITHIN).await?;
    // Strangers who fail at this account do not delay one of its own devices.
    if let Ok(Some(device)) = state.load_device()
        && device.join.is_known_as(join)
    {
        connection.prove(Principal::Device(device.device), &device.identity);
    }
    let login: LoginResponse = connection.post(path::LOGIN, request, api::WITHIN).await?;
    state.save_login(&Login {
        join: join.clone(),
        login: login.clone(),
    })?;
    Ok(login)
}

/// The controller of the stored session or device.
fn known_server(state: &StateDir) -> Result<JoinString, Failure> {
    if let Some(session) = state.load_login()? {
        return Ok(session.join);
    }
    if let Some(device) = state.load_device()? {
        return Ok(device.join);
    }
    Err(Failure::usage("no controller is known here yet")
        .next("Give --server JOIN; `overlan controller serve` prints the join string."))
}

/// The account: the flag's, or asked for.
pub(crate) fn email(given: Option<String>) -> Result<String, Failure> {
    match given {
        Some(email) => Ok(email),
        None if prompt::can_ask() => prompt::ask("Email"),
        None => Err(Failure::new(
            Code::NeedsLogin,
            "no account is given, and there is no terminal to ask on",
        )
        .next("Give --email or $OVERLAN_EMAIL.")),
    }
}

/// The password: from standard input, the environment, or asked for.
pub(crate) fn password(from_stdin: bool) -> Result<Secret, Failure> {
    if from_stdin {
        return SecretSource::Stdin.read("password");
    }
    if let Some(password) = secret::from_environment(secret::Variable::Password) {
        return Ok(password);
    }
    if prompt::can_ask() {
        return prompt::ask_hidden("Password");
    }
    Err(Failure::new(
        Code::NeedsLogin,
        "no password is given, and there is no terminal to ask on",
    )
    .next("Use --password-stdin or $OVERLAN_PASSWORD."))
}

/// A password for a new account. A person types it twice.
pub(crate) fn new_password(from_stdin: bool) -> Result<Secret, Failure> {
    let new = password(from_stdin)?;
    if new.reveal().chars().count() < PASSWORD_MIN {
        return Err(Failure::usage(format!(
            "the password is shorter than {PASSWORD_MIN} characters; a few words in a row do well"
        )));
    }
    if asks_for_password(from_stdin) && prompt::ask_hidden("Password again")? != new {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(new)
}

/// Returns true if [`password`] asks a person.
pub(crate) fn asks_for_password(from_stdin: bool) -> bool {
    !from_stdin && secret::from_environment(secret::Variable::Password).is_none()
}

/// `overlan logout`.
pub(crate) async fn logout(args: &StateArgs) -> Result<(), Failure> {
    let state = args.open()?;
    let left = Left::find(&state)?;
    // A running client holds the directory; it forgets the device itself and stops.
    let forgotten = match call_until_stopped(&state.socket_path(), &Request::Logout).await {
        Ok(_) => Ok(()),
        Err(CallError::NotRunning(_)) => {
            let _lock = state.exists().then(|| state.lock()).transpose()?;
            forget(&state, &upstream::outgoing(), api::WITHIN)
                .await
                .map_err(Failure::from)
        }
        Err(error) => Err(error.into()),
    };
    // Also where the device could not be removed: after a logout no login stays here.
    forget_session(&state).await?;
    forgotten?;
    output::note(&left.summary(&state.path().display().to_string()));
    Ok(())
}

/// The device, the services and the login that a logout removes.
#[derive(Debug, Default)]
struct Left {
    /// The label of the device.
    device: Option<String>,
    /// The account of the login.
    account: Option<String>,
    /// Services and routes.
    served: usize,
}

impl Left {
    fn find(state: &StateDir) -> Result<Self, Failure> {
        // What is damaged is removed, too.
        let damaged = || "with damaged keys".to_owned();
        let device = match state.load_device() {
            Ok(device) => device.map(|device| device.label),
            Err(StateError::Corrupt { .. }) => Some(damaged()),
            Err(error) => return Err(error.into()),
        };
        let account = match state.load_login() {
            Ok(session) => session.map(|session| session.login.email),
            Err(StateError::Corrupt { .. }) => Some("somebody".to_owned()),
            Err(error) => return Err(error.into()),
        };
        let serves = state.load_serves().map_or(0, |serves| serves.len());
        let routes = state.load_routes().ok().flatten();
        Ok(Self {
            device,
            account,
            served: serves + routes.map_or(0, |routes| routes.len()),
        })
    }

    fn summary(&self, directory: &str) -> String {
        let mut parts = Vec::new();
        if let Some(device) = &self.device {
            parts.push(format!(
                "device {device} is removed, here and at the controller"
            ));
        }
        match self.served {
            0 => {}
            1 => parts.push("1 service is no longer served".to_owned()),
            many => parts.push(format!("{many} services are no longer served")),
        }
        if let Some(account) = &self.account {
            parts.push(format!("the login of {account} has ended"));
        }
        match parts.is_empty() {
            true => format!("Nobody was logged in: {directory} holds no device and no login."),
            false => format!("Logged out: {}.", parts.join("; ")),
        }
    }
}

impl From<ForgetError> for Failure {
    fn from(error: ForgetError) -> Self {
        let next = error.next_step();
        let failure = match error {
            ForgetError::State(error) => return error.into(),
            ForgetError::NotReported(_) => Self::new(Code::ControllerUnreachable, error),
            ForgetError::NoKeys(_) => Self::new(Code::Other, error),
        };
        failure.next_if(next)
    }
}

async fn forget_session(state: &StateDir) -> Result<(), Failure> {
    match state.load_login() {
        Ok(None) => return Ok(()),
        Ok(Some(session)) => {
            // Its end comes by itself within days; a controller that is away is no reason to keep
            // it.
            if let Err(error) = end_session(&session).await {
                output::note(&format!(
                    "The controller could not end the login, which ends by itself in some days: \
                     {error}"
                ));
            }
        }
        Err(StateError::Corrupt { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(state.remove_login()?)
}

async fn end_session(session: &Login) -> Result<(), HttpsError> {
    let mut connection =
        Connection::open_through(&upstream::outgoing(), &session.join, api::WITHIN).await?;
    connection.bearer(&session.login.session);
    is_gone(connection.delete(path::SESSION, api::WITHIN).await)
}

#[cfg(test)]
pub(crate) mod tests;
