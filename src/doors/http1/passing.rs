//! Decides what passes from one side to the other (RFC 9110, sections 7.6 and 7.8): which fields
//! are about one connection only, which protocols may be changed to, and what an intermediary adds.

use super::body::Length;
use super::fields::Fields;
use super::message::{HttpRequest, HttpResponse, HttpVersion};
use super::target::RequestTarget;

/// Makes `request` what the next server gets, with a body of `length`. Fields that ask for other
/// protocols stay for those in `upgrades`.
pub(super) fn outbound(request: &mut HttpRequest, length: Length, upgrades: &[String]) {
    // The target says which host is meant, whatever else the client wrote (RFC 9112, section
    // 3.2.2).
    if let RequestTarget::Absolute { authority, .. } = &request.target {
        let host = authority.to_string();
        request.fields.set("Host", host);
    }
    request.target = request.target.clone().into_origin();
    let fields = &mut request.fields;
    if request.version == HttpVersion::Http10 {
        // A client of 1.0 does not know it, and waits for nothing (RFC 9110, section 10.1.1).
        fields.remove("expect");
        if !fields.has("host") {
            fields.push("Host", "");
        }
    }
    let wants_trailers = fields.lists("te", "trailers");
    strip(fields);
    frame(fields, length);
    let mut options = Vec::new();
    if wants_trailers {
        fields.push("TE", "trailers");
        options.push("TE");
    }
    if !upgrades.is_empty() {
        fields.push("Upgrade", upgrades.join(", "));
        options.push("Upgrade");
    }
    if !options.is_empty() {
        fields.push("Connection", options.join(", "));
    }
    fields.push("Via", via(request.version));
}

/// Makes `answer` what the client gets, with a body of `length`. `Content-Length` of an answer
/// without a body stays as it is: it is the length that `GET` would give.
pub(super) fn inbound(answer: &mut HttpResponse, length: Length, close: bool, date: &str) {
    let upgrade: Vec<Vec<u8>> = answer.fields.list("upgrade").map(<[u8]>::to_vec).collect();
    strip(&mut answer.fields);
    let fields = &mut answer.fields;
    match (answer.status, length) {
        (204, Length::None) => fields.remove("content-length"),
        (_, Length::None) => {}
        (_, length) => frame(fields, length),
    }
    let mut options = Vec::new();
    // It says what the server wants instead (RFC 9110, section 15.5.22).
    if answer.status == UPGRADE_REQUIRED && !upgrade.is_empty() {
        fields.push("Upgrade", upgrade.join(&b", "[..]));
        options.push("Upgrade");
    }
    if close {
        options.push("close");
    }
    if !options.is_empty() {
        fields.push("Connection", options.join(", "));
    }
    if !fields.has("date") {
        fields.push("Date", date);
    }
    fields.push("Via", via(answer.version));
}

/// The same for an interim answer (1xx).
pub(super) fn interim(answer: &mut HttpResponse) {
    strip(&mut answer.fields);
    answer.fields.remove("content-length");
}

/// The same for the answer that changes the protocol, if it is one of those that were asked for.
pub(super) fn switched(answer: &mut HttpResponse, asked: &[String]) -> bool {
    let agreed: Vec<Vec<u8>> = answer.fields.list("upgrade").map(<[u8]>::to_vec).collect();
    let was_asked = |agreed: &Vec<u8>| {
        asked
            .iter()
            .any(|asked| asked.as_bytes().eq_ignore_ascii_case(agreed))
    };
    if agreed.is_empty() || !agreed.iter().all(was_asked) {
        return false;
    }
    strip(&mut answer.fields);
    answer.fields.remove("content-length");
    answer.fields.push("Connection", "Upgrade");
    answer.fields.push("Upgrade", agreed.join(&b", "[..]));
    true
}

/// Returns the protocols that a request asks to change to and that `may` be changed to. HTTP/2 in
/// plain text never is: a service that speaks it takes any field from the client, past all that is
/// decided here (RFC 9113, section 3.1, ended that way).
pub(super) fn upgrades(request: &HttpRequest, may: impl Fn(&str) -> bool) -> Vec<String> {
    let fields = &request.fields;
    if request.version == HttpVersion::Http10 || !fields.lists("connection", "upgrade") {
        return Vec::new();
    }
    let asked = fields
        .list("upgrade")
        .filter_map(|name| str::from_utf8(name).ok());
    let is_http = |name: &str| {
        let name = name.split('/').next().unwrap_or(name);
        ["h2c", "h2", "http"]
            .iter()
            .any(|http| name.eq_ignore_ascii_case(http))
    };
    asked
        .filter(|name| !is_http(name) && may(name))
        .map(str::to_owned)
        .collect()
}

/// Keeps the trailer fields that may pass: none that frames a message, leads it or says who sends
/// it (RFC 9110, section 6.5.1).
pub(super) fn trailers(trailers: &mut Fields, may: impl Fn(&str) -> bool) {
    strip(trailers);
    let is_of_heads = |name: &str| {
        HEAD_ONLY
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    trailers.keep(|name| !is_of_heads(name) && may(name));
}

/// Counts `Max-Forwards` down. Returns false where it is 0, and this server is the last to get the
/// request (RFC 9110, section 7.6.2).
pub(super) fn may_go_on(request: &mut HttpRequest) -> bool {
    if !matches!(request.method.as_str(), "TRACE" | "OPTIONS") {
        return true;
    }
    let left = request.fields.first("max-forwards");
    let left = left.and_then(|left| str::from_utf8(left).ok());
    match left.and_then(|left| left.parse::<u32>().ok()) {
        Some(0) => false,
        Some(left) => {
            request.fields.set("Max-Forwards", (left - 1).to_string());
            true
        }
        None => true,
    }
}

/// Removes the fields that are about the connection on which they came (RFC 9110, section 7.6.1).
fn strip(fields: &mut Fields) {
    let options: Vec<Vec<u8>> = fields.list("connection").map(<[u8]>::to_vec).collect();
    fields.keep(|name| {
        let is = |known: &&&str| name.eq_ignore_ascii_case(known);
        // A sender that names these by mistake means no harm, and without them the message means
        // another.
        let stays = || END_TO_END.iter().any(|known| is(&known));
        let named = |option: &Vec<u8>| option.eq_ignore_ascii_case(name.as_bytes());
        !HOP_BY_HOP.iter().any(|known| is(&known)) && (!options.iter().any(named) || stays())
    });
}

/// Writes how the body is framed.
fn frame(fields: &mut Fields, length: Length) {
    fields.remove("content-length");
    match length {
        Length::Exact(bytes) => fields.push("Content-Length", bytes.to_string()),
        Length::Chunked => fields.push("Transfer-Encoding", "chunked"),
        Length::None | Length::UntilClose => {}
    }
}

/// Returns the value of `Via`: the version in which the message came, and who passed it on.
fn via(version: HttpVersion) -> String {
    format!("{} {PSEUDONYM}", version.number())
}

/// One name for all devices: the request shows by its target which one it was.
const PSEUDONYM: &str = "overlan";

const UPGRADE_REQUIRED: u16 = 426;

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Fields that `Connection` cannot take away.
const END_TO_END: &[&str] = &["content-length", "content-type", "host"];

/// Fields that mean nothing after a body, or that a reader believes who should have seen them
/// before it.
const HEAD_ONLY: &[&str] = &[
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "max-forwards",
    "range",
    "set-cookie",
    "trailer",
    "via",
];
