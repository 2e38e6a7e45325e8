//! Feeds a stranger's bytes to the decoders of the wire: what `fuzz/` runs with bytes that it makes
//! up, and a test with those that it kept. Panics where a decoder breaks its word.

use crate::frame::{self, BODY_MAX, Frame, UNPROVEN_BODY_MAX};
use crate::hello::{Hello, Reject, Welcome};
use crate::key::IdentitySecret;
use crate::ticket::{KeyId, Ticket, TicketKeys};

/// Reads `data` as what arrives on a connection: frames, and the bodies that are read further.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, taken))) = frame::decode(rest, BODY_MAX) {
        assert!((1..=rest.len()).contains(&taken), "{taken}");
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(
            frame::decode(&bytes, BODY_MAX),
            Ok(Some((frame, bytes.len())))
        );
        if let Frame::Hello(body) | Frame::Welcome(body) | Frame::Reject(body) = frame {
            bodies(body);
        }
        rest = &rest[taken..];
    }
    // Nothing over the limit of a stranger is believed, however much of it has come.
    if let Ok(Some((_, taken))) = frame::decode(data, UNPROVEN_BODY_MAX) {
        assert!(taken <= UNPROVEN_BODY_MAX + frame::HEADER_LEN);
    }
    bodies(data);
    if let Ok(text) = str::from_utf8(data) {
        ticket(text);
    }
}

fn bodies(body: &[u8]) {
    if let Some(hello) = Hello::decode(body) {
        assert_eq!(Hello::decode(&hello.encode()).as_ref(), Some(&hello));
        ticket(hello.ticket);
    }
    if let Some(welcome) = Welcome::decode(body) {
        assert_eq!(Welcome::decode(&welcome.encode()), Some(welcome));
    }
    if let Some(reject) = Reject::decode(body) {
        // Bytes that are not UTF-8 grow where they are replaced; a text that is too long is cut.
        let again = Reject::decode(&reject.encode()).expect("its own bytes are whole");
        assert_eq!(
            (again.code, again.retry_after_ms),
            (reject.code, reject.retry_after_ms)
        );
        assert!(reject.text.starts_with(&again.text));
    }
}

fn ticket(text: &str) {
    let signer = IdentitySecret::from_seed([6; 32]);
    let keys = TicketKeys::from([(KeyId("k1".into()), signer.public())]);
    // The key is nobody's: what passes was forged.
    assert!(
        Ticket::verify(text, &keys, crate::UnixTime::from_secs(1_500)).is_err(),
        "{text}"
    );
}
