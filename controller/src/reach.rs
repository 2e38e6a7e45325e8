//! Decides the address by which others reach this controller, and the names of its certificate.
//! Looks nothing up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use overlan_protocol::api::JoinString;
use overlan_protocol::{HostPort, name};

use crate::start::StartError;

/// Returns host and port for the join string.
pub(crate) fn public_address(
    configured: Option<&str>,
    local: SocketAddr,
) -> Result<HostPort, StartError> {
    let Some(text) = configured else {
        let ip = match local.ip() {
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        let own = HostPort::try_from(SocketAddr::new(ip, local.port()));
        return Ok(own.expect("a socket that listens has a port"));
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
    let JoinString { server, ca, .. } = join;
    let plain = server.address().is_some() || name::is_domain(server.host());
    if plain && ca.is_none() {
        Ok(server)
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
