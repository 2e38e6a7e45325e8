//! Clients, relays and wires under one virtual clock, and the oracle: every byte of every transfer
//! arrives once and in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Wake;
use std::time::{Duration, Instant};

use overlan_netstack::{Config, TcpListener, TcpStream};
use overlan_plane::engine::{Engine, KnownPeers, LocalDevice, PATIENCE};
use overlan_protocol::exchange::Exchange;
use overlan_relay::Forwarder;

use crate::deployment::{NETWORK, PORT, RELAYS, device, netmap, tunnel};
use crate::script::{Dice, Script};

mod life;
mod links;
mod transfers;

use links::{Attempt, Connection};
use transfers::{Running, Side, Stage};

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

/// Virtual time in which every transfer must be complete, outages and retransmissions included.
const LONGEST: Duration = Duration::from_secs(120);

/// A run that takes more steps moves no more.
const STEPS_MAX: usize = 200_000;

/// Rounds of one moment; more mean that something wakes itself without end.
const ROUNDS_MAX: usize = 10_000;
