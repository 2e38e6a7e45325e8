use super::*;

#[test]
fn the_operator_is_told_how_to_go_on_until_it_is_set_up() {
    let address = "0.0.0.0:8443".parse().unwrap();
    let join: JoinString = "https://c.example:8443".parse().unwrap();
    let fresh = greeting(address, &join, None, Some(&Secret::new("ovx_1")));
    assert!(fresh.contains("setup token: ovx_1"), "{fresh}");
    assert!(fresh.contains("overlan controller init --server 'https://c.example:8443'"));
    let later = greeting(address, &join, None, None);
    assert!(!later.contains("setup"), "{later}");
    assert!(later.contains("join string: https://c.example:8443"));
    assert!(!later.contains("--public-address"), "{later}");
    let pin = overlan_protocol::key::Fingerprint([7; 32]);
    let local = format!("https://127.0.0.1:8443#sha256:{pin}");
    let local: JoinString = local.parse().unwrap();
    assert!(greeting(address, &local, None, None).contains("--public-address"));
}
