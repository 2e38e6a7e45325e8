//! `controller`: runs a controller in the foreground, and makes its first account. Decides where
//! settings come from and what is printed for the operator. The controller crate decides what a
//! controller does. `recover` is the way back for an owner. `backup` copies its state.

mod backup;
mod recover;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use overlan::program::state::Login;
use overlan_controller::{
    Config, Controller, IssuerAddresses, ResetError, StartError, reset_password,
};
use overlan_protocol::api::{JoinString, ProblemKind, SetupRequest, SetupResponse, path};
use overlan_protocol::key::Secret;
use overlan_transport::https::HttpsError;
use tokio_util::sync::CancellationToken;

use crate::commands::exit::{Code, Failure};
use crate::commands::secret::{self, SecretSource};
use crate::commands::state_dir::default_dir;
use crate::commands::stop::Signals;
use crate::commands::{StateArgs, api, login, output, port, prompt};

#[derive(Debug, Subcommand)]
pub(crate) enum ControllerCommand {
    /// Run a controller until Ctrl-C or SIGTERM
    Serve(ControllerServeArgs),
    /// Create the owner's account, the organisation and its first network on a new controller
    Init(InitArgs),
    /// Write database and keys to one new file while the controller runs
    #[command(after_help = backup::BACKUP_EXAMPLES)]
    Backup(backup::BackupArgs),
    /// Restore a backup into a new data directory
    #[command(after_help = backup::RESTORE_EXAMPLES)]
    Restore(backup::RestoreArgs),
    /// Replace a key by a new one
    #[command(subcommand)]
    Rotate(backup::RotateCommand),
    /// Set a new password for an account whose password is lost; on the controller's machine, while
    /// it runs or not
    ResetPassword(ResetArgs),
    /// Make an account an owner of an organisation, with a new password, if its owners are locked
    /// out; on the controller's machine, while it runs or not
    Recover(recover::RecoverArgs),
    /// Print the OpenAPI 3.1 document of the API for people and programs
    #[command(after_help = OPENAPI_EXAMPLES)]
    Openapi,
}

const OPENAPI_EXAMPLES: &str = "\
Examples:
  overlan controller openapi > openapi.json
  overlan controller openapi | jq -r '.paths | keys[]'

A running controller answers GET /api/v1/openapi.json with the same.";

#[derive(Debug, Args)]
#[command(after_help = RESET_EXAMPLES)]
pub(crate) struct ResetArgs {
    /// Directory of the controller [default: $XDG_STATE_HOME/overlan-controller or
    /// ~/.local/state/overlan-controller]
    #[arg(long, aliases = ["state-dir", "state"], env = "OVERLAN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The account; asked for on a terminal
    #[arg(long, env = "OVERLAN_EMAIL")]
    email: Option<String>,
    /// Read the new password from standard input instead of asking (or use $OVERLAN_PASSWORD)
    #[arg(long)]
    password_stdin: bool,
}

const RESET_EXAMPLES: &str = "\
Examples:
  overlan controller reset-password --email you@example.com
  pass show overlan | overlan controller reset-password --data-dir /var/lib/overlan \\
    --email you@example.com --password-stdin";

#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct ControllerServeArgs {
    /// Directory for database and keys [default: $XDG_STATE_HOME/overlan-controller or
    /// ~/.local/state/overlan-controller]
    #[arg(long, aliases = ["state-dir", "state"], env = "OVERLAN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address for devices, relays and people
    #[arg(
        long,
        env = "OVERLAN_CONTROLLER_LISTEN",
        default_value = "0.0.0.0:8443",
        value_parser = port::listen_address,
        value_name = "ADDR"
    )]
    listen: SocketAddr,
    /// HOST:PORT by which others reach it; goes into the join string and the certificate [default:
    /// the address of --listen]
    #[arg(
        long,
        alias = "address",
        env = "OVERLAN_PUBLIC_ADDRESS",
        value_parser = port::public_address,
        value_name = "HOST:PORT"
    )]
    public_address: Option<String>,
    /// Domain of all names in the overlay: host.network.DOMAIN
    #[arg(long, env = "OVERLAN_DOMAIN", default_value = "overlan.internal")]
    domain: String,
    /// Most devices that one organisation may have [default: no limit]
    #[arg(long, env = "OVERLAN_DEVICES_PER_ORGANISATION", value_name = "N")]
    devices_per_organisation: Option<u32>,
    /// Most devices that one person may enrol by logging in [default: no limit]
    #[arg(long, env = "OVERLAN_DEVICES_PER_PERSON", value_name = "N")]
    devices_per_person: Option<u32>,
    /// Loopback address for /metrics, /healthz and /readyz, without authentication
    #[arg(
        long,
        env = "OVERLAN_CONTROLLER_METRICS",
        value_name = "ADDR",
        value_parser = port::listen_address
    )]
    metrics: Option<SocketAddr>,
    /// Private addresses at which the issuer of a trust rule may be, such as a GitLab of your own:
    /// HOST=ADDRESS/BITS; repeat it, or separate them by commas. Others are not connected to
    #[arg(
        long,
        env = "OVERLAN_CONTROLLER_ISSUER_ADDRESSES",
        value_delimiter = ',',
        value_name = "RANGE"
    )]
    issuer_addresses: Vec<IssuerAddresses>,
    /// Let strangers make organisations of their own: `overlan signup`
    #[arg(long, env = "OVERLAN_SIGN_UP")]
    sign_up: bool,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  overlan controller serve --public-address controller.example:8443
  At the first start it prints a setup token. Then, anywhere:
    overlan controller init --server \"$JOIN\" --email you@example.com --organisation Acme";

#[derive(Debug, Args)]
#[command(after_help = INIT_EXAMPLES)]
pub(crate) struct InitArgs {
    /// Join string of the controller, as `overlan controller serve` prints it
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    server: JoinString,
    /// The owner's account; asked for on a terminal
    #[arg(long, env = "OVERLAN_EMAIL")]
    email: Option<String>,
    /// Name of the organisation
    #[arg(long, env = "OVERLAN_ORGANISATION", value_name = "NAME")]
    organisation: String,
    /// Name of the first network, a part of names: host.NETWORK.domain
    #[arg(
        long,
        env = "OVERLAN_NETWORK",
        default_value = "home",
        value_name = "NAME"
    )]
    network: String,
    /// File with the setup token; - is a line of standard input (or use $OVERLAN_SETUP_TOKEN)
    #[arg(long, env = "OVERLAN_SETUP_TOKEN_FILE", value_name = "PATH")]
    setup_token_file: Option<SecretSource>,
    /// Read the password from standard input, after the setup token if that comes from there, too
    /// (or use $OVERLAN_PASSWORD)
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    state: StateArgs,
}

const INIT_EXAMPLES: &str = "\
Examples:
  overlan controller init --server \"$JOIN\" --email you@example.com --organisation Acme
  printf '%s\\n%s\\n' \"$TOKEN\" \"$PASSWORD\" | overlan controller init --server \"$JOIN\" \\
    --email you@example.com --organisation Acme --setup-token-file - --password-stdin";

/// `overlan controller …`.
pub(crate) async fn run(command: ControllerCommand) -> Result<(), Failure> {
    match command {
        ControllerCommand::Serve(args) => serve(args).await,
        ControllerCommand::Init(args) => init(args).await,
        ControllerCommand::Backup(args) => backup::write(args).await,
        ControllerCommand::Restore(args) => backup::restore(args).await,
        ControllerCommand::Rotate(backup::RotateCommand::TicketKey(args)) => {
            backup::rotate_ticket_key(args)
        }
        ControllerCommand::ResetPassword(args) => reset(args).await,
        ControllerCommand::Recover(args) => recover::run(args).await,
        ControllerCommand::Openapi => output::json(&overlan_controller::openapi()),
    }
}

async fn serve(args: ControllerServeArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let data_dir = match args.data_dir {
        Some(path) => path,
        None => default_dir("overlan-controller", "--data-dir")?,
    };
    let controller = Controller::bind(Config {
        public_address: args.public_address,
        domain: args.domain,
        metrics: args.metrics,
        devices_per_organisation: args.devices_per_organisation,
        devices_per_person: args.devices_per_person,
        issuer_addresses: args.issuer_addresses,
        sign_up: args.sign_up,
        ..Config::new(args.listen, data_dir)
    })
    .await?;
    output::greeting(&greeting(
        controller.local_addr(),
        &controller.join(),
        controller.metrics_addr(),
        controller.setup_token().as_ref(),
    ));
    let stop = CancellationToken::new();
    signals.run(controller.run(stop.clone()), &stop).await;
    Ok(())
}

/// Prints what the operator needs. The token is shown here and nowhere else.
fn greeting(
    address: SocketAddr,
    join: &JoinString,
    metrics: Option<SocketAddr>,
    setup_token: Option<&Secret>,
) -> String {
    let mut text = format!("controller listens on {address}\njoin string: {join}\n");
    if let Some(metrics) = metrics {
        text.push_str(&format!("metrics on http://{metrics}/metrics\n"));
    }
    if address.ip().is_unspecified() && matches!(join.server.host(), "127.0.0.1" | "::1") {
        text.push_str(
            "Only this machine can use this join string; --public-address HOST:PORT \
            makes one for others.\n",
        );
    }
    if let Some(token) = setup_token {
        text.push_str(&format!(
            "setup token: {}\nNot set up yet. Next: overlan controller init --server '{join}' \
             --email EMAIL --organisation NAME\n",
            token.reveal()
        ));
    }
    text
}

async fn init(args: InitArgs) -> Result<(), Failure> {
    let state = args.state.create()?;
    let setup_token = setup_token(args.setup_token_file.as_ref())?;
    let email = login::email(args.email)?;
    let password = login::new_password(args.password_stdin)?;
    let request = SetupRequest {
        setup_token,
        email,
        password,
        organisation: args.organisation,
        network: args.network,
    };
    let mut connection = api::open(&args.server).await?;
    let made: SetupResponse = connection
        .post(path::SETUP, &request, api::WITHIN)
        .await
        .map_err(setup_refused)?;
    state.save_login(&Login {
        join: args.server,
        login: made.session,
    })?;
    output::note(&format!(
        "Organisation {} with network {} is set up, and {} is logged in here.\n\
         Next, a relay:   overlan admin relay-token create NAME > token.txt\n\
         Then, devices:   overlan admin auth-key create > key.txt",
        request.organisation, request.network, request.email
    ));
    Ok(())
}

fn setup_refused(error: HttpsError) -> Failure {
    match error.problem() {
        Some(ProblemKind::SetupRefused) => Failure::from(error).next(
            "The token is in the output of the last start of `overlan controller serve`; once it \
             is set up, use `overlan login`.",
        ),
        Some(_) | None => error.into(),
    }
}

fn setup_token(file: Option<&SecretSource>) -> Result<Secret, Failure> {
    if let Some(source) = file {
        return source.read("setup token");
    }
    if let Some(token) = secret::from_environment(secret::Variable::SetupToken) {
        return Ok(token);
    }
    if prompt::can_ask() {
        return prompt::ask_hidden("Setup token");
    }
    Err(Failure::new(
        Code::NeedsLogin,
        "no setup token is given, and there is no terminal to ask on",
    )
    .next("Use --setup-token-file or $OVERLAN_SETUP_TOKEN."))
}

async fn reset(args: ResetArgs) -> Result<(), Failure> {
    let data_dir = match args.data_dir {
        Some(path) => path,
        None => default_dir("overlan-controller", "--data-dir")?,
    };
    let email = login::email(args.email)?;
    let password = login::new_password(args.password_stdin)?;
    let ended = reset_password(&data_dir, &email, &password).await?;
    output::note(&format!(
        "The password of {email} is set, and its logins have ended ({ended}). Next: overlan login \
         --email {email}"
    ));
    Ok(())
}

impl From<ResetError> for Failure {
    fn from(error: ResetError) -> Self {
        let code = match error {
            ResetError::NoDatabase(_)
            | ResetError::NoAccount { .. }
            | ResetError::Organisation(_)
            | ResetError::Password(_) => Code::Usage,
            ResetError::Failed(_) => Code::Other,
        };
        Self::new(code, error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::PortInUse { .. } => {
                Self::new(Code::Other, error).next("Give --listen another port.")
            }
            StartError::Name { .. } => Self::new(Code::Usage, error)
                .next("See --domain and --public-address in `overlan controller serve --help`."),
            StartError::MetricsPublic { .. } => Self::new(Code::Usage, error).next(
                "Give --metrics 127.0.0.1:9465, and let the collector come by a proxy that asks \
                 who it is, or by an SSH tunnel.",
            ),
            StartError::Listen { .. }
            | StartError::DataDir { .. }
            | StartError::DataDirInUse { .. }
            | StartError::Database { .. }
            | StartError::DataDirUnfit { .. }
            | StartError::DatabaseLost { .. }
            | StartError::File { .. }
            | StartError::Keys { .. } => Self::new(Code::Other, error),
        }
    }
}

#[cfg(test)]
mod tests;
