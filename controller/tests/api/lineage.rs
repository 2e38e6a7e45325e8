//! A database that went back in time: devices, relays and addresses afterwards.

use std::path::Path;
use std::process::Command;

use overlan_protocol::HostIndex;
use overlan_protocol::api::{ProblemKind, RelayOrders, path};
use overlan_protocol::netmap::MapEvent;

use crate::lab::{Device, Lab, WITHIN, network, peer, refused};
use crate::streams::resume;

/// Copies a directory as it is, as an operator does who has no better way, with the controller
/// stopped.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// Stops, takes a copy, and lets one more device enrol that the copy does not have; then brings the
/// copy back.
struct Rollback {
    lab: Lab,
    key: overlan_protocol::key::Secret,
    owner: overlan_protocol::api::LoginResponse,
    near: Device,
    near_map: overlan_protocol::netmap::Netmap,
    lost: Device,
    relay: crate::lab::Relay,
    relay_orders: RelayOrders,
}

async fn rollback() -> Rollback {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let relay = lab.relay(&owner, "ams-1", 4_430).await;
    let near = lab.enrol(&key, "near").await;
    lab.stop().await;
    let backup = lab.dir.path().join("backup");
    copy(&lab.data_dir(), &backup);
    lab.run().await;
    let mut stream = near.stream(&lab).await;
    let lost = lab.enrol(&key, "lost").await;
    stream
        .until("lost", |map| peer(map, "lost").is_some())
        .await;
    let near_map = stream.map.clone();
    let relay_orders = orders(&lab, &relay, None).await;
    drop(stream);
    lab.stop().await;
    copy(&backup, &lab.data_dir());
    lab.run().await;
    Rollback {
        lab,
        key,
        owner,
        near,
        near_map,
        lost,
        relay,
        relay_orders,
    }
}

async fn orders(
    lab: &Lab,
    relay: &crate::lab::Relay,
    applied: Option<&RelayOrders>,
) -> RelayOrders {
    let mut beat = relay.beat(applied.map_or(0, |orders| orders.version), true);
    beat.lineage = applied.and_then(|orders| orders.lineage);
    let mut connection = relay.connect(lab).await;
    connection
        .post(path::RELAY_HEARTBEAT, &beat, WITHIN)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_map_of_the_lost_time_is_replaced_though_its_number_comes_again() {
    let back = rollback().await;
    let fresh = back.lab.enrol(&back.key, "fresh").await;
    let mut watcher = fresh.stream(&back.lab).await;
    // The same number, for another thing.
    while watcher.map.version < back.near_map.version {
        back.lab.enrol(&back.key, "more").await;
        watcher.next().await;
    }
    let (_lines, first) =
        resume(&back.lab, &back.near, &back.near_map, back.near_map.version).await;
    let MapEvent::Snapshot(map) = first else {
        panic!("expected a snapshot, got {first:?}");
    };
    assert!(peer(&map, "fresh").is_some() && peer(&map, "lost").is_none());
}

#[tokio::test]
async fn a_device_of_the_lost_time_is_told() {
    let back = rollback().await;
    let connection = back.lost.connect(&back.lab).await;
    let answer = connection.lines(path::DEVICE_NETMAP, WITHIN).await;
    assert_eq!(refused(answer), ProblemKind::DeviceUnknown);
    // And gets in again, as a new one, by what it has.
    back.lab.enrol(&back.key, "lost").await;
    drop(back.owner);
}

/// Lets ten devices enrol, and tells their addresses.
async fn ten(lab: &Lab, key: &overlan_protocol::key::Secret) -> Vec<HostIndex> {
    let mut hosts = Vec::new();
    for number in 0..10 {
        let device = lab.enrol(key, &format!("web{number}")).await;
        hosts.push(network(&device.stream(lab).await.map).host);
    }
    hosts
}

/// Neither of a plain copy that nobody tells of, nor before anybody from the lost time comes.
#[tokio::test]
async fn no_address_of_the_lost_time_is_given_out_again() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let near = lab.enrol(&key, "near").await;
    let near = network(&near.stream(&lab).await.map).host;
    assert_eq!(
        near,
        HostIndex::MIN,
        "a new deployment begins at the first address"
    );
    let backup = lab.dir.path().join("backup");
    // While it runs and nobody writes: what follows is lost, in the same run.
    copy(&lab.data_dir(), &backup);
    let mut hosts = vec![near];
    hosts.extend(ten(&lab, &key).await);
    lab.restart().await;
    // And in another one.
    hosts.extend(ten(&lab, &key).await);
    for _ in 0..2 {
        lab.stop().await;
        copy(&backup, &lab.data_dir());
        lab.run().await;
        hosts.extend(ten(&lab, &key).await);
    }
    assert_eq!(hosts.len(), 41);
    hosts.sort_unstable();
    let given = hosts.len();
    hosts.dedup();
    assert_eq!(hosts.len(), given, "no address twice");
}

#[tokio::test]
async fn relays_are_told_who_holds_an_address_that_was_given_out_since() {
    let back = rollback().await;
    let fresh = back.lab.enrol(&back.key, "fresh").await;
    let map = fresh.stream(&back.lab).await.map;
    let here = network(&map);
    let now = orders(&back.lab, &back.relay, Some(&back.relay_orders)).await;
    assert_ne!(now.lineage, back.relay_orders.lineage);
    assert!(now.holders.contains(&(here.vni, here.host, fresh.id())));
    // A device that comes now is named as well, at once.
    let next = back.lab.enrol(&back.key, "next").await;
    let later = orders(&back.lab, &back.relay, Some(&now)).await;
    assert!(
        later
            .holders
            .iter()
            .any(|(_, _, device)| *device == next.id())
    );
}

#[tokio::test]
async fn a_restart_is_no_lost_time() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let relay = lab.relay(&owner, "ams-1", 4_430).await;
    let web = lab.enrol(&key, "web").await;
    let map = web.stream(&lab).await.map;
    let known = orders(&lab, &relay, None).await;
    for _ in 0..3 {
        lab.restart().await;
        let (_lines, first) = resume(&lab, &web, &map, map.version).await;
        assert!(matches!(first, MapEvent::Delta(_)), "{first:?}");
        orders(&lab, &relay, Some(&known)).await;
    }
    lab.enrol(&key, "fresh").await;
    assert!(orders(&lab, &relay, None).await.holders.is_empty());
}
