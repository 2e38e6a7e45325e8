use std::time::Duration;

use overlan_protocol::HostIndex;
use overlan_protocol::api::{AuthKeyRequest, ProblemKind, path};
use overlan_protocol::netmap::{MapEvent, Netmap};
use overlan_protocol::policy::Protocol;
use overlan_transport::https::Lines;
use tokio::time::timeout;

use crate::lab::{Device, Lab, WITHIN, fast, network, peer, refused};

#[tokio::test]
async fn a_peer_joins_comes_goes_and_is_removed() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    assert_eq!(stream.map.device, web.id());
    assert_eq!(stream.map.domain, "overlan.lan");
    assert_eq!(network(&stream.map).label, "web");
    assert!(network(&stream.map).peers.is_empty());
    assert!(network(&stream.map).filter.allows_inbound(
        HostIndex::new(2).unwrap(),
        Protocol::Tcp,
        80
    ));

    let db = lab.enrol(&key, "db").await;
    stream
        .until("db is known", |map| peer(map, "db").is_some())
        .await;
    let known = peer(&stream.map, "db").unwrap();
    assert_eq!(known.device, db.id());
    assert_eq!(known.identity, db.secret.public());
    assert_eq!(known.tunnel, db.tunnel);
    assert!(!known.online);

    let db_stream = db.stream(&lab).await;
    assert!(peer(&db_stream.map, "web").is_some());
    stream.until_online("db", true).await;
    drop(db_stream);
    stream.until_online("db", false).await;

    let mut db_stream = db.stream(&lab).await;
    let mut connection = db.connect(&lab).await;
    connection.delete(path::DEVICE, WITHIN).await.unwrap();
    stream
        .until("db is gone", |map| peer(map, "db").is_none())
        .await;
    while let Some(event) = db_stream.next().await {
        if event == MapEvent::Removed {
            assert_eq!(db_stream.next().await, None, "the stream ends");
            return;
        }
    }
    panic!("the removed device was not told");
}

/// Opens the stream at version `since` of `map`'s lineage and answers its first event.
pub(crate) async fn resume(
    lab: &Lab,
    device: &Device,
    map: &Netmap,
    since: u64,
) -> (Lines, MapEvent) {
    let lineage = map.lineage.unwrap();
    let path = format!("{}?since={since}&lineage={lineage}", path::DEVICE_NETMAP);
    let connection = device.connect(lab).await;
    let mut lines = connection.lines(&path, WITHIN).await.unwrap();
    let first = timeout(WITHIN, lines.next::<MapEvent>()).await.unwrap();
    (lines, first.unwrap().unwrap())
}

#[tokio::test]
async fn a_stream_resumes_where_the_map_stands() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    let mut db = lab.enrol(&key, "db").await.stream(&lab).await;
    // Both are settled: each saw the other come.
    db.until_online("web", true).await;
    stream.until_online("db", true).await;
    let mut map = stream.map.clone();
    drop(stream);
    lab.enrol(&key, "ci").await;
    db.until("ci", |map| peer(map, "ci").is_some()).await;

    let (_lines, first) = resume(&lab, &web, &map, map.version).await;
    let MapEvent::Delta(delta) = first else {
        panic!("expected a delta, got {first:?}");
    };
    map.apply(&delta).unwrap();
    assert!(peer(&map, "ci").is_some());
    let fresh = web.stream(&lab).await.map;
    assert_eq!(map.networks, fresh.networks);

    let (_lines, current) = resume(&lab, &web, &fresh, fresh.version).await;
    let MapEvent::Delta(delta) = current else {
        panic!("expected a delta, got {current:?}");
    };
    assert_eq!(delta.from, fresh.version);

    let (_lines, future) = resume(&lab, &web, &fresh, u64::MAX / 2).await;
    assert!(matches!(future, MapEvent::Snapshot(_)), "{future:?}");
}

#[tokio::test]
async fn a_stream_resumes_over_a_restart_of_the_controller() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut map = web.stream(&lab).await.map;
    lab.enrol(&key, "db").await;
    lab.restart().await;
    let (mut lines, mut event) = resume(&lab, &web, &map, map.version).await;
    while peer(&map, "db").is_none() {
        match event {
            MapEvent::Delta(delta) => map.apply(&delta).unwrap(),
            MapEvent::Ticket { .. } => {}
            MapEvent::Snapshot(_) | MapEvent::Alive | MapEvent::Removed => {
                panic!("expected deltas, got {event:?}")
            }
        }
        event = timeout(WITHIN, lines.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn a_reconnect_within_the_grace_is_not_seen() {
    let mut timings = fast();
    timings.presence_grace = WITHIN * 10;
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    let db = lab.enrol(&key, "db").await;
    let first = db.stream(&lab).await;
    stream.until_online("db", true).await;
    drop(first);
    let _second = db.stream(&lab).await;
    lab.enrol(&key, "last").await;
    while peer(&stream.map, "last").is_none() {
        stream.next().await.unwrap();
        assert!(peer(&stream.map, "db").unwrap().online);
    }
}

#[tokio::test]
async fn a_quiet_stream_says_that_it_lives_and_brings_a_ticket() {
    let mut timings = fast();
    timings.alive_every = Duration::from_millis(100);
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let connection = web.connect(&lab).await;
    let mut lines = connection.lines(path::DEVICE_NETMAP, WITHIN).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let event = timeout(WITHIN, lines.next::<MapEvent>()).await.unwrap();
        kinds.push(match event.unwrap().unwrap() {
            MapEvent::Snapshot(_) => "snapshot",
            MapEvent::Delta(_) => "delta",
            MapEvent::Ticket { .. } => "ticket",
            MapEvent::Alive => "alive",
            MapEvent::Removed => "removed",
        });
    }
    assert_eq!(kinds, ["snapshot", "ticket", "alive", "alive"]);
}

#[tokio::test]
async fn an_ephemeral_device_is_removed_when_it_stays_away() {
    let mut timings = fast();
    timings.ephemeral_after = Duration::from_secs(3);
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    let request = AuthKeyRequest {
        ephemeral: true,
        reusable: true,
        ..AuthKeyRequest::default()
    };
    let key = lab.auth_key(&owner, request).await.key;
    let stays = lab.enrol(&key, "stays").await.stream(&lab).await;
    let leaves = lab.enrol(&key, "leaves").await.stream(&lab).await;
    stream.until_online("stays", true).await;
    stream.until_online("leaves", true).await;
    drop(leaves);
    stream
        .until("the ephemeral device is gone", |map| {
            peer(map, "leaves").is_none()
        })
        .await;
    assert!(peer(&stream.map, "stays").is_some());
    drop(stays);
    stream
        .until("the other one is gone", |map| peer(map, "stays").is_none())
        .await;
}

#[tokio::test]
async fn streams_end_when_the_controller_stops() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let mut stream = lab.enrol(&key, "web").await.stream(&lab).await;
    lab.stop().await;
    while stream.next().await.is_some() {}
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    for query in [
        "since=",
        "since=-1",
        "since=1&x=2",
        "x=1",
        "since=1&lineage=",
        "since=1&lineage=7",
        "lineage=00000000000000000000000000000000",
    ] {
        let path = format!("{}?{query}", path::DEVICE_NETMAP);
        let result = web.connect(&lab).await.lines(&path, WITHIN).await;
        assert_eq!(refused(result), ProblemKind::BadRequest, "{query}");
    }
}

#[tokio::test]
async fn a_change_reaches_many_streams() {
    const STREAMS: usize = 120;
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(lab.enrol(&key, "node").await.stream(&lab).await);
    }
    lab.enrol(&key, "last").await;
    let last = format!("node-{}", STREAMS - 1);
    for stream in &mut streams[..STREAMS - 1] {
        stream
            .until("all that happened", |map| {
                peer(map, "last").is_some() && peer(map, &last).is_some_and(|peer| peer.online)
            })
            .await;
        assert_eq!(network(&stream.map).peers.len(), STREAMS);
    }
    let first = streams[0].map.clone();
    let hosts = network(&first).peers.keys().map(|host| host.get());
    assert!(hosts.eq(2..=u32::try_from(STREAMS).unwrap() + 1));
}

#[tokio::test]
async fn a_stream_keeps_up_with_what_does_not_concern_it_and_an_old_map_is_replaced() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    let old = stream.map.version;
    // More changes of another network than the controller remembers in memory.
    lab.sql(
        r#"BEGIN IMMEDIATE;
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 9000)
         INSERT INTO changes (version, org_id, network_id, kind, key, payload, at)
             SELECT (SELECT version FROM counter) + n, 1, 'ffffffffffffffffffffffffffffffff',
                 'gone', '',
                 '{"gone":{"device":"ffffffffffffffffffffffffffffffff","host":2}}', 1 FROM numbers;
         UPDATE counter SET version = version + 9000;
         COMMIT;"#,
    )
    .await;
    stream
        .until("an empty delta", |map| map.version > old + 4_096)
        .await;
    assert!(network(&stream.map).peers.is_empty());
    lab.enrol(&key, "db").await;
    stream.until("db", |map| peer(map, "db").is_some()).await;
    assert!(stream.map.version > old + 9_000);

    let (_lines, event) = resume(&lab, &web, &stream.map, old).await;
    assert!(matches!(event, MapEvent::Snapshot(_)), "{event:?}");
    let (_lines, event) = resume(&lab, &web, &stream.map, stream.map.version).await;
    assert!(matches!(event, MapEvent::Delta(_)), "{event:?}");
}
