//! The end of a long-running command: Ctrl-C or SIGTERM. Decides nothing about what ending means.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(feature = "server")]
use tokio_util::sync::CancellationToken;

/// The signals by which a person or a service manager ends the program.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals no longer kill the process.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them. Cancel safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs `server` to its end, which a first signal asks for through `stop`. A second one does
    /// not wait for it.
    #[cfg(feature = "server")]
    pub(crate) async fn run(&mut self, server: impl Future<Output = ()>, stop: &CancellationToken) {
        tokio::pin!(server);
        tokio::select! {
            () = &mut server => return,
            () = self.next() => stop.cancel(),
        }
        tokio::select! {
            () = server => {}
            () = self.next() => {}
        }
    }
}
