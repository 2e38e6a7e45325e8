//! Short conversations with a controller for commands that run once. Decides deadlines, whose right
//! they use, and the advice after a refusal.

use std::time::Duration;

use clap::Args;
use overlan::program::state::{Login, StateDir};
use overlan_protocol::api::{Health, JoinString, ProblemKind, path};
use overlan_protocol::key::Secret;
use overlan_transport::https::{Connection, HttpsError};
use parking_lot::RwLock;

use crate::commands::exit::{Code, Failure};
use crate::commands::secret::{self, SecretSource};
use crate::commands::{environment, upstream};

/// Time for one request, a connection included.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// Connects to the controller of `join`.
pub(crate) async fn open(join: &JoinString) -> Result<Connection, Failure> {
    Ok(Connection::open_through(&upstream::outgoing(), join, WITHIN).await?)
}

/// The API token that commands of a person use in place of a login.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArgs {
    /// File with an API token that admin commands use in place of a login; - is standard input
    /// (or use $OVERLAN_API_TOKEN). Without a login, $OVERLAN_SERVER names the controller
    #[arg(
        long,
        global = true,
        env = "OVERLAN_API_TOKEN_FILE",
        hide_short_help = true,
        value_name = "PATH"
    )]
    api_token_file: Option<SecretSource>,
}

/// The token of this process, from its flag or its environment.
static TOKEN: RwLock<Option<Secret>> = parking_lot::const_rwlock(None);

/// Reads it once, before any command runs.
pub(crate) fn decide(args: &TokenArgs) -> Result<(), Failure> {
    let token = match &args.api_token_file {
        Some(source) => Some(source.read("API token")?),
        None => secret::from_environment(secret::Variable::ApiToken),
    };
    if let Some(token) = &token
        && !token.reveal().starts_with(API_TOKEN_PREFIX)
    {
        let text = format!("the text is not an API token: those begin with {API_TOKEN_PREFIX}");
        return Err(Failure::new(Code::NeedsLogin, text).next(
            "Copy it whole and without quotes; `overlan admin api-token create` prints one.",
        ));
    }
    *TOKEN.write() = token;
    Ok(())
}

/// Connects by the API token of this process, or as the person who logged in.
pub(crate) async fn open_as_person(state: &StateDir) -> Result<Connection, Failure> {
    let token = TOKEN.read().clone();
    if let Some(token) = token {
        let mut connection = open(&server(state)?).await?;
        connection.bearer(&token);
        return Ok(connection);
    }
    let mut session = stored_session(state)?;
    let mut connection = open(&session.join).await?;
    if connection.has_other_cas(&session.join) {
        let health: Health = connection.get(path::HEALTH, WITHIN).await?;
        let cas: Vec<_> = health.cas.iter().filter_map(|ca| ca.parse().ok()).collect();
        if session.join.learn(&cas) {
            state.save_login(&session)?;
        }
    }
    connection.bearer(&session.login.session);
    Ok(connection)
}

/// Returns the controller that commands of a person talk with.
pub(crate) fn controller(state: &StateDir) -> Result<JoinString, Failure> {
    match TOKEN.read().is_some() {
        true => server(state),
        false => Ok(stored_session(state)?.join),
    }
}

/// The controller of an API token: that of the environment, else that of the login.
fn server(state: &StateDir) -> Result<JoinString, Failure> {
    match environment::server()? {
        Some(server) => Ok(server),
        None => state.load_login()?.map(|login| login.join).ok_or_else(|| {
            Failure::usage("an API token is given, and no controller")
                .next("Set OVERLAN_SERVER to its join string.")
        }),
    }
}

/// The stored session, or the advice to log in.
fn stored_session(state: &StateDir) -> Result<Login, Failure> {
    state.load_login()?.ok_or_else(|| {
        let directory = state.path().display();
        let text = format!("nobody is logged in with the state directory {directory}");
        Failure::new(Code::NeedsLogin, text)
            .next("Run `overlan login --server JOIN` first, or name the right --state-dir.")
    })
}

/// Adds to a refusal of a person's session how to get a new one.
pub(crate) fn as_person(error: HttpsError) -> Failure {
    match error.problem() {
        Some(ProblemKind::NotAuthenticated) => {
            Failure::from(error).next("The login has ended: run `overlan login` again.")
        }
        _ => error.into(),
    }
}

/// The first letters of every API token.
const API_TOKEN_PREFIX: &str = "ovt_";
