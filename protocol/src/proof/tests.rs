use super::*;

#[test]
fn a_proof_holds_for_its_connection_role_and_key_only() {
    let secret = IdentitySecret::from_seed([1; 32]);
    let device = DeviceId([2; 16]);
    let proof = ChannelProof::sign(Principal::Device(device), &secret, &[3; 32]);
    let read = ChannelProof::from_header(&proof.to_header()).unwrap();
    assert_eq!(read, proof);
    assert!(read.is_proved_by(&secret.public(), &[3; 32]));
    assert!(
        !read.is_proved_by(&secret.public(), &[4; 32]),
        "another connection"
    );
    assert!(
        !read.is_proved_by(&IdentitySecret::from_seed([9; 32]).public(), &[3; 32]),
        "another key"
    );
    let as_relay = ChannelProof {
        principal: Principal::Relay(RelayId([2; 16])),
        ..read
    };
    assert!(
        !as_relay.is_proved_by(&secret.public(), &[3; 32]),
        "another role"
    );
}

#[test]
fn malformed_headers_are_refused() {
    let proof = ChannelProof::sign(
        Principal::Relay(RelayId([2; 16])),
        &IdentitySecret::from_seed([1; 32]),
        &[3; 32],
    );
    let header = proof.to_header();
    assert!(ChannelProof::from_header(&header).is_some());
    for bad in [
        "",
        "Bearer x",
        "Overlan-Proof",
        "Overlan-Proof device x y",
        &format!("{header} more"),
        &header[..header.len() - 1],
    ] {
        assert!(ChannelProof::from_header(bad).is_none(), "{bad:?}");
    }
}
