//! Decides what a person does next about a destination that was not reached: which device it is
//! about, and which command shows or mends the cause. The cause itself is the error's to tell.

use overlan_protocol::netmap::Netmap;

use super::Destination;
use super::way::{Way, device_name, gateway_name, host, targets, way};
use crate::names::DialError;

/// Returns what to do about `error`, with which a connection to `port` of `destination` ended.
/// `None` where that hangs on the door: whether it leads outside.
pub(crate) fn next(
    netmap: &Netmap,
    destination: &Destination,
    port: u16,
    error: &DialError,
) -> Option<String> {
    let known = || way(netmap, destination, Some(port)).ok();
    Some(match error {
        DialError::Foreign => return None,
        DialError::Missing(missing) => missing.next(),
        DialError::NotOffered(not_offered) => not_offered.next(),
        DialError::AmbiguousName(_) | DialError::NotADevice(_) => {
            "`overlan status` lists the names.".to_owned()
        }
        DialError::AmbiguousAddress => {
            "Use the name, host.network.domain, instead of the address.".to_owned()
        }
        DialError::LedNowhere if leads_there(netmap, destination) => "This device itself leads others to that host: connect to it without the overlay.".to_owned(),
        DialError::LedNowhere => "A device beside that host has to lead there: `overlan serve route`, then `overlan admin route approve`.".to_owned(),
        DialError::NoResolver => "`overlan dns status` shows the resolvers of each zone and why they did not answer.".to_owned(),
        DialError::NotReady | DialError::NoRelay => "`overlan status` shows the state of each relay and why it is not connected.".to_owned(),
        DialError::Unsupported | DialError::Internal(_) => {
            "`overlan up --log debug` says more.".to_owned()
        }
        DialError::Untrusted => "The log of `overlan up` says which key is wrong: the device's state was replaced, or the controller gives out another key than before. Where that is known to be right, an admin runs `overlan admin device remove`, and the device enrols again.".to_owned(),
        DialError::UnknownName => match known() {
            Some(Way::Gateway(hosts)) => format!(
                "The gateway {} finds no such name: look at the resolver that it uses.",
                gateway_name(netmap, hosts.preferred())
            ),
            Some(Way::Zone { zone, .. }) => format!(
                "The resolvers of zone {} know no such name; `overlan dns query` shows what they answer.",
                zone.zone
            ),
            Some(Way::Device(_) | Way::Foreign(_)) | None => "`overlan status` lists the names of this network.".to_owned(),
        },
        DialError::Offline => format!(
            "Start `overlan up` {}; `overlan status` shows who is online.",
            match known() {
                Some(Way::Gateway(hosts)) => format!(
                    "on {}, the gateway that leads there",
                    gateway_name(netmap, hosts.preferred())
                ),
                Some(Way::Device(device)) => format!("on {}", device_name(netmap, &device)),
                Some(Way::Zone { .. } | Way::Foreign(_)) | None => "there".to_owned(),
            }
        ),
        DialError::Unreachable => match known() {
            Some(Way::Gateway(hosts)) => format!(
                "{}, the gateway, finds no way to it; look at its network.",
                gateway_name(netmap, hosts.preferred())
            ),
            Some(Way::Device(_) | Way::Zone { .. } | Way::Foreign(_)) | None => {
                "The device that leads there finds no way to it; look at its network.".to_owned()
            }
        },
        DialError::DeniedByPolicy => match known() {
            Some(Way::Gateway(hosts)) => format!(
                "{}, the gateway, does not lead to what it finds under that name or address; there `overlan serve list` shows its routes.",
                gateway_name(netmap, hosts.preferred())
            ),
            Some(Way::Device(_) | Way::Zone { .. } | Way::Foreign(_)) | None => {
                "A rule of the network has to allow this device that port.".to_owned()
            }
        },
        DialError::Refused => match known() {
            Some(Way::Gateway(hosts)) => format!(
                "{}, the gateway, reached {}, and nobody listens on port {port} there: start the service on that host.",
                gateway_name(netmap, hosts.preferred()),
                hosts.preferred().target
            ),
            Some(Way::Device(device)) => format!(
                "On {}: `overlan serve list` shows whether port {port} is published, `overlan serve tcp {port}` publishes it, and its service must run.",
                device_name(netmap, &device)
            ),
            Some(Way::Zone { .. } | Way::Foreign(_)) | None => {
                format!("Nobody listens on port {port} there.")
            }
        },
        DialError::TimedOut => match known() {
            Some(Way::Device(device)) => format!(
                "`overlan ping {}` shows whether the device answers.",
                device_name(netmap, &device)
            ),
            Some(Way::Gateway(_) | Way::Zone { .. } | Way::Foreign(_)) | None => {
                "It is known but did not answer; try again, then look at it.".to_owned()
            }
        },
    })
}

/// Returns whether this very device is the gateway.
fn leads_there(netmap: &Netmap, destination: &Destination) -> bool {
    let routes = netmap.networks.values().flat_map(|it| &it.routes);
    let targets = targets(netmap, destination);
    routes
        .into_iter()
        .any(|route| targets.iter().any(|target| route.covers_host(host(target))))
}

#[cfg(test)]
mod tests;
