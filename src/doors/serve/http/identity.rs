//! The identity of the peer that asks, as header fields. Decides which fields of a peer pretend to
//! give one; the values come from the peer's key.

use std::net::IpAddr;

use crate::doors::http1::{Fields, folded};
use crate::names::PeerIdentity;

/// Takes away the fields that a peer may have written, and says who it is: in every field, so that
/// none can be put in an empty place.
pub(super) fn introduce(fields: &mut Fields, address: IpAddr, peer: Option<&PeerIdentity>) {
    fields.keep(|name| !is_claim(name));
    let address = address.to_string();
    let device = peer.map(|peer| peer.device.to_string());
    let said = |said: fn(&PeerIdentity) -> &str| peer.map_or("", said);
    for (name, value) in [
        ("x-overlan-name", said(|peer| &peer.name)),
        ("x-overlan-label", said(|peer| &peer.label)),
        ("x-overlan-network", said(|peer| &peer.network)),
        ("x-overlan-device", device.as_deref().unwrap_or_default()),
        (
            "x-overlan-user",
            said(|peer| peer.owner.person().unwrap_or_default()),
        ),
        ("x-overlan-address", &address),
        ("x-forwarded-for", &address),
    ] {
        // A value that is not read everywhere as it is written is left out.
        let is_plain = value.bytes().all(|byte| (b' '..0x7f).contains(&byte));
        fields.push(name, if is_plain { value } else { "" });
    }
}

/// Returns whether a field is one by which services learn who asks, or looks like one to a service
/// that makes variables of names, as CGI, WSGI, PHP and Rack do. `Proxy` is among them because such
/// a service takes its variable for a setting of its own.
pub(super) fn is_claim(name: &str) -> bool {
    let name = folded(name);
    CLAIMS.contains(&name.as_str()) || CLAIMED.iter().any(|begin| name.starts_with(begin))
}

/// The beginnings of the fields that we and other proxies write, folded.
const CLAIMED: &[&str] = &["x-overlan-", "x-forwarded-"];

/// Fields by which other proxies say who asks, folded.
const CLAIMS: &[&str] = &[
    "client-ip",
    "forwarded",
    "proxy",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-original-forwarded-for",
    "x-overlan",
    "x-real-ip",
    "x-remote-user",
];
