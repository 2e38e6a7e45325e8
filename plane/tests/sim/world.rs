//! Clients, relays and wires under one virtual clock, and the oracle: every byte of every transfer
//! arrives once and in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use overlan_netstack::{Config, Connecting, TcpListener, TcpStream};
use overlan_plane::backoff::{Backoff, BackoffBounds};
use overlan_plane::engine::{Attachment, Engine, KnownPeers, LocalDevice, PATIENCE};
use overlan_protocol::address;
use overlan_protocol::exchange::{Batch, Exchange};
use overlan_protocol::frame::{self, BODY_MAX, Frame};
use overlan_protocol::hello::Welcome;
use overlan_relay::{Forwarder, Forwarding};

use crate::deployment::{HOSTS, NETWORK, PORT, RELAYS, WALL, device, netmap, ticket, tunnel};
use crate::script::{Cut, Dice, Script, Transfer};
use crate::wire::Wire;

mod life;

pub(crate) struct World {
    pub(crate) now: Instant,
    started: Instant,
    dice: Dice,
    script: Script,
    clients: [Client; 2],
    relays: [Forwarder; 2],
    /// Connections by number; a cut one may live on as a half for a while.
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    transfers: Vec<Running>,
    pub(crate) trace: Vec<String>,
}

struct Client {
    engine: Arc<Engine>,
    woken: Arc<Flag>,
    listener: TcpListener,
    sequence: u64,
    /// Relays to attach to, with the time of the next attempt.
    attempts: BTreeMap<usize, Attempt>,
    accepted: Vec<(SocketAddr, TcpStream)>,
    /// It does nothing: its host is suspended, or it was killed.
    asleep: bool,
}

struct Attempt {
    at: Instant,
    backoff: Backoff,
    /// No attempt succeeds before this time.
    outage_until: Instant,
    /// A connection that is up makes no attempts.
    connection: Option<u64>,
}

struct Connection {
    client: usize,
    relay: usize,
    near: Option<Near>,
    far: Option<Far>,
    up: Wire,
    down: Wire,
    /// Nothing passes any more, without notice: up, down.
    dead: [bool; 2],
}

struct Near {
    attachment: Attachment,
    woken: Arc<Flag>,
    inbound: Vec<u8>,
}

struct Far {
    forwarding: Forwarding,
    woken: Arc<Flag>,
    inbound: Vec<u8>,
}

struct Running {
    plan: Transfer,
    stage: Stage,
    opener: Side,
    acceptor: Side,
}

enum Stage {
    Waiting,
    Connecting(Pin<Box<Connecting>>),
    Open {
        opener: TcpStream,
        acceptor: Option<TcpStream>,
    },
}

/// One end of a transfer: what it has written and read, and whether it saw the end.
#[derive(Default)]
struct Side {
    written: usize,
    closed: bool,
    read: usize,
    ended: bool,
}

/// A waker that leaves a mark.
struct Flag(AtomicBool);

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let script = Script::from_seed(seed);
        let now = tokio::time::Instant::now().into_std();
        let clients = [0, 1].map(|index| Client::new(index, now, seed));
        let transfers = script.transfers.iter().map(|plan| Running {
            plan: *plan,
            stage: Stage::Waiting,
            opener: Side::default(),
            acceptor: Side::default(),
        });
        Self {
            now,
            started: now,
            dice: Dice::new(!seed),
            transfers: transfers.collect(),
            script,
            clients,
            relays: RELAYS.map(Forwarder::new),
            connections: BTreeMap::new(),
            next_connection: 0,
            trace: Vec::new(),
        }
    }

    /// Runs until every transfer is complete. Returns the virtual time it took, or what is wrong.
    pub(crate) fn run(&mut self) -> Result<Duration, String> {
        let mut cuts = self.script.cuts.clone();
        cuts.sort_by_key(|cut| cut.at);
        let mut cuts = cuts.into_iter().peekable();
        for _ in 0..STEPS_MAX {
            while let Some(cut) = cuts.next_if(|cut| self.started + cut.at <= self.now) {
                self.cut(cut.client, cut.relay, cut.how, cut.outage);
            }
            self.settle()?;
            if self.transfers.iter().all(Running::is_done) {
                return self.check_counters().map(|()| self.now - self.started);
            }
            if self.now - self.started > LONGEST {
                return Err(format!(
                    "not complete after {LONGEST:?}: {}",
                    self.describe()
                ));
            }
            let next_cut = cuts.peek().map(|cut| self.started + cut.at);
            let Some(next) = [self.next_event(), next_cut].into_iter().flatten().min() else {
                return Err(format!(
                    "nothing is due and something is missing: {}",
                    self.describe()
                ));
            };
            self.now = next.max(self.now);
        }
        Err(format!(
            "more than {STEPS_MAX} steps at {:?}: {}",
            self.now - self.started,
            self.describe()
        ))
    }

    /// Does everything that is due at this moment, until nothing moves any more.
    fn settle(&mut self) -> Result<(), String> {
        for round in 0.. {
            if round > ROUNDS_MAX {
                return Err(format!(
                    "it does not come to rest at {:?}: {}",
                    self.now - self.started,
                    self.describe()
                ));
            }
            let mut moved = false;
            for client in self.clients.iter().filter(|client| !client.asleep) {
                if client.woken.take()
                    || client
                        .engine
                        .poll_timeout()
                        .is_some_and(|at| at <= self.now)
                {
                    client.engine.handle_timeout(self.now);
                    moved = true;
                }
            }
            moved |= self.attach();
            moved |= self.move_bytes();
            moved |= self.run_transfers()?;
            if !moved {
                return Ok(());
            }
        }
        Ok(())
    }

    fn next_event(&mut self) -> Option<Instant> {
        let mut times: Vec<Instant> = Vec::new();
        for client in self.clients.iter().filter(|client| !client.asleep) {
            times.extend(client.engine.poll_timeout());
            times.extend(
                client
                    .attempts
                    .values()
                    .filter(|attempt| attempt.connection.is_none())
                    .map(|attempt| attempt.at),
            );
        }
        for connection in self.connections.values_mut() {
            times.extend(connection.up.next_arrival());
            if !self.clients[connection.client].asleep {
                times.extend(connection.down.next_arrival());
                let near = connection.near.as_mut();
                times.extend(near.and_then(|near| near.attachment.poll_timeout()));
            }
            times.extend(
                connection
                    .far
                    .as_mut()
                    .and_then(|far| far.forwarding.poll_timeout()),
            );
        }
        let waiting = self
            .transfers
            .iter()
            .filter(|running| matches!(running.stage, Stage::Waiting));
        times.extend(waiting.map(|running| self.started + running.plan.at));
        times.into_iter().min()
    }

    /// Does the work of the node's link tasks: attaches where the engine wants it, and tries again.
    fn attach(&mut self) -> bool {
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

    fn cut(&mut self, client: usize, relay: usize, how: Cut, outage: Duration) {
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
    fn end_near(&mut self, number: u64) {
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

    fn move_bytes(&mut self) -> bool {
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

    fn run_transfers(&mut self) -> Result<bool, String> {
        let mut moved = false;
        let mut cx = Context::from_waker(Waker::noop());
        for client in &mut self.clients {
            while let Poll::Ready(incoming) = client.listener.poll_accept(&mut cx) {
                let remote = incoming.remote();
                client.accepted.push((remote, incoming.accept()));
                moved = true;
            }
        }
        for running in &mut self.transfers {
            let (from, to) = (running.plan.from, 1 - running.plan.from);
            if let Stage::Waiting = running.stage
                && self.started + running.plan.at <= self.now
            {
                let memberships = self.clients[from].engine.memberships();
                let stack = memberships[&NETWORK].stack();
                let remote = address::both(HOSTS[to]).unwrap()[usize::from(running.plan.v6)];
                let connecting = stack
                    .connect(self.now, SocketAddr::new(remote, PORT))
                    .map_err(|error| error.to_string())?;
                running.stage = Stage::Connecting(Box::pin(connecting));
                moved = true;
            }
            if let Stage::Connecting(connecting) = &mut running.stage
                && let Poll::Ready(result) = connecting.as_mut().poll(&mut cx)
            {
                let opener = result.map_err(|error| format!("a connect failed: {error}"))?;
                running.stage = Stage::Open {
                    opener,
                    acceptor: None,
                };
                moved = true;
            }
            let Stage::Open { opener, acceptor } = &mut running.stage else {
                continue;
            };
            if acceptor.is_none() {
                let accepted = &mut self.clients[to].accepted;
                let found = accepted
                    .iter()
                    .position(|(remote, _)| *remote == opener.local_addr());
                *acceptor = found.map(|at| accepted.swap_remove(at).1);
            }
            let (up, down) = (running.plan.up, running.plan.down);
            moved |= running.opener.run(opener, up, down)?;
            if let Some(acceptor) = acceptor {
                moved |= running.acceptor.run(acceptor, down, up)?;
            }
        }
        Ok(moved)
    }

    fn check_counters(&self) -> Result<(), String> {
        for client in &self.clients {
            for reason in [
                "forged",
                "malformed",
                "foreign_source",
                "foreign_destination",
                "unknown_network",
                "unknown_peer",
            ] {
                let count = client.engine.counters().drops.get(reason);
                if count > 0 {
                    return Err(format!("{count} packets were dropped as {reason}"));
                }
            }
        }
        for relay in &self.relays {
            let metrics = relay.metrics();
            let overrun = metrics
                .lines()
                .find(|line| line.contains("overrun") && !line.starts_with('#'));
            if overrun.is_none_or(|line| !line.ends_with(" 0")) {
                return Err(format!("an honest client overran its credit: {overrun:?}"));
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let transfers = self.transfers.iter().map(|running| {
            let stage = match running.stage {
                Stage::Waiting => "waiting",
                Stage::Connecting(_) => "connecting",
                Stage::Open { acceptor: None, .. } => "not accepted",
                Stage::Open { .. } => "open",
            };
            let (up, down) = (&running.acceptor, &running.opener);
            format!(
                "{stage} {}/{} up, {}/{} down",
                up.read, running.plan.up, down.read, running.plan.down
            )
        });
        transfers.collect::<Vec<_>>().join("; ")
    }
}

impl Client {
    fn new(index: usize, now: Instant, seed: u64) -> Self {
        let woken = Flag::new();
        let wake = woken.clone();
        let local = LocalDevice {
            device: device(index),
            instance: seed.to_le_bytes(),
            tunnel: Arc::new(tunnel(index)),
        };
        let mut engine_seed = [index as u8 + 1; 32];
        engine_seed[..8].copy_from_slice(&seed.to_le_bytes());
        let engine = Engine::new(
            local,
            Config::default(),
            PATIENCE,
            engine_seed,
            Box::new(move || wake.wake_by_ref()),
        );
        engine.handle_controller(true);
        let distrusted = engine.apply(now, &netmap(index), &mut KnownPeers::new());
        assert!(distrusted.is_empty(), "{distrusted:?}");
        let listener = engine.memberships()[&NETWORK].stack().listen(PORT).unwrap();
        Self {
            engine,
            woken,
            listener,
            sequence: 0,
            attempts: BTreeMap::new(),
            accepted: Vec::new(),
            asleep: false,
        }
    }
}

impl Running {
    fn is_done(&self) -> bool {
        let matches = |side: &Side, length| side.ended && side.closed && side.read == length;
        matches(&self.opener, self.plan.down) && matches(&self.acceptor, self.plan.up)
    }
}

impl Side {
    /// Writes what is left to write, closes after it, and reads and compares what has come.
    fn run(&mut self, stream: &TcpStream, to_write: usize, to_read: usize) -> Result<bool, String> {
        let mut moved = false;
        while self.written < to_write {
            let chunk: Vec<u8> = (self.written..to_write.min(self.written + 16_384))
                .map(pattern)
                .collect();
            match stream.try_write(&chunk) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    return Err(format!("a write failed at byte {}: {error}", self.written));
                }
            }
            moved = true;
        }
        if self.written == to_write && !self.closed {
            stream.try_shutdown();
            self.closed = true;
            moved = true;
        }
        let mut buffer = [0; 8_192];
        while !self.ended {
            match stream.try_read(&mut buffer) {
                Ok(0) if self.read == to_read => self.ended = true,
                Ok(0) => {
                    return Err(format!(
                        "the stream ended at byte {} of {to_read}",
                        self.read
                    ));
                }
                Ok(count) => {
                    for byte in &buffer[..count] {
                        if self.read == to_read || *byte != pattern(self.read) {
                            return Err(format!("byte {} of {to_read} is wrong", self.read));
                        }
                        self.read += 1;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a read failed at byte {}: {error}", self.read)),
            }
            moved = true;
        }
        Ok(moved)
    }
}

/// A byte that tells where it belongs, with a period that no buffer size divides.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8 ^ (at / 65_521) as u8
}

/// Virtual time in which every transfer must be complete, outages and retransmissions included.
const LONGEST: Duration = Duration::from_secs(120);

/// A run that takes more steps moves no more.
const STEPS_MAX: usize = 200_000;

/// Rounds of one moment; more mean that something wakes itself without end.
const ROUNDS_MAX: usize = 10_000;
