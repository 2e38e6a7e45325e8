use super::*;

#[test]
fn ids_and_keys_read_back_what_they_print() {
    let device = DeviceId::random();
    assert_eq!(device.to_string().parse(), Ok(device));
    let key = IdentitySecret::generate().public();
    assert_eq!(key.to_string().parse(), Ok(key));
    assert!("xyz".parse::<DeviceId>().is_err());
    assert!("xyz".parse::<TunnelKey>().is_err());
}

#[test]
fn a_signature_holds_for_its_message_and_key_only() {
    let secret = IdentitySecret::from_seed([7; 32]);
    let signature = secret.sign(b"message");
    assert!(secret.public().verifies(b"message", &signature));
    assert!(!secret.public().verifies(b"massage", &signature));
    assert!(
        !IdentitySecret::generate()
            .public()
            .verifies(b"message", &signature)
    );
    assert_eq!(
        decode_signature(&encode_signature(&signature)),
        Ok(signature)
    );
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let secret = Secret::new("  tskey\n");
    assert_eq!(secret.reveal(), "tskey");
    assert_eq!(format!("{secret:?} {secret}"), "*** ***");
    assert_eq!(
        format!("{:?}", IdentitySecret::from_seed([1; 32])),
        "IdentitySecret([redacted])"
    );
}
