use std::sync::Arc;

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
            expires: 100,
            email: "a@example.com".to_owned(),
            organisation: "acme".to_owned(),
        },
    }
}

fn way(facts: Facts) -> String {
    match choose(facts) {
        Ok(Way::Ask { join }) => format!("ask {}", join.server.host()),
        Ok(Way::Enrol { join, credential }) => match credential {
            Credential::AuthKey(_) => format!("key {}", join.server.host()),
            Credential::Session(_) => format!("session {}", join.server.host()),
        },
        Err(failure) => format!("{:?}", failure.code()),
    }
}

#[test]
fn a_key_comes_before_a_session_and_a_session_before_a_person() {
    let facts = || Facts {
        server: Some(join("a")),
        auth_key: Some(Secret::new("ovk_1")),
        session: Some(session("a")),
        can_ask: true,
        now: 50,
    };
    assert_eq!(way(facts()), "key a");
    assert_eq!(
        way(Facts {
            auth_key: None,
            ..facts()
        }),
        "session a"
    );
    assert_eq!(
        way(Facts {
            auth_key: None,
            session: None,
            ..facts()
        }),
        "ask a"
    );
    let unattended = Facts {
        auth_key: None,
        session: None,
        can_ask: false,
        ..facts()
    };
    assert_eq!(way(unattended), "NeedsLogin");
}

#[test]
fn a_session_counts_for_its_own_server_and_until_its_end() {
    let facts = || Facts {
        session: Some(session("a")),
        now: 50,
        ..Facts::default()
    };
    assert_eq!(way(facts()), "session a");
    assert_eq!(
        way(Facts {
            server: Some(join("b")),
            ..facts()
        }),
        "NeedsLogin"
    );
    assert_eq!(
        way(Facts {
            now: 100,
            ..facts()
        }),
        "NeedsLogin"
    );
    assert_eq!(
        way(Facts {
            now: 100,
            can_ask: true,
            server: Some(join("a")),
            ..facts()
        }),
        "ask a"
    );
    let key = Some(Secret::new("ovk_1"));
    assert_eq!(
        way(Facts {
            auth_key: key,
            ..facts()
        }),
        "key a"
    );
}

#[test]
fn without_a_server_a_key_is_a_usage_error_and_nothing_at_all_tells_three_ways() {
    let key = Facts {
        auth_key: Some(Secret::new("ovk_1")),
        ..Facts::default()
    };
    assert_eq!(way(key), "Usage");
    let failure = choose(Facts::default()).unwrap_err();
    assert_eq!(failure.code(), Code::NeedsLogin);
    let text = failure.to_string();
    for way in ["--auth-key-file", "overlan login", "email and password"] {
        assert!(text.contains(way), "{text}");
    }
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
    let failure = accept_stored(device, Some(&join("b"))).unwrap_err();
    assert_eq!(failure.code(), Code::Usage);
    assert!(failure.to_string().contains("overlan logout"), "{failure}");
}
