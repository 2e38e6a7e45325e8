//! Decides the address by which others reach this controller, and the names of its certificate.
//! Looks nothing up.

use std::net::{IpAddr, SocketAddr};

use overlan_protocol::api::JoinString;
use overlan_protocol::name;

use crate::start::StartError;

/// Returns host and port for the join string.
pub(crate) fn public_address(
    configured: Option<&str>,
    local: SocketAddr,
) -> Result<(String, u16), StartError> {
    let Some(text) = configured else {
        let host = match local.ip() {
            IpAddr::V4(v4) if v4.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(v6) if v6.is_unspecified() => "::1".to_owned(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip.to_string(),
        };
        return Ok((host, local.port()));
    };
    let bad = || StartError::Name {
        what: "public address; give HOST:PORT",
        text: text.to_owned(),
    };
    let has_port = match text.rfind(']') {
        Some(bracket) => text[bracket..].contains(':'),
        None => text.contains(':'),
    };
    let port = local.port();
    let whole = if has_port {
        format!("https://{text}")
    } else {
        format!("https://{text}:{port}")
    };
    let join: JoinString = whole.parse().map_err(|_| bad())?;
    let plain = join.host.parse::<IpAddr>().is_ok() || name::is_domain(&join.host);
    if plain && join.ca.is_none() {
        Ok((join.host, join.port))
    } else {
        Err(bad())
    }
}

/// Returns all names of the server certificate, sorted and each once, so that the same
/// configuration gives the same list.
pub(crate) fn certificate_names(public: &str, listen: IpAddr, further: &[String]) -> Vec<String> {
    let mut names = vec![public.to_owned()];
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.extend(further.iter().cloned());
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
