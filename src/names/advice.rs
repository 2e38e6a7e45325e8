//! The next step of a person after a destination was not reached: the device that it is about, and
//! the command that shows or mends the cause. Decides from the netmap; the cause itself is in the
//! error's own text.

use overlan_protocol::netmap::Netmap;

use super::Destination;
use super::way::{Way, device_name, gateway_name, host, targets, way};
use crate::names::DialError;

/// Returns the next step after a connection to `port` of `destination` ended with `error`. `None`
/// for a foreign destination: its next step depends on the door.
pub(crate) fn next(
    netmap: &Netmap,
    destination: &Destination,
    port: u16,
    error: &DialError,
) -> Option<String> {
    let owner = || DestinationOwner::of(netmap, destination, port);
    let step = match error {
        DialError::Foreign => return None,
        DialError::Missing(missing) => missing.next(),
        DialError::NoRouteToPort(no_route_to_port) => no_route_to_port.next(),
        DialError::UnknownName => owner().after_unknown_name(),
        DialError::Offline => owner().after_offline(),
        DialError::Unreachable => owner().after_unreachable(),
        DialError::NoRule(_) => "`overlan admin policy explain` shows the rules; an admin changes \
                                 them by `overlan admin policy set`."
            .to_owned(),
        DialError::DeniedByPolicy => owner().after_denied(),
        DialError::Refused => owner().after_refused(port),
        DialError::TimedOut => owner().after_timeout(),
        DialError::NoRoute if is_gateway_of(netmap, destination) => {
            "This device is itself the gateway to that host: connect to it without the overlay."
                .to_owned()
        }
        DialError::NoRoute => "Run `overlan serve route` on a device that reaches that host; \
                                  then an admin runs `overlan admin route approve`."
            .to_owned(),
        DialError::AmbiguousName(_) | DialError::NotADevice(_) => {
            "`overlan status` lists the names.".to_owned()
        }
        DialError::AmbiguousAddress => {
            "Use the name, host.network.domain, instead of the address.".to_owned()
        }
        DialError::NoResolver => "`overlan dns status` shows the resolvers of each zone, and why \
                                  they did not answer."
            .to_owned(),
        DialError::NotReady | DialError::NoRelay => {
            "`overlan status` shows each relay, and why it is not connected.".to_owned()
        }
        DialError::Untrusted => "The log of `overlan up` says which key is wrong: the device's \
                                 state was replaced, or the controller gives out another key than \
                                 before. If that is known to be right, an admin runs `overlan \
                                 admin device remove`, and the device enrols again."
            .to_owned(),
        DialError::Unsupported | DialError::Internal(_) => {
            "The log of `overlan up --log debug` shows more.".to_owned()
        }
    };
    Some(step)
}

/// The owner of a destination, by the names that people know.
enum DestinationOwner {
    Device(String),
    Gateway { gateway: String, host: String },
    Zone(String),
    Unknown,
}

impl DestinationOwner {
    fn of(netmap: &Netmap, destination: &Destination, port: u16) -> Self {
        match way(netmap, destination, Some(port)) {
            Ok(Way::Device(device)) => Self::Device(device_name(netmap, &device)),
            Ok(Way::Gateway(hosts)) => Self::Gateway {
                gateway: gateway_name(netmap, hosts.preferred()),
                host: hosts.preferred().target.clone(),
            },
            Ok(Way::Zone { zone, .. }) => Self::Zone(zone.zone),
            Ok(Way::Foreign(_)) | Err(_) => Self::Unknown,
        }
    }

    fn after_unknown_name(self) -> String {
        match self {
            Self::Gateway { gateway, .. } => {
                format!("The gateway {gateway} cannot resolve the name: look at its resolver.")
            }
            Self::Zone(zone) => format!(
                "The resolvers of zone {zone} do not know the name; `overlan dns query` shows \
                 their answers."
            ),
            Self::Device(_) | Self::Unknown => {
                "`overlan status` lists the names of this network.".to_owned()
            }
        }
    }

    fn after_offline(self) -> String {
        let place = match self {
            Self::Device(name) => format!("on {name}"),
            Self::Gateway { gateway, .. } => format!("on {gateway}, the gateway to that host"),
            Self::Zone(_) | Self::Unknown => "there".to_owned(),
        };
        format!("Start `overlan up` {place}; `overlan status` shows which devices are online.")
    }

    fn after_unreachable(self) -> String {
        match self {
            Self::Gateway { gateway, host } => {
                format!("{gateway}, the gateway, cannot reach {host}: look at its network.")
            }
            Self::Device(_) | Self::Zone(_) | Self::Unknown => {
                "The gateway to that host cannot reach it: look at the gateway's network."
                    .to_owned()
            }
        }
    }

    fn after_denied(self) -> String {
        match self {
            Self::Gateway { gateway, host } => format!(
                "{gateway}, the gateway, has no route to the address that it finds for {host}; \
                 `overlan serve list` shows its routes there."
            ),
            Self::Device(_) | Self::Zone(_) | Self::Unknown => {
                "A rule of the network has to allow this device that port.".to_owned()
            }
        }
    }

    fn after_refused(self, port: u16) -> String {
        match self {
            Self::Gateway { gateway, host } => format!(
                "{gateway}, the gateway, reached {host}, and nothing listens on port {port} \
                 there: start the service on that host."
            ),
            Self::Device(name) => format!(
                "On {name}: `overlan serve list` shows whether port {port} is served, `overlan \
                 serve tcp {port}` serves it, and the service itself must run."
            ),
            Self::Zone(_) | Self::Unknown => format!("Nothing listens on port {port} there."),
        }
    }

    fn after_timeout(self) -> String {
        match self {
            Self::Device(name) => {
                format!("`overlan ping {name}` shows whether the device answers.")
            }
            Self::Gateway { .. } | Self::Zone(_) | Self::Unknown => {
                "The host did not answer: look whether it runs, and try again.".to_owned()
            }
        }
    }
}

/// Returns true if this device itself is a gateway to the destination.
fn is_gateway_of(netmap: &Netmap, destination: &Destination) -> bool {
    let routes = netmap.networks.values().flat_map(|it| &it.routes);
    let targets = targets(netmap, destination);
    routes
        .into_iter()
        .any(|route| targets.iter().any(|target| route.covers_host(host(target))))
}

#[cfg(test)]
mod tests;
