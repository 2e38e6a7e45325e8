//! One line for a person who waits: after a second at a terminal it says for what, and it is erased
//! when that has come. Scripts see nothing of it.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::commands::{output, terminal};

/// Does `work`, and says that it waits for `what` if that takes its time.
pub(crate) async fn saying<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = line(what) => match never {},
    }
}

/// Says that it waits for `what` until `came` says so. Never returns.
pub(crate) async fn until_came(what: &str, mut came: watch::Receiver<bool>) -> Infallible {
    {
        let came = pin!(came.wait_for(|came| *came));
        tokio::select! {
            biased;
            _ = came => {}
            never = line(what) => match never {},
        }
    }
    std::future::pending().await
}

/// Shows the line after a while; dropping this erases it.
async fn line(what: &str) -> Infallible {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    sleep(PATIENCE).await;
    let text = format!("Waiting for {what} (Ctrl-C ends it) …");
    let _erased = match terminal::knows_codes() {
        true => {
            output::begin(&text);
            Some(WaitingLine)
        }
        false => {
            output::note(&text);
            None
        }
    };
    std::future::pending().await
}

struct WaitingLine;

impl Drop for WaitingLine {
    fn drop(&mut self) {
        output::begin(ERASE);
    }
}

/// Time after which a person wonders about silence.
const PATIENCE: Duration = Duration::from_secs(1);

/// Goes to the beginning of the line and clears it, by the codes of ECMA-48.
const ERASE: &str = "\r\x1b[K";
