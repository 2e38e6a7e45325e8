//! Entity tags of answers (RFC 9110, section 8.8.3): decides which answers a caller has already,
//! and sends those without a body.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use overlan_protocol::api::RESPONSE_MAX;

use super::problem::Refusal;
use crate::auth;

/// Gives an answer its tag. If the caller has that answer by `known`, the value of If-None-Match,
/// its body stays here.
pub(super) async fn tagged(response: Response, known: Option<&str>) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = match to_bytes(body, RESPONSE_MAX).await {
        Ok(bytes) => bytes,
        Err(_) => return Refusal::internal(&"an answer is too large").into_response(),
    };
    let tag = tag(&bytes);
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    let again = HeaderValue::from_static("private, no-cache");
    parts.headers.insert(header::CACHE_CONTROL, again);
    if known.is_some_and(|known| names(known, &tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Returns the tag of a body.
fn tag(body: &[u8]) -> String {
    format!("\"{}\"", HEXLOWER.encode(&auth::digest(body)[..TAG_BYTES]))
}

/// Says whether a list of tags, or `*`, names this one. Weak tags compare as strong ones.
fn names(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || one == tag
    })
}

/// Bytes of a digest that a tag has: enough that no two answers share one by chance.
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_the_tags_in_it() {
        let tag = tag(b"{}");
        assert_eq!(tag.len(), 2 + 2 * TAG_BYTES);
        assert_ne!(tag, super::tag(b"[]"));
        for (list, expected) in [
            (tag.clone(), true),
            (format!("W/{tag}"), true),
            (format!("\"x\", {tag}"), true),
            ("*".to_owned(), true),
            (String::new(), false),
            ("\"x\"".to_owned(), false),
            (tag.trim_matches('"').to_owned(), false),
        ] {
            assert_eq!(names(&list, &tag), expected, "{list}");
        }
    }
}
