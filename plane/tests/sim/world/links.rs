//! Links between clients and relays: how they come up, move bytes and are cut.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_plane::backoff::{Backoff, BackoffBounds};
use overlan_plane::engine::Attachment;
use overlan_protocol::exchange::{Batch, Exchange};
use overlan_protocol::frame::{self, BODY_MAX, Frame};
use overlan_protocol::hello::Welcome;
use overlan_relay::Forwarding;

use super::{Flag, World};
use crate::deployment::{RELAYS, WALL, ticket};
use crate::script::Cut;
use crate::wire::Wire;

pub(super) struct Attempt {
    pub(super) at: Instant,
    pub(super) backoff: Backoff,
    /// No attempt succeeds before this time.
    pub(super) outage_until: Instant,
    /// A connection that is up makes no attempts.
    pub(super) connection: Option<u64>,
}

pub(super) struct Connection {
    pub(super) client: usize,
    pub(super) relay: usize,
    pub(super) near: Option<Near>,
    pub(super) far: Option<Far>,
    pub(super) up: Wire,
    pub(super) down: Wire,
    /// Nothing passes any more, without notice: up, down.
    pub(super) dead: [bool; 2],
}

pub(super) struct Near {
    pub(super) attachment: Attachment,
    pub(super) woken: Arc<Flag>,
    pub(super) inbound: Vec<u8>,
}

pub(super) struct Far {
    pub(super) forwarding: Forwarding,
    pub(super) woken: Arc<Flag>,
    pub(super) inbound: Vec<u8>,
}

impl World {
    /// Does the work of the node's link tasks: attaches where the engine wants it, and tries again.
    pub(super) fn attach(&mut self) -> bool {
        let mut moved = false;
        for index in 0..2 {
            if self.clients[index].asleep {
                continue;
            }
            for wanted in self.clients[index].engine.poll_wanted() {
                let relay = RELAYS.iter().position(|id| *id == wanted).unwrap();
                let seed = self.dice.next();
                let attempt = Attempt {
                    at: self.now + 2 * self.script.delays[index][relay],
                    backoff: Backoff::new(BackoffBounds::LINK, seed),
                    outage_until: self.now,
                    connection: None,
                };
                self.clients[index].attempts.insert(relay, attempt);
                moved = true;
            }
            let due: Vec<usize> = self.clients[index]
                .attempts
                .iter()
                .filter(|(_, attempt)| attempt.connection.is_none() && attempt.at <= self.now)
                .map(|(relay, _)| *relay)
                .collect();
            for relay in due {
                self.try_attach(index, relay);
                moved = true;
            }
        }
        moved
    }

    fn try_attach(&mut self, index: usize, relay: usize) {
        let (now, delay, rate) = (self.now, self.script.delays[index][relay], self.script.rate);
        let client = &mut self.clients[index];
        let engine = client.engine.clone();
        let attempt = client.attempts.get_mut(&relay).unwrap();
        if now < attempt.outage_until {
            engine.handle_attach_failed(now, RELAYS[relay]);
            if engine.keep_trying(RELAYS[relay]) {
                attempt.at = now + attempt.backoff.handle_failure(now);
            } else {
                client.attempts.remove(&relay);
            }
            return;
        }
        client.sequence += 1;
        let mut forwarding = self.relays[relay]
            .attach(ticket(index), client.sequence, now, WALL)
            .unwrap();
        let woken = Flag::new();
        let mut first = Batch::new();
        forwarding
            .fill(now, &Waker::from(woken.clone()), &mut first)
            .unwrap();
        let first = first.take_bytes();
        let (frame, taken) = frame::decode(&first, BODY_MAX).unwrap().unwrap();
        let Frame::Welcome(body) = frame else {
            panic!("the first frame is {frame:?}")
        };
        let welcome = Welcome::decode(body).unwrap();
        attempt.backoff.handle_success(now);
        let number = self.next_connection;
        self.next_connection += 1;
        attempt.connection = Some(number);
        let mut connection = Connection {
            client: index,
            relay,
            near: Some(Near {
                attachment: engine.handle_attached(now, RELAYS[relay], &welcome, &[], number),
                woken: Flag::new(),
                inbound: Vec::new(),
            }),
            far: Some(Far {
                forwarding,
                woken,
                inbound: Vec::new(),
            }),
            up: Wire::new(now, delay, rate),
            down: Wire::new(now, delay, rate),
            dead: [false; 2],
        };
        connection.down.send(now, &mut self.dice, &first[taken..]);
        self.connections.insert(number, connection);
        self.trace.push(format!(
            "{:?} client {index} attached to relay {relay}",
            now - self.started
        ));
    }

    pub(super) fn cut(&mut self, client: usize, relay: usize, how: Cut, outage: Duration) {
        let Some(attempt) = self.clients[client].attempts.get_mut(&relay) else {
            return;
        };
        attempt.outage_until = self.now + outage;
        let Some(number) = attempt.connection else {
            return;
        };
        self.trace.push(format!(
            "{:?} client {client} and relay {relay} are cut: {how:?}",
            self.now - self.started
        ));
        let connection = self.connections.get_mut(&number).unwrap();
        match how {
            Cut::Clean => {
                connection.far = None;
                self.end_near(number);
                self.connections.remove(&number);
            }
            Cut::ClientFirst => self.end_near(number),
            Cut::RelayFirst => {
                connection.far = None;
                connection.up = Wire::hole(self.now);
                connection.down = Wire::hole(self.now);
            }
        }
    }

    /// The client's end of a connection is over: what the node does after its pump returned.
    pub(super) fn end_near(&mut self, number: u64) {
        let now = self.now;
        let connection = self.connections.get_mut(&number).unwrap();
        let Some(near) = connection.near.take() else {
            return;
        };
        connection.down = Wire::hole(now);
        let (index, relay) = (connection.client, connection.relay);
        let client = &mut self.clients[index];
        client.engine.handle_detached(now, near.attachment);
        let attempt = client.attempts.get_mut(&relay).unwrap();
        attempt.connection = None;
        if client.engine.keep_trying(RELAYS[relay]) {
            attempt.at = now
                + attempt
                    .backoff
                    .handle_failure(now)
                    .min(Duration::from_millis(50));
        } else {
            client.attempts.remove(&relay);
        }
    }

    pub(super) fn move_bytes(&mut self) -> bool {
        let mut moved = false;
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            moved |= self.move_far(number);
            moved |= self.move_near(number);
            let connection = &self.connections[&number];
            let is_through = connection.up.next_arrival().is_none() && !connection.dead[0];
            if connection.near.is_none() && (connection.far.is_none() || is_through) {
                // The relay has got all that was under way, and its side finds the end of the
                // stream.
                self.connections.remove(&number);
            }
        }
        moved
    }

    fn move_near(&mut self, number: u64) -> bool {
        let (now, mut moved) = (self.now, false);
        let connection = self.connections.get_mut(&number).unwrap();
        let Some(near) = &mut connection.near else {
            return false;
        };
        if self.clients[connection.client].asleep {
            return false;
        }
        if near.attachment.poll_timeout().is_some_and(|at| at <= now) {
            // A pump that its timer wakes asks for frames as well.
            near.woken.0.store(true, SeqCst);
            moved = true;
        }
        let mut end = near.attachment.handle_timeout(now).err();
        while let Some(piece) = connection.down.receive(now) {
            moved = true;
            near.inbound.extend_from_slice(&piece);
            let taken = near.attachment.handle_bytes(now, &mut near.inbound);
            match taken.and_then(|taken| {
                near.attachment.handle_batch_end(now)?;
                Ok(taken)
            }) {
                Ok(taken) => drop(near.inbound.drain(..taken)),
                Err(reason) => end = Some(reason),
            }
        }
        if end.is_none() && connection.up.has_room() && near.woken.take() {
            let mut out = Batch::new();
            match near
                .attachment
                .fill(now, &Waker::from(near.woken.clone()), &mut out)
            {
                Ok(()) if !out.is_empty() => {
                    let out = out.take_bytes();
                    connection.up.send(now, &mut self.dice, &out);
                    near.woken.0.store(true, SeqCst);
                    moved = true;
                }
                Ok(()) => {}
                Err(reason) => end = Some(reason),
            }
        }
        // A pump is polled by whatever arrives, and fills then.
        if moved {
            near.woken.0.store(true, SeqCst);
        }
        if let Some(reason) = end {
            self.trace.push(format!(
                "{:?} connection {number} ends: {reason}",
                now - self.started
            ));
            self.end_near(number);
            moved = true;
        }
        moved
    }

    fn move_far(&mut self, number: u64) -> bool {
        let (now, mut moved) = (self.now, false);
        let connection = self.connections.get_mut(&number).unwrap();
        let Some(far) = &mut connection.far else {
            return false;
        };
        if far.forwarding.poll_timeout().is_some_and(|at| at <= now) {
            far.woken.0.store(true, SeqCst);
            moved = true;
        }
        let mut end = far.forwarding.handle_timeout(now).err();
        while let Some(piece) = connection.up.receive(now) {
            moved = true;
            far.inbound.extend_from_slice(&piece);
            let taken = far.forwarding.handle_bytes(now, &mut far.inbound);
            match taken.and_then(|taken| {
                far.forwarding.handle_batch_end(now)?;
                Ok(taken)
            }) {
                Ok(taken) => drop(far.inbound.drain(..taken)),
                Err(reason) => end = Some(reason),
            }
        }
        if end.is_none() && connection.down.has_room() && far.woken.take() {
            let mut out = Batch::new();
            match far
                .forwarding
                .fill(now, &Waker::from(far.woken.clone()), &mut out)
            {
                Ok(()) if !out.is_empty() => {
                    let out = out.take_bytes();
                    connection.down.send(now, &mut self.dice, &out);
                    far.woken.0.store(true, SeqCst);
                    moved = true;
                }
                Ok(()) => {}
                Err(reason) => end = Some(reason),
            }
        }
        if moved {
            far.woken.0.store(true, SeqCst);
        }
        if let Some(reason) = end {
            self.trace.push(format!(
                "{:?} relay ends connection {number}: {}",
                now - self.started,
                reason.text
            ));
            connection.far = None;
            connection.up = Wire::hole(now);
            // The client reads the end of the stream after the bytes under way; liveness would find
            // it as well.
            if !self.clients[connection.client].asleep && !connection.dead[1] {
                self.end_near(number);
            }
            moved = true;
        }
        moved
    }
}
