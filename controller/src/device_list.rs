//! Decides which devices a list shows, and in which order. Knows no store: the devices come in.

use std::cmp::{Ordering, Reverse};

use overlan_protocol::UnixTime;
use overlan_protocol::api::{DeviceQuery, DeviceSort, DeviceSummary};
use overlan_protocol::netmap::Owner;

/// Picks the devices that `query` asks for at `now`, in its order; they come in by name.
pub(crate) fn pick(
    mut devices: Vec<DeviceSummary>,
    query: &DeviceQuery,
    now: UnixTime,
) -> Vec<DeviceSummary> {
    devices.retain(|device| is_wanted(device, query, now));
    // Stable, so that equals stay in the order of their names.
    match query.sort {
        DeviceSort::Name => {}
        DeviceSort::LastSeen => devices.sort_by_key(|device| {
            let seen = device.last_seen.unwrap_or(now);
            (Reverse(device.online), Reverse(seen))
        }),
        DeviceSort::Version => {
            devices.sort_by(|one, other| by_version(&one.version, &other.version));
        }
        DeviceSort::Relay => devices.sort_by(|one, other| one.relay.cmp(&other.relay)),
        DeviceSort::Latency => devices.sort_by_key(|device| Reverse(device.round_trip_ms)),
        DeviceSort::Created => devices.sort_by_key(|device| Reverse(device.created)),
    }
    devices
}

fn is_wanted(device: &DeviceSummary, query: &DeviceQuery, now: UnixTime) -> bool {
    let is_in = |network: &String| {
        let mut places = device.networks.iter();
        places.any(|place| place.network == *network) || device.waiting.contains(network)
    };
    let is_offline_for = |secs: u64| {
        let seen = device.last_seen.filter(|_| !device.online);
        seen.is_some_and(|seen| now.since(seen).as_secs() >= secs)
    };
    query.network.as_ref().is_none_or(is_in)
        && query
            .tag
            .as_ref()
            .is_none_or(|tag| device.tags.contains(tag))
        && query
            .owner
            .as_ref()
            .is_none_or(|owner| is_of(device, owner))
        && query.online.is_none_or(|online| device.online == online)
        && query.offline_for.is_none_or(is_offline_for)
        && query
            .version
            .as_ref()
            .is_none_or(|version| is_version(&device.version, version))
        && (query.relay.is_none() || query.relay == device.relay)
}

/// Says whether this person, or an auth key with this id or note, enrolled the device.
fn is_of(device: &DeviceSummary, owner: &str) -> bool {
    match &device.owner {
        Owner::Person(email) => email.eq_ignore_ascii_case(owner),
        Owner::AuthKey(id) => {
            id == owner || (device.owner_note == owner && !device.owner_note.is_empty())
        }
        Owner::Unknown => false,
    }
}

/// Says whether a version is the wanted one, or begins with its numbers: 1.2 means 1.2.3, and not
/// 1.20.
fn is_version(version: &str, wanted: &str) -> bool {
    let rest = version.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
}

/// Orders versions by their numbers; one that is not known comes first.
fn by_version(one: &str, other: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        let numbers = text.split(['.', '-', '+']);
        numbers.map_while(|number| number.parse().ok()).collect()
    };
    numbers(one)
        .cmp(&numbers(other))
        .then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use overlan_protocol::api::MembershipSummary;
    use overlan_protocol::key::DeviceId;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn device(id: u8, label: &str) -> DeviceSummary {
        DeviceSummary {
            id: DeviceId([id; 16]),
            label: label.to_owned(),
            networks: vec![MembershipSummary {
                network: "home".to_owned(),
                label: label.to_owned(),
                address: "100.64.0.2".to_owned(),
            }],
            waiting: Vec::new(),
            owner: Owner::AuthKey("k1".to_owned()),
            owner_note: "CI".to_owned(),
            online: true,
            ephemeral: false,
            relay: None,
            tags: Default::default(),
            barred: None,
            expires: None,
            last_seen: None,
            created: UnixTime::from_secs(u64::from(id)),
            version: "0.2.0".to_owned(),
            round_trip_ms: None,
            applied: None,
        }
    }

    fn devices() -> Vec<DeviceSummary> {
        vec![
            DeviceSummary {
                round_trip_ms: Some(3),
                relay: Some("b".to_owned()),
                ..device(1, "app")
            },
            DeviceSummary {
                online: false,
                last_seen: Some(UnixTime::from_secs(900)),
                version: "0.10.1".to_owned(),
                tags: ["ci".parse().unwrap()].into(),
                owner: Owner::Person("anna@example.com".to_owned()),
                owner_note: String::new(),
                ..device(2, "db")
            },
            DeviceSummary {
                online: false,
                last_seen: Some(UnixTime::from_secs(990)),
                version: String::new(),
                networks: Vec::new(),
                waiting: vec!["acme".to_owned()],
                relay: Some("a".to_owned()),
                round_trip_ms: Some(80),
                ..device(3, "web")
            },
        ]
    }

    fn ids(query: &DeviceQuery) -> Vec<u8> {
        let picked = pick(devices(), query, NOW);
        picked.iter().map(|device| device.id.0[0]).collect()
    }

    #[test]
    fn each_filter_leaves_the_devices_that_it_names() {
        let all = DeviceQuery::default;
        let text = |text: &str| Some(text.to_owned());
        for (query, wanted) in [
            (all(), vec![1, 2, 3]),
            (
                DeviceQuery {
                    network: text("home"),
                    ..all()
                },
                vec![1, 2],
            ),
            (
                DeviceQuery {
                    network: text("acme"),
                    ..all()
                },
                vec![3],
            ),
            (
                DeviceQuery {
                    network: text("hom"),
                    ..all()
                },
                vec![],
            ),
            (
                DeviceQuery {
                    tag: Some("ci".parse().unwrap()),
                    ..all()
                },
                vec![2],
            ),
            (
                DeviceQuery {
                    owner: text("Anna@example.com"),
                    ..all()
                },
                vec![2],
            ),
            (
                DeviceQuery {
                    owner: text("k1"),
                    ..all()
                },
                vec![1, 3],
            ),
            (
                DeviceQuery {
                    owner: text("CI"),
                    ..all()
                },
                vec![1, 3],
            ),
            (
                DeviceQuery {
                    owner: text(""),
                    ..all()
                },
                vec![],
            ),
            (
                DeviceQuery {
                    online: Some(true),
                    ..all()
                },
                vec![1],
            ),
            (
                DeviceQuery {
                    online: Some(false),
                    ..all()
                },
                vec![2, 3],
            ),
            (
                DeviceQuery {
                    offline_for: Some(100),
                    ..all()
                },
                vec![2],
            ),
            (
                DeviceQuery {
                    offline_for: Some(0),
                    ..all()
                },
                vec![2, 3],
            ),
            (
                DeviceQuery {
                    version: text("0.1"),
                    ..all()
                },
                vec![],
            ),
            (
                DeviceQuery {
                    version: text("0.10"),
                    ..all()
                },
                vec![2],
            ),
            (
                DeviceQuery {
                    relay: text("a"),
                    ..all()
                },
                vec![3],
            ),
            (
                DeviceQuery {
                    relay: text("a"),
                    online: Some(true),
                    ..all()
                },
                vec![],
            ),
        ] {
            assert_eq!(ids(&query), wanted, "{query:?}");
        }
    }

    #[test]
    fn each_order_has_the_most_telling_device_first() {
        for (sort, wanted) in [
            (DeviceSort::Name, [1, 2, 3]),
            (DeviceSort::LastSeen, [1, 3, 2]),
            (DeviceSort::Version, [3, 1, 2]),
            (DeviceSort::Relay, [2, 3, 1]),
            (DeviceSort::Latency, [3, 1, 2]),
            (DeviceSort::Created, [3, 2, 1]),
        ] {
            let query = DeviceQuery {
                sort,
                ..DeviceQuery::default()
            };
            assert_eq!(ids(&query), wanted, "{sort:?}");
        }
    }
}
