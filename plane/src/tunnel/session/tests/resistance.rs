//! Forged, copied, late and foreign messages, which change nothing.

use proptest::prelude::*;

use super::*;
use crate::tunnel::envelope::{NOISE_1_LEN, NOISE_2_LEN};

#[test]
fn no_forged_byte_changes_anything() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    for i in 0..init.len() {
        pair.now += seconds(1);
        let mut forged = init.clone();
        forged[i] ^= 1;
        // The sender's index is proved by the message that uses it, not by this one.
        if !(4..8).contains(&i) {
            assert!(pair.b.open(pair.now, &mut forged).is_err(), "byte {i}");
            assert!(pair.b.poll_message().is_none() && pair.b.next.is_none());
        }
    }
    pair.b.open(pair.now, &mut init).unwrap();

    let mut response = pair.b.poll_message().unwrap();
    for i in (0..4).chain(8..response.len()) {
        let mut forged = response.clone();
        forged[i] ^= 1;
        // Each as if it were the first: many of them are another test.
        pair.now += seconds(1);
        let attempt = pair.a.attempt.as_mut().unwrap();
        attempt.flight.as_mut().unwrap().forged = 0;
        assert!(pair.a.open(pair.now, &mut forged).is_err(), "byte {i}");
        assert!(pair.a.poll_message().is_none() && !pair.a.can_seal(pair.now));
    }
    pair.a.open(pair.now, &mut response).unwrap();
    pair.exchange();

    let message = sealed(&mut pair.a, pair.now, b"true");
    for i in 0..message.len() {
        let mut forged = message.clone();
        forged[i] ^= 1;
        assert!(pair.b.open(pair.now, &mut forged).is_err(), "byte {i}");
    }
    assert_eq!(
        opened(&mut pair.b, pair.now, &mut message.clone()).unwrap(),
        b"true"
    );
    // A bent index may be a peer with other keys: one handshake is offered, whatever the number of
    // messages.
    assert_eq!(messages(&mut pair.b).len(), 1);
    pair.a_to_b(b"undisturbed");
    pair.b_to_a(b"undisturbed");
}

#[test]
fn a_peer_with_other_keys_is_offered_a_handshake_now_and_then() {
    let mut pair = Pair::established();
    let mut stray = sealed(&mut pair.a, pair.now, b"late");
    stray[4] ^= 1;
    for pause in [0, 1, 1, 1, 1] {
        pair.advance(seconds(pause));
        assert_eq!(
            pair.b.open(pair.now, &mut stray.clone()),
            Err(OpenError::UnknownIndex)
        );
    }
    let offered = messages(&mut pair.b);
    assert!(
        (1..=4).contains(&offered.len()),
        "{} handshakes in 4 s",
        offered.len()
    );
    for mut message in offered {
        pair.a.open(pair.now, &mut message).unwrap();
    }
    pair.exchange_ignoring_errors();
    pair.a_to_b(b"under new keys or old ones");
    pair.b_to_a(b"under new keys or old ones");
}

#[test]
fn every_transport_message_opens_once() {
    let mut pair = Pair::established();
    let message = sealed(&mut pair.a, pair.now, b"once");
    assert_eq!(
        opened(&mut pair.b, pair.now, &mut message.clone()).unwrap(),
        b"once"
    );
    assert_eq!(
        pair.b.open(pair.now, &mut message.clone()),
        Err(OpenError::Replayed)
    );

    // Also after its keys have moved on.
    pair.advance(seconds(120));
    pair.a_to_b(b"renew");
    pair.exchange();
    assert_eq!(
        pair.b.open(pair.now, &mut message.clone()),
        Err(OpenError::Replayed)
    );
}

#[test]
fn a_message_goes_only_to_the_other_end() {
    let mut pair = Pair::established();
    let mut own = sealed(&mut pair.a, pair.now, b"mirrored");
    assert_eq!(
        pair.a.open(pair.now, &mut own),
        Err(OpenError::UnknownIndex)
    );
    // Not even with the index bent towards its sender: each direction has its own key.
    let mut own = sealed(&mut pair.a, pair.now, b"mirrored");
    let to_a = sealed(&mut pair.b, pair.now, b"to a");
    own[4..8].copy_from_slice(&to_a[4..8]);
    assert_eq!(pair.a.open(pair.now, &mut own), Err(OpenError::Forged));
}

#[test]
fn a_copy_of_message_1_gets_the_same_answer_and_changes_nothing() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let init = pair.a.poll_message().unwrap();
    pair.b.open(pair.now, &mut init.clone()).unwrap();
    let response = pair.b.poll_message().unwrap();
    pair.b.open(pair.now, &mut init.clone()).unwrap();
    assert_eq!(pair.b.poll_message().unwrap(), response);

    pair.a.open(pair.now, &mut response.clone()).unwrap();
    // The copy overtakes the confirmation; the keys it would displace are in use already.
    pair.b.open(pair.now, &mut init.clone()).unwrap();
    pair.exchange_ignoring_errors();
    pair.a_to_b(b"undisturbed");
    pair.b_to_a(b"undisturbed");
    // And once more when everything is in place.
    pair.b.open(pair.now, &mut init.clone()).unwrap();
    pair.exchange_ignoring_errors();
    pair.a_to_b(b"undisturbed");
    pair.b_to_a(b"undisturbed");
}

#[test]
fn a_bent_index_does_not_spoil_the_true_message_1() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    let mut bent = init.clone();
    bent[4] ^= 1;
    pair.b.open(pair.now, &mut bent).unwrap();
    let mut astray = pair.b.poll_message().unwrap();
    assert_eq!(
        pair.a.open(pair.now, &mut astray),
        Err(OpenError::UnknownIndex)
    );
    pair.b.open(pair.now, &mut init).unwrap();
    pair.exchange();
    pair.a_to_b(b"undisturbed");
}

#[test]
fn a_copy_of_message_2_is_unknown() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    pair.b.open(pair.now, &mut init).unwrap();
    let response = pair.b.poll_message().unwrap();
    pair.a.open(pair.now, &mut response.clone()).unwrap();
    assert_eq!(
        pair.a.open(pair.now, &mut response.clone()),
        Err(OpenError::UnknownIndex)
    );
    pair.exchange();
    pair.a_to_b(b"undisturbed");
}

#[test]
fn message_1_of_a_forgotten_session_displaces_nothing_in_use() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let init = pair.a.poll_message().unwrap();
    pair.b.open(pair.now, &mut init.clone()).unwrap();
    pair.exchange();
    pair.advance(seconds(200));
    pair.a.handle_want_send(pair.now);
    pair.exchange();

    let in_use = index_of(&sealed(&mut pair.b, pair.now, b""));
    assert_eq!(
        pair.b.open(pair.now, &mut init.clone()),
        Ok(Opened::Handshake)
    );
    let mut stale = pair.b.poll_message().unwrap();
    assert_eq!(
        pair.a.open(pair.now, &mut stale),
        Err(OpenError::UnknownIndex)
    );
    assert_eq!(index_of(&sealed(&mut pair.b, pair.now, b"")), in_use);
    pair.a_to_b(b"undisturbed");
    pair.b_to_a(b"undisturbed");
}

#[test]
fn answers_are_limited_per_second() {
    let mut pair = Pair::new();
    let inits: Vec<_> = (0..30)
        .map(|seed| {
            let mut restarted = PeerSession::new(config(1, 2), pair.now, seed);
            restarted.handle_want_send(pair.now);
            restarted.poll_message().unwrap()
        })
        .collect();
    let mut answered = Vec::new();
    for init in inits {
        match pair.b.open(pair.now, &mut init.clone()) {
            Ok(_) => answered.push(pair.now),
            Err(error) => assert_eq!(error, OpenError::RateLimited),
        }
        pair.now += Duration::from_millis(50);
    }
    assert_eq!(answered.len(), 20, "1.5 s hold two bursts");
    for window in answered.windows(11) {
        assert!(window[10] - window[0] >= seconds(1));
    }
}

#[test]
fn a_handshake_for_somebody_else_is_forged() {
    let mut other_network = config(1, 2);
    other_network.vni = 78;
    let mut other_device = config(1, 2);
    other_device.local_device = [3; 16];
    let mut other_key = config(1, 2);
    other_key.local_static = Arc::new(static_key(9));
    let mut other_target = config(1, 2);
    other_target.remote_static = *static_key(9).public();
    for stranger in [other_network, other_device, other_key, other_target] {
        let mut pair = Pair::new();
        pair.a = PeerSession::new(stranger, pair.now, 1);
        pair.a.handle_want_send(pair.now);
        let mut init = pair.a.poll_message().unwrap();
        assert_eq!(pair.b.open(pair.now, &mut init), Err(OpenError::Forged));
        assert!(pair.b.poll_message().is_none());
    }
}

#[test]
fn an_impossible_peer_key_ends_as_lost() {
    let mut pair = Pair::new();
    let mut broken = config(1, 2);
    broken.remote_static = [0; 32];
    pair.a = PeerSession::new(broken, pair.now, 1);
    pair.a.handle_want_send(pair.now);
    assert!(pair.a.poll_message().is_none());
    pair.advance(seconds(30));
    assert_eq!(events(&mut pair.a), [Event::Lost]);
}

#[test]
fn an_index_in_use_is_not_given_out_again() {
    let mut pair = Pair::new();
    // Every index drawn from here on has been drawn before.
    let drawn = pair.a.random.clone();
    pair.a.handle_want_send(pair.now);
    pair.exchange();
    for _ in 0..4 {
        pair.a.random = drawn.clone();
        pair.advance(seconds(40));
        pair.a.current.as_mut().unwrap().use_up();
        pair.a.handle_want_send(pair.now);
        pair.exchange();
        let mut indexes: Vec<_> = pair.a.all_keys().map(|keys| keys.local_index).collect();
        let all = indexes.len();
        indexes.sort_unstable();
        indexes.dedup();
        assert_eq!(indexes.len(), all);
    }
}

#[test]
fn reasons_have_distinct_stable_names() {
    let names = OpenError::ALL.map(OpenError::name);
    assert_eq!(
        names,
        [
            "malformed",
            "unknown_index",
            "replayed",
            "forged",
            "rate_limited",
            "expired"
        ]
    );
}

#[test]
fn debug_shows_no_secret() {
    let pair = Pair::established();
    let shown = format!("{:?}", pair.a);
    assert!(
        !shown.contains("1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1"),
        "{shown}"
    );
    assert!(shown.contains("StaticKey(public"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_change_anything(
        kind in 0..6u8,
        index_from_life: bool,
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut pair = Pair::established();
        let mut message = [&[kind, 0, 0, 0], &rest[..]].concat();
        if index_from_life && message.len() >= 8 {
            let live = sealed(&mut pair.a, pair.now, b"");
            message[4..8].copy_from_slice(&live[4..8]);
        }
        let error = pair.b.open(pair.now, &mut message).unwrap_err();
        let offers = error == OpenError::UnknownIndex && kind == 4;
        prop_assert_eq!(messages(&mut pair.b).len(), usize::from(offers));
        prop_assert!(pair.b.poll_event().is_none());
        pair.a_to_b(b"undisturbed");
        pair.b_to_a(b"undisturbed");
    }
}

impl Pair {
    /// Like `exchange`, for when copies are about that the receiver rightly refuses.
    fn exchange_ignoring_errors(&mut self) {
        for _ in 0..10 {
            for mut message in messages(&mut self.a) {
                let _ = self.b.open(self.now, &mut message);
            }
            for mut message in messages(&mut self.b) {
                let _ = self.a.open(self.now, &mut message);
            }
        }
    }
}

#[test]
fn forged_answers_are_limited_and_spend_the_index() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let init = messages(&mut pair.a).remove(0);
    let index: [u8; 4] = init[4..8].try_into().unwrap();
    let forged = |random: u64| {
        let mut noise = [0; NOISE_2_LEN];
        noise[..8].copy_from_slice(&random.to_be_bytes());
        envelope::response(9, u32::from_be_bytes(index), &noise)
    };
    let mut counts = std::collections::BTreeMap::new();
    for random in 0..5_000 {
        let error = pair.a.open(pair.now, &mut forged(random)).unwrap_err();
        *counts.entry(error.name()).or_insert(0) += 1;
    }
    // Worked on: three. Then nobody has that index any more.
    assert_eq!(counts.get("forged"), Some(&3), "{counts:?}");
    assert_eq!(counts.get("unknown_index"), Some(&4_997), "{counts:?}");

    // The true answer comes by the next attempt, under another index.
    pair.advance(seconds(1));
    pair.exchange();
    assert_eq!(events(&mut pair.a), [Event::Established]);
    pair.a_to_b(b"through");
}

#[test]
fn one_allowance_serves_all_handshake_messages_of_a_peer() {
    let mut pair = Pair::new();
    let mut worked_on = 0;
    for round in 0..1_000u32 {
        // A new flight whenever the last one is spent.
        pair.a.attempt = None;
        pair.a.handle_want_send(pair.now);
        let init = messages(&mut pair.a).remove(0);
        let index = u32::from_be_bytes(init[4..8].try_into().unwrap());
        let mut message = match round % 2 {
            0 => envelope::response(9, index, &[round as u8; NOISE_2_LEN]),
            _ => envelope::init(9, &[round as u8; NOISE_1_LEN]),
        };
        let error = pair.a.open(pair.now, &mut message).unwrap_err();
        worked_on += u32::from(error != OpenError::RateLimited);
    }
    assert_eq!(worked_on, 10);
}
