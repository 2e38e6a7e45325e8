//! What a request changed, in words for the log. Every handler of a request that changes something
//! answers with it, so that no change goes unsaid; who asked is the connection's to know.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer, and what was changed: names of things as people call them, also of those that are
/// gone. No secrets, and no text that could hold a line break.
#[derive(Debug)]
pub(super) struct Changed<T> {
    what: String,
    body: T,
}

impl<T> Changed<T> {
    pub(super) fn new(what: impl Into<String>, body: T) -> Self {
        let what = what.into();
        Self { what, body }
    }

    /// The request was one that changes, and found everything as it should be.
    pub(super) fn nothing(body: T) -> Self {
        Self::new("", body)
    }
}

impl<T: Serialize> IntoResponse for Changed<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        response.extensions_mut().insert(What(self.what));
        response
    }
}

/// What a response says to the log; empty if nothing was changed.
#[derive(Debug, Clone)]
pub(super) struct What(pub(super) String);

/// Words for a list.
pub(super) fn and(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().collect();
    match words.is_empty() {
        true => "nothing".to_owned(),
        false => words.join(", "),
    }
}
