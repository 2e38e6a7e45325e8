//! Feeds any bytes to the readers of HTTP messages: heads, and the bodies after them.

use bytes::BytesMut;

use super::body::{Decoder, Length, Piece};
use super::fields::Writer;
use super::message::{HttpRequest, HttpResponse, head_end};

pub(crate) fn messages(data: &[u8]) {
    let end = head_end(data, 0).unwrap_or(data.len());
    let (head, rest) = data.split_at(end);
    // A request without a host gets one before it goes on.
    if let Ok(request) = HttpRequest::parse(head)
        && request.fields.has("host")
    {
        let again = HttpRequest::parse(&request.encode()).expect("a sound head stays sound");
        assert_eq!(
            (&again.method, &again.target),
            (&request.method, &request.target)
        );
        assert_eq!(again.fields, request.fields);
        if let Ok(length) = Length::of_request(&request) {
            assert_eq!(Length::of_request(&again), Ok(length));
            body(length, Writer::Client, rest);
        }
    }
    if let Ok(answer) = HttpResponse::parse(head) {
        let again = HttpResponse::parse(&answer.encode()).expect("a sound head stays sound");
        assert_eq!(
            (again.status, &again.fields),
            (answer.status, &answer.fields)
        );
        if let Ok(length) = Length::of_answer("GET", &answer) {
            body(length, Writer::Service, rest);
        }
    }
    body(Length::Chunked, Writer::Client, data);
}

fn body(length: Length, writer: Writer, data: &[u8]) {
    let mut decoder = Decoder::new(length, writer);
    let mut input = BytesMut::from(data);
    let mut found = 0;
    while let Ok(Piece::Data(piece)) = decoder.decode(&mut input) {
        assert!(!piece.is_empty(), "an empty piece would come without end");
        found += piece.len();
    }
    assert!(found <= data.len());
}
