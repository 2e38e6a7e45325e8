//! Events of a client as a whole: it sleeps, wakes, is killed, and starts again.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use overlan_netstack::{Connecting, Stack, TcpStream};
use overlan_plane::engine::KnownPeers;
use overlan_protocol::netmap::Network;
use overlan_protocol::policy::Filter;

use super::{Client, Connection, STEPS_MAX, World};
use crate::deployment::{HOSTS, NETWORK, PORT, netmap};
use crate::wire::Wire;

impl World {
    /// Both clients are attached, and nothing happens by itself.
    pub(crate) fn quiet() -> Self {
        let mut world = Self::new(1);
        world.script.cuts.clear();
        world.transfers.clear();
        world.script.delays = [[Duration::from_millis(5); 2]; 2];
        world.script.rate = 50_000_000;
        world.pass(Duration::from_secs(2));
        world
    }

    /// Lets time pass, doing what is due on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..STEPS_MAX {
            self.settle().unwrap();
            match self.next_event().filter(|at| *at <= until) {
                Some(at) => self.now = at.max(self.now),
                None => {
                    self.now = until;
                    return self.settle().unwrap();
                }
            }
        }
        panic!("it does not come to {until:?}");
    }

    /// A connection from client 0 to client 1; both ends.
    pub(crate) fn open(&mut self) -> (TcpStream, TcpStream) {
        let connecting = self.connect(0);
        self.pass(Duration::from_secs(2));
        self.opened(0, connecting)
    }

    /// A connection from client `from` to the other one is opened from now on.
    pub(crate) fn connect(&mut self, from: usize) -> Pin<Box<Connecting>> {
        let membership = self.clients[from].engine.memberships()[&NETWORK].clone();
        let remote = SocketAddr::new(HOSTS[1 - from].v4().into(), PORT);
        Box::pin(membership.stack().connect(self.now, remote).unwrap())
    }

    /// Both ends of what client `from` opened.
    pub(crate) fn opened(
        &mut self,
        from: usize,
        mut connecting: Pin<Box<Connecting>>,
    ) -> (TcpStream, TcpStream) {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(opened) = connecting.as_mut().poll(&mut cx) else {
            panic!("nobody answered");
        };
        let opened = opened.unwrap();
        let accepted = &mut self.clients[1 - from].accepted;
        let mut remotes = accepted.iter().map(|(remote, _)| *remote);
        let place = remotes.position(|remote| remote == opened.local_addr());
        (opened, accepted.swap_remove(place.unwrap()).1)
    }

    /// The client's host is suspended.
    pub(crate) fn suspend(&mut self, index: usize) {
        self.clients[index].asleep = true;
    }

    /// It goes on, and finds what the relays ended meanwhile.
    pub(crate) fn resume(&mut self, index: usize) {
        self.clients[index].asleep = false;
        let ended = |connection: &Connection| {
            connection.client == index && connection.near.is_some() && connection.far.is_none()
        };
        let ended: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| ended(connection))
            .map(|(number, _)| *number)
            .collect();
        for number in ended {
            self.end_near(number);
        }
    }

    /// The client's process is killed: relays see the ends of its connections, and nobody says why.
    pub(crate) fn kill(&mut self, index: usize) {
        self.clients[index].asleep = true;
        self.connections
            .retain(|_, connection| connection.client != index);
    }

    /// Another process of the same device starts.
    pub(crate) fn start_anew(&mut self, index: usize) {
        let sequence = self.clients[index].sequence;
        self.clients[index] = Client::new(index, self.now, self.dice.next());
        self.clients[index].sequence = sequence;
    }

    /// The controller tells the other client that `index` is online, or is not.
    pub(crate) fn tell_online(&mut self, index: usize, online: bool) {
        self.tell(1 - index, |network| {
            network.peers.get_mut(&HOSTS[index]).unwrap().online = online;
        });
    }

    /// The controller gives client `index` other rules.
    pub(crate) fn tell_rules(&mut self, index: usize, rules: &Filter) {
        self.tell(index, |network| network.filter = rules.clone());
    }

    /// The controller hides the other client from client `index`.
    pub(crate) fn hide_peer(&mut self, index: usize) {
        self.tell(index, |network| network.peers.clear());
    }

    fn tell(&mut self, index: usize, change: impl Fn(&mut Network)) {
        let mut netmap = netmap(index);
        netmap.networks.values_mut().for_each(change);
        let engine = &self.clients[index].engine;
        let distrusted = engine.apply(self.now, &netmap, &mut KnownPeers::new());
        assert!(distrusted.is_empty(), "{distrusted:?}");
    }

    /// The netstack of client `index`.
    pub(crate) fn stack(&self, index: usize) -> Stack {
        self.clients[index].engine.memberships()[&NETWORK]
            .stack()
            .clone()
    }

    /// One direction between a client and a relay dies without notice; new connections between them
    /// do not come up.
    pub(crate) fn deaden(&mut self, client: usize, relay: usize, up: bool) {
        let now = self.now;
        let mut connections = self.connections.values_mut();
        let of = |it: &&mut Connection| (it.client, it.relay) == (client, relay);
        if let Some(connection) = connections.find(of) {
            connection.dead[usize::from(!up)] = true;
            match up {
                true => connection.up = Wire::hole(now),
                false => connection.down = Wire::hole(now),
            }
        }
        if let Some(attempt) = self.clients[client].attempts.get_mut(&relay) {
            attempt.outage_until = now + Duration::from_secs(3_600);
        }
    }

    /// The client leaves in order.
    pub(crate) fn leave(&mut self, index: usize) {
        self.clients[index].engine.leave(self.now);
    }
}
