//! The pages and redirects that a browser sees during a login. Decides how texts are written into
//! them, and what a browser may do with them; believes nothing.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;

use super::Refusal;
use crate::api::Response;
use crate::store::login_requests::AskedLogin;

/// Returns the cookie by which a browser is known again.
pub(super) fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let cookies = cookies.filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';'));
    let is_ours = |pair: &str| {
        let (name, value) = pair.trim().split_once('=')?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let fits = value.len() == COOKIE_LEN && value.bytes().all(is_plain);
        (name == COOKIE && fits).then(|| value.to_owned())
    };
    pairs.find_map(is_ours)
}

/// Shows which login it is, and leads on.
pub(super) fn begin(organisation: &str, asked: &AskedLogin, link: &str, cookie: &str) -> Response {
    let (program, host) = (text(&asked.program), text(&asked.host));
    let (source, code) = (text(&asked.source.to_string()), asked.code);
    let (organisation, link) = (text(organisation), text(link));
    let body = format!(
        "<p><b>{program}</b> on the machine <b>{host}</b> at the address <b>{source}</b> asks for \
         a login to the organisation <b>{organisation}</b>.</p>\
         <p>Its terminal shows this code:</p>\
         <p><b><code>{code}</code></b></p>\
         <p>Go on only if it stands on <b>your</b> terminal: the person who runs that command gets \
         your login.</p>\
         <p><a href=\"{link}\" rel=\"noreferrer\">Go on to the identity provider</a></p>"
    );
    let mut response = page(StatusCode::OK, "Log in", &body);
    let cookie = format!("{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Says that the login is done.
pub(super) fn done(email: &str) -> Response {
    let body = format!(
        "<p>You are logged in as <b>{}</b>. You may close this window.</p>",
        text(email)
    );
    page(StatusCode::OK, "Logged in", &body)
}

/// Sends the browser to an address.
pub(super) fn redirect(address: &str) -> Result<Response, Refusal> {
    let location = HeaderValue::from_str(address);
    let location = location.map_err(|error| Refusal::internal(&error))?;
    let mut response = page(StatusCode::SEE_OTHER, "Log in", "");
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Answers a browser with a page, also if something is refused; programs get a problem document.
pub(super) fn answer(headers: &HeaderMap, result: Result<Response, Refusal>) -> Response {
    let refusal = match result {
        Ok(response) => return response,
        Err(refusal) => refusal,
    };
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("text/html")) {
        return refusal.into_response();
    }
    let body = format!("<p>{}</p>", text(&refusal.text()));
    page(refusal.status_code(), "Not logged in", &body)
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Overlan\
         </title></head><body><h1>{title}</h1>{body}</body></html>\n"
    );
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Writes a text so that nothing of it has a meaning in HTML.
fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A page loads nothing, sends nothing, and is in no frame: nobody can make a person click it
/// unseen.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The cookie of a browser. Its prefix keeps every other host from setting it.
const COOKIE: &str = "__Host-overlan-login";

/// Characters of the cookie: 256 random bits.
const COOKIE_LEN: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_organisations_are_inert_in_a_page() {
        let hostile = "<script>alert('x')</script>\u{1b}[2J\"";
        let shown = text(hostile);
        let plain = !shown.contains(['<', '>', '"', '\'', '\u{1b}']);
        assert!(plain, "{shown}");
    }

    #[test]
    fn a_cookie_is_ours_or_none() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(value));
            cookie(&headers)
        };
        let good = "a".repeat(COOKIE_LEN);
        assert_eq!(
            of("x=1; __Host-overlan-login=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            Some(good)
        );
        assert_eq!(of("__Host-overlan-login=short"), None);
        assert_eq!(
            of("overlan-login=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            None
        );
    }
}
