//! `wait`, `status --check` and `status --watch`: whether the running `overlan up` is as somebody
//! needs it. Decides what is missing and which exit code says so.

use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use overlan::program::node::Whois;
use overlan::program::socket::{CallError, Refusal, RefusalKind};
use overlan::program::status::Presence;
use overlan::program::status::{LinkState, State, Status};
use overlan_transport::clock::wall;
use tokio::time::{Instant, sleep_until};

use crate::commands::exit::{Code, Failure};
use crate::commands::stop::Signals;
use crate::commands::up::APPROVE;
use crate::commands::{StateArgs, duration, output, running, waiting};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WaitArgs {
    /// The state to wait for: ready, control (the controller is connected), or peer:NAME (it is
    /// online)
    #[arg(long = "for", default_value = "ready", value_name = "WHAT")]
    what: AwaitedState,
    /// Give up after this time: seconds, or with a unit (2m); 0 = never
    #[arg(
        long,
        env = "OVERLAN_WAIT_TIMEOUT",
        default_value_t = 0,
        value_parser = duration::within::<u32>(duration::ANY),
        value_name = "TIME"
    )]
    timeout: u32,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan up & overlan wait --timeout 60 && deploy
  overlan wait --for peer:db --timeout 120
  overlan wait --for control

It also waits for `overlan up` to be started. Exit codes after --timeout say what is missing: 3 no
`overlan up`, 7 the peer, 8 the controller, 9 a relay, 10 a door is full. 4 at once if the
device is not enrolled any more, 5 if an admin has to let it in.";

/// The question of `status --check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// `overlan up` answers
    Live,
    /// Peers can reach this device, and none of its doors is full
    Ready,
    /// The controller is connected
    Control,
}

/// The state to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AwaitedState {
    /// One of the states.
    Check(Check),
    /// It can reach peers.
    Attached,
    /// A peer that is known to be there, by label or full name.
    Peer(String),
}

impl FromStr for AwaitedState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("peer", name)) if !name.is_empty() => Ok(Self::Peer(name.to_owned())),
            None if text == "ready" => Ok(Self::Check(Check::Ready)),
            None if text == "control" => Ok(Self::Check(Check::Control)),
            None if text == "live" => Ok(Self::Check(Check::Live)),
            Some(_) | None => Err("give ready, control, live or peer:NAME".to_owned()),
        }
    }
}

/// `overlan wait`.
pub(crate) async fn wait(args: WaitArgs) -> Result<(), Failure> {
    until(&args.state, &args.what, args.timeout).await
}

/// Returns when this device reaches peers, at the latest after `timeout` seconds; 0 = never.
pub(crate) async fn until_ready(state: &StateArgs, timeout: u32) -> Result<(), Failure> {
    until(state, &AwaitedState::Attached, timeout).await
}

async fn until(state: &StateArgs, wanted: &AwaitedState, timeout: u32) -> Result<(), Failure> {
    let what = match wanted {
        AwaitedState::Check(Check::Live) => "`overlan up`",
        AwaitedState::Check(Check::Ready) | AwaitedState::Attached => "`overlan up` to be ready",
        AwaitedState::Check(Check::Control) => "the controller",
        AwaitedState::Peer(name) => name,
    };
    waiting::saying(what, ask_until(state, wanted, timeout)).await
}

async fn ask_until(state: &StateArgs, wanted: &AwaitedState, timeout: u32) -> Result<(), Failure> {
    let began = Instant::now();
    let deadline = (timeout > 0).then(|| began + Duration::from_secs(u64::from(timeout)));
    loop {
        let next = Instant::now() + ASK_EVERY;
        let missing = match look(state, wanted).await {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            // It may be started yet, or again.
            Err(failure) if failure.code() == Code::NotRunning => failure,
            Err(failure) => return Err(failure),
        };
        if missing.code() == Code::NeedsLogin {
            return Err(missing);
        }
        if deadline.is_some_and(|deadline| next >= deadline) {
            return Err(missing.next(format!("Waited {timeout} s for it (--timeout).")));
        }
        sleep_until(next).await;
    }
}

async fn look(state: &StateArgs, wanted: &AwaitedState) -> Result<Option<Failure>, Failure> {
    let status = running::ask_status(state).await?;
    let peer = match wanted {
        AwaitedState::Peer(name) => found(running::find(state, name).await?)?,
        AwaitedState::Check(_) | AwaitedState::Attached => Presence::Unknown,
    };
    Ok(missing(&status, wanted, peer))
}

/// Returns true if the peer is there. A peer that is not known yet may come.
///
/// # Errors
/// The name means several devices, which waiting does not change.
fn found(found: Result<Whois, Refusal>) -> Result<Presence, Failure> {
    match found {
        Ok(whois) => Ok(whois.presence),
        Err(refusal) if refusal.kind == RefusalKind::Conflict => {
            Err(CallError::Refused(refusal).into())
        }
        Err(_) => Ok(Presence::Offline),
    }
}

/// `overlan status --check`.
pub(crate) async fn check(state: &StateArgs, check: Check) -> Result<(), Failure> {
    let status = running::ask_status(state).await?;
    match missing(&status, &AwaitedState::Check(check), Presence::Unknown) {
        None => Ok(()),
        Some(missing) => Err(missing),
    }
}

/// `overlan status --watch`: on a terminal the newest table, elsewhere one more whenever something
/// but a counter changed.
pub(crate) async fn watch(state: &StateArgs, json: bool, verbose: bool) -> Result<(), Failure> {
    if io::stdout().is_terminal() && !json {
        return watch_at_terminal(state, verbose).await;
    }
    let mut shown: Option<Status> = None;
    loop {
        let next = Instant::now() + WATCH_EVERY;
        let status = running::ask_status(state).await?;
        if shown.as_ref().is_none_or(|shown| is_news(shown, &status)) {
            if json {
                output::answer(&serde_json::to_string(&status).map_err(io::Error::from)?)?;
            } else {
                output::answer(&status.table(wall(), running::view(verbose)))?;
            }
            shown = Some(status);
        }
        sleep_until(next).await;
    }
}

/// Restores the screen at its end.
async fn watch_at_terminal(state: &StateArgs, verbose: bool) -> Result<(), Failure> {
    // An error before the first table is printed on the screen that stays.
    running::ask_status(state).await?;
    let mut signals = Signals::listen()?;
    output::answer(OTHER_SCREEN)?;
    let showing = async {
        loop {
            let next = Instant::now() + WATCH_EVERY;
            let status = running::ask_status(state).await?;
            let table = status.table(wall(), running::view(verbose));
            output::answer(&format!("{CLEAR}{table}"))?;
            sleep_until(next).await;
        }
    };
    let ended = tokio::select! {
        ended = showing => ended,
        () = signals.next() => Ok(()),
    };
    output::answer(FIRST_SCREEN)?;
    ended
}

/// Returns true if `new` differs in more than counters, round trips and time.
fn is_news(old: &Status, new: &Status) -> bool {
    let bare = |status: &Status| {
        let mut status = status.clone();
        status.counters.clear();
        for full in &mut status.full {
            full.seconds = 0;
        }
        for relay in &mut status.relays {
            relay.round_trip_ms = None;
            relay.round_trip_us = None;
        }
        status
    };
    bare(old) != bare(new)
}

/// Says what is missing; `peer` is what is known of the peer that is waited for.
fn missing(status: &Status, wanted: &AwaitedState, peer: Presence) -> Option<Failure> {
    if *wanted == AwaitedState::Check(Check::Live) {
        return None;
    }
    if status.state == State::NeedsLogin {
        let text = "the controller does not know this device any more";
        return Some(
            Failure::new(Code::NeedsLogin, text)
                .next("`overlan logout`, then `overlan up` enrols it again."),
        );
    }
    let barred = match status.state {
        State::Disabled => Some(Code::Denied),
        State::Expired => Some(Code::NeedsLogin),
        State::Starting
        | State::NeedsLogin
        | State::PendingApproval
        | State::Connecting
        | State::Running
        | State::Stopped => None,
    };
    if let Some(code) = barred {
        let reason = status.control.last_error.clone();
        return Some(Failure::new(code, reason.unwrap_or_default()));
    }
    if status.state == State::PendingApproval {
        let text = "this device waits for the approval of an admin";
        return Some(Failure::new(Code::PendingApproval, text).next(APPROVE));
    }
    match wanted {
        AwaitedState::Check(Check::Live) => None,
        AwaitedState::Check(Check::Ready) => not_attached(status).or_else(|| full(status)),
        AwaitedState::Attached => not_attached(status),
        AwaitedState::Check(Check::Control) => no_control(status),
        AwaitedState::Peer(name) => {
            let text = match peer {
                Presence::Online => return not_attached(status),
                Presence::Unknown => {
                    format!("it is not known yet whether a peer called {name:?} is online")
                }
                Presence::Offline => format!("no peer called {name:?} is online"),
            };
            // Without the controller nobody says who comes.
            no_control(status).or_else(|| Some(Failure::new(Code::TimedOut, text)))
        }
    }
}

fn not_attached(status: &Status) -> Option<Failure> {
    let text = match status.state {
        State::Running => return None,
        State::Stopped => {
            return Some(Failure::new(
                Code::NotRunning,
                "the running `overlan up` is stopping",
            ));
        }
        State::Starting
        | State::Connecting
        | State::NeedsLogin
        | State::Disabled
        | State::Expired
        | State::PendingApproval => "no relay is connected",
    };
    let errors: Vec<String> = status
        .relays
        .iter()
        .filter_map(|relay| Some(format!("{}: {}", relay.name, relay.last_error.as_ref()?)))
        .collect();
    let text = match errors.is_empty() {
        true => text.to_owned(),
        false => format!("{text} ({})", errors.join("; ")),
    };
    Some(Failure::new(Code::RelayUnreachable, text))
}

/// A door that lets nobody in. Others go on, so that only who asks for all of it hears of this.
fn full(status: &Status) -> Option<Failure> {
    let full = status.full.first()?;
    let failure = Failure::new(Code::Full, full.to_string());
    Some(failure.next(full.what_to_do()))
}

fn no_control(status: &Status) -> Option<Failure> {
    if status.control.state == LinkState::Connected {
        return None;
    }
    let text = match &status.control.last_error {
        Some(error) => format!("the controller is not connected: {error}"),
        None => "the controller is not connected".to_owned(),
    };
    Some(Failure::new(Code::ControllerUnreachable, text))
}

/// From one look to the next: a person does not notice it, and the client answers thousands a
/// second.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// From one look of `--watch` to the next.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Begins a screen beside the one that keeps what was shown, by xterm's codes.
const OTHER_SCREEN: &str = "\x1b[?1049h";

/// Goes back to that one.
const FIRST_SCREEN: &str = "\x1b[?1049l";

/// Puts the cursor to the top left corner of an empty screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

#[cfg(test)]
mod tests;
