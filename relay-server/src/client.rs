//! What other connections may do to a client: queue a frame, release its bytes, end it. Holds the lock around one
//! connection's egress and ledger; its socket belongs to its own task.
//!
//! No method holds two clients' locks at once, so there is no lock order to get wrong.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_protocol::frame::Frame;
use overlan_protocol::hello::{Reject, Welcome};
use overlan_protocol::key::DeviceId;

use crate::egress::{Closed, Egress, Full, Release, Run};
use crate::ledger::{Destination, Ledger, TooManyDestinations};
use crate::memory::Memory;
use crate::switch::AttachId;

/// One attached connection, as the rest of the relay sees it.
pub(crate) struct Client {
    pub(crate) id: AttachId,
    pub(crate) device: DeviceId,
    outbox: Mutex<Outbox>,
    memory: Arc<Memory>,
}

/// Why a receiver does not take a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Its queue is full.
    Full,
    /// The relay's memory for queues is full.
    RelayFull,
    /// It has just ended.
    Closed,
}

/// What one [`Client::fill`] gives. Kept by its caller for its memory.
#[derive(Default)]
pub(crate) struct Filled {
    /// Data frames, behind the control frames.
    pub(crate) runs: Vec<Run>,
    /// What was given before and is written; its sources are to be told.
    pub(crate) written: Vec<Release<Arc<Client>>>,
    /// The longest wait of the data frames.
    pub(crate) waited: Duration,
}

impl Client {
    pub(crate) fn new(
        id: AttachId,
        device: DeviceId,
        welcome: Welcome,
        memory: Arc<Memory>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            device,
            outbox: Mutex::new(Outbox {
                welcome: Some(welcome),
                pongs: VecDeque::new(),
                drain: None,
                ledger: Ledger::new(welcome.credit_window),
                egress: Egress::new(),
                end: None,
                closed: false,
                waker: None,
                woken: false,
            }),
            memory,
        })
    }

    /// How many bytes this client may send to `to` from now on; the last frame may go beyond.
    pub(crate) fn allowance(&self, to: Destination) -> Result<u64, TooManyDestinations> {
        self.lock().ledger.allowance(to)
    }

    /// Counts DATA frames of this client against its credit.
    pub(crate) fn admit(&self, to: Destination, bytes: usize) {
        self.lock().ledger.handle_received(to, bytes);
    }

    /// Queues runs of frames for this client, stamped with where they come from. `to` is this client as `from` sees it. What was
    /// not taken stays in `runs`.
    pub(crate) fn deliver(
        &self,
        now: Instant,
        from: &Arc<Client>,
        to: Destination,
        runs: &mut VecDeque<Run>,
    ) -> Result<(), NotTaken> {
        if self.memory.is_full() {
            return Err(NotTaken::RelayFull);
        }
        let mut outbox = self.lock();
        if outbox.closed {
            return Err(NotTaken::Closed);
        }
        let before = outbox.egress.cost();
        let mut taken = Ok(());
        while let Some(run) = runs.pop_front() {
            if let Err(Full(run)) = outbox.egress.push(now, from.id, from, to, run) {
                runs.push_front(run);
                taken = Err(NotTaken::Full);
                break;
            }
        }
        self.memory.handle_queued(before, outbox.egress.cost());
        wake(outbox);
        taken
    }

    /// Takes over the frames that wait for `older`, another connection of this device, as far as they are for `places`;
    /// `older` takes nothing more. Returns what does not fit.
    pub(crate) fn inherit(
        &self,
        older: &Client,
        places: impl Fn(Destination) -> bool,
    ) -> Vec<Release<Arc<Client>>> {
        let handed = older.change_egress(|outbox| {
            outbox.closed = true;
            outbox.egress.hand_over(places)
        });
        self.change_egress(|outbox| outbox.egress.take_over(handed))
    }

    /// Changes the egress and keeps the relay's sum in step.
    fn change_egress<T>(&self, change: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = self.lock();
        let before = outbox.egress.cost();
        let result = change(&mut outbox);
        let after = outbox.egress.cost();
        self.memory.handle_queued(before, after);
        result
    }

    /// `bytes` that this client sent to `to` need not be held any longer; `stood` is how long they at least waited behind others.
    pub(crate) fn release(
        &self,
        now: Instant,
        to: Destination,
        bytes: usize,
        stood: Option<Duration>,
    ) {
        let mut outbox = self.lock();
        let is_due = outbox
            .ledger
            .handle_released(now, to, bytes, stood, &self.memory);
        if is_due {
            wake(outbox);
        }
    }

    /// Nobody took what this client sent to `to`.
    pub(crate) fn peer_gone(&self, to: Destination) {
        let mut outbox = self.lock();
        outbox.ledger.handle_gone(to);
        wake(outbox);
    }

    /// Owes this client an answer to its PING.
    pub(crate) fn pong(&self, token: u64) {
        let mut outbox = self.lock();
        if outbox.pongs.len() == PONGS_MAX {
            outbox.pongs.pop_front();
        }
        outbox.pongs.push_back(token);
    }

    /// Asks this client to attach elsewhere.
    pub(crate) fn drain(&self, within_ms: u32) {
        let mut outbox = self.lock();
        outbox.drain = Some(within_ms);
        wake(outbox);
    }

    /// Ends this client's connection with `reject`. The first reason stays.
    pub(crate) fn end(&self, reject: Reject) {
        let mut outbox = self.lock();
        outbox.end.get_or_insert(reject);
        // Its task may have been woken for data and wait for the socket: this is more urgent.
        outbox.woken = false;
        wake(outbox);
    }

    /// Does what is due. Returns when to come again, or why this client's connection must end.
    pub(crate) fn handle_timeout(&self, now: Instant) -> Result<Option<Instant>, Reject> {
        let mut outbox = self.lock();
        if let Some(end) = &outbox.end {
            return Err(end.clone());
        }
        let is_due = outbox.ledger.handle_timeout(now, &self.memory);
        let next = outbox.ledger.poll_timeout();
        if is_due {
            wake(outbox);
        }
        Ok(next)
    }

    /// What this client's task should write next: control frames go to `control`, behind them data frames to `filled`, together
    /// about `budget` bytes. All that was given before counts as written. `waker` is woken when there is more.
    pub(crate) fn fill(
        &self,
        now: Instant,
        waker: &Waker,
        control: &mut Vec<u8>,
        filled: &mut Filled,
        budget: usize,
    ) -> Result<(), Reject> {
        let mut outbox = self.lock();
        if let Some(end) = &outbox.end {
            return Err(end.clone());
        }
        match &mut outbox.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        outbox.woken = false;
        outbox.control(control, budget / 2);
        outbox.egress.handle_written(&mut filled.written);
        let before = outbox.egress.cost();
        let budget = budget.saturating_sub(control.len());
        filled.waited = outbox.egress.take(now, budget, &mut filled.runs);
        self.memory.handle_queued(before, outbox.egress.cost());
        Ok(())
    }

    /// Takes nothing more and gives up what waits.
    pub(crate) fn close(&self) -> Closed<Arc<Client>> {
        let mut outbox = self.lock();
        outbox.closed = true;
        outbox.waker = None;
        self.memory.handle_queued(outbox.egress.cost(), 0);
        outbox.ledger.close(&self.memory);
        outbox.egress.close()
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Outbox {
    /// The first frame of the connection.
    welcome: Option<Welcome>,
    /// Tokens of PINGs to answer, at most [`PONGS_MAX`].
    pongs: VecDeque<u64>,
    drain: Option<u32>,
    ledger: Ledger,
    egress: Egress<Arc<Client>>,
    /// Why the connection must end.
    end: Option<Reject>,
    /// The connection has ended; nothing is queued any more.
    closed: bool,
    /// Wakes the connection's task.
    waker: Option<Waker>,
    /// The task was woken and has not come yet; nobody needs to wake it again.
    woken: bool,
}

impl Outbox {
    fn control(&mut self, out: &mut Vec<u8>, limit: usize) {
        if let Some(welcome) = self.welcome.take() {
            Frame::Welcome(&welcome.encode()).encode(out);
        }
        if let Some(within_ms) = self.drain.take() {
            Frame::Drain { within_ms }.encode(out);
        }
        self.ledger.fill(out, limit);
        // Behind the notices: who hears a PONG has heard of what it sent before the PING.
        for token in self.pongs.drain(..) {
            Frame::Pong { token }.encode(out);
        }
    }
}

/// Wakes outside the lock: the task may run on another thread at once.
fn wake(mut outbox: MutexGuard<'_, Outbox>) {
    if std::mem::replace(&mut outbox.woken, true) {
        return;
    }
    let waker = outbox.waker.clone();
    drop(outbox);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Most PINGs that wait for an answer; an honest client has one.
const PONGS_MAX: usize = 8;

#[cfg(test)]
mod tests;
