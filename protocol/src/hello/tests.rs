use super::*;
use proptest::prelude::*;

#[test]
fn a_hello_is_proved_only_on_its_own_connection_relay_and_ticket() {
    let secret = IdentitySecret::from_seed([3; 32]);
    let relay = RelayId([9; 16]);
    let hello = Hello::sign(&secret, &[1; 32], relay, "v4.public.ticket", 42);
    let bytes = hello.encode();
    let read = Hello::decode(&bytes).unwrap();
    assert_eq!(read, hello);
    assert!(read.is_proved_by(&secret.public(), &[1; 32], relay));
    assert!(
        !read.is_proved_by(&secret.public(), &[2; 32], relay),
        "another connection"
    );
    assert!(
        !read.is_proved_by(&secret.public(), &[1; 32], RelayId([8; 16])),
        "another relay"
    );
    let other = Hello {
        ticket: "v4.public.other",
        ..read.clone()
    };
    assert!(
        !other.is_proved_by(&secret.public(), &[1; 32], relay),
        "another ticket"
    );
    let older = Hello {
        attach_sequence: 41,
        ..read
    };
    assert!(
        !older.is_proved_by(&secret.public(), &[1; 32], relay),
        "another attach"
    );
}

#[test]
fn versions_are_negotiated() {
    let secret = IdentitySecret::from_seed([3; 32]);
    let hello = Hello::sign(&secret, &[1; 32], RelayId([9; 16]), "t", 1);
    assert_eq!(hello.common_version(), Some(1));
    assert_eq!(
        Hello {
            version_min: 1,
            version_max: 9,
            ..hello.clone()
        }
        .common_version(),
        Some(1)
    );
    assert_eq!(
        Hello {
            version_min: 2,
            version_max: 9,
            ..hello.clone()
        }
        .common_version(),
        None
    );
    assert_eq!(
        Hello {
            version_min: 0,
            version_max: 0,
            ..hello
        }
        .common_version(),
        None
    );
}

#[test]
fn welcome_and_reject_read_back_and_clean_their_text() {
    let welcome = Welcome {
        version: 1,
        credit_window: 524_288,
        keepalive_ms: 15_000,
        reconnect_spread_ms: 50,
    };
    assert_eq!(Welcome::decode(&welcome.encode()), Some(welcome));
    let reject = Reject {
        code: RejectCode::Overloaded,
        retry_after_ms: 700,
        text: "full\u{1b}[2J".into(),
    };
    let read = Reject::decode(&reject.encode()).unwrap();
    assert_eq!(
        (read.code, read.retry_after_ms, read.text.as_str()),
        (RejectCode::Overloaded, 700, "full [2J")
    );
    let long = Reject::new(RejectCode::Protocol, "é".repeat(200));
    assert_eq!(
        Reject::decode(&long.encode()).unwrap().text,
        "é".repeat(127)
    );
}

#[test]
fn every_reject_code_reads_back() {
    for number in 0..=255u8 {
        assert_eq!(RejectCode::from_number(number).number(), number);
    }
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Hello::decode(&body);
        let _ = Welcome::decode(&body);
        let _ = Reject::decode(&body);
    }
}
