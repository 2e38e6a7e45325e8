use super::*;
use crate::key::random_bytes;
use proptest::prelude::*;

fn ticket(networks: usize) -> Ticket {
    Ticket {
        device: DeviceId([0xff; 16]),
        identity: IdentitySecret::from_seed([5; 32]).public(),
        networks: vec![(Vni::new(Vni::LAST).unwrap(), HostIndex::MAX); networks],
        epoch: u64::MAX,
        not_before: UnixTime::from_secs(1_000),
        expires: UnixTime::from_secs(2_000),
    }
}

fn signer() -> (KeyId, IdentitySecret, TicketKeys) {
    let key = IdentitySecret::from_seed([6; 32]);
    let id = KeyId("k1".into());
    let keys = TicketKeys::from([(id.clone(), key.public())]);
    (id, key, keys)
}

#[test]
fn a_ticket_holds_for_its_time_and_signer() {
    let (id, key, keys) = signer();
    let text = ticket(1).sign(&id, &key);
    assert_eq!(
        Ticket::verify(&text, &keys, UnixTime::from_secs(1_500)),
        Ok(ticket(1))
    );
    assert_eq!(
        Ticket::verify(&text, &keys, UnixTime::from_secs(999)),
        Err(TicketError::NotYet)
    );
    assert_eq!(
        Ticket::verify(&text, &keys, UnixTime::from_secs(2_000)),
        Err(TicketError::Expired)
    );
    assert_eq!(
        Ticket::verify(&text, &TicketKeys::new(), UnixTime::from_secs(1_500)),
        Err(TicketError::UnknownKey)
    );
    let other = TicketKeys::from([(id, IdentitySecret::from_seed([7; 32]).public())]);
    assert_eq!(
        Ticket::verify(&text, &other, UnixTime::from_secs(1_500)),
        Err(TicketError::Forged)
    );
}

#[test]
fn the_longest_ticket_fits_its_limit() {
    let (id, key, keys) = signer();
    let text = ticket(NETWORKS_MAX).sign(&id, &key);
    assert!(text.len() <= TICKET_MAX, "{} bytes", text.len());
    assert!(Ticket::verify(&text, &keys, UnixTime::from_secs(1_500)).is_ok());
    let over = ticket(NETWORKS_MAX + 1).sign(&id, &key);
    assert_eq!(
        Ticket::verify(&over, &keys, UnixTime::from_secs(1_500)),
        Err(TicketError::Malformed)
    );
}

/// Vectors 4-S-1 to 4-S-3 of the PASETO project.
#[test]
fn tokens_match_the_published_paseto_vectors() {
    let seed = data_encoding::HEXLOWER
        .decode(b"b4cbfb43df4ce210727d953e4a713307fa19bb7d9f85041438d9e11b942a3774")
        .unwrap();
    let key = IdentitySecret::from_seed(seed.try_into().unwrap());
    let message = br#"{"data":"this is a signed message","exp":"2022-01-01T00:00:00+00:00"}"#;
    let footer = br#"{"kid":"zVhMiPBP9fRf2snEcT7gFTioeA9COcNy9DfgL1W60haN"}"#;
    let implicit = br#"{"test-vector":"4-S-3"}"#;

    assert_eq!(
        seal_public(message, b"", b"", &key),
        "v4.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIiwiZXhwIjoiMjAyMi\
             0wMS0wMVQwMDowMDowMCswMDowMCJ9bg_XBBzds8lTZShVlwwKSgeKpLT3yukTw6JUz3W4h_\
             ExsQV-P0V54zemZDcAxFaSeef1QlXEFtkqxT1ciiQEDA"
    );
    assert_eq!(
        seal_public(message, footer, b"", &key),
        "v4.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIiwiZXhwIjoiMjAyMi\
             0wMS0wMVQwMDowMDowMCswMDowMCJ9v3Jt8mx_TdM2ceTGoqwrh4yDFn0XsHvvV_D0DtwQxV\
             rJEBMl0F2caAdgnpKlt4p7xBnx1HcO-SPo8FPp214HDw.eyJraWQiOiJ6VmhNaVBCUDlmUmY\
             yc25FY1Q3Z0ZUaW9lQTlDT2NOeTlEZmdMMVc2MGhhTiJ9"
    );
    let third = "v4.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIiwiZXhwIjoiMjAyMi\
         0wMS0wMVQwMDowMDowMCswMDowMCJ9NPWciuD3d0o5eXJXG5pJy-DiVEoyPYWs1YSTwWHNJq\
         6DZD3je5gf-0M4JR9ipdUSJbIovzmBECeaWmaqcaP0DQ.eyJraWQiOiJ6VmhNaVBCUDlmUmY\
         yc25FY1Q3Z0ZUaW9lQTlDT2NOeTlEZmdMMVc2MGhhTiJ9";
    assert_eq!(seal_public(message, footer, implicit, &key), third);
    let token = Token::split(third).unwrap();
    assert!(token.verifies(&key.public(), implicit));
    assert!(!token.verifies(&key.public(), b""));
}

proptest! {
    #[test]
    fn any_changed_byte_is_refused(at in 0usize..1_000, change in 1u8..) {
        let (id, key, keys) = signer();
        let mut bytes = ticket(3).sign(&id, &key).into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= change;
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(Ticket::verify(&text, &keys, UnixTime::from_secs(1_500)).is_err());
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,300}") {
        let keys = TicketKeys::from([(KeyId("k".into()), IdentityKey(random_bytes()))]);
        let _ = Ticket::verify(&text, &keys, UnixTime::from_secs(0));
        let _ = Ticket::verify(&format!("v4.public.{text}"), &keys, UnixTime::from_secs(0));
    }
}
