//! A device that is up: waits until it is ready, says so, and stays until somebody stops it or it
//! cannot go on. Decides what the person hears; the daemon carries it out.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overlan::program::Daemon;
use overlan::program::answers::Answers;
use overlan::program::controller_session::Health;
use overlan::program::listeners::Listeners;
use overlan::program::node::{CONFIRM_WITHIN, Node, NodeError, NodeOptions, NotReady};
use overlan::program::notify::Announcer;
use overlan::program::socket::{ControlSocket, StopWaiters};
use overlan::program::state::{Device, DirLock, StateDir};
use overlan_protocol::api::Bar;

use super::ready::line;
use super::reload::{Hangup, Reload};
use super::steps::Steps;
use super::{UpArgs, within};
use crate::commands::exit::{Code, Failure};
use crate::commands::stop::Signals;
use crate::commands::{log, output, upstream, waiting};

/// One run of `up` in its state directory.
pub(super) struct UpRun<'a> {
    pub(super) args: &'a UpArgs,
    pub(super) state: &'a Arc<StateDir>,
    pub(super) lock: &'a DirLock,
    pub(super) announcer: &'a Announcer,
    pub(super) signals: &'a mut Signals,
}

/// The reason for which `up` ended by itself.
#[derive(Debug)]
pub(super) enum UpEnd {
    /// The controller does not know this device any more.
    Removed(Failure),
    /// The device has to prove its right again.
    Expired(Failure),
    /// Another one.
    Failed(Failure),
}

impl From<UpEnd> for Failure {
    fn from(ended: UpEnd) -> Self {
        match ended {
            UpEnd::Removed(failure) | UpEnd::Expired(failure) | UpEnd::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for UpEnd {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl UpRun<'_> {
    /// Runs `device` for `listeners` until it is stopped or cannot go on. Dropping `askers` answers
    /// the calls on the control socket that wait for the end.
    pub(super) async fn device(
        &mut self,
        device: Device,
        listeners: Listeners,
        askers: &mut Option<StopWaiters>,
    ) -> Result<(), UpEnd> {
        let mut daemon = self.start(device, listeners)?;
        let (node, answers) = (daemon.node().clone(), Arc::clone(daemon.answers()));
        let (down, mut reload) = (daemon.down(), Reload::listen()?);
        let is_ready = AtomicBool::new(false);
        let staying = stay(&node, &answers, self.args, (self.announcer, &is_ready));
        let mut staying = pin!(staying);
        let ended = loop {
            tokio::select! {
                ended = &mut staying => break ended,
                () = down.cancelled() => break Ok(()),
                () = self.signals.next() => break Ok(()),
                hangup = reload.next() => match hangup {
                    Hangup::Gone => break Ok(()),
                    Hangup::Asked => {
                        self.announcer.reloading();
                        read_again(&mut reload, &mut daemon).await;
                        if is_ready.load(Ordering::Relaxed) {
                            self.announce_again(&answers);
                        }
                    }
                },
            }
        };
        self.announcer.ending();
        tokio::select! {
            waiters = daemon.end(Duration::from_secs(self.args.drain)) => *askers = waiters,
            () = self.signals.next() => output::note("Stopped at once."),
        }
        ended
    }

    fn start(&self, device: Device, listeners: Listeners) -> Result<Daemon, Failure> {
        let socket = match self.state.is_in_memory() {
            true => None,
            false => Some(ControlSocket::bind(self.state, self.lock)?),
        };
        self.announcer.begin()?;
        let options = NodeOptions {
            address_network: self.args.address_network.clone(),
            patience: Duration::from_secs(self.args.peer_timeout),
            dns_forwards: listeners.dns_forwards.clone(),
            outgoing: upstream::outgoing(),
            memory: self.args.memory.budget()?,
            silence: self.args.listeners.patience(),
            ..NodeOptions::default()
        };
        Ok(Daemon::start(
            self.state, device, options, listeners, socket,
        )?)
    }

    fn announce_again(&self, answers: &Answers) {
        let line = line(&answers.status(), self.args.json);
        if let Err(error) = self.announcer.ready(&line) {
            output::note(&format!("Error: {}", Failure::from(error)));
        }
    }
}

/// Reads the settings again and applies those that can change while it runs: all of them, or none
/// if one is wrong.
async fn read_again(reload: &mut Reload, daemon: &mut Daemon) {
    let read = async {
        let again = reload.read()?;
        let listeners = again.args.listeners.open(Some(daemon.listeners())).await?;
        log::change(&again.log)?;
        Ok::<_, Failure>((again, listeners))
    };
    match read.await {
        Ok((mut again, listeners)) => {
            let before = &daemon.listeners().proxy.config.credentials;
            if let (Some(before), Some(after)) = (before, &listeners.proxy.config.credentials)
                && !before.same_as(after)
            {
                again.changed.add_now("socks-password-file");
            }
            upstream::leave_out(&listeners.proxy.addresses());
            for unchanged in daemon.change(listeners, upstream::outgoing()) {
                output::note(&format!("Error: {unchanged}"));
            }
            output::note(&again.changed.sentence());
            reload.keep(again);
        }
        Err(failure) => output::note(&format!(
            "Settings were read again, and none is changed. Error: {failure}"
        )),
    }
}

/// Waits for readiness, says so, then stays until the controller removes the device.
async fn stay(
    node: &Node,
    answers: &Answers,
    args: &UpArgs,
    (announcer, is_ready): (&Announcer, &AtomicBool),
) -> Result<(), UpEnd> {
    let ready = tokio::select! {
        ready = waiting::saying("a relay", node.ready(within(args))) => ready,
        never = say_that_it_awaits_approval(node, answers) => match never {},
    };
    if let Err(error) = ready {
        return ended_by(error);
    }
    let steps = Steps::of(args);
    steps.attached(&answers.status());
    let confirmed = waiting::saying("peers", node.confirm(CONFIRM_WITHIN)).await;
    steps.confirmed(confirmed);
    if confirmed.answered < confirmed.asked {
        tracing::info!(
            ?confirmed,
            "some peers that should be online did not answer yet"
        );
    }
    // Relays take a stored ticket, perhaps before the controller has said a word about this device.
    // That word decides the start all the same.
    let mut health = node.control_health();
    if let Some(error) = barred(&health.borrow()) {
        return ended_by(error);
    }
    let line = line(&answers.status(), args.json);
    is_ready.store(true, Ordering::Relaxed);
    announcer.ready(&line).map_err(Failure::from)?;
    output::greeting(&line);
    let word = health.wait_for(|health| *health != Health::Connecting);
    if let Some(error) = word.await.ok().and_then(|word| barred(&word)) {
        return ended_by(error);
    }
    match health.wait_for(|health| *health == Health::Removed).await {
        Ok(_) => ended_by(NotReady::Removed),
        Err(_) => Ok(()),
    }
}

fn barred(health: &Health) -> Option<NotReady> {
    let Health::Barred { why, reason } = health else {
        return None;
    };
    Some(NotReady::Barred {
        why: *why,
        reason: reason.clone(),
    })
}

fn ended_by(error: NotReady) -> Result<(), UpEnd> {
    match error {
        // Somebody asked for it, who hears of it on the control socket.
        NotReady::Stopped => Ok(()),
        NotReady::Removed | NotReady::Unknown => Err(UpEnd::Removed(error.into())),
        NotReady::Barred {
            why: Bar::Expired, ..
        } => Err(UpEnd::Expired(error.into())),
        NotReady::Barred { .. }
        | NotReady::Controller { .. }
        | NotReady::Approval { .. }
        | NotReady::Relay { .. } => Err(UpEnd::Failed(error.into())),
    }
}

async fn say_that_it_awaits_approval(node: &Node, answers: &Answers) -> std::convert::Infallible {
    node.awaits_approval().await;
    let device = answers.status().device;
    let label = device.map(|device| device.label).unwrap_or_default();
    output::note(&format!(
        "This device ({label}) waits for the approval of an admin. {APPROVE}"
    ));
    std::future::pending().await
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::State(error) => error.into(),
        }
    }
}

impl From<NotReady> for Failure {
    fn from(error: NotReady) -> Self {
        let code = match error {
            NotReady::Removed => Code::NeedsLogin,
            NotReady::Barred {
                why: Bar::Expired, ..
            } => Code::NeedsLogin,
            NotReady::Barred { .. } => Code::Denied,
            NotReady::Unknown => return Self::new(Code::NeedsLogin, error).next(ENROL_ANEW),
            NotReady::Controller { .. } => Code::ControllerUnreachable,
            NotReady::Approval { .. } => {
                return Self::new(Code::PendingApproval, error).next(APPROVE);
            }
            NotReady::Relay { .. } => Code::RelayUnreachable,
            NotReady::Stopped => Code::Other,
        };
        Self::new(code, error)
    }
}

/// The next step for a device that its controller does not know.
const ENROL_ANEW: &str = "UpRun `overlan up` again to enrol it as a new device: with an auth key \
    (--auth-key-file), or at a terminal.";

/// The next step of an admin for a device that waits.
pub(crate) const APPROVE: &str = "An admin runs `overlan admin device approve DEVICE`; `overlan \
    admin device list` shows who waits.";

#[cfg(test)]
mod tests {
    use overlan::program::enrol::EnrolError;

    use super::*;

    #[test]
    fn each_reason_of_not_being_up_has_its_code() {
        let waited = Duration::from_secs(1);
        let error = || "x".to_owned();
        let cases: [(Failure, Code); 4] = [
            (NotReady::Removed.into(), Code::NeedsLogin),
            (
                NotReady::Controller {
                    waited,
                    error: error(),
                }
                .into(),
                Code::ControllerUnreachable,
            ),
            (
                NotReady::Relay {
                    waited,
                    error: error(),
                }
                .into(),
                Code::RelayUnreachable,
            ),
            (EnrolError::NoRandomness.into(), Code::Other),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.code(), code, "{failure}");
        }
    }
}
