//! What a client hears of a request that gets nowhere: the status, a word for programs (RFC 9209), and for people what happened,
//! why, and what to do.

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::dial::DialError;

/// What a program hears whose request is not even read.
pub(super) fn turned_away(why: &str) -> Vec<u8> {
    let text = format!(
        "overlan: this proxy is not for the program that asks: {why}.\nRun the program as the user of `overlan up`, or start `overlan up` with --socks-user and --socks-password-file, or with --socks unix:PATH.\n"
    );
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nProxy-Status: overlan; error=http_request_denied\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    [head, text].concat().into_bytes()
}

/// Why a request gets nowhere.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The proxy has a password, and the client sent none.
    NoCredentials,
    /// The client sent another one.
    WrongCredentials,
    /// A request for this server itself, which has no pages.
    NotAProxyRequest,
    /// A URL of another kind than `http://`.
    Scheme,
    /// A request that names no host.
    NoDestination,
    /// `CONNECT` without a port.
    NoPort,
    /// The destination was not reached.
    NotReached {
        host: String,
        port: u16,
        error: DialError,
    },
    /// The destination took the connection and then said nothing that could be understood.
    Broken(String),
}

impl Refusal {
    /// The answer; to `HEAD`, only its head.
    pub(super) fn into_response(self, is_head: bool) -> Response<Full<Bytes>> {
        let (status, word, what_to_do) = self.told();
        let text = format!("overlan: {self}.\n{what_to_do}\n");
        let body = match is_head {
            true => Full::default(),
            false => Full::new(Bytes::from(text)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if let Ok(word) = HeaderValue::from_str(&format!("overlan; error={word}")) {
            headers.insert(PROXY_STATUS, word);
        }
        match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                headers.insert(PROXY_AUTHENTICATE, CHALLENGE);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, SOON);
            }
            _ => {}
        }
        response
    }

    /// Status and word of RFC 9209, section 2.3, where it has one for this; then what to do.
    fn told(&self) -> (StatusCode, &'static str, &'static str) {
        let request_error = "http_request_error";
        match self {
            Self::NoCredentials | Self::WrongCredentials => (
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                "http_request_denied",
                "Give the user name and the password of --socks-user and --socks-password-file.",
            ),
            Self::NotAProxyRequest => (
                StatusCode::BAD_REQUEST,
                request_error,
                "Set this address as an HTTP proxy (http_proxy, https_proxy) instead of opening it.",
            ),
            Self::Scheme => (
                StatusCode::BAD_REQUEST,
                request_error,
                "Ask for https:// by CONNECT, as programs do when https_proxy is set.",
            ),
            Self::NoDestination | Self::NoPort => (
                StatusCode::BAD_REQUEST,
                request_error,
                "A request has the form `GET http://HOST[:PORT]/PATH` or `CONNECT HOST:PORT`.",
            ),
            Self::Broken(_) => (
                StatusCode::BAD_GATEWAY,
                "http_response_incomplete",
                "Look at the service there: it closed the connection or does not speak HTTP/1.",
            ),
            Self::NotReached { error, .. } => not_reached(error),
        }
    }
}

fn not_reached(error: &DialError) -> (StatusCode, &'static str, &'static str) {
    match error {
        DialError::Foreign => (
            StatusCode::FORBIDDEN,
            "http_request_denied",
            "Exclude it from the proxy (no_proxy), or start `overlan up` with --proxy-direct.",
        ),
        DialError::LedNowhere => (
            StatusCode::FORBIDDEN,
            "http_request_denied",
            "A device beside that host has to lead there: `overlan serve route`, then `overlan admin route approve`.",
        ),
        DialError::NoResolver => (
            StatusCode::GATEWAY_TIMEOUT,
            "dns_timeout",
            "`overlan dns status` shows the resolvers of each zone and why they did not answer.",
        ),
        DialError::DeniedByPolicy => (
            StatusCode::FORBIDDEN,
            "http_request_denied",
            "A rule of the network has to allow this device that port.",
        ),
        DialError::UnknownName => (
            StatusCode::BAD_GATEWAY,
            "dns_error",
            "`overlan status` lists the names of this network.",
        ),
        DialError::AmbiguousAddress => (
            StatusCode::BAD_GATEWAY,
            "destination_not_found",
            "Use the name, host.network.domain, instead of the address.",
        ),
        DialError::Offline => (
            StatusCode::SERVICE_UNAVAILABLE,
            "destination_unavailable",
            "Start `overlan up` there; `overlan status` shows who is online.",
        ),
        DialError::Unreachable => (
            StatusCode::BAD_GATEWAY,
            "destination_ip_unroutable",
            "The device that leads there finds no way to it; look at its network.",
        ),
        DialError::NotReady | DialError::NoRelay => (
            StatusCode::SERVICE_UNAVAILABLE,
            "destination_ip_unroutable",
            "`overlan status` shows the state of each relay and why it is not connected.",
        ),
        DialError::Refused => (
            StatusCode::BAD_GATEWAY,
            "connection_refused",
            "Nobody listens there: on that device, `overlan serve list` shows what is published.",
        ),
        DialError::TimedOut => (
            StatusCode::GATEWAY_TIMEOUT,
            "connection_timeout",
            "The device is known but did not answer; try again, then look at it.",
        ),
        DialError::Unsupported | DialError::Internal(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "proxy_internal_error",
            "`overlan up --log debug` says more.",
        ),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials => f.write_str("this proxy wants a user name and a password"),
            Self::WrongCredentials => f.write_str("user name or password are wrong"),
            Self::NotAProxyRequest => f.write_str("this is a proxy, not a web server"),
            Self::Scheme => f.write_str("only http:// is fetched in plain"),
            Self::NoDestination => f.write_str("the request names no host"),
            Self::NoPort => f.write_str("CONNECT needs a port"),
            Self::NotReached { host, port, error } => {
                write!(f, "no connection to {host} port {port}: {error}")
            }
            Self::Broken(error) => write!(f, "the destination gave no whole answer: {error}"),
        }
    }
}

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"overlan\", charset=\"UTF-8\"");

/// Seconds: who comes back then may find it better, as after a start.
const SOON: HeaderValue = HeaderValue::from_static("2");
