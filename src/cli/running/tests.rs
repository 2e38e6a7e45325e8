use overlan::engine::Presence;
use overlan::status::{DeviceStatus, NetworkStatus};
use overlan_protocol::frame::Vni;
use overlan_protocol::key::DeviceId;

use super::*;

fn network(name: &str, number: u32, address: &str) -> NetworkStatus {
    NetworkStatus {
        name: name.to_owned(),
        vni: Vni::new(number).unwrap(),
        device: format!("db.{name}.overlan.internal"),
        addresses: Vec::new(),
        attached: true,
        peers: vec![PeerStatus {
            name: format!("web.{name}.overlan.internal"),
            label: "web".to_owned(),
            addresses: vec![address.parse().unwrap(), "fd00::2".parse().unwrap()],
            online: true,
            presence: Presence::Online,
            relay: None,
            sessions: 0,
            routes: Vec::new(),
        }],
    }
}

fn status(networks: Vec<NetworkStatus>) -> Status {
    Status {
        device: Some(DeviceStatus {
            id: DeviceId([1; 16]),
            label: "db".to_owned(),
            name: "db.home.overlan.internal".to_owned(),
            addresses: vec!["100.64.0.1".parse().unwrap()],
        }),
        networks,
        ..Status::starting()
    }
}

fn check(status: &Status, peer: Option<&str>, first: &str) {
    let found = addresses(status, peer).unwrap();
    assert_eq!(found[0].to_string(), first, "{peer:?}");
}

#[test]
fn a_device_is_found_by_label_and_by_name_in_any_case() {
    let status = status(vec![network("home", 5_000, "100.64.0.2")]);
    check(&status, None, "100.64.0.1");
    check(&status, Some("DB"), "100.64.0.1");
    check(&status, Some("web"), "100.64.0.2");
    check(&status, Some("Web.Home.overlan.internal."), "100.64.0.2");
    check(&status, Some("web.home"), "100.64.0.2");
    let failure = addresses(&status, Some("mail")).unwrap_err();
    assert_eq!(failure.code(), Code::Other);
}

#[test]
fn a_label_in_two_networks_needs_the_full_name() {
    let status = status(vec![
        network("home", 5_000, "100.64.0.2"),
        network("work", 6_000, "100.64.0.3"),
    ]);
    let failure = addresses(&status, Some("web")).unwrap_err();
    assert_eq!(failure.code(), Code::Usage);
    assert!(failure.to_string().contains("web.home.overlan.internal"));
    check(&status, Some("web.work.overlan.internal"), "100.64.0.3");
}

#[test]
fn a_client_without_a_device_needs_a_login() {
    let failure = addresses(&Status::starting(), None).unwrap_err();
    assert_eq!(failure.code(), Code::NeedsLogin);
}

#[test]
fn a_network_can_be_named_beside_the_peer() {
    let place = |network: Option<&str>, peer: &str| {
        let network = network.map(str::to_owned);
        NetworkArgs { network }.place(peer)
    };
    assert_eq!(place(None, "web"), "web");
    assert_eq!(place(Some("acme"), "web"), "web.acme");
    assert_eq!(place(Some("acme"), "100.64.0.2"), "100.64.0.2%acme");
    assert_eq!(place(Some("acme"), "fd00::2"), "fd00::2%acme");
    assert_eq!(place(Some("acme"), "web.home"), "web.home");
}
