//! The laws of layers: which rooms are shells while all others decide, and which rooms a room may
//! name.

use std::collections::BTreeSet;

use crate::sources::{is_test, rust_files};

const IMPURE: &[&str] = &[
    "async fn",
    ".await",
    "tokio::",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "rand::random",
    "spawn(",
];

/// The crates and wings whose rooms decide unless [`SHELLS`] says otherwise.
const DECIDING: &[&str] = &[
    "protocol/src/",
    "policy/src/",
    "plane/src/",
    "netstack/src/",
    "relay-server/src/",
    "controller/src/",
    "src/names",
    "src/host",
    "src/doors",
    "src/device",
    "src/daemon",
];

/// The rooms that hold a socket, a file, a clock or a task. A new room is pure until it stands
/// here, and one that became pure must leave.
const SHELLS: &[&str] = &[
    "controller/src/api.rs",
    "controller/src/api/api_tokens.rs",
    "controller/src/api/arrival.rs",
    "controller/src/api/auth_keys.rs",
    "controller/src/api/body.rs",
    "controller/src/api/caller.rs",
    "controller/src/api/certificates.rs",
    "controller/src/api/device.rs",
    "controller/src/api/device_changes.rs",
    "controller/src/api/device_networks.rs",
    "controller/src/api/devices.rs",
    "controller/src/api/dns.rs",
    "controller/src/api/endpoint.rs",
    "controller/src/api/enrol.rs",
    "controller/src/api/etag.rs",
    "controller/src/api/idempotency.rs",
    "controller/src/api/feed.rs",
    "controller/src/api/closing.rs",
    "controller/src/api/identity_provider.rs",
    "controller/src/api/invitations.rs",
    "controller/src/api/keys.rs",
    "controller/src/api/login_requests.rs",
    "controller/src/api/members.rs",
    "controller/src/api/networks.rs",
    "controller/src/api/organisations.rs",
    "controller/src/api/people.rs",
    "controller/src/api/openapi.rs",
    "controller/src/api/pages.rs",
    "controller/src/api/policy.rs",
    "controller/src/api/problem.rs",
    "controller/src/api/relay.rs",
    "controller/src/api/relay_tokens.rs",
    "controller/src/api/relays.rs",
    "controller/src/api/resets.rs",
    "controller/src/api/routes.rs",
    "controller/src/api/sessions.rs",
    "controller/src/api/setup.rs",
    "controller/src/api/signup.rs",
    "controller/src/api/sso.rs",
    "controller/src/api/trust_rules.rs",
    "controller/src/auth/password.rs",
    "controller/src/backup.rs",
    "controller/src/changelog.rs",
    "controller/src/clock.rs",
    "controller/src/controller.rs",
    "controller/src/data_dir.rs",
    "controller/src/deployment.rs",
    "controller/src/enrol.rs",
    "controller/src/enrol/workload.rs",
    "controller/src/fleet.rs",
    "controller/src/gateway_names.rs",
    "controller/src/housekeeping.rs",
    "controller/src/identities.rs",
    "controller/src/keys.rs",
    "controller/src/namespace.rs",
    "controller/src/offboarding.rs",
    "controller/src/oidc/fetch.rs",
    "controller/src/oidc/issuers.rs",
    "controller/src/oidc/provider.rs",
    "controller/src/operator.rs",
    "controller/src/policy/sights.rs",
    "controller/src/policy/world.rs",
    "controller/src/recovery.rs",
    "controller/src/renaming.rs",
    "controller/src/roster.rs",
    "controller/src/seats.rs",
    "controller/src/server.rs",
    "controller/src/start.rs",
    "controller/src/store.rs",
    "controller/src/store/accounts.rs",
    "controller/src/store/api_tokens.rs",
    "controller/src/store/changes.rs",
    "controller/src/store/copies.rs",
    "controller/src/store/device_rights.rs",
    "controller/src/store/devices.rs",
    "controller/src/store/dns.rs",
    "controller/src/store/former_names.rs",
    "controller/src/store/identities.rs",
    "controller/src/store/identity_providers.rs",
    "controller/src/store/invitations.rs",
    "controller/src/store/keys.rs",
    "controller/src/store/login_requests.rs",
    "controller/src/store/members.rs",
    "controller/src/store/names.rs",
    "controller/src/store/learnt.rs",
    "controller/src/store/organisations.rs",
    "controller/src/store/people.rs",
    "controller/src/store/policies.rs",
    "controller/src/store/relays.rs",
    "controller/src/store/routes.rs",
    "controller/src/store/runs.rs",
    "controller/src/store/sessions.rs",
    "controller/src/store/tags.rs",
    "controller/src/store/trust_rules.rs",
    "controller/src/store/views.rs",
    "controller/src/store/waiting.rs",
    "netstack/src/datagram.rs",
    "netstack/src/listen.rs",
    "netstack/src/stream.rs",
    "relay-server/src/lib.rs",
    "relay-server/src/ops.rs",
    "relay-server/src/register.rs",
    "relay-server/src/stranger.rs",
    "src/daemon.rs",
    "src/daemon/answers.rs",
    "src/daemon/answers/carrying.rs",
    "src/daemon/answers/measuring.rs",
    "src/daemon/carry.rs",
    "src/daemon/carry/datagrams.rs",
    "src/daemon/carry/forward.rs",
    "src/daemon/carry/own_proxy.rs",
    "src/daemon/listeners.rs",
    "src/daemon/listeners/forwards.rs",
    "src/daemon/listeners/tasks.rs",
    "src/daemon/notify.rs",
    "src/daemon/perf/run.rs",
    "src/daemon/perf/sample.rs",
    "src/daemon/perf/serve.rs",
    "src/daemon/perf/stream.rs",
    "src/daemon/socket.rs",
    "src/daemon/socket/call.rs",
    "src/daemon/socket/hand_over.rs",
    "src/daemon/socket/line.rs",
    "src/daemon/socket/short_path.rs",
    "src/device/controller_session.rs",
    "src/device/controller_session/cas.rs",
    "src/device/controller_session/confirm.rs",
    "src/device/enrol.rs",
    "src/device/link.rs",
    "src/device/node.rs",
    "src/device/node/axum.rs",
    "src/device/node/builder.rs",
    "src/device/node/by_gateway.rs",
    "src/device/node/certify.rs",
    "src/device/node/close.rs",
    "src/device/node/confirm.rs",
    "src/device/node/connector.rs",
    "src/device/node/datagrams.rs",
    "src/device/node/dialling.rs",
    "src/device/node/identity.rs",
    "src/device/node/links.rs",
    "src/device/node/listener.rs",
    "src/device/node/overlay.rs",
    "src/device/node/ping.rs",
    "src/device/node/readiness.rs",
    "src/device/node/resolving.rs",
    "src/device/node/routes.rs",
    "src/device/node/serving.rs",
    "src/device/node/status.rs",
    "src/device/node/stream.rs",
    "src/device/node/supervisor.rs",
    "src/device/state.rs",
    "src/doors/client.rs",
    "src/doors/dns/client.rs",
    "src/doors/dns/exchange.rs",
    "src/doors/dns/resolver.rs",
    "src/doors/dns/serve.rs",
    "src/doors/door.rs",
    "src/doors/gateway.rs",
    "src/doors/http1/exchange.rs",
    "src/doors/http1/session.rs",
    "src/doors/http1/wire.rs",
    "src/doors/http_proxy.rs",
    "src/doors/moves.rs",
    "src/doors/places.rs",
    "src/doors/proxy.rs",
    "src/doors/proxy/unix.rs",
    "src/doors/serve.rs",
    "src/doors/serve/datagrams.rs",
    "src/doors/serve/http.rs",
    "src/doors/serve/inbound.rs",
    "src/doors/serve/inbound/postgres.rs",
    "src/doors/socks.rs",
    "src/doors/socks/associate.rs",
    "src/doors/socks/foreign.rs",
    "src/doors/socks/fuzzing.rs",
    "src/doors/socks/handshake.rs",
    "src/host/accept.rs",
    "src/host/accept/vacancy.rs",
    "src/host/direct.rs",
    "src/host/memory/cgroup.rs",
    "src/host/same_user.rs",
    "src/host/same_user/elsewhere.rs",
    "src/host/sessions.rs",
    "src/host/sockets.rs",
    "src/host/splice.rs",
    "src/host/splice/ending.rs",
    "src/host/splice/patience.rs",
    "src/host/splice/pour.rs",
];

/// The wings of the client from the floor up, and what each may name of the others.
const WINGS: &[(&str, &[&str])] = &[
    ("names", &[]),
    ("host", &["names"]),
    ("doors", &["names", "host"]),
    ("device", &["names", "host", "doors"]),
    ("daemon", &["names", "host", "doors", "device"]),
];

/// The rooms of the doors' wing from the floor up, and what each may name of the others. What two
/// dialogues need lies below both, and the proxy, which chooses between them, above.
const DOOR_ROOMS: &[(&str, &[&str])] = &[
    ("moves", &[]),
    ("credentials", &[]),
    ("proxied", &[]),
    ("client", &[]),
    ("overlay", &["client", "proxied"]),
    ("places", &[]),
    ("door", &["credentials", "overlay", "places"]),
    ("http1", &["moves"]),
    (
        "socks",
        &[
            "client",
            "credentials",
            "door",
            "moves",
            "overlay",
            "places",
        ],
    ),
    (
        "http_proxy",
        &["client", "door", "http1", "overlay", "places", "proxied"],
    ),
    (
        "proxy",
        &[
            "client",
            "credentials",
            "door",
            "http_proxy",
            "overlay",
            "places",
            "proxied",
            "socks",
        ],
    ),
    ("serve", &["http1"]),
    ("gateway", &[]),
    ("dns", &[]),
];

#[test]
fn rooms_decide_unless_they_are_listed_as_shells() {
    let mut broken = Vec::new();
    let mut idle: Vec<&str> = SHELLS.to_vec();
    for file in rust_files() {
        let decides = DECIDING.iter().any(|room| file.path.starts_with(room));
        if !decides || is_test(&file.path) {
            continue;
        }
        let is_shell = SHELLS.contains(&file.path.as_str());
        for (number, line) in file.code_lines() {
            let Some(text) = IMPURE.iter().find(|text| line.contains(**text)) else {
                continue;
            };
            idle.retain(|shell| *shell != file.path);
            if !is_shell {
                broken.push(format!(
                    "{}:{number}: `{text}`: a room takes `now`, bytes and events, and returns what \
                     is to be done; if it has to be a shell, list it in SHELLS",
                    file.path
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(
        idle.is_empty(),
        "no longer shells, or gone: take them out of SHELLS: {idle:?}"
    );
}

/// Each wing names only those below it, so there is no circle between them.
#[test]
fn wings_name_only_what_is_below_them() {
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for file in rust_files() {
        let Some(below) = file.path.strip_prefix("src/") else {
            continue;
        };
        let wing = below.split(['/', '.']).next().unwrap_or_default();
        if is_test(&file.path) || wing == "lib" {
            continue;
        }
        let Some((wing, allowed)) = WINGS.iter().find(|(name, _)| *name == wing) else {
            broken.push(format!("{}: belongs to no wing", file.path));
            continue;
        };
        seen.insert(*wing);
        for (number, line) in file.code_lines() {
            for after in line.split("crate::").skip(1) {
                let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
                let named = after.split(end).next().unwrap_or_default();
                let is_wing = WINGS.iter().any(|(name, _)| *name == named);
                // A list would hide what it names, and what stands in the facade is above all.
                if named != *wing && !(is_wing && allowed.contains(&named)) {
                    broken.push(format!("{}:{number}: {wing} names `{named}`", file.path));
                }
            }
            let plane = line.contains("overlan_plane") && *wing != "device";
            if plane || line.contains("overlan::program::plane") {
                broken.push(format!("{}:{number}: {wing} names the plane", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert_eq!(seen.len(), WINGS.len(), "a wing is empty: {seen:?}");
}

/// No circle within the wing: each room names only those that stand before it.
#[test]
fn rooms_of_the_doors_name_only_what_is_below_them() {
    let mut broken = Vec::new();
    for (at, (room, allowed)) in DOOR_ROOMS.iter().enumerate() {
        let is_below = |name: &&str| DOOR_ROOMS[..at].iter().any(|(below, _)| below == name);
        assert!(
            allowed.iter().all(is_below),
            "{room} may name a room above it"
        );
    }
    for file in rust_files() {
        let Some(below) = file.path.strip_prefix("src/doors/") else {
            continue;
        };
        let room = below.split(['/', '.']).next().unwrap_or_default();
        if is_test(&file.path) {
            continue;
        }
        let Some((room, allowed)) = DOOR_ROOMS.iter().find(|(name, _)| *name == room) else {
            broken.push(format!("{}: stands in no room of DOOR_ROOMS", file.path));
            continue;
        };
        for (number, line) in file.code_lines() {
            let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            // A list of several rooms, as in `use crate::doors::{http_proxy, socks}`.
            let named = line.split("crate::doors::").skip(1).flat_map(|after| {
                let list = after
                    .strip_prefix('{')
                    .and_then(|list| list.split_once('}'));
                let names = list.map_or(after, |(names, _)| names);
                let most = if list.is_some() { usize::MAX } else { 1 };
                names.split(end).filter(|name| !name.is_empty()).take(most)
            });
            for name in named {
                if name != *room && !allowed.contains(&name) {
                    broken.push(format!("{}:{number}: {room} names `{name}`", file.path));
                }
            }
            if line.contains("super::super::") {
                broken.push(format!(
                    "{}:{number}: a room is named by its path",
                    file.path
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
