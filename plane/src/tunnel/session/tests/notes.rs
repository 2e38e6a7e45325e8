//! Notes that two sessions send each other beside packets, and a peer that was started again.

use super::*;

/// The same device, started again: it has the same keys, and nothing else.
fn started_anew(local: u8, remote: u8, now: Instant) -> PeerSession {
    let mut config = config(local, remote);
    config.local_instance = [local + 100; 8];
    PeerSession::new(config, now, u64::from(local) + 100)
}

#[test]
fn a_peer_that_was_started_anew_is_noticed_before_anything_that_it_sends() {
    // It does not matter which of the two starts the handshake.
    for anew_begins in [true, false] {
        let mut pair = Pair::established();
        pair.now += Duration::from_secs(30);
        pair.b = started_anew(2, 1, pair.now);
        if anew_begins {
            pair.b.handle_want_send(pair.now);
        } else {
            // A packet by keys that nobody has any more.
            let mut lost = sealed(&mut pair.a, pair.now, b"packet");
            assert_eq!(
                pair.b.open(pair.now, &mut lost),
                Err(OpenError::UnknownIndex)
            );
        }
        let _ = pair.a.take_proof();
        pair.exchange();
        assert_eq!(events(&mut pair.a), [Event::Restarted], "{anew_begins}");
        assert!(pair.a.take_proof());
        assert_eq!(events(&mut pair.b), [Event::Established]);
        let mut packet = sealed(&mut pair.b, pair.now, b"packet");
        assert_eq!(
            opened(&mut pair.a, pair.now, &mut packet),
            Ok(b"packet".to_vec())
        );
        assert_eq!(events(&mut pair.a), []);
    }
}

#[test]
fn new_keys_of_the_same_process_are_no_restart() {
    let mut pair = Pair::established();
    for _ in 0..5 {
        pair.now += Duration::from_secs(125);
        let mut packet = sealed(&mut pair.a, pair.now, b"packet");
        opened(&mut pair.b, pair.now, &mut packet).unwrap();
        pair.exchange();
        assert!(!events(&mut pair.a).contains(&Event::Restarted));
        assert!(!events(&mut pair.b).contains(&Event::Restarted));
    }
}

#[test]
fn a_copy_of_an_old_handshake_is_neither_a_restart_nor_a_sign_of_life() {
    let mut pair = Pair::new();
    pair.a.handle_want_send(pair.now);
    let old = messages(&mut pair.a).remove(0);
    pair.b.open(pair.now, &mut old.clone()).unwrap();
    messages(&mut pair.b);
    pair.a = started_anew(1, 2, pair.now);
    pair.a.handle_want_send(pair.now);
    pair.exchange();
    assert_eq!(events(&mut pair.b), [Event::Established]);
    let _ = pair.b.take_proof();
    pair.now += Duration::from_secs(20);
    pair.b.open(pair.now, &mut old.clone()).unwrap();
    assert_eq!(events(&mut pair.b), []);
    assert!(!pair.b.take_proof());
}

#[test]
fn who_is_asked_answers_and_asking_without_keys_is_a_handshake() {
    let mut pair = Pair::new();
    pair.a.ask(pair.now);
    pair.exchange();
    assert!(pair.a.take_proof() && pair.b.take_proof());
    pair.a.ask(pair.now);
    let [mut question] = messages(&mut pair.a).try_into().unwrap();
    assert_eq!(pair.b.open(pair.now, &mut question), Ok(Opened::Keepalive));
    let [mut answer] = messages(&mut pair.b).try_into().unwrap();
    assert!(!pair.a.take_proof());
    assert_eq!(pair.a.open(pair.now, &mut answer), Ok(Opened::Keepalive));
    assert!(pair.a.take_proof());
    assert_eq!(messages(&mut pair.a).len(), 0, "answers are not answered");
}

#[test]
fn a_farewell_is_heard_once_and_needs_a_session() {
    let mut pair = Pair::established();
    pair.a.say_farewell(pair.now);
    let [mut farewell] = messages(&mut pair.a).try_into().unwrap();
    let mut again = farewell.clone();
    assert_eq!(pair.b.open(pair.now, &mut farewell), Ok(Opened::Keepalive));
    assert_eq!(events(&mut pair.b), [Event::Left]);
    assert_eq!(pair.b.open(pair.now, &mut again), Err(OpenError::Replayed));
    assert_eq!(events(&mut pair.b), []);

    let mut stranger = Pair::new().a;
    stranger.say_farewell(pair.now);
    assert_eq!(messages(&mut stranger).len(), 0);
}

#[test]
fn notes_of_a_later_version_are_signs_of_life_and_nothing_else() {
    let mut pair = Pair::established();
    for text in [&[0, 0][..], &[0, 4], &[0, 255, 1, 2, 3]] {
        let mut note = sealed(&mut pair.a, pair.now, text);
        assert_eq!(pair.b.open(pair.now, &mut note), Ok(Opened::Keepalive));
        assert!(pair.b.take_proof());
        assert_eq!(events(&mut pair.b), []);
        assert_eq!(messages(&mut pair.b).len(), 0);
    }
    // One byte is neither a packet nor a note; what parses packets says so.
    let mut short = sealed(&mut pair.a, pair.now, &[0]);
    assert_eq!(
        pair.b.open(pair.now, &mut short),
        Ok(Opened::Packet(&mut [0]))
    );
}
