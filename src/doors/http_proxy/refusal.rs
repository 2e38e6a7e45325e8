//! The refusals of requests: the status, a word for programs (RFC 9209), and for people what
//! happened, why, and what to do.

use std::fmt;

use crate::doors::http1::{Fault, Malformed, Own};
use crate::names::DialError;

/// Writes the answer to a program whose request is not even read.
pub(super) fn turned_away(why: &str) -> Vec<u8> {
    let text = format!(
        "overlan: this proxy does not serve the program that asks: {why}.\n\
         Run the program as the user of `overlan up`, or start `overlan up` with --socks-user and \
         --socks-password-file, or with --socks unix:PATH.\n"
    );
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Proxy-Status: overlan; error=http_request_denied\r\n\
         Connection: close\r\n\
         Content-Length: {}\r\n\r\n",
        text.len()
    );
    [head, text].concat().into_bytes()
}

/// The reason why a request gets nowhere.
#[derive(Debug)]
pub(crate) enum ProxyRefusal {
    /// The proxy has a password, and the client sent none.
    NoCredentials,
    /// The client sent another one.
    WrongCredentials,
    /// The client's source has its share of the connections.
    NoShare,
    /// A request for this server itself, which has one page.
    NotAProxyRequest,
    /// That page was asked for under a name that is not this server's.
    AnotherHost,
    /// A URL of another kind than `http://`.
    Scheme,
    /// The destination was not reached.
    NotReached {
        host: String,
        port: u16,
        error: DialError,
        /// The next step, if the overlay knows it.
        next: Option<String>,
    },
    /// The request, or the answer that the destination gave, cannot pass.
    Fault(Fault),
}

impl ProxyRefusal {
    /// Turns the refusal into an answer.
    pub(crate) fn into_own(self) -> Own {
        let (status, word, otherwise) = self.terms();
        let what_to_do = match &self {
            Self::NotReached {
                next: Some(next), ..
            } => next,
            Self::NotReached { next: None, .. }
            | Self::NoShare
            | Self::NoCredentials
            | Self::WrongCredentials
            | Self::NotAProxyRequest
            | Self::AnotherHost
            | Self::Scheme
            | Self::Fault(_) => otherwise,
        };
        let mut own = Own::text(status, format!("overlan: {self}.\n{what_to_do}\n"));
        own.fields
            .push("Proxy-Status", format!("overlan; error={word}"));
        match status {
            407 => own.fields.push("Proxy-Authenticate", CHALLENGE),
            503 => own.fields.push("Retry-After", SOON),
            _ => {}
        }
        own
    }

    /// Returns the status, the word of RFC 9209, section 2.3, where it has one for this, and the
    /// next step.
    fn terms(&self) -> Terms {
        match self {
            Self::NoCredentials | Self::WrongCredentials => (
                407,
                "http_request_denied",
                "Give the user name and the password that `overlan up` was started with \
                 (--socks-user, --socks-password-file); curl takes them by --proxy-user.",
            ),
            Self::NoShare => (
                503,
                "connection_limit_reached",
                "End some of them, or run another `overlan up` where the programs run.",
            ),
            Self::NotAProxyRequest => (
                400,
                REQUEST_ERROR,
                "Set this address as an HTTP proxy (http_proxy, https_proxy), or its /proxy.pac \
                 as a browser's automatic proxy configuration.",
            ),
            Self::AnotherHost => (
                421,
                "http_request_denied",
                "Ask for /proxy.pac by the address at which the proxy listens: \
                 http://127.0.0.1:PORT/proxy.pac.",
            ),
            Self::Scheme => (
                400,
                REQUEST_ERROR,
                "Ask for https:// by CONNECT, as programs do when https_proxy is set.",
            ),
            Self::NotReached { error, .. } => not_reached(error),
            Self::Fault(fault) => of_fault(fault),
        }
    }
}

/// A status, a word for programs, and the next step for people.
type Terms = (u16, &'static str, &'static str);

fn of_fault(fault: &Fault) -> Terms {
    let speaks = "Check the service there: it ended the connection, or does not speak HTTP/1.";
    match fault {
        Fault::Request(malformed) => (malformed.status(), REQUEST_ERROR, to_be_written(*malformed)),
        Fault::SlowRequest => (
            408,
            REQUEST_ERROR,
            "Send the whole head of a request at once.",
        ),
        Fault::NoAnswer(_) => (502, "http_response_incomplete", speaks),
        Fault::Answer(_) => (502, "http_protocol_error", speaks),
        Fault::UnaskedUpgrade => (
            502,
            "http_upgrade_failed",
            "Check the service there: it changed to a protocol that nobody asked for.",
        ),
        Fault::Silent => (
            504,
            "http_response_timeout",
            "Check the service there. It may be silent for as long as --socks-idle-timeout says, \
             and for 10 s if the client has closed its side.",
        ),
    }
}

fn to_be_written(malformed: Malformed) -> &'static str {
    if malformed == Malformed::UserInfo {
        return "Take the user name out of the URL; programs send it as Authorization.";
    }
    let is_of_target = matches!(
        malformed,
        Malformed::Port | Malformed::ConnectTarget | Malformed::Authority
    );
    match is_of_target {
        true => "A request has the form `GET http://HOST[:PORT]/PATH` or `CONNECT HOST:PORT`.",
        false => "Correct the program that sent it: RFC 9112 says how a request is written.",
    }
}

/// Returns the terms for a dial that failed. The overlay's own next step goes before this one.
fn not_reached(error: &DialError) -> Terms {
    let (status, word) = match error {
        DialError::Foreign => {
            let outside =
                "Exclude it from the proxy (no_proxy), or start `overlan up` with --proxy-direct.";
            return (403, "http_request_denied", outside);
        }
        DialError::NoRoute
        | DialError::NoRouteToPort(_)
        | DialError::NotADevice(_)
        | DialError::NoRule(_)
        | DialError::DeniedByPolicy => (403, "http_request_denied"),
        DialError::Missing(missing) if missing.is_foreign() => (403, "http_request_denied"),
        DialError::NoResolver => (504, "dns_timeout"),
        DialError::UnknownName | DialError::Missing(_) => (502, "dns_error"),
        DialError::AmbiguousName(_) | DialError::AmbiguousAddress => (502, "destination_not_found"),
        DialError::Untrusted => (502, "destination_unavailable"),
        DialError::Offline => (503, "destination_unavailable"),
        DialError::Unreachable => (502, "destination_ip_unroutable"),
        DialError::NotReady | DialError::NoRelay => (503, "destination_ip_unroutable"),
        DialError::Refused => (502, "connection_refused"),
        DialError::TimedOut => (504, "connection_timeout"),
        DialError::Unsupported | DialError::Internal(_) => (500, "proxy_internal_error"),
    };
    (
        status,
        word,
        "`overlan status` shows the peers and their state.",
    )
}

impl fmt::Display for ProxyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials => f.write_str("this proxy needs a user name and a password"),
            Self::WrongCredentials => f.write_str("the user name or the password is wrong"),
            Self::NoShare => {
                f.write_str("the source of this client has its share of the proxy's connections")
            }
            Self::NotAProxyRequest => f.write_str("this is a proxy, not a web server"),
            Self::AnotherHost => f.write_str("the Host field names another server than this proxy"),
            Self::Scheme => f.write_str("a whole URL must begin with http:// here"),
            Self::NotReached {
                host, port, error, ..
            } => {
                write!(f, "no connection to {host} port {port}: {error}")
            }
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

const REQUEST_ERROR: &str = "http_request_error";

const CHALLENGE: &str = "Basic realm=\"overlan\", charset=\"UTF-8\"";

/// Seconds after which another attempt may succeed, as after a start.
const SOON: &str = "2";
