//! Short conversations with a controller for commands that run once. Decides deadlines, and the
//! advice after a refusal.

use std::time::Duration;

use overlan::program::state::{Login, StateDir};
use overlan_protocol::api::{JoinString, ProblemKind};
use overlan_transport::https::{Connection, HttpsError};

use crate::cli::exit::{Code, Failure};
use crate::cli::upstream;

/// Time for one request, a connection included.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// Connects to the controller of `join`.
pub(crate) async fn open(join: &JoinString) -> Result<Connection, Failure> {
    Ok(Connection::open_through(&upstream::outgoing(), join, WITHIN).await?)
}

/// Connects as the person who logged in.
pub(crate) async fn open_as_person(state: &StateDir) -> Result<Connection, Failure> {
    let session = stored_session(state)?;
    let mut connection = open(&session.join).await?;
    connection.bearer(&session.login.session);
    Ok(connection)
}

/// The stored session, or the advice to log in.
pub(crate) fn stored_session(state: &StateDir) -> Result<Login, Failure> {
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
