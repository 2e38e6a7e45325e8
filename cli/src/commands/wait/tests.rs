//! Tests: the missing part of a status is named, and numbers alone are not news.

use overlan::program::status::{NetworkStatus, PeerStatus};
use overlan_protocol::frame::Vni;

use super::*;

#[test]
fn each_lack_has_its_exit_code() {
    let code = |status: &Status, wanted: &str| {
        let peer = match wanted {
            "peer:web" => Presence::Online,
            "peer:cache" => Presence::Unknown,
            _ => Presence::Offline,
        };
        missing(status, &wanted.parse().unwrap(), peer).map(|failure| failure.code())
    };
    let mut status = status();
    for wanted in ["live", "ready", "control", "peer:web"] {
        assert_eq!(code(&status, wanted), None, "{wanted}");
    }
    assert_eq!(code(&status, "peer:db"), Some(Code::TimedOut));
    assert_eq!(code(&status, "peer:nobody"), Some(Code::TimedOut));
    assert_eq!(code(&status, "peer:cache"), Some(Code::TimedOut));
    status.control.state = LinkState::Waiting;
    assert_eq!(code(&status, "ready"), None);
    assert_eq!(code(&status, "control"), Some(Code::ControllerUnreachable));
    assert_eq!(code(&status, "peer:web"), None, "it answered lately");
    assert_eq!(
        code(&status, "peer:cache"),
        Some(Code::ControllerUnreachable),
        "nobody says who comes"
    );
    status.state = State::Connecting;
    assert_eq!(code(&status, "ready"), Some(Code::RelayUnreachable));
    status.state = State::NeedsLogin;
    assert_eq!(code(&status, "live"), None);
    for wanted in ["ready", "control", "peer:web"] {
        assert_eq!(code(&status, wanted), Some(Code::NeedsLogin), "{wanted}");
    }
}

#[test]
fn only_what_can_be_waited_for_is_understood() {
    assert_eq!("peer:web".parse(), Ok(AwaitedState::Peer("web".to_owned())));
    assert_eq!("control".parse(), Ok(AwaitedState::Check(Check::Control)));
    for text in ["", "peer", "peer:", "relay:x", "up"] {
        assert!(text.parse::<AwaitedState>().is_err(), "{text}");
    }
}

#[test]
fn counters_alone_are_no_news() {
    let old = status();
    let mut new = status();
    new.counters.insert("bytes".to_owned(), 5);
    assert!(!is_news(&old, &new));
    new.networks[0].peers[0].online = false;
    assert!(is_news(&old, &new));
}

fn status() -> Status {
    let peer = |label: &str, presence| PeerStatus {
        name: format!("{label}.home.x"),
        label: label.to_owned(),
        addresses: Vec::new(),
        online: presence == Presence::Online,
        presence,
        relay: None,
        sessions: 0,
        routes: Vec::new(),
    };
    let mut status = Status::starting();
    status.state = State::Running;
    status.control.state = LinkState::Connected;
    status.networks = vec![NetworkStatus {
        name: "home".to_owned(),
        vni: Vni::new(Vni::FIRST).unwrap(),
        device: "db.home.x".to_owned(),
        addresses: Vec::new(),
        attached: true,
        peers: vec![
            peer("web", Presence::Online),
            peer("db", Presence::Offline),
            peer("cache", Presence::Unknown),
        ],
    }];
    status
}
