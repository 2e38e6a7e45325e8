use super::*;

#[test]
fn a_client_without_a_device_needs_a_login() {
    let failure = own_addresses(&Status::starting()).unwrap_err();
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
