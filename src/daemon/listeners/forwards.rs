//! The resolvers to which foreign names are forwarded. Decides which of them are allowed: this
//! device's DNS server must not ask itself, and must not forward for other hosts.

use std::net::SocketAddr;

use super::place::ForwardPlace;
use super::refused::{ForwardRefused, ListenersError};
use crate::device::node::DNS_FORWARDS_MAX;
use crate::names::in_overlay;

/// Returns the resolvers of foreign names for a DNS server at `listener`.
pub(super) fn allowed(
    places: &[ForwardPlace],
    listener: Option<SocketAddr>,
) -> Result<Vec<SocketAddr>, ListenersError> {
    let mut forwards = Vec::new();
    for place in places {
        let ForwardPlace::To(address) = *place else {
            if places.len() > 1 {
                let (flag, others) = ("--dns-forward", "resolvers");
                return Err(ListenersError::OffAndOthers { flag, others });
            }
            continue;
        };
        if let Some(why) = refused(address, listener) {
            return Err(ListenersError::Forward { address, why });
        }
        forwards.push(address);
    }
    match forwards.len() > DNS_FORWARDS_MAX {
        true => Err(ListenersError::TooManyForwards(forwards.len())),
        false => Ok(forwards),
    }
}

fn refused(address: SocketAddr, listener: Option<SocketAddr>) -> Option<ForwardRefused> {
    let Some(listener) = listener else {
        return Some(ForwardRefused::NoListener);
    };
    if address.ip().is_unspecified() {
        Some(ForwardRefused::Unspecified)
    } else if in_overlay(address.ip().to_canonical()) {
        Some(ForwardRefused::InOverlay)
    } else if arrives_at(address, listener) {
        Some(ForwardRefused::Itself)
    } else if !listener.ip().to_canonical().is_loopback() {
        Some(ForwardRefused::OpenResolver(listener))
    } else {
        None
    }
}

/// Checks that a DNS server may move to `listener` while foreign names still go to `forwards`,
/// which change at the next start only: it must be none of them, and serve this host only.
pub(super) fn check_apart(
    forwards: &[SocketAddr],
    listener: Option<SocketAddr>,
) -> Result<(), ListenersError> {
    let (Some(listener), Some(first)) = (listener, forwards.first()) else {
        return Ok(());
    };
    let circle = forwards
        .iter()
        .find(|forward| arrives_at(**forward, listener));
    if let Some(&forward) = circle {
        return Err(ListenersError::Circle { listener, forward });
    }
    match listener.ip().to_canonical().is_loopback() {
        true => Ok(()),
        false => Err(ListenersError::OpenResolver {
            listener,
            forward: *first,
        }),
    }
}

/// Returns true if datagrams to `address` arrive at `listener`.
fn arrives_at(address: SocketAddr, listener: SocketAddr) -> bool {
    let (to, own) = (address.ip().to_canonical(), listener.ip().to_canonical());
    // The system lets a program bind only on addresses of this host.
    let is_own = || std::net::UdpSocket::bind((to, 0)).is_ok();
    address.port() == listener.port() && (to == own || own.is_unspecified() && is_own())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_looked_up_for_this_host_only() {
        let forward = [ForwardPlace::To("192.0.2.1:53".parse().unwrap())];
        for (listener, is_allowed) in [
            ("127.0.0.1:1053", true),
            ("[::1]:1053", true),
            ("0.0.0.0:1053", false),
            ("[::]:1053", false),
            ("192.0.2.7:53", false),
        ] {
            let forwards = allowed(&forward, Some(listener.parse().unwrap()));
            assert_eq!(forwards.is_ok(), is_allowed, "{listener}");
            if let Err(refused) = forwards {
                assert!(refused.is_usage());
                assert!(refused.to_string().contains("open resolver"), "{refused}");
                let next = refused.next_step().unwrap();
                assert!(next.contains("loopback"), "{next}");
            }
        }
        // Names of the overlay alone may be answered for other hosts.
        let public = "0.0.0.0:1053".parse().unwrap();
        assert_eq!(allowed(&[ForwardPlace::Off], Some(public)).unwrap(), []);
    }
}
