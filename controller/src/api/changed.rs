//! The changes that requests make, in words for the log. Every handler of a request that changes
//! something answers with them, so that no change goes unlogged; who asked for it is known by the
//! connection.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer, and the change that was made: by the names that people use, also of things that are
/// gone now. It holds no secret and no text with a line break.
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

    /// The request asks for a change, and everything is already as it should be.
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

/// The words that a response gives to the log; empty if nothing was changed.
#[derive(Debug, Clone)]
pub(super) struct What(pub(super) String);

/// Joins words to a list.
pub(super) fn and(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().collect();
    match words.is_empty() {
        true => "nothing".to_owned(),
        false => words.join(", "),
    }
}
