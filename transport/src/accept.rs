//! Takes connections from a TCP listener of a server. Decides what happens after a failed attempt;
//! who may stay, and the tasks of those who do, are the caller's business.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::clock;
use crate::reminder::Reminder;

/// A listener that never fails: what cannot be accepted is logged, at most once a minute, and
/// waited out.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    /// Who connects here, for the log.
    whom: &'static str,
    failures: Reminder,
}

impl Incoming {
    /// Takes connections of `whom`, such as `clients`.
    #[must_use]
    pub fn new(listener: TcpListener, whom: &'static str) -> Self {
        let failures = Reminder::default();
        Self {
            listener,
            whom,
            failures,
        }
    }

    /// Returns the next connection and where it comes from. Dropping the future loses none.
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
                    "cannot accept {whom}; if files are too many, raise the limit of open files"
                ),
                None => tracing::debug!(%error, "cannot accept {whom}"),
            }
            sleep(PAUSE).await;
        }
    }
}

/// Pause after a failed attempt: the system lacks something that only time gives back.
const PAUSE: Duration = Duration::from_millis(100);
