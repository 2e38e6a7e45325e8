//! One client as other connections see it: they may queue a frame, release its bytes, or end it.
//! Holds the lock around one connection's egress and ledger; its socket belongs to its own task.
//!
//! No method holds two clients' locks at once, so there is no lock order to get wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_protocol::frame::Frame;
use overlan_protocol::hello::{Reject, Welcome};
use overlan_protocol::key::DeviceId;
use parking_lot::{Mutex, MutexGuard};

use crate::egress::{Closed, Egress, Full, Release, Run};
use crate::ledger::{Ledger, TooManyDestinations};
use crate::memory::{Account, Victims};
use crate::slow::Slow;
use crate::switch::{AttachId, Place};

/// One attached connection, as the rest of the relay sees it.
pub(crate) struct Client {
    pub(crate) id: AttachId,
    pub(crate) device: DeviceId,
    /// Its share of the relay's memory, by network.
    accounts: Vec<Account>,
    outbox: Mutex<Outbox>,
}

/// The reason why a receiver does not take a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Its queue is full.
    Full,
    /// The relay's memory for queues is full. The frames were not charged.
    RelayFull,
    /// It has just ended.
    Closed,
}

/// The result of one [`Client::fill`]. Kept by its caller for its memory.
#[derive(Default)]
pub(crate) struct Filled {
    /// Data frames; they come after the control frames.
    pub(crate) runs: Vec<Run>,
    /// Bytes that were given before and are written; the caller tells their sources.
    pub(crate) written: Vec<Release<Arc<Client>>>,
    /// The longest wait of the data frames.
    pub(crate) waited: Duration,
}

impl Client {
    pub(crate) fn new(
        id: AttachId,
        device: DeviceId,
        welcome: Welcome,
        accounts: Vec<Account>,
        queue_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            device,
            accounts,
            outbox: Mutex::new(Outbox {
                welcome: Some(welcome),
                pongs: VecDeque::new(),
                drain: None,
                ledger: Ledger::new(welcome.credit_window),
                egress: Egress::new(queue_max),
                slow: Slow::default(),
                end: None,
                closed: false,
                waker: None,
                woken: false,
            }),
        })
    }

    /// Its account in the network `vni`, if that is one of its own.
    pub(crate) fn account(&self, vni: u32) -> Option<&Account> {
        self.accounts.iter().find(|account| account.vni() == vni)
    }

    /// The number of bytes that this client may still send to `to`; the last frame may go beyond.
    pub(crate) fn allowance(&self, to: Place) -> Result<u64, TooManyDestinations> {
        self.outbox.lock().ledger.allowance(to)
    }

    /// Counts DATA frames of this client against its credit.
    pub(crate) fn admit(&self, to: Place, bytes: usize) {
        self.outbox.lock().ledger.handle_received(to, bytes);
    }

    /// Queues runs of frames for this client, stamped with their source and charged to `from`'s
    /// account. `to` is this client as `from` sees it. Runs that do not fit stay in `runs`; frames
    /// that other sources lost for these are appended to `shed`.
    pub(crate) fn deliver(
        &self,
        now: Instant,
        from: &Arc<Client>,
        to: Place,
        runs: &mut VecDeque<Run>,
        shed: &mut Vec<Release<Arc<Client>>>,
    ) -> Result<(), NotTaken> {
        let mut outbox = self.outbox.lock();
        if outbox.closed {
            return Err(NotTaken::Closed);
        }
        let mut taken = Ok(());
        while let Some(run) = runs.pop_front() {
            let Err(Full(run)) = outbox.egress.push(now, from.id, from, to, run) else {
                continue;
            };
            let freed = outbox.egress.shed(from.id, to.vni, run.cost());
            runs.push_front(run);
            if freed.is_empty() {
                taken = Err(NotTaken::Full);
                break;
            }
            shed.extend(freed);
        }
        wake(outbox);
        taken
    }

    /// Takes over the frames that wait for `older`, another connection of this device, as far as
    /// they are for `places`; `older` takes nothing more. Returns those that do not fit.
    pub(crate) fn inherit(
        &self,
        older: &Client,
        places: impl Fn(Place) -> bool,
    ) -> Vec<Release<Arc<Client>>> {
        let mut outbox = older.outbox.lock();
        outbox.closed = true;
        let handed = outbox.egress.hand_over(places);
        drop(outbox);
        self.outbox.lock().egress.take_over(handed)
    }

    /// Drops the frames of `victims` that wait for this client.
    #[must_use]
    pub(crate) fn shed(&self, victims: &Victims) -> Vec<Release<Arc<Client>>> {
        let is_one = |source: &Arc<Client>| victims.devices.contains(&source.device);
        let mut outbox = self.outbox.lock();
        outbox
            .egress
            .discard(None, is_one, |to| to.vni == victims.vni)
    }

    /// Frees `bytes` that this client sent to `to`. `stood` is the shortest time that they waited
    /// after other frames of their flow.
    pub(crate) fn release(&self, now: Instant, to: Place, bytes: usize, stood: Option<Duration>) {
        let Some(account) = self.account(to.vni) else {
            return;
        };
        let mut outbox = self.outbox.lock();
        let is_due = outbox
            .ledger
            .handle_released(now, to, bytes, stood, account);
        if is_due {
            wake(outbox);
        }
    }

    /// Takes frames for `to` that cost `cost` off the account of this client: they wait no longer.
    pub(crate) fn discharge(&self, to: Place, cost: usize) {
        if let Some(account) = self.account(to.vni) {
            account.discharge(cost);
        }
    }

    /// Owes this client the notice that `to` is not here.
    pub(crate) fn peer_gone(&self, to: Place) {
        let mut outbox = self.outbox.lock();
        outbox.ledger.handle_gone(to);
        wake(outbox);
    }

    /// Owes this client an answer to its PING.
    pub(crate) fn pong(&self, token: u64) {
        let mut outbox = self.outbox.lock();
        if outbox.pongs.len() == PONGS_MAX {
            outbox.pongs.pop_front();
        }
        outbox.pongs.push_back(token);
    }

    /// Asks this client to attach to another relay.
    pub(crate) fn drain(&self, within_ms: u32) {
        let mut outbox = self.outbox.lock();
        outbox.drain = Some(within_ms);
        wake(outbox);
    }

    /// Ends this client's connection with `reject`. The first reason stays.
    pub(crate) fn end(&self, reject: Reject) {
        let mut outbox = self.outbox.lock();
        outbox.end.get_or_insert(reject);
        // Its task may have been woken for data and wait for the socket: this is more urgent.
        outbox.woken = false;
        wake(outbox);
    }

    /// Does what is due, and appends the frames that this client was too slow for to `lost`.
    /// Returns the time of the next call, or the reason why the connection must end.
    pub(crate) fn handle_timeout(
        &self,
        now: Instant,
        lost: &mut Vec<Release<Arc<Client>>>,
    ) -> Result<Option<Instant>, Reject> {
        let mut outbox = self.outbox.lock();
        if let Some(end) = &outbox.end {
            return Err(end.clone());
        }
        let waiting = outbox.egress.cost();
        if outbox.slow.handle_timeout(now, waiting) {
            lost.extend(outbox.egress.discard(Some(now), |_| true, |_| true));
        }
        let is_due = outbox.ledger.handle_timeout(now, &self.accounts);
        let times = [outbox.ledger.poll_timeout(), outbox.slow.poll_timeout()];
        let next = times.into_iter().flatten().min();
        if is_due {
            wake(outbox);
        }
        Ok(next)
    }

    /// Gives this client's task about `budget` bytes to write next: control frames to `control`,
    /// and data frames, which come after them, to `filled`. All that was given before counts as
    /// written. `waker` is woken when there is more.
    pub(crate) fn fill(
        &self,
        now: Instant,
        waker: &Waker,
        control: &mut Vec<u8>,
        filled: &mut Filled,
        budget: usize,
    ) -> Result<(), Reject> {
        let mut outbox = self.outbox.lock();
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
        let budget = budget.saturating_sub(control.len());
        filled.waited = outbox.egress.take(now, budget, &mut filled.runs);
        let mut taken = 0;
        for release in outbox.egress.taken() {
            taken += release.cost;
            release.source.discharge(release.to, release.cost);
        }
        outbox.slow.handle_taken(taken);
        Ok(())
    }

    /// Refuses further frames, and gives up those that wait.
    pub(crate) fn close(&self) -> Closed<Arc<Client>> {
        let mut outbox = self.outbox.lock();
        outbox.closed = true;
        outbox.waker = None;
        outbox.ledger.close(&self.accounts);
        outbox.egress.close()
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
    slow: Slow,
    /// The reason why the connection must end.
    end: Option<Reject>,
    /// The connection has ended, and no further frame is queued.
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
        // After the notices: a client that hears a PONG has heard of everything that it sent before
        // the PING.
        for token in self.pongs.drain(..) {
            Frame::Pong { token }.encode(out);
        }
    }
}

/// Wakes the task without the lock: it may run on another thread at once.
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
