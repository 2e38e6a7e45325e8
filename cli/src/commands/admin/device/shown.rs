//! The words in which a device is shown, in lists and by itself. Decides no column.

use overlan_protocol::UnixTime;
use overlan_protocol::api::DeviceSummary;
use overlan_protocol::netmap::Owner;

use super::super::end;
use super::{NOTHING, called, tag_list};

/// All that is known of a device, a line each.
pub(super) fn details(device: &DeviceSummary, now: UnixTime) -> Vec<[String; 2]> {
    let at = |at: UnixTime| end(at, now);
    let barred = device
        .barred
        .map(|barred| format!("{} {}", barred.why, at(barred.since)));
    let mut lines = vec![("device", called(device)), ("id", device.id.to_string())];
    let places = device.networks.iter();
    lines.extend(places.map(|place| {
        let name = format!("{}.{}", place.label, place.network);
        ("name", format!("{name}, {}", place.address))
    }));
    lines.extend([
        ("waits for", or_nothing(&device.waiting.join(", "))),
        ("state", state_words(device)),
        (
            "takes no part",
            barred.unwrap_or_else(|| NOTHING.to_owned()),
        ),
        (
            "right ends",
            device.expires.map_or_else(|| NOTHING.to_owned(), at),
        ),
        ("seen", seen(device, now)),
        ("enrolled", at(device.created)),
        ("owner", owner_words(device)),
        ("version", or_nothing(&device.version)),
        (
            "home relay",
            or_nothing(device.relay.as_deref().unwrap_or_default()),
        ),
        ("latency", latency(device)),
        ("tags", tag_list(&device.tags)),
    ]);
    let lines = lines.into_iter();
    lines
        .map(|(head, words)| [head.to_owned(), words])
        .collect()
}

pub(super) fn state_words(device: &DeviceSummary) -> String {
    let barred = device.barred.map(|barred| barred.why.to_string());
    let words = [
        Some(if device.online { "online" } else { "offline" }),
        barred.as_deref(),
        device.ephemeral.then_some("ephemeral"),
        (!device.waiting.is_empty()).then_some("waits for approval"),
    ];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    words.join(", ")
}

pub(super) fn seen(device: &DeviceSummary, now: UnixTime) -> String {
    match (device.online, device.last_seen) {
        (true, _) => "now".to_owned(),
        (false, Some(at)) => end(at, now),
        (false, None) => NOTHING.to_owned(),
    }
}

pub(super) fn latency(device: &DeviceSummary) -> String {
    let trip = device.round_trip_ms.filter(|_| device.online);
    trip.map_or_else(|| NOTHING.to_owned(), |ms| format!("{ms} ms"))
}

pub(super) fn owner_words(device: &DeviceSummary) -> String {
    match &device.owner {
        Owner::Person(email) => email.clone(),
        Owner::AuthKey(id) if device.owner_note.is_empty() => format!("key {id}"),
        Owner::AuthKey(_) => device.owner_note.clone(),
        Owner::Unknown => NOTHING.to_owned(),
    }
}

pub(super) fn or_nothing(text: &str) -> String {
    match text {
        "" => NOTHING.to_owned(),
        text => text.to_owned(),
    }
}
