use std::io::{Read, Write};
use std::sync::Arc;

use overlan_protocol::ALPN_RELAY;
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};

use super::*;
use crate::tls::{self, ServerTrust};

/// A finished handshake in memory: the client's side taken over, the server's side still plain
/// rustls.
fn taken_over_client() -> (Sealer, Opener, ServerConnection) {
    let (client, server) = handshake();
    let (sealer, opener) = take_over(client.dangerous_extract_secrets().unwrap()).unwrap();
    (sealer, opener, server)
}

/// A client and a server in memory that have just finished their handshake.
pub(crate) fn handshake() -> (ClientConnection, ServerConnection) {
    let made = rcgen::generate_simple_self_signed(vec!["relay.test".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let pin = tls::key_fingerprint(&certificate).unwrap();
    let server_config = tls::server_config(vec![certificate], key, ALPN_RELAY).unwrap();
    let client_config = tls::client_config(&ServerTrust::Pinned(vec![pin]), ALPN_RELAY);
    let name = ServerName::try_from("relay.test").unwrap();
    let mut client = ClientConnection::new(client_config, name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&server_config)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        feed(&mut server, &wire);
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        while !wire.is_empty() {
            let read = client.read_tls(&mut wire.as_slice()).unwrap();
            wire.drain(..read);
            client.process_new_packets().unwrap();
        }
    }
    // The client's last flight.
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    feed(&mut server, &wire);
    (client, server)
}

fn feed(server: &mut ServerConnection, mut wire: &[u8]) {
    while !wire.is_empty() {
        server.read_tls(&mut wire).unwrap();
        server.process_new_packets().unwrap();
    }
}

fn record(sealer: &mut Sealer, text: &[u8]) -> Vec<u8> {
    let mut body = text.to_vec();
    let (header, trailer) = sealer.seal(&mut body).unwrap();
    [&header[..], &body, &trailer].concat()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn rustls_reads_what_is_sealed_here() {
    let (mut sealer, _, mut server) = taken_over_client();
    for length in [1, 2, 100, 1_400, BODY_MAX - 1, BODY_MAX] {
        let text = pattern(length);
        feed(&mut server, &record(&mut sealer, &text));
        let mut read = vec![0; length];
        server.reader().read_exact(&mut read).unwrap();
        assert!(read == text, "{length} bytes");
    }
}

#[test]
fn what_rustls_seals_is_opened_here() {
    let (_, mut opener, mut server) = taken_over_client();
    for length in [1, 2, 100, 1_400, BODY_MAX, 3 * BODY_MAX + 5] {
        let text = pattern(length);
        let mut wire = Vec::new();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let taken = server.writer().write(rest).unwrap();
            rest = &rest[taken..];
            server.write_tls(&mut wire).unwrap();
        }
        let mut read = Vec::new();
        while let Some(length) = record_len(&wire).unwrap() {
            let mut record: Vec<u8> = wire.drain(..length).collect();
            let Content::Data(range) = opener.open(&mut record).unwrap() else {
                panic!("it is data");
            };
            read.extend_from_slice(&record[range]);
        }
        assert!(wire.is_empty() && read == text, "{length} bytes");
    }
}

#[test]
fn the_end_is_understood_on_both_sides() {
    let (mut sealer, mut opener, mut server) = taken_over_client();
    feed(&mut server, &sealer.seal_close().unwrap());
    assert_eq!(
        server.reader().read(&mut [0; 1]).unwrap(),
        0,
        "rustls sees a clean end"
    );
    server.send_close_notify();
    let mut wire = Vec::new();
    server.write_tls(&mut wire).unwrap();
    assert_eq!(opener.open(&mut wire), Ok(Content::Close));
}

#[test]
fn any_changed_bit_is_refused() {
    for at in [0, 1, 3, 4, 5, 20, 30] {
        let (client, server) = handshake();
        let (mut sealer, _) = take_over(client.dangerous_extract_secrets().unwrap()).unwrap();
        let (_, mut opener) = take_over(server.dangerous_extract_secrets().unwrap()).unwrap();
        let mut wire = record(&mut sealer, b"sixteen bytes or");
        wire[at] ^= 1;
        assert_eq!(
            opener.open(&mut wire),
            Err(RecordError::Forged),
            "byte {at}"
        );
    }
}

/// After the handshake nothing goes in the clear, not even what middleboxes want to see during it:
/// RFC 8446, section 5.
#[test]
fn every_outer_type_but_application_data_ends_it_whatever_its_length() {
    let (client, server) = handshake();
    let (mut sealer, _) = take_over(client.dangerous_extract_secrets().unwrap()).unwrap();
    let (_, mut opener) = take_over(server.dangerous_extract_secrets().unwrap()).unwrap();
    for kind in (0..=u8::MAX).filter(|kind| *kind != APPLICATION_DATA) {
        for length in [0, 1, 2, TRAILER_LEN, 100, BODY_MAX, CIPHERTEXT_MAX] {
            let [high, low] = (length as u16).to_be_bytes();
            let header = [kind, 3, 3, high, low];
            assert_eq!(
                record_len(&header),
                Err(RecordError::Forged),
                "type {kind}, before its {length} bytes came"
            );
            let mut wire = [&header[..], &vec![1; length]].concat();
            assert_eq!(
                opener.open(&mut wire),
                Err(RecordError::Forged),
                "type {kind}, {length} bytes"
            );
        }
    }
    let mut wire = record(&mut sealer, b"the keys go on");
    assert!(matches!(opener.open(&mut wire), Ok(Content::Data(_))));
}

/// `content` in one record, with its type and padding, under the client's keys.
fn sealed(sealer: &mut Sealer, content: &[u8], kind: u8, padding: usize) -> Vec<u8> {
    let mut inner = [content, &[kind], &vec![0; padding]].concat();
    let length = (inner.len() + TRAILER_LEN - 1) as u16;
    let [high, low] = length.to_be_bytes();
    let header = [APPLICATION_DATA, 3, 3, high, low];
    let nonce = sealer.0.next_nonce().unwrap();
    let key = &sealer.0.key;
    key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner)
        .unwrap();
    [&header[..], &inner].concat()
}

#[test]
fn a_record_is_judged_by_what_it_carries() {
    for (length, padding, fits) in [
        (BODY_MAX, 0, true),
        (BODY_MAX - 200, 200, true),
        (0, BODY_MAX, true),
        (BODY_MAX + 1, 0, false),
        (BODY_MAX, 1, false),
        (BODY_MAX + 239, 0, false),
        (1, BODY_MAX, false),
    ] {
        let (client, server) = handshake();
        let (mut sealer, _) = take_over(client.dangerous_extract_secrets().unwrap()).unwrap();
        let (_, mut opener) = take_over(server.dangerous_extract_secrets().unwrap()).unwrap();
        let mut wire = sealed(&mut sealer, &pattern(length), APPLICATION_DATA, padding);
        assert_eq!(record_len(&wire), Ok(Some(wire.len())));
        let expected = if fits {
            Ok(Content::Data(HEADER_LEN..HEADER_LEN + length))
        } else {
            Err(RecordError::TooLarge)
        };
        assert_eq!(
            opener.open(&mut wire),
            expected,
            "{length} bytes, {padding} of padding"
        );
    }
}

#[test]
fn records_that_bring_nothing_end_it_when_there_are_many_in_a_row() {
    let ticket = [NEW_SESSION_TICKET, 0, 0, 0];
    let useless: [(&[u8], u8); 2] = [(b"", APPLICATION_DATA), (&ticket, HANDSHAKE)];
    for (content, kind) in useless {
        let (client, server) = handshake();
        let (mut sealer, _) = take_over(client.dangerous_extract_secrets().unwrap()).unwrap();
        let (_, mut opener) = take_over(server.dangerous_extract_secrets().unwrap()).unwrap();
        for _ in 0..3 {
            for _ in 0..USELESS_MAX {
                assert!(
                    opener
                        .open(&mut sealed(&mut sealer, content, kind, 0))
                        .is_ok()
                );
            }
            let mut data = record(&mut sealer, b"data");
            assert!(matches!(opener.open(&mut data), Ok(Content::Data(_))));
        }
        for _ in 0..USELESS_MAX {
            assert!(
                opener
                    .open(&mut sealed(&mut sealer, content, kind, 9))
                    .is_ok()
            );
        }
        assert_eq!(
            opener.open(&mut sealed(&mut sealer, content, kind, 0)),
            Err(RecordError::Useless)
        );
    }
}

#[test]
fn records_open_once_and_in_order() {
    let (client, server) = handshake();
    let (mut sealer, _) = take_over(client.dangerous_extract_secrets().unwrap()).unwrap();
    let (_, mut opener) = take_over(server.dangerous_extract_secrets().unwrap()).unwrap();
    let first = record(&mut sealer, b"first");
    let second = record(&mut sealer, b"second");
    assert_eq!(opener.open(&mut first.clone()), Ok(Content::Data(5..10)));
    assert_eq!(
        opener.open(&mut first.clone()),
        Err(RecordError::Forged),
        "a repeated record"
    );
    assert_eq!(
        opener.open(&mut second.clone()),
        Err(RecordError::Forged),
        "its place was used up"
    );
}

#[test]
fn a_record_that_claims_too_much_is_refused_by_its_header() {
    assert_eq!(record_len(&[23, 3, 3, 0x41]), Ok(None));
    assert_eq!(record_len(&[23, 3, 3, 0x41, 0x00]), Ok(Some(5 + 16_640)));
    assert_eq!(
        record_len(&[23, 3, 3, 0x41, 0x01]),
        Err(RecordError::TooLarge)
    );
    let (mut sealer, ..) = taken_over_client();
    assert_eq!(
        sealer.seal(&mut vec![0; BODY_MAX + 1]),
        Err(RecordError::TooLarge)
    );
}

#[test]
fn a_wish_for_new_keys_ends_the_connection() {
    let (_, mut opener, mut server) = taken_over_client();
    server.refresh_traffic_keys().unwrap();
    let mut wire = Vec::new();
    server.write_tls(&mut wire).unwrap();
    let length = record_len(&wire).unwrap().unwrap();
    assert_eq!(
        opener.open(&mut wire[..length]),
        Err(RecordError::KeyUpdate)
    );
}

#[test]
fn keys_end_after_their_number_of_records() {
    let (mut sealer, ..) = taken_over_client();
    sealer.0.left = 2;
    assert!(sealer.seal(&mut [1]).is_ok());
    assert!(sealer.seal(&mut [2]).is_ok());
    assert_eq!(sealer.seal(&mut [3]), Err(RecordError::Exhausted));
}
