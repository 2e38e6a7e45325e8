//! Takes connections from a TCP listener of a server. Decides what happens after a failed attempt;
//! the caller decides which connections may stay, and owns their tasks.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::clock;
use crate::reminder::Reminder;

/// A listener that never fails: a failed attempt is logged, at most once a minute, and followed by
/// a pause.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    /// The kind of peers that connect here, for the log.
    whom: &'static str,
    failures: Reminder,
}

impl Incoming {
    /// Takes connections of `whom`, a word such as `clients` for the log.
    #[must_use]
    pub fn new(listener: TcpListener, whom: &'static str) -> Self {
        let failures = Reminder::default();
        Self {
            listener,
            whom,
            failures,
        }
    }

    /// Returns the next connection and its source. Dropping the future loses no connection.
    pub async fn next(&self) -> (TcpStream, SocketAddr) {
        loop {
            let error = match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => error,
            };
            let whom = self.whom;
            match self.failures.due(clock::now()) {
                Some(times) => tracing::warn!(
                    %error, times,
                    "cannot accept connections of {whom}; \
                    if too many files are open, raise the limit of open files"
                ),
                None => tracing::debug!(%error, "cannot accept connections of {whom}"),
            }
            sleep(PAUSE).await;
        }
    }
}

/// Pause after a failed attempt: the system lacks a resource, and only time brings it back.
const PAUSE: Duration = Duration::from_millis(100);
