//! Which header fields pass a proxy, and which are about one connection only (RFC 9110, section 7.6.1).

use data_encoding::BASE64;
use http::header::{
    CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use zeroize::Zeroizing;

use super::refusal::Refusal;

/// A secret that a client sent.
type Given = Zeroizing<Vec<u8>>;

/// User name and password of `Proxy-Authorization: Basic …`, if the field is there and has that form.
pub(super) fn credentials(headers: &HeaderMap) -> Option<(Given, Given)> {
    let value = headers.get(PROXY_AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(BASIC.len())?;
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(encoded.trim_ascii()).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = Zeroizing::new(decoded[..colon].to_vec());
    Some((user, Zeroizing::new(decoded[colon + 1..].to_vec())))
}

/// The request as its destination must see it: a path instead of a URL, the client's `Host`, nothing that was meant for the
/// proxy. What asks for another protocol stays.
pub(crate) fn outbound<B>(mut request: Request<B>) -> Result<Request<B>, Refusal> {
    let path = request.uri().path_and_query().cloned();
    if !request.headers().contains_key(HOST) {
        // HTTP/1.0 has none. The user name that a URL may carry is no part of it.
        let authority = request.uri().authority().ok_or(Refusal::NoDestination)?;
        let host = authority.as_str();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let host = HeaderValue::from_str(host).map_err(|_| Refusal::NoDestination)?;
        request.headers_mut().insert(HOST, host);
    }
    let upgrade = wanted_upgrade(request.headers());
    strip(request.headers_mut());
    if let Some(upgrade) = upgrade {
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    *request.uri_mut() = match path {
        // `OPTIONS http://host` asks for the server as a whole.
        Some(path) if request.method() == Method::OPTIONS && path.as_str() == "/" => {
            Uri::from_static("*")
        }
        Some(path) => path.into(),
        None => PathAndQuery::from_static("/").into(),
    };
    *request.version_mut() = Version::HTTP_11;
    Ok(request)
}

/// The answer's fields as a client must see them.
pub(crate) fn inbound(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(UPGRADE);
}

/// What the client wants to change to, if it says so in the two fields that this takes.
fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    connection_options(headers)
        .any(|option| option.eq_ignore_ascii_case(UPGRADE.as_str()))
        .then(|| headers.get(UPGRADE).cloned())
        .flatten()
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_options(headers)
        .filter_map(|option| option.parse::<HeaderName>().ok())
        // Whoever names these by mistake means no harm, and without them the message has no end.
        .filter(|name| !END_TO_END.contains(&name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        PROXY_AUTHORIZATION,
        PROXY_AUTHENTICATE,
        TE,
        TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

/// The scheme, with the space behind it.
const BASIC: &[u8] = b"Basic ";

/// Fields about one connection that have no constant. How a body is framed is decided for each connection anew.
const HOP_BY_HOP: &[&str] = &["keep-alive", "proxy-connection"];

/// Fields that `Connection` cannot take away.
const END_TO_END: &[&str] = &["host", "content-length", "content-type"];
