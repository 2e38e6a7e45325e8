//! The limits of a dial until the program that asked hears something, in the order in which they
//! lie inside each other. Decides numbers only; each room ends what it began.
//!
//! ```text
//! curl ── SOCKS or HTTP ──> the proxy
//!   HOLD 10 s                    until the device is ready; then the refusal says "not ready"
//!   PROXY_DIAL 30 s              from there to the answer of the destination: curl has waited 40 s
//!   └─ NODE_DIAL 30 s            the same for dials by the library, forwards and DNS
//!      ├─ RESOLVER_TRY 3 s       for each resolver of a delegated zone, one after the other
//!      ├─ connect 30 s           the netstack's handshake with the peer's port
//!      │  └─ SERVICE_CONNECT 10 s   at the peer: its local service accepts or refuses
//!      └─ GATEWAY_DIAL 15 s      at the gateway: its host accepts or refuses
//! ```
//!
//! A peer that is known to be offline, or has no relay, ends a dial long before.

use std::time::Duration;

/// Time that a request waits for a device that is not ready. A device that starts is ready in about
/// a second; an outage takes longer, and a program must hear of it.
pub(crate) const HOLD: Duration = Duration::from_secs(10);

/// From a request to the proxy to the answer of its destination, within the overlay or on this
/// host. No shorter than [`NODE_DIAL`]: where both run out at once, both say that it timed out.
pub(crate) const PROXY_DIAL: Duration = Duration::from_secs(30);

/// From a name to the accepted connection, unless a program asks for another limit. As long as the
/// netstack tries one handshake, which a slow path may need to the end.
pub(crate) const NODE_DIAL: Duration = Duration::from_secs(30);

/// From a question to one resolver to its answer, the dial included. Programs give up after about
/// five seconds and ask again, and then the next resolver is asked first.
pub(crate) const RESOLVER_TRY: Duration = Duration::from_secs(3);

/// Time that a host may take to answer its gateway. It is half of the asker's time, so that the
/// reason arrives.
pub(crate) const GATEWAY_DIAL: Duration = Duration::from_secs(15);

/// Time that a local service may take to accept a peer's connection. It is well within the time
/// that the peer's netstack gives the handshake, so that the peer hears a refusal.
pub(crate) const SERVICE_CONNECT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_dial_lie_inside_each_other() {
        let handshake = overlan_netstack::Config::default().connect_timeout;
        assert!(PROXY_DIAL >= NODE_DIAL && NODE_DIAL >= handshake);
        assert!(
            SERVICE_CONNECT < handshake,
            "the peer hears a refusal first"
        );
        assert!(
            GATEWAY_DIAL < NODE_DIAL,
            "the asker hears the gateway's reason"
        );
        let resolvers = u32::try_from(overlan_protocol::dns::VIA_MAX).unwrap();
        assert!(RESOLVER_TRY * resolvers < NODE_DIAL);
    }
}
