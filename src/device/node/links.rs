//! The task of each link: opens it, runs it and tries again. Decides the pause before another
//! attempt; the engine decides which links are needed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use overlan_protocol::api::{DeviceReport, TicketResponse};
use overlan_protocol::frame::Vni;
use overlan_protocol::hello::RejectCode;
use overlan_protocol::key::{RelayId, random_bytes};
use overlan_transport::clock::{now, wall};
use overlan_transport::pump::{self, Ended};
use tokio::time::sleep;
use tracing::{Instrument, Span};

use super::{Inner, LinkNote};
use crate::device::link::{self, AttachError, Attached, Credentials};
use overlan_plane::backoff::{Backoff, BackoffBounds};
use overlan_plane::engine::LinkEnd;
use overlan_plane::route::LinkState;

impl Inner {
    /// Keeps a link to `relay` for as long as the engine wants one.
    pub(super) async fn run_link(self: Arc<Self>, relay: RelayId, span: Span) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.try_link(relay, &span) => {}
        }
    }

    /// Makes the span that names a relay in every line about its link. The pump runs outside of it,
    /// so that packets do not pay for it.
    pub(super) fn relay_span(&self, relay: RelayId) -> Span {
        let netmap = self.control.netmap();
        let netmap = netmap.borrow();
        let name = netmap.relays.get(&relay).map(|known| known.name.as_str());
        tracing::error_span!(parent: &self.span, "relay", name, id = %relay)
    }

    async fn try_link(self: &Arc<Self>, relay: RelayId, span: &Span) {
        let mut backoff = Backoff::new(BackoffBounds::LINK, u64::from_le_bytes(random_bytes()));
        // After a lost ticket file, the controller soon gives another ticket.
        let mut tickets = self.control.ticket();
        let is_there = |ticket: &TicketResponse| !ticket.ticket.is_empty();
        let has_ticket = tickets.wait_for(is_there).await.is_ok();
        if !has_ticket {
            return;
        }
        while !self.engine.is_leaving() {
            let again = match self.attach(relay).instrument(span.clone()).await {
                Ok((attached, networks)) => {
                    backoff.handle_success(now());
                    self.use_link(relay, attached, &networks, span).await
                }
                Err(error) => {
                    span.in_scope(|| tracing::debug!(%error, "cannot attach to a relay"));
                    if let AttachError::Rejected(reject) = &error {
                        self.handle_reject(reject.code);
                    }
                    self.note(relay, |note| note.error = Some(error.to_string()));
                    self.engine.handle_attach_failed(now(), relay);
                    if let AttachError::Rejected(reject) = &error {
                        self.after_reject(reject.code, span)
                    } else {
                        Again::Backoff
                    }
                }
            };
            self.links_changed.send_modify(|count| *count += 1);
            if !self.engine.keep_trying(relay) {
                return;
            }
            let pause = backoff.handle_failure(now());
            sleep(match again {
                Again::Backoff => pause,
                Again::Within(spread) => spread.min(pause),
                Again::NotBefore(wait) => wait.max(pause),
            })
            .await;
        }
    }

    /// Opens a link by the newest ticket. Returns it, and the networks of the ticket.
    async fn attach(&self, id: RelayId) -> Result<(Attached, Vec<Vni>), AttachError> {
        let netmap = self.control.netmap().borrow().clone();
        let relay = netmap
            .relays
            .get(&id)
            .ok_or_else(|| AttachError::NoAddress(id.to_string()))?;
        let TicketResponse {
            ticket, networks, ..
        } = self.control.ticket().borrow().clone();
        let wall = wall().as_secs().saturating_mul(1_000);
        let next = |last: u64| Some(wall.max(last + 1));
        let last = self
            .attach_sequence
            .fetch_update(Relaxed, Relaxed, next)
            .unwrap_or(wall);
        let credentials = Credentials {
            identity: &self.device.identity,
            ticket: &ticket,
            attach_sequence: wall.max(last + 1),
        };
        Ok((
            link::attach(id, relay, &credentials, &self.options.outgoing).await?,
            networks,
        ))
    }

    /// Runs a link to its end, or until this device is in other networks than at the attach.
    async fn use_link(
        self: &Arc<Self>,
        relay: RelayId,
        attached: Attached,
        networks: &[Vni],
        span: &Span,
    ) -> Again {
        let Attached {
            stream,
            welcome,
            round_trip,
        } = attached;
        let round_trip_ms = round_trip.as_millis() as u64;
        span.in_scope(|| tracing::info!(round_trip_ms, "attached to a relay"));
        self.note(relay, |note| {
            *note = LinkNote {
                round_trip: Some(round_trip),
                error: None,
            };
        });
        self.engine.handle_link_round_trip(round_trip);
        let seed = u64::from_le_bytes(random_bytes());
        let mut attachment = self
            .engine
            .handle_attached(now(), relay, &welcome, networks, seed);
        self.links_changed.send_modify(|count| *count += 1);
        self.report();
        let mut tickets = self.control.ticket();
        let ended = tokio::select! {
            ended = pump::run(stream, &mut attachment) => Some(ended),
            _ = tickets.wait_for(|ticket| ticket.networks != networks) => None,
        };
        let is_draining = attachment.is_draining();
        self.engine.handle_detached(now(), attachment);
        let Some(ended) = ended else {
            span.in_scope(|| {
                tracing::info!("this device is in other networks; it attaches to the relay again");
            });
            return Again::Within(Duration::ZERO);
        };
        self.handle_ended(relay, &ended, is_draining, span)
            .unwrap_or_else(|| {
                let fraction = f64::from(random_bytes::<1>()[0]) / 256.0;
                let spread = Duration::from_millis(u64::from(welcome.reconnect_spread_ms));
                Again::Within(spread.mul_f64(fraction))
            })
    }

    /// Notes the end of a link. Returns a pause if the reason asks for one, and `None` if the
    /// relay's spread decides.
    fn handle_ended(
        &self,
        relay: RelayId,
        ended: &Ended<LinkEnd>,
        is_draining: bool,
        span: &Span,
    ) -> Option<Again> {
        let reason = reason(ended);
        span.in_scope(|| tracing::info!(reason, "detached from a relay"));
        let rejected = match ended {
            Ended::Ours(LinkEnd::Rejected(reject)) => Some(reject.code),
            Ended::Ours(_) | Ended::Closed | Ended::Broken(_) | Ended::Silent | Ended::Stalled => {
                None
            }
        };
        if let Some(code) = rejected {
            self.handle_reject(code);
        }
        // The next attempt would be refused at once, or get no answer for as long as an attempt may
        // take: a backup comes first.
        let would_fail = matches!(
            ended,
            Ended::Broken(_)
                | Ended::Silent
                | Ended::Stalled
                | Ended::Ours(LinkEnd::Rejected(_) | LinkEnd::Drained | LinkEnd::Silent)
        );
        if is_draining || would_fail {
            self.engine.handle_attach_failed(now(), relay);
        }
        if !matches!(ended, Ended::Ours(LinkEnd::Idle | LinkEnd::Left)) {
            self.note(relay, |note| note.error = Some(reason));
        }
        match self.after_reject(rejected?, span) {
            wait @ Again::NotBefore(_) => Some(wait),
            Again::Backoff | Again::Within(_) => None,
        }
    }

    /// Warns, once, that another process uses this device's keys: the two take the place at the
    /// relay from each other, and neither works well.
    fn after_reject(&self, code: RejectCode, span: &Span) -> Again {
        if code != RejectCode::Superseded {
            return Again::Backoff;
        }
        if !self.superseded_logged.swap(true, Relaxed) {
            span.in_scope(|| tracing::warn!("{SUPERSEDED}"));
        }
        Again::NotBefore(AFTER_SUPERSEDED)
    }

    fn handle_reject(&self, code: RejectCode) {
        if matches!(
            code,
            RejectCode::TicketExpired | RejectCode::TicketInvalid | RejectCode::HeldByOthers
        ) {
            self.control.handle_ticket_refused();
        }
    }

    /// Reports to the controller the relays to which this device is attached. It does so in a task
    /// of its own, since nothing waits for the report.
    fn report(self: &Arc<Self>) {
        let states = self.engine.link_states();
        let attached = states.iter().filter(|(_, state)| **state == LinkState::Up);
        let notes = self.link_notes.lock();
        let round_trips = notes
            .iter()
            .filter_map(|(relay, note)| Some((*relay, note.round_trip?.as_millis() as u32)));
        let report = DeviceReport {
            attached: attached.map(|(relay, _)| *relay).collect(),
            round_trips_ms: round_trips.take(ROUND_TRIPS_MAX).collect(),
            leaving: false,
        };
        drop(notes);
        let inner = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = inner.stop.cancelled() => {}
                () = inner.control.report(&report) => {}
            }
        });
    }

    fn note(&self, relay: RelayId, change: impl FnOnce(&mut LinkNote)) {
        change(self.link_notes.lock().entry(relay).or_default());
    }
}

/// Explains the end of a link, for the log and the status.
fn reason(ended: &Ended<LinkEnd>) -> String {
    match ended {
        Ended::Closed => "the relay closed the link".to_owned(),
        Ended::Broken(error) => error.to_string(),
        Ended::Silent => "the relay neither took nor sent a byte for 4 s".to_owned(),
        Ended::Stalled => "the relay did not take a byte for 10 s".to_owned(),
        Ended::Ours(end) => end.to_string(),
    }
}

/// The pause before a link is tried again.
enum Again {
    /// As the backoff says.
    Backoff,
    /// At most this long, or shorter if the backoff says so.
    Within(Duration),
    /// At least this long, or longer if the backoff says so.
    NotBefore(Duration),
}

/// The warning about two processes with one state directory, or with a copy of it.
const SUPERSEDED: &str = "another process took this device's place at a relay: a copy of its state \
                          directory is in use. Enrol each device by itself; `overlan up \
                          --state-dir mem:` does so at every start of a container";

/// The time for which the place is left to the other process: two that come back at once would take
/// it from each other without end.
const AFTER_SUPERSEDED: Duration = Duration::from_secs(60);

/// The number of round trips in one report; the controller takes no more.
const ROUND_TRIPS_MAX: usize = 64;
