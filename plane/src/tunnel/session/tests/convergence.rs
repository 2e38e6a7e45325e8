//! Both sides at once, in every order: they end with keys for each other, and nothing that was
//! sealed is lost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::tunnel::keys::LONGEST_UNDER_WAY;

#[test]
fn both_starting_at_once_end_with_one_session() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    pair.b.handle_want_send(pair.now);
    pair.exchange();
    assert_eq!(events(&mut pair.a), [Event::Established]);
    assert_eq!(events(&mut pair.b), [Event::Established]);
    pair.a_to_b(b"there");
    pair.b_to_a(b"and back");
    // One session and not two: each holds the keys of a single handshake.
    assert_eq!(pair.a.all_keys().count(), 1);
    assert_eq!(pair.b.all_keys().count(), 1);
    pair.advance(seconds(10));
    assert!(messages(&mut pair.a).is_empty() && messages(&mut pair.b).is_empty());
}

#[test]
fn both_renewing_at_once_lose_nothing() {
    let mut pair = Pair::established();
    pair.advance(seconds(150));
    let mut from_a = sealed(&mut pair.a, pair.now, b"old keys");
    let mut from_b = sealed(&mut pair.b, pair.now, b"old keys");
    pair.exchange();
    assert_eq!(
        opened(&mut pair.a, pair.now, &mut from_b).unwrap(),
        b"old keys"
    );
    assert_eq!(
        opened(&mut pair.b, pair.now, &mut from_a).unwrap(),
        b"old keys"
    );
    pair.a_to_b(b"new keys");
    pair.b_to_a(b"new keys");
}

#[test]
fn when_the_winner_s_message_1_is_lost_the_loser_s_brings_it_back() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    assert_eq!(messages(&mut pair.a).len(), 1, "and lost");
    pair.advance(seconds(6));
    messages(&mut pair.a);
    pair.advance(Duration::from_millis(1_500));
    messages(&mut pair.a);
    pair.b.handle_want_send(pair.now);
    pair.exchange();
    pair.a_to_b(b"without waiting for the next retry");
}

#[test]
fn the_loser_of_a_tie_does_not_repeat_its_own_message_1_at_once() {
    let mut pair = Pair::new();
    pair.b.handle_want_send(pair.now);
    assert_eq!(messages(&mut pair.b).len(), 1, "and lost");
    pair.advance(Duration::from_millis(200));
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    pair.b.open(pair.now, &mut init).unwrap();
    assert_eq!(messages(&mut pair.b).len(), 1, "the answer");
    pair.advance(Duration::from_millis(999));
    assert!(messages(&mut pair.b).is_empty());
    pair.advance(Duration::from_millis(1));
    assert_eq!(
        messages(&mut pair.b).len(),
        1,
        "but it does when no confirmation comes"
    );
}

/// The longest disorder that the property below has found: an answer nobody uses must not push out
/// keys in use.
#[test]
fn a_stale_answer_takes_no_place_of_keys_in_use() {
    let mut world = World::new();
    let now = world.pair.now;
    world.pair.a.handle_want_send(now);
    world.pair.b.handle_want_send(now);
    world.drain();
    world.deliver_nth(Side::B, 0);
    world.deliver_nth(Side::A, 1);
    // Only now a sees b's message 1, and answers what b has given up.
    world.step(&Step::Rest(130));
    assert!(world.pair.a.next.is_some());

    // Both renew, and the handshakes cross twice while packets under the old keys are under way.
    world.step(&Step::Send(Side::B));
    world.step(&Step::Send(Side::A));
    world.deliver_nth(Side::B, 1);
    world.deliver_nth(Side::A, 2);
    world.step(&Step::Send(Side::B));
    world.deliver_nth(Side::A, 1);
    world.deliver_nth(Side::B, 2);
    world.step(&Step::Send(Side::B));
    world.deliver_nth(Side::A, 2);
    world.settle();
    assert_eq!(world.arrived.len(), world.packets as usize);
}

#[test]
fn a_responder_that_wants_to_send_waits_for_the_confirmation_first() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    pair.b.open(pair.now, &mut init).unwrap();
    let mut response = pair.b.poll_message().unwrap();
    pair.b.handle_want_send(pair.now);
    assert!(pair.b.poll_message().is_none(), "its answer is under way");
    // The answer is lost: b starts its own handshake a second later.
    pair.advance(seconds(1));
    let mut own = pair.b.poll_message().unwrap();
    messages(&mut pair.a);
    // a has one under way itself and sends that again, which b already knows.
    pair.a.open(pair.now, &mut own).unwrap();
    pair.a.open(pair.now, &mut response).unwrap();
    pair.exchange();
    pair.b_to_a(b"through");
}

#[derive(Clone, Debug)]
enum Step {
    Want(Side),
    Send(Side),
    /// Hand over one message in flight: to whom, and which.
    Deliver(Side, prop::sample::Index),
    Copy(Side, prop::sample::Index),
    Lose(Side, prop::sample::Index),
    Wait(u64),
    /// Everything in flight arrives, then minutes pass.
    Rest(u64),
    Restart(Side),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    A,
    B,
}

#[derive(Clone)]
struct InFlight {
    message: Vec<u8>,
    /// The number of the packet in it, unless it is of the handshake.
    packet: Option<u32>,
    sent: Instant,
}

/// A path that reorders, copies and loses, and a record of what became of every packet.
struct World {
    pair: Pair,
    to_a: Vec<InFlight>,
    to_b: Vec<InFlight>,
    packets: u32,
    arrived: BTreeSet<u32>,
    nonces: BTreeSet<(Side, u32, u64, u64)>,
    lives: u64,
}

impl World {
    fn new() -> Self {
        Self {
            pair: Pair::new(),
            to_a: Vec::new(),
            to_b: Vec::new(),
            packets: 0,
            arrived: BTreeSet::new(),
            nonces: BTreeSet::new(),
            lives: 0,
        }
    }

    fn session(&mut self, side: Side) -> &mut PeerSession {
        match side {
            Side::A => &mut self.pair.a,
            Side::B => &mut self.pair.b,
        }
    }

    fn in_flight_to(&mut self, side: Side) -> &mut Vec<InFlight> {
        match side {
            Side::A => &mut self.to_a,
            Side::B => &mut self.to_b,
        }
    }

    fn drain(&mut self) {
        for (from, to) in [(Side::A, Side::B), (Side::B, Side::A)] {
            for message in messages(self.session(from)) {
                self.note_nonce(from, &message);
                let sent = self.pair.now;
                self.in_flight_to(to).push(InFlight {
                    message,
                    packet: None,
                    sent,
                });
            }
        }
    }

    /// No counter is ever used twice under one key. Index and life of the sender stand for the key.
    fn note_nonce(&mut self, from: Side, message: &[u8]) {
        if let Some(Message::Transport { receiver, counter }) = envelope::parse(message) {
            let fresh = self.nonces.insert((from, receiver, self.lives, counter));
            assert!(fresh, "a nonce was used twice");
        }
    }

    fn send(&mut self, from: Side) {
        let now = self.pair.now;
        let number = self.packets;
        // Begins as an IP packet does: what begins with 0 is a note.
        let mut message = buffer(&[&[0x45][..], &number.to_be_bytes()].concat());
        if self.session(from).seal(now, &mut message).is_err() {
            self.session(from).handle_want_send(now);
            return;
        }
        self.packets += 1;
        self.note_nonce(from, &message);
        let to = if from == Side::A { Side::B } else { Side::A };
        self.in_flight_to(to).push(InFlight {
            message,
            packet: Some(number),
            sent: now,
        });
    }

    fn deliver(&mut self, to: Side, flying: &InFlight) {
        let now = self.pair.now;
        let mut message = flying.message.clone();
        match self.session(to).open(now, &mut message) {
            Ok(Opened::Packet(packet)) => {
                let number = u32::from_be_bytes(packet[1..].try_into().unwrap());
                assert_eq!(Some(number), flying.packet);
                assert!(self.arrived.insert(number), "a packet arrived twice");
            }
            Ok(Opened::Handshake | Opened::Keepalive) => assert_eq!(flying.packet, None),
            Err(OpenError::UnknownIndex) => self.session(to).handle_want_send(now),
            // Copies of packets, and of message 1 in great number.
            Err(OpenError::Replayed | OpenError::RateLimited) => {}
            Err(error @ (OpenError::Malformed | OpenError::Forged | OpenError::Expired)) => {
                panic!("{error}: an honest message")
            }
        }
    }

    /// Delivers one message out of its order.
    fn deliver_nth(&mut self, to: Side, nth: usize) {
        let flying = self.in_flight_to(to).remove(nth);
        self.deliver(to, &flying);
        self.drain();
    }

    /// Everything arrives in order until nothing is said any more.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.drain();
            let (to_a, to_b) = (
                std::mem::take(&mut self.to_a),
                std::mem::take(&mut self.to_b),
            );
            if to_a.is_empty() && to_b.is_empty() {
                return;
            }
            to_b.iter().for_each(|flying| self.deliver(Side::B, flying));
            to_a.iter().for_each(|flying| self.deliver(Side::A, flying));
        }
        panic!("the two never stop talking");
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Want(side) => {
                let now = self.pair.now;
                self.session(*side).handle_want_send(now);
            }
            Step::Send(side) => self.send(*side),
            Step::Deliver(side, index) => {
                let flying = self.in_flight_to(*side);
                if !flying.is_empty() {
                    let flying = flying.remove(index.index(flying.len()));
                    self.deliver(*side, &flying);
                }
            }
            Step::Copy(side, index) => {
                let flying = self.in_flight_to(*side);
                if !flying.is_empty() {
                    let flying = flying[index.index(flying.len())].clone();
                    self.deliver(*side, &flying);
                }
            }
            Step::Lose(side, index) => {
                let flying = self.in_flight_to(*side);
                if !flying.is_empty() {
                    flying.remove(index.index(flying.len()));
                }
            }
            Step::Wait(millis) => {
                let wait = Duration::from_millis(*millis);
                let mut flying = self.to_a.iter().chain(&self.to_b);
                if flying.any(|flying| self.pair.now + wait >= flying.sent + LONGEST_UNDER_WAY) {
                    self.settle();
                }
                self.pair.advance(wait);
            }
            Step::Rest(secs) => {
                self.settle();
                self.pair.advance(seconds(*secs));
            }
            Step::Restart(side) => {
                self.lives += 1;
                let seed = 1_000 + self.lives;
                let now = self.pair.now;
                *self.session(*side) = match side {
                    Side::A => PeerSession::new(config(1, 2), now, seed),
                    Side::B => PeerSession::new(config(2, 1), now, seed),
                };
            }
        }
        self.drain();
    }

    /// With a path that works again and both wanting to send, both can, soon. At worst one side
    /// holds keys that the other has lost, and has to become suspicious of the silence.
    fn assert_converges(&mut self) {
        for _ in 0..80 {
            self.send(Side::A);
            self.send(Side::B);
            self.settle();
            let before = self.arrived.len();
            if self.pair.a.can_seal(self.pair.now) && self.pair.b.can_seal(self.pair.now) {
                self.send(Side::A);
                self.send(Side::B);
                self.settle();
                if self.arrived.len() == before + 2 {
                    return;
                }
            }
            self.pair.advance(Duration::from_millis(250));
        }
        panic!("twenty seconds of a good path were not enough");
    }
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::A), Just(Side::B)]
}

fn steps(faults: bool) -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let fault = u32::from(faults);
    prop::collection::vec(
        prop_oneof![
            2 => side().prop_map(Step::Want),
            4 => side().prop_map(Step::Send),
            8 => (side(), index()).prop_map(|(side, index)| Step::Deliver(side, index)),
            2 => (side(), index()).prop_map(|(side, index)| Step::Copy(side, index)),
            1 => (0..1_500u64).prop_map(Step::Wait),
            1 => prop_oneof![Just(119u64), Just(120), Just(130), 0..400u64].prop_map(Step::Rest),
            2 * fault => (side(), index()).prop_map(|(side, index)| Step::Lose(side, index)),
            fault => side().prop_map(Step::Restart),
        ],
        1..80,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn any_disorder_loss_and_restart_ends_in_a_session(steps in steps(true)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.assert_converges();
    }

    /// Reordering and copies alone, across any number of renewals, cost no packet.
    #[test]
    fn without_loss_every_sealed_packet_arrives_once(steps in steps(false)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.settle();
        prop_assert_eq!(world.arrived.len(), world.packets as usize);
        world.assert_converges();
    }
}
