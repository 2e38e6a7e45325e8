//! Carries out `perf` for commands on the control socket. Decides how many measurements run at
//! once, and the kind of refusal for each failure.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::daemon::perf::{self, PerfError, Plan, Progress};
use crate::daemon::socket::{Answer, RefusalKind, Response, Running};
use crate::device::node::Node;
use crate::names::DialError;

use super::carrying::dial_kind;
use super::{not_reached, refused};

/// The measurements that run.
#[derive(Debug)]
pub(super) struct Measuring {
    places: Arc<Semaphore>,
    /// Cancelled when this client is asked to end: measurements end first, and report their
    /// results.
    down: CancellationToken,
}

impl Measuring {
    /// Makes room for measurements, which end with `down`.
    pub(super) fn new(down: &CancellationToken) -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            down: down.clone(),
        }
    }

    /// Measures the way to `peer`.
    pub(super) fn run(&self, node: &Node, peer: String, port: u16, plan: Plan) -> Answer {
        let Some(place) = self.place() else {
            return full();
        };
        let node = node.clone();
        self.running(|events, stop| async move {
            let _place = place;
            let destination = match node.find(&peer) {
                Ok(destination) => destination,
                Err(error) => return not_reached(&node, &peer, port, &error),
            };
            let dial = || async {
                let dialed = node.dial_to(destination.clone(), port).await;
                dialed.map_err(|error| {
                    if error == DialError::Refused {
                        PerfError::NotServing(port)
                    } else {
                        PerfError::Dial(error)
                    }
                })
            };
            let counters = || node.counters();
            match perf::run(destination.to_string(), plan, dial, counters, &events, stop).await {
                Ok(report) => Response::Measured(Box::new(report)),
                Err(PerfError::Dial(error)) => not_reached(&node, &peer, port, &error),
                Err(error) => refused(kind(&error), error.to_string()),
            }
        })
    }

    /// Lets peers measure on `port`.
    pub(super) fn serve(&self, node: &Node, port: u16) -> Answer {
        let Some(place) = self.place() else {
            return full();
        };
        let listeners = match node.listen_each(port) {
            Ok(listeners) if listeners.is_empty() => {
                let text = "this device is in no network yet; see `overlan status`";
                return refused(RefusalKind::Failed, text.to_owned()).into();
            }
            Ok(listeners) => listeners,
            Err(error) => {
                let text = format!(
                    "cannot listen on overlay port {port}: {error}; `overlan serve list` shows \
                     the ports that are served; --port takes another one"
                );
                return refused(RefusalKind::Conflict, text).into();
            }
        };
        let node = node.clone();
        self.running(|events, stop| async move {
            let _place = place;
            // The queue is new and has room.
            let _sent = events.try_send(Progress::Listening { port });
            perf::serve(listeners, move || node.counters(), events, stop).await;
            Response::Done
        })
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    fn running<F>(
        &self,
        work: impl FnOnce(mpsc::Sender<Progress>, CancellationToken) -> F,
    ) -> Answer
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let (events, progress) = mpsc::channel(EVENTS_MAX);
        let stop = self.down.child_token();
        Answer::Running(Running {
            work: Box::pin(work(events, stop.clone())),
            progress,
            stop,
        })
    }
}

fn full() -> Answer {
    let text = format!("{AT_ONCE} measurements already run here; try again when one has ended");
    refused(RefusalKind::Conflict, text).into()
}

fn kind(error: &PerfError) -> RefusalKind {
    match error {
        PerfError::Dial(error) => dial_kind(error),
        PerfError::Silent => RefusalKind::TimedOut,
        PerfError::NotServing(_)
        | PerfError::Busy
        | PerfError::NotUnderstood
        | PerfError::Interrupted
        | PerfError::Broken(_) => RefusalKind::Failed,
    }
}

/// The number of measurements at once: fewer than the places of the control socket, so that
/// `status` and `down` always get one.
const AT_ONCE: usize = 4;

/// The number of events that wait to be reported: a figure of one second is of no use a few seconds
/// later.
const EVENTS_MAX: usize = 16;
