use std::sync::Arc;

use overlan_protocol::UnixTime;
use overlan_protocol::api::LoginResponse;
use overlan_protocol::key::{DeviceId, IdentitySecret};
use zeroize::Zeroizing;

use super::*;

fn join(host: &str) -> JoinString {
    let pin = overlan_protocol::key::Fingerprint([7; 32]);
    format!("https://{host}:8443#sha256:{pin}").parse().unwrap()
}

fn session(host: &str) -> Login {
    Login {
        join: join(host),
        login: LoginResponse {
            session: Secret::new("ovs_1"),
            expires: UnixTime::from_secs(100),
            email: "a@example.com".to_owned(),
            organisation: "acme".to_owned(),
        },
    }
}

fn right(facts: EnrolFacts) -> String {
    match choose(facts) {
        Ok(EnrolRight::Person { join }) => format!("ask {}", join.server.host()),
        Ok(EnrolRight::Credential { join, credential }) => match credential {
            Credential::AuthKey(_) => format!("key {}", join.server.host()),
            Credential::Workload(_) => format!("token {}", join.server.host()),
            Credential::Session(_) => format!("session {}", join.server.host()),
        },
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn a_token_comes_before_a_key_a_key_before_a_session_and_that_before_a_person() {
    let facts = || EnrolFacts {
        server: Some(join("a")),
        workload: None,
        auth_key: Some(Secret::new("ovk_1")),
        session: Some(session("a")),
        can_ask: true,
        now: UnixTime::from_secs(50),
    };
    assert_eq!(right(facts()), "key a");
    let workload = Some(Secret::new("e.e.e"));
    assert_eq!(
        right(EnrolFacts {
            workload,
            ..facts()
        }),
        "token a"
    );
    assert_eq!(
        right(EnrolFacts {
            auth_key: None,
            ..facts()
        }),
        "session a"
    );
    assert_eq!(
        right(EnrolFacts {
            auth_key: None,
            session: None,
            ..facts()
        }),
        "ask a"
    );
    let unattended = EnrolFacts {
        auth_key: None,
        session: None,
        can_ask: false,
        ..facts()
    };
    assert_eq!(right(unattended), "NoCredential { has_server: true }");
}

#[test]
fn a_session_counts_for_its_own_server_and_until_its_end() {
    let facts = || EnrolFacts {
        session: Some(session("a")),
        now: UnixTime::from_secs(50),
        ..EnrolFacts::default()
    };
    assert_eq!(right(facts()), "session a");
    assert_eq!(
        right(EnrolFacts {
            server: Some(join("b")),
            ..facts()
        }),
        "NoCredential { has_server: true }"
    );
    assert_eq!(
        right(EnrolFacts {
            now: UnixTime::from_secs(100),
            ..facts()
        }),
        "NoCredential { has_server: false }"
    );
    assert_eq!(
        right(EnrolFacts {
            now: UnixTime::from_secs(100),
            can_ask: true,
            server: Some(join("a")),
            ..facts()
        }),
        "ask a"
    );
    let key = Some(Secret::new("ovk_1"));
    assert_eq!(
        right(EnrolFacts {
            auth_key: key,
            ..facts()
        }),
        "key a"
    );
}

#[test]
fn without_a_server_a_key_is_of_no_use_and_without_both_there_is_no_right() {
    let key = EnrolFacts {
        auth_key: Some(Secret::new("ovk_1")),
        ..EnrolFacts::default()
    };
    assert_eq!(right(key), "NoServer");
    let nothing = choose(EnrolFacts::default()).unwrap_err();
    assert_eq!(nothing, NoEnrolRight::NoCredential { has_server: false });
}

#[test]
fn a_stored_device_is_not_taken_to_another_server() {
    let device = Device {
        join: join("a"),
        device: DeviceId([1; 16]),
        identity: Arc::new(IdentitySecret::generate()),
        tunnel_secret: Zeroizing::new([1; 32]),
        label: "db".to_owned(),
        network: "home".to_owned(),
        domain: "overlan.internal".to_owned(),
    };
    accept_stored(device.clone(), None).unwrap();
    accept_stored(device.clone(), Some(&join("a"))).unwrap();
    // Its CA was rotated, and the one before has ended: the old string means the same controller.
    let mut rotated = device.clone();
    let new = overlan_protocol::key::Fingerprint([8; 32]);
    assert!(rotated.join.learn(&[new]));
    let accepted = accept_stored(rotated, Some(&join("a"))).unwrap();
    assert_eq!(accepted.join.trusted(), [new]);
    let other = accept_stored(device, Some(&join("b"))).unwrap_err();
    assert_eq!(other.stored.server.host(), "a");
    assert_eq!(other.named.server.host(), "b");
}
