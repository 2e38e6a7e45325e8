//! Decides which devices count as online. Holds no clock and no store: the owner writes what
//! [`Presence::due`] reports.
//!
//! A device is online while a netmap stream is open, and for a grace after the last one closed, so
//! that a reconnect is not seen by its peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use overlan_protocol::key::DeviceId;

/// The open streams, by device.
#[derive(Debug)]
pub(crate) struct Presence {
    grace: Duration,
    devices: BTreeMap<DeviceId, State>,
    /// Devices to report as online.
    arrivals: BTreeSet<DeviceId>,
    /// The ends of graces.
    departures: BTreeSet<(Instant, DeviceId)>,
}

#[derive(Debug, Default)]
struct State {
    streams: u32,
    reported: bool,
    /// It said that it leaves, so there is no grace after its last stream.
    leaving: bool,
    departs: Option<Instant>,
}

/// A device came online or went offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) device: DeviceId,
    pub(crate) online: bool,
}

impl Presence {
    /// Makes the table; a device stays online for `grace` after its last stream.
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            devices: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            departures: BTreeSet::new(),
        }
    }

    /// Adds a device that was online when the last process ended; it has until `until` to come
    /// back.
    pub(crate) fn restore(&mut self, device: DeviceId, until: Instant) {
        let state = State {
            streams: 0,
            reported: true,
            leaving: false,
            departs: Some(until),
        };
        self.devices.insert(device, state);
        self.departures.insert((until, device));
    }

    /// Notes that a stream of `device` opened.
    pub(crate) fn handle_open(&mut self, device: DeviceId) {
        let state = self.devices.entry(device).or_default();
        state.streams += 1;
        state.leaving = false;
        if let Some(at) = state.departs.take() {
            self.departures.remove(&(at, device));
        }
        if !state.reported {
            self.arrivals.insert(device);
        }
    }

    /// Notes that a stream of `device` closed.
    pub(crate) fn handle_close(&mut self, now: Instant, device: DeviceId) {
        let Some(state) = self.devices.get_mut(&device) else {
            return;
        };
        state.streams = state.streams.saturating_sub(1);
        self.depart(now, device);
    }

    /// Notes that `device` leaves. A later reconnect is an arrival like any other.
    pub(crate) fn handle_leaving(&mut self, now: Instant, device: DeviceId) {
        if let Some(state) = self.devices.get_mut(&device) {
            state.leaving = true;
            self.depart(now, device);
        }
    }

    /// Begins the grace of a device without streams.
    fn depart(&mut self, now: Instant, device: DeviceId) {
        let Some(state) = self
            .devices
            .get_mut(&device)
            .filter(|state| state.streams == 0)
        else {
            return;
        };
        let at = match state.leaving {
            true => now,
            false => now + self.grace,
        };
        if let Some(old) = state.departs.replace(at) {
            self.departures.remove(&(old, device));
        }
        self.departures.insert((at, device));
    }

    /// Says whether a stream of `device` is open.
    pub(crate) fn is_attached(&self, device: DeviceId) -> bool {
        self.devices
            .get(&device)
            .is_some_and(|state| state.streams > 0)
    }

    /// Returns at most `limit` transitions that happened by `now`, each of them once.
    pub(crate) fn due(&mut self, now: Instant, limit: usize) -> Vec<Transition> {
        let mut transitions = Vec::new();
        while transitions.len() < limit {
            if let Some(device) = self.arrivals.pop_first() {
                if let Some(state) = self.devices.get_mut(&device) {
                    state.reported = true;
                    transitions.push(Transition {
                        device,
                        online: true,
                    });
                }
                continue;
            }
            match self.departures.first().copied() {
                Some((at, device)) if at <= now => {
                    self.departures.pop_first();
                    let state = self.devices.remove(&device);
                    if state.is_some_and(|state| state.reported) {
                        transitions.push(Transition {
                            device,
                            online: false,
                        });
                    }
                }
                _ => break,
            }
        }
        transitions
    }

    /// Takes back transitions that could not be written; they are due again at `at`.
    pub(crate) fn retry(&mut self, at: Instant, transitions: &[Transition]) {
        for Transition { device, online } in transitions.iter().copied() {
            if online {
                if let Some(state) = self.devices.get_mut(&device) {
                    state.reported = false;
                    self.arrivals.insert(device);
                }
            } else if let Some(state) = self.devices.get_mut(&device) {
                // It came back meanwhile: the store still says online, which is true again.
                state.reported = true;
                self.arrivals.remove(&device);
            } else {
                self.restore(device, at);
            }
        }
    }

    /// Returns the time at which [`Presence::due`] has something; a time in the past means now.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.arrivals.is_empty() {
            return Some(now);
        }
        self.departures.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;
