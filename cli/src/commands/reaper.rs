//! The duty of process 1 of a container: it inherits every orphan and reaps those that have ended.
//! Decides nothing else.

use std::convert::Infallible;
use std::io;

use rustix::process::{WaitOptions, getpid, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Returns true if this is process 1.
pub(crate) fn is_due() -> bool {
    getpid().is_init()
}

/// Reaps orphans, for as long as it is polled. For commands that start no process that they wait
/// for themselves.
pub(crate) async fn run() -> io::Result<Infallible> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        // With or without children: another signal follows when one ends.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        ended.recv().await;
    }
}
