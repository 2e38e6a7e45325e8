//! Birth, renewal, age and loss of a session between two honest ends.

use super::*;

#[test]
fn packets_flow_both_ways_after_one_round_trip() {
    let mut pair = Pair::new();
    assert_eq!(
        pair.a.seal(pair.now, &mut buffer(b"x")),
        Err(SealError::NoSession)
    );
    assert!(
        messages(&mut pair.a).is_empty(),
        "only a want starts a handshake"
    );

    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    assert_eq!(pair.b.open(pair.now, &mut init), Ok(Opened::Handshake));
    let mut response = pair.b.poll_message().unwrap();
    assert!(
        !pair.b.can_seal(pair.now),
        "the responder waits for the confirmation"
    );
    assert_eq!(pair.a.open(pair.now, &mut response), Ok(Opened::Handshake));
    assert!(pair.a.can_seal(pair.now));
    pair.a_to_b(b"first, before the confirmation is there");
    assert_eq!(events(&mut pair.b), [Event::Established]);
    pair.b_to_a(b"back");

    let mut confirm = pair.a.poll_message().unwrap();
    assert_eq!(pair.b.open(pair.now, &mut confirm), Ok(Opened::Keepalive));
    assert!(messages(&mut pair.a).is_empty() && messages(&mut pair.b).is_empty());
}

#[test]
fn the_initiator_confirms_at_once() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    pair.b.open(pair.now, &mut init).unwrap();
    let mut response = pair.b.poll_message().unwrap();
    pair.a.open(pair.now, &mut response).unwrap();

    let mut confirm = pair.a.poll_message().unwrap();
    assert_eq!(confirm.len(), TRANSPORT_HEADER_LEN + TAG_LEN);
    assert_eq!(pair.b.open(pair.now, &mut confirm), Ok(Opened::Keepalive));
    assert!(pair.b.can_seal(pair.now));
}

#[test]
fn wanting_twice_starts_once() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    pair.a.handle_want_send(pair.now);
    assert_eq!(messages(&mut pair.a).len(), 1);
    let mut pair = Pair::established();
    pair.a.handle_want_send(pair.now);
    pair.b.handle_want_send(pair.now);
    assert!(messages(&mut pair.a).is_empty() && messages(&mut pair.b).is_empty());
}

#[test]
fn the_responder_seals_under_the_old_keys_until_the_new_ones_are_confirmed() {
    let mut pair = Pair::established();
    let old = index_of(&sealed(&mut pair.b, pair.now, b"old"));
    pair.advance(seconds(120));
    pair.a_to_b(b"use after 120 s");
    let mut init = pair
        .a
        .poll_message()
        .expect("use after 120 s renews the keys");
    pair.b.open(pair.now, &mut init).unwrap();
    let mut response = pair.b.poll_message().unwrap();

    let mut crossing = sealed(&mut pair.b, pair.now, b"crossing");
    assert_eq!(index_of(&crossing), old);
    pair.a.open(pair.now, &mut response).unwrap();
    assert_eq!(
        opened(&mut pair.a, pair.now, &mut crossing).unwrap(),
        b"crossing"
    );
    assert_eq!(index_of(&sealed(&mut pair.b, pair.now, b"still old")), old);

    pair.exchange();
    assert_ne!(index_of(&sealed(&mut pair.b, pair.now, b"new")), old);
    assert!(events(&mut pair.a).is_empty(), "new keys are not news");
    assert!(events(&mut pair.b).is_empty());
}

#[test]
fn what_was_under_way_when_keys_changed_still_opens() {
    let mut pair = Pair::established();
    pair.advance(seconds(120));
    let mut from_a = sealed(&mut pair.a, pair.now, b"late from a");
    let mut from_b = sealed(&mut pair.b, pair.now, b"late from b");
    pair.exchange();
    pair.a_to_b(b"new");
    pair.b_to_a(b"new");
    assert_eq!(
        opened(&mut pair.b, pair.now, &mut from_a).unwrap(),
        b"late from a"
    );
    assert_eq!(
        opened(&mut pair.a, pair.now, &mut from_b).unwrap(),
        b"late from b"
    );
}

#[test]
fn keys_are_renewed_by_use_and_not_before_their_time() {
    let mut pair = Pair::established();
    pair.advance(seconds(120) - Duration::from_millis(1));
    pair.a_to_b(b"early");
    pair.b_to_a(b"early");
    assert!(messages(&mut pair.a).is_empty() && messages(&mut pair.b).is_empty());
    pair.advance(Duration::from_millis(1));
    assert!(
        messages(&mut pair.a).is_empty(),
        "time alone renews nothing"
    );
    pair.b_to_a(b"receiving is use too");
    assert_eq!(messages(&mut pair.a).len(), 1);
}

#[test]
fn a_steady_flow_is_never_interrupted() {
    let mut pair = Pair::established();
    let mut indexes = std::collections::BTreeSet::new();
    for _ in 0..2_000 {
        pair.advance(Duration::from_millis(500));
        pair.a_to_b(b"ping");
        pair.b_to_a(b"pong");
        pair.exchange();
        indexes.insert(index_of(&sealed(&mut pair.a, pair.now, b"")));
    }
    assert_eq!(indexes.len(), 9, "1000 s of use are nine sets of keys");
    assert!(events(&mut pair.a).is_empty() && events(&mut pair.b).is_empty());
}

#[test]
fn only_the_responder_sending_renews_too() {
    let mut pair = Pair::established();
    for _ in 0..400 {
        pair.advance(seconds(1));
        pair.b_to_a(b"one way");
        pair.exchange();
    }
    assert!(pair.b.can_seal(pair.now));
}

#[test]
fn an_idle_session_does_nothing_and_ends() {
    let mut pair = Pair::established();
    pair.a_to_b(b"last");
    let start = pair.now;
    let mut timeouts = 0;
    while let Some(due) = pair.a.poll_timeout() {
        pair.a.handle_timeout(due);
        timeouts += 1;
        assert!(due <= start + seconds(180) && timeouts < 3);
    }
    assert!(
        messages(&mut pair.a).is_empty(),
        "nothing was said while idle"
    );
    assert!(events(&mut pair.a).is_empty());
    pair.now = start + seconds(180);
    assert!(!pair.a.can_seal(pair.now));

    pair.a.handle_want_send(pair.now);
    pair.exchange();
    assert_eq!(
        events(&mut pair.a),
        [Event::Established],
        "waiting packets hear of it"
    );
    pair.a_to_b(b"again");
}

#[test]
fn age_is_checked_even_if_no_timeout_was_handled() {
    let mut pair = Pair::established();
    let mut message = sealed(&mut pair.a, pair.now, b"slow");
    pair.now += seconds(180);
    assert!(!pair.a.can_seal(pair.now));
    assert_eq!(
        pair.a.seal(pair.now, &mut buffer(b"x")),
        Err(SealError::NoSession)
    );
    assert_eq!(pair.b.open(pair.now, &mut message), Err(OpenError::Expired));
    pair.a.handle_want_send(pair.now);
    pair.exchange();
    assert_eq!(events(&mut pair.a), [Event::Established]);
    assert_eq!(events(&mut pair.b), [Event::Established]);
    pair.b_to_a(b"both ways");
}

#[test]
fn an_unanswered_handshake_is_repeated_more_slowly_and_given_up() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let start = pair.now;
    let first = pair.a.poll_message().unwrap();
    let mut gaps = Vec::new();
    let mut last = start;
    while let Some(due) = pair.a.poll_timeout() {
        pair.a.handle_timeout(due - Duration::from_nanos(1));
        assert!(messages(&mut pair.a).is_empty(), "early calls do nothing");
        pair.a.handle_timeout(due);
        for message in messages(&mut pair.a) {
            assert_eq!(message, first, "every copy is the same");
            gaps.push((due - last).as_millis());
            last = due;
        }
    }
    assert!((6..=7).contains(&gaps.len()), "{gaps:?}");
    for (gap, base) in gaps.iter().zip([250, 500, 1000, 2000, 4000, 8000, 8000]) {
        assert!((base..=base + base / 4).contains(gap), "{gaps:?}");
    }
    assert_eq!(events(&mut pair.a), [Event::Lost]);
    assert!(pair.a.poll_timeout().is_none());

    pair.now = start + seconds(30);
    pair.a.handle_want_send(pair.now);
    let second = pair.a.poll_message().unwrap();
    assert_ne!(second, first);
    pair.b.open(pair.now, &mut second.clone()).unwrap();
    pair.exchange();
    assert_eq!(events(&mut pair.a), [Event::Established]);
}

#[test]
fn giving_up_takes_thirty_seconds() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    pair.advance(Duration::from_millis(29_999));
    assert!(events(&mut pair.a).is_empty());
    pair.advance(Duration::from_millis(1));
    assert_eq!(events(&mut pair.a), [Event::Lost]);
}

#[test]
fn jitter_differs_between_seeds() {
    let now = tokio::time::Instant::now().into_std();
    let due = |seed| {
        let mut session = PeerSession::new(config(1, 2), now, seed);
        session.handle_want_send(now);
        session.poll_timeout().unwrap()
    };
    assert_eq!(due(5), due(5));
    assert!((0..8).any(|seed| due(seed) != due(99)));
}

#[test]
fn a_slow_answer_to_the_first_copy_still_counts() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    pair.advance(seconds(10));
    assert!(
        !messages(&mut pair.a).is_empty(),
        "copies went out meanwhile"
    );
    pair.b.open(pair.now, &mut init).unwrap();
    let mut response = pair.b.poll_message().unwrap();
    pair.a.open(pair.now, &mut response).unwrap();
    assert_eq!(events(&mut pair.a), [Event::Established]);
    pair.a_to_b(b"slow but well");
}

#[test]
fn a_peer_that_turns_silent_is_tried_anew_by_sending() {
    let mut pair = Pair::established();
    sealed(&mut pair.a, pair.now, b"unanswered");
    pair.advance(seconds(8));
    sealed(&mut pair.a, pair.now, b"unanswered");
    assert!(messages(&mut pair.a).is_empty());
    pair.advance(seconds(7));
    sealed(&mut pair.a, pair.now, b"unanswered");
    assert_eq!(messages(&mut pair.a).len(), 1);
    pair.advance(seconds(30));
    assert_eq!(events(&mut pair.a), [Event::Lost]);
    assert!(pair.a.can_seal(pair.now), "the keys may still be good");

    pair.b_to_a(b"here I am");
    assert_eq!(events(&mut pair.a), [Event::Established]);
}

#[test]
fn a_pause_after_an_unanswered_packet_is_no_silence() {
    let mut pair = Pair::established();
    sealed(&mut pair.a, pair.now, b"nothing to answer");
    pair.advance(seconds(60));
    sealed(&mut pair.a, pair.now, b"something new");
    assert!(messages(&mut pair.a).is_empty());
}

/// Keys are in memory only. The peer notices by a message it cannot place, and asks for new keys at
/// once.
#[test]
fn a_restarted_peer_is_back_after_its_first_message() {
    for restarted_a in [true, false] {
        let mut pair = Pair::established();
        pair.advance(seconds(5));
        if restarted_a {
            pair.a = PeerSession::new(config(1, 2), pair.now, 3);
            let mut message = sealed(&mut pair.b, pair.now, b"to a ghost");
            assert_eq!(
                pair.a.open(pair.now, &mut message),
                Err(OpenError::UnknownIndex)
            );
            pair.a.handle_want_send(pair.now);
        } else {
            pair.b = PeerSession::new(config(2, 1), pair.now, 3);
            let mut message = sealed(&mut pair.a, pair.now, b"to a ghost");
            assert_eq!(
                pair.b.open(pair.now, &mut message),
                Err(OpenError::UnknownIndex)
            );
            pair.b.handle_want_send(pair.now);
        }
        pair.exchange();
        pair.a_to_b(b"well again");
        pair.b_to_a(b"well again");
    }
}

/// A confirmation may be minutes late. What waits must not be left waiting for keys that are too
/// old to seal.
#[test]
fn a_very_late_confirmation_does_not_end_the_wish_for_a_session() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let mut init = pair.a.poll_message().unwrap();
    pair.b.open(pair.now, &mut init).unwrap();
    let mut response = pair.b.poll_message().unwrap();
    pair.a.open(pair.now, &mut response).unwrap();
    let mut confirm = pair.a.poll_message().unwrap();

    pair.advance(seconds(175));
    pair.b.handle_want_send(pair.now);
    assert_eq!(pair.b.open(pair.now, &mut confirm), Ok(Opened::Keepalive));
    assert!(!pair.b.can_seal(pair.now) && events(&mut pair.b).is_empty());
    pair.exchange();
    assert_eq!(events(&mut pair.b), [Event::Established]);
    pair.b_to_a(b"at last");
}

#[test]
fn an_exhausted_session_is_replaced() {
    let mut pair = Pair::established();
    pair.a.current.as_mut().unwrap().use_up();
    assert_eq!(
        pair.a.seal(pair.now, &mut buffer(b"x")),
        Err(SealError::Exhausted)
    );
    assert!(!pair.a.can_seal(pair.now));
    pair.a.handle_want_send(pair.now);
    pair.exchange();
    assert_eq!(events(&mut pair.a), [Event::Established]);
    pair.a_to_b(b"fresh");
}

#[test]
fn a_caller_that_drains_nothing_costs_a_bounded_amount() {
    let mut pair = Pair::new();
    for _ in 0..100 {
        pair.b.handle_want_send(pair.now);
        pair.advance(seconds(31));
    }
    assert!(messages(&mut pair.b).len() <= MESSAGES_MAX);
    assert_eq!(events(&mut pair.b).len(), EVENTS_MAX);
}
