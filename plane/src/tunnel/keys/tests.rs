use super::*;
use crate::tunnel::envelope::NOISE_2_LEN;
use crate::tunnel::noise::{StaticKey, initiator, responder};
use proptest::prelude::*;
use snow::{HandshakeState, StatelessTransportState};

#[test]
fn the_numbers_are_those_of_the_design() {
    assert_eq!(REKEY_AFTER_TIME.as_secs(), 120);
    assert_eq!(SEAL_UNTIL.as_secs(), 170);
    assert_eq!(REJECT_AFTER_TIME.as_secs(), 180);
    assert_eq!(REKEY_AFTER_BYTES, 137_438_953_472);
    assert_eq!(REJECT_AFTER_BYTES, 274_877_906_944);
    assert_eq!(REKEY_AFTER_MESSAGES, 281_474_976_710_656);
    assert_eq!(REJECT_AFTER_MESSAGES, 1_152_921_504_606_846_976);
}

#[test]
fn keys_seal_and_open_until_their_age_and_not_at_it() {
    let (mut keys, mut peer, now) = pair();
    let moment = Duration::from_nanos(1);
    let [mut one, mut two, mut three] = [packet(b"one"), packet(b"two"), packet(b"three")];
    assert_eq!(keys.seal(now, &mut one), Ok(()));
    let end = now + SEAL_UNTIL;
    assert_eq!(keys.seal(end - moment, &mut two), Ok(()));
    assert_eq!(keys.seal(end, &mut three), Err(SealError::NoSession));

    let end = now + REJECT_AFTER_TIME;
    assert_eq!(peer.expires(), end);
    assert_eq!(peer.open(end - moment, 0, &mut one).unwrap(), b"one");
    assert_eq!(peer.open(end, 1, &mut two), Err(OpenError::Expired));
}

#[test]
fn the_initiator_renews_first() {
    let (initiator, responder, now) = pair();
    let due = now + REKEY_AFTER_TIME;
    assert!(!initiator.wants_rekey(due - Duration::from_nanos(1)));
    assert!(initiator.wants_rekey(due));
    assert!(!responder.wants_rekey(due));
    assert!(responder.wants_rekey(due + RESPONDER_GRACE_TIME));
}

#[test]
fn bytes_in_either_direction_call_for_new_keys() {
    for (sealed, opened) in [(REKEY_AFTER_BYTES - 30, 0), (0, REKEY_AFTER_BYTES - 30)] {
        let (mut keys, mut peer, now) = pair();
        keys.sealed_bytes = sealed;
        keys.opened_bytes = opened;
        assert!(!keys.wants_rekey(now));
        let mut message = packet(&[0; 14]);
        keys.seal(now, &mut message).unwrap();
        let mut answer = packet(&[0; 14]);
        peer.seal(now, &mut answer).unwrap();
        keys.open(now, 0, &mut answer).unwrap();
        assert!(
            keys.wants_rekey(now),
            "a packet of 14 bytes and its tag count 30"
        );
    }
}

#[test]
fn messages_call_for_new_keys() {
    let (mut keys, _, now) = pair();
    keys.next_counter = REKEY_AFTER_MESSAGES - 1;
    assert!(!keys.wants_rekey(now));
    keys.seal(now, &mut packet(b"")).unwrap();
    assert!(keys.wants_rekey(now));

    let (mut keys, mut peer, now) = pair();
    peer.next_counter = REKEY_AFTER_MESSAGES;
    let mut message = packet(b"");
    peer.seal(now, &mut message).unwrap();
    keys.open(now, REKEY_AFTER_MESSAGES, &mut message).unwrap();
    assert!(keys.wants_rekey(now));
}

#[test]
fn the_hard_limit_of_messages_ends_both_directions() {
    let (mut keys, mut peer, now) = pair();
    keys.next_counter = REJECT_AFTER_MESSAGES - 1;
    let mut last = packet(b"last");
    keys.seal(now, &mut last).unwrap();
    assert_eq!(keys.seal(now, &mut packet(b"")), Err(SealError::Exhausted));
    assert_eq!(
        keys.next_counter, REJECT_AFTER_MESSAGES,
        "no counter is used up by a refusal"
    );

    assert_eq!(
        peer.open(now, REJECT_AFTER_MESSAGES - 1, &mut last)
            .unwrap(),
        b"last"
    );
    // Even a message that is authentic beyond the limit.
    let mut beyond = packet(b"");
    beyond[TRANSPORT_HEADER_LEN..].copy_from_slice(
        keys.sealing
            .seal_in_place_separate_tag(aes_nonce(REJECT_AFTER_MESSAGES), Aad::empty(), &mut [])
            .unwrap()
            .as_ref(),
    );
    assert_eq!(
        peer.open(now, REJECT_AFTER_MESSAGES, &mut beyond),
        Err(OpenError::Expired)
    );
}

#[test]
fn the_hard_limit_of_bytes_ends_each_direction() {
    let (mut keys, mut peer, now) = pair();
    keys.sealed_bytes = REJECT_AFTER_BYTES - 1;
    let [mut one, mut two] = [packet(b"one"), packet(b"two")];
    assert_eq!(keys.seal(now, &mut one), Ok(()));
    assert_eq!(keys.seal(now, &mut two), Err(SealError::Exhausted));
    peer.opened_bytes = REJECT_AFTER_BYTES;
    assert_eq!(peer.open(now, 0, &mut one), Err(OpenError::Expired));
}

#[test]
fn a_buffer_of_a_wrong_size_is_refused_unchanged() {
    let (mut keys, _, now) = pair();
    for len in [0, 15, 16, 31, 16 + MAX_PACKET_LEN + 1 + 16] {
        let mut message = vec![0x5a; len];
        assert_eq!(
            keys.seal(now, &mut message),
            Err(SealError::Length),
            "{len}"
        );
        assert!(message.iter().all(|&byte| byte == 0x5a));
    }
    assert_eq!(keys.next_counter, 0);
    let mut largest = vec![0x5a; 16 + MAX_PACKET_LEN + 16];
    assert_eq!(keys.seal(now, &mut largest), Ok(()));
}

#[test]
fn a_forged_message_does_not_use_up_its_counter() {
    let (mut keys, mut peer, now) = pair();
    let mut message = packet(b"true");
    keys.seal(now, &mut message).unwrap();
    for i in TRANSPORT_HEADER_LEN..message.len() {
        let mut forged = message.clone();
        forged[i] ^= 0x80;
        assert_eq!(peer.open(now, 0, &mut forged), Err(OpenError::Forged));
    }
    assert_eq!(
        peer.open(now, 1, &mut message.clone()),
        Err(OpenError::Forged)
    );
    assert_eq!(peer.open(now, 0, &mut message.clone()).unwrap(), b"true");
    assert_eq!(peer.open(now, 0, &mut message), Err(OpenError::Replayed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Our in-place transport and `snow`'s own are the same cipher: each opens what the other
    /// seals.
    #[test]
    fn snow_opens_what_we_seal_and_we_open_what_snow_seals(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..8),
    ) {
        let now = now();
        let (ours, theirs) = snow_pair();
        for (mut ours, theirs) in [
            (initiator_keys(now, ours.0), theirs.1),
            (responder_keys(now, ours.1), theirs.0),
        ] {
            for (counter, text) in (0u64..).zip(&texts) {
                let mut message = packet(text);
                ours.seal(now, &mut message).unwrap();
                let mut opened = vec![0; text.len()];
                let n = theirs
                    .read_message(counter, &message[TRANSPORT_HEADER_LEN..], &mut opened)
                    .unwrap();
                prop_assert_eq!(&opened[..n], &text[..]);

                let mut message = vec![0; TRANSPORT_HEADER_LEN + text.len() + TAG_LEN];
                theirs
                    .write_message(counter, text, &mut message[TRANSPORT_HEADER_LEN..])
                    .unwrap();
                prop_assert_eq!(&*ours.open(now, counter, &mut message).unwrap(), &text[..]);
            }
        }
    }
}

fn packet(text: &[u8]) -> Vec<u8> {
    [&[0; TRANSPORT_HEADER_LEN], text, &[0; TAG_LEN]].concat()
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn pair() -> (SessionKeys, SessionKeys, Instant) {
    let now = now();
    let ((initiator, responder), _) = snow_pair();
    (
        initiator_keys(now, initiator),
        responder_keys(now, responder),
        now,
    )
}

fn initiator_keys(now: Instant, keys: SplitKeys) -> SessionKeys {
    SessionKeys::new(now, Role::Initiator, 1, 2, [2; INSTANCE_LEN], &keys)
}

fn responder_keys(now: Instant, keys: SplitKeys) -> SessionKeys {
    let role = Role::Responder {
        asked: Box::new([0; NOISE_1_LEN]),
        answer: Vec::new(),
    };
    SessionKeys::new(now, role, 2, 1, [1; INSTANCE_LEN], &keys)
}

/// One real handshake, and both outcomes of it: the split we use, and `snow`'s transport.
fn snow_pair() -> (
    (SplitKeys, SplitKeys),
    (StatelessTransportState, StatelessTransportState),
) {
    let [a, b] = [3, 4].map(|byte| StaticKey::from_secret(Zeroizing::new([byte; 32])));
    let mut alice = initiator(b"prologue", &a, b.public()).unwrap();
    let mut bob = responder(b"prologue", &b).unwrap();
    let mut wire = [0; NOISE_1_LEN];
    let mut heard = [0; INSTANCE_LEN];
    alice.write_message(&[1; INSTANCE_LEN], &mut wire).unwrap();
    bob.read_message(&wire, &mut heard).unwrap();
    assert_eq!(heard, [1; INSTANCE_LEN]);
    let mut wire = [0; NOISE_2_LEN];
    bob.write_message(&[2; INSTANCE_LEN], &mut wire).unwrap();
    alice.read_message(&wire, &mut heard).unwrap();
    assert_eq!(heard, [2; INSTANCE_LEN]);
    let split = |state: &mut HandshakeState| {
        let (first, second) = state.dangerously_get_raw_split();
        SplitKeys {
            first: Zeroizing::new(first),
            second: Zeroizing::new(second),
        }
    };
    (
        (split(&mut alice), split(&mut bob)),
        (
            alice.into_stateless_transport_mode().unwrap(),
            bob.into_stateless_transport_mode().unwrap(),
        ),
    )
}
