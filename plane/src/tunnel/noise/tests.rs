use super::*;
use proptest::prelude::*;

#[test]
fn the_published_vector_comes_out_of_our_primitives() {
    let [mut alice, mut bob] = vector_handshakes();
    let mut wire = [0; 256];
    let mut text = [0; 256];

    let n = alice.write_message(&hex(PAYLOADS[0]), &mut wire).unwrap();
    assert_eq!(wire[..n], hex(CIPHERTEXTS[0]));
    let n = bob.read_message(&wire[..n], &mut text).unwrap();
    assert_eq!(text[..n], hex(PAYLOADS[0]));
    let n = bob.write_message(&hex(PAYLOADS[1]), &mut wire).unwrap();
    assert_eq!(wire[..n], hex(CIPHERTEXTS[1]));
    let n = alice.read_message(&wire[..n], &mut text).unwrap();
    assert_eq!(text[..n], hex(PAYLOADS[1]));
    assert_eq!(alice.get_handshake_hash(), hex(HANDSHAKE_HASH));

    let alice = alice.into_stateless_transport_mode().unwrap();
    let bob = bob.into_stateless_transport_mode().unwrap();
    for (i, (payload, ciphertext)) in PAYLOADS.iter().zip(CIPHERTEXTS).enumerate().skip(2) {
        let (sender, receiver) = if i % 2 == 0 {
            (&alice, &bob)
        } else {
            (&bob, &alice)
        };
        let counter = i as u64 / 2 - 1;
        let n = sender
            .write_message(counter, &hex(payload), &mut wire)
            .unwrap();
        assert_eq!(wire[..n], hex(ciphertext), "message {i}");
        let n = receiver
            .read_message(counter, &wire[..n], &mut text)
            .unwrap();
        assert_eq!(text[..n], hex(payload), "message {i}");
    }
}

/// The transport messages of the published vector, sealed by the code that seals packets.
#[test]
fn the_published_transport_messages_come_out_of_our_keys() {
    let [mut alice, mut bob] = vector_handshakes();
    let mut wire = [0; 256];
    let n = alice.write_message(&hex(PAYLOADS[0]), &mut wire).unwrap();
    bob.read_message(&wire[..n], &mut [0; 256]).unwrap();
    let n = bob.write_message(&hex(PAYLOADS[1]), &mut wire).unwrap();
    alice.read_message(&wire[..n], &mut [0; 256]).unwrap();

    let (first, second) = alice.dangerously_get_raw_split();
    for (i, (payload, ciphertext)) in PAYLOADS.iter().zip(CIPHERTEXTS).enumerate().skip(2) {
        let key = aes_key(if i % 2 == 0 { &first } else { &second });
        let mut sealed = hex(payload);
        key.seal_in_place_append_tag(aes_nonce(i as u64 / 2 - 1), Aad::empty(), &mut sealed)
            .unwrap();
        assert_eq!(sealed, hex(ciphertext), "message {i}");
    }
}

/// A primitive that is not linked cannot be used: without these crates `snow` has none of its own
/// to fall back to.
#[test]
fn snow_is_linked_without_primitives() {
    let lock = include_str!("../../../../Cargo.lock");
    let snow = lock
        .split("[[package]]")
        .find(|package| package.contains("name = \"snow\""))
        .unwrap();
    let dependencies: Vec<&str> = snow
        .split_once("dependencies = [")
        .unwrap()
        .1
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    assert_eq!(dependencies, ["rustc_version", "subtle"]);
}

#[test]
fn only_the_primitives_of_the_suite_are_given_out() {
    assert!(AwsLc.resolve_rng().is_some());
    assert_eq!(
        AwsLc.resolve_dh(&DHChoice::Curve25519).unwrap().name(),
        "25519"
    );
    assert_eq!(
        AwsLc.resolve_hash(&HashChoice::SHA256).unwrap().name(),
        "SHA256"
    );
    assert_eq!(
        AwsLc.resolve_cipher(&CipherChoice::AESGCM).unwrap().name(),
        "AESGCM"
    );
    assert!(AwsLc.resolve_dh(&DHChoice::Curve448).is_none());
    assert!(AwsLc.resolve_hash(&HashChoice::Blake2s).is_none());
    assert!(AwsLc.resolve_cipher(&CipherChoice::ChaChaPoly).is_none());
    for other in [
        "Noise_IK_25519_ChaChaPoly_SHA256",
        "Noise_IK_25519_AESGCM_BLAKE2s",
        "Noise_IK_448_AESGCM_SHA256",
    ] {
        let built = Builder::with_resolver(other.parse().unwrap(), Box::new(AwsLc))
            .local_private_key(&[1; 32])
            .unwrap()
            .build_responder();
        assert!(built.is_err(), "{other}");
    }
}

#[test]
fn a_peer_key_of_low_order_is_refused() {
    let mut dh = X25519Dh::default();
    dh.generate(&mut OsRandom(SystemRandom::new())).unwrap();
    assert!(dh.dh(&[0; 56], &mut [0; 56]).is_err());
}

#[test]
fn a_secret_never_shows() {
    let key = StaticKey::from_secret(Zeroizing::new([0xab; 32]));
    let shown = format!("{key:?}");
    assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    assert!(shown.starts_with("StaticKey(public "));
}

#[test]
fn generated_keys_differ() {
    let random = SystemRandom::new();
    let [a, b] = [(); 2].map(|()| StaticKey::generate(&random).unwrap());
    assert_ne!(a.secret(), b.secret());
    assert_ne!(a.public(), b.public());
}

proptest! {
    #[test]
    fn the_cipher_opens_what_it_sealed_and_nothing_else(
        key: [u8; 32],
        nonce: u64,
        aad: Vec<u8>,
        text: Vec<u8>,
        flipped: prop::sample::Index,
    ) {
        let mut cipher = Aes256Gcm::default();
        cipher.set(&key);
        let mut sealed = vec![0; text.len() + TAG_LEN];
        prop_assert_eq!(cipher.encrypt(nonce, &aad, &text, &mut sealed), sealed.len());
        let mut opened = vec![0; text.len()];
        prop_assert_eq!(cipher.decrypt(nonce, &aad, &sealed, &mut opened).unwrap(), text.len());
        prop_assert_eq!(&opened, &text);

        let i = flipped.index(sealed.len());
        sealed[i] ^= 1;
        prop_assert!(cipher.decrypt(nonce, &aad, &sealed, &mut opened).is_err());
        prop_assert!(opened.iter().all(|&byte| byte == 0));
    }
}

fn vector_handshakes() -> [HandshakeState; 2] {
    let [prologue, alice, alice_e, bob, bob_e, bob_public] = [
        "4a6f686e2047616c74",
        "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
    ]
    .map(hex);
    let [alice, bob] =
        [alice, bob].map(|s| StaticKey::from_secret(Zeroizing::new(s.try_into().unwrap())));
    assert_eq!(bob.public()[..], bob_public);
    let initiator = builder(&prologue, &alice)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&alice_e)
        .remote_public_key(&bob_public)
        .unwrap()
        .build_initiator()
        .unwrap();
    let responder = builder(&prologue, &bob)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&bob_e)
        .build_responder()
        .unwrap();
    [initiator, responder]
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// From the cacophony vectors, as `snow` ships them: Noise_IK_25519_AESGCM_SHA256.
const PAYLOADS: [&str; 6] = [
    "4c756477696720766f6e204d69736573",
    "4d757272617920526f746862617264",
    "462e20412e20486179656b",
    "4361726c204d656e676572",
    "4a65616e2d426170746973746520536179",
    "457567656e2042f6686d20766f6e2042617765726b",
];
const CIPHERTEXTS: [&str; 6] = [
    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444e417bc55c7a8166c993\
         356c1be41ef67818a292426f301556c7f26b21d25ddb097153891a9a956cff47b83e63ad8d701c1342c2\
         09cff1ca5ecd43402762ac249e3bd3a4c0a145fe07cb5dae28ea13a3",
    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843af2ccf9972e22afc67ae\
         afcd25162f7f98c363b7762e3e4cb7d272e39f27a5",
    "66acfc92e3197de166809e6d4d5d003dcc819a84bc3522ca53c9d9",
    "71f89aa6533a6de70b0826864dd75f60806ee40170c16290189eb3",
    "4795a3423550c8bf00386bd496a3e2c76c10669d2a75ab8f79b5094c5412a25705",
    "aa0bb39097555c918e40be82abc2b909eb79d9eb87adb07e268fc37323a6cf904fd01fb391",
];
const HANDSHAKE_HASH: &str = "669c8640d9e42a3cda2f232f78597ceefb01daa6e3df81181ccce6fc6b5026bf";
