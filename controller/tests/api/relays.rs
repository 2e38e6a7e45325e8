use std::time::Duration;

use overlan_protocol::api::{
    DeviceReport, ProblemKind, RelayOrders, RelaySummary, RelayTokenRequest, RelayTokenResponse,
    RelayTokenSummary, path,
};
use overlan_protocol::key::{DeviceId, RelayId, Secret};

use crate::lab::{Lab, Relay, WITHIN, fast, network, peer, refused};

#[tokio::test]
async fn a_relay_token_registers_one_relay_once() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let token = lab.relay_token(&owner, "ams-1").await;
    let attempts = (0..8).map(|_| Relay::new(443).register(&lab, &token));
    let outcomes = futures_util::future::join_all(attempts).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for result in lost {
        assert_eq!(refused(result), ProblemKind::KeyUsed);
    }
    let (relay, orders) = won.into_iter().next().unwrap().unwrap();
    assert_eq!(orders.ticket_keys.len(), 1);
    let id = relay.id;
    let (retried, _) = relay.register(&lab, &token).await.unwrap();
    assert_eq!(retried.id, id, "a lost answer may be asked for again");
    let mut person = lab.person(&owner).await;
    let relays: Vec<RelaySummary> = person.get(path::RELAYS, WITHIN).await.unwrap();
    assert_eq!(relays.len(), 1);
    assert_eq!((relays[0].name.as_str(), relays[0].online), ("ams-1", true));

    let unknown = Relay::new(1).register(&lab, &Secret::new("ovr_0_0")).await;
    assert_eq!(refused(unknown), ProblemKind::KeyUnknown);
    let request = RelayTokenRequest {
        name: "ams-1".to_owned(),
    };
    let taken = person
        .post::<_, RelayTokenResponse>(path::RELAY_TOKENS, &request, WITHIN)
        .await;
    assert_eq!(refused(taken), ProblemKind::NameTaken);
}

#[tokio::test]
async fn an_expired_relay_token_says_so() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let token = lab.relay_token(&owner, "ams-1").await;
    lab.sql("UPDATE relay_tokens SET expires = 1").await;
    let result = Relay::new(443).register(&lab, &token).await;
    assert_eq!(refused(result), ProblemKind::KeyExpired);
}

#[tokio::test]
async fn heartbeats_need_the_relays_own_key() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let mut impostor = Relay::new(443);
    impostor.id = relay.id;
    let mut connection = impostor.connect(&lab).await;
    let result = connection
        .post::<_, RelayOrders>(path::RELAY_HEARTBEAT, &impostor.beat(0, false), WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::NotAuthenticated);
    let mut connection = relay.connect(&lab).await;
    let mut beat = relay.beat(0, false);
    beat.clients = 7;
    connection
        .post::<_, RelayOrders>(path::RELAY_HEARTBEAT, &beat, WITHIN)
        .await
        .unwrap();
    let mut person = lab.person(&owner).await;
    let relays: Vec<RelaySummary> = person.get(path::RELAYS, WITHIN).await.unwrap();
    assert_eq!(relays[0].clients, 7);
}

#[tokio::test]
async fn a_waiting_heartbeat_is_answered_when_a_device_is_removed() {
    let mut timings = fast();
    timings.heartbeat_hold = WITHIN * 10;
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let key = lab.reusable_key(&owner).await;
    let device = lab.enrol(&key, "web").await;
    let mut connection = relay.connect(&lab).await;
    let first: RelayOrders = connection
        .post(path::RELAY_HEARTBEAT, &relay.beat(0, true), WITHIN)
        .await
        .unwrap();
    assert_eq!(first.revoked, []);
    let beat = relay.beat(first.version, true);
    let waiting = connection.post::<_, RelayOrders>(path::RELAY_HEARTBEAT, &beat, WITHIN);
    let removing = async {
        let mut connection = device.connect(&lab).await;
        connection.delete(path::DEVICE, WITHIN).await.unwrap();
    };
    let (second, ()) = tokio::join!(waiting, removing);
    let second = second.unwrap();
    assert!(second.version > first.version);
    assert_eq!(second.revoked, [(device.id(), 2)]);
}

#[tokio::test]
async fn a_new_ticket_key_makes_new_orders() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let heartbeat = async |lab: &Lab| -> RelayOrders {
        let mut connection = relay.connect(lab).await;
        let beat = relay.beat(0, false);
        connection
            .post(path::RELAY_HEARTBEAT, &beat, WITHIN)
            .await
            .unwrap()
    };
    let before = heartbeat(&lab).await;
    lab.restart().await;
    let same = heartbeat(&lab).await;
    assert_eq!(same.version, before.version);
    assert_eq!(same.ticket_keys, before.ticket_keys);
    assert_ne!(same.lineage, before.lineage, "another run");
    lab.stop().await;
    std::fs::remove_file(lab.data_dir().join("ticket-key.json")).unwrap();
    lab.run().await;
    let after = heartbeat(&lab).await;
    assert!(after.version > before.version);
    assert_ne!(after.ticket_keys, before.ticket_keys);
}

#[tokio::test]
async fn a_waiting_heartbeat_without_news_comes_back() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let mut connection = relay.connect(&lab).await;
    let first: RelayOrders = connection
        .post(path::RELAY_HEARTBEAT, &relay.beat(0, true), WITHIN)
        .await
        .unwrap();
    let second: RelayOrders = connection
        .post(
            path::RELAY_HEARTBEAT,
            &relay.beat(first.version, true),
            WITHIN,
        )
        .await
        .unwrap();
    assert_eq!(second, first);
}

#[tokio::test]
async fn devices_learn_of_relays_their_addresses_and_their_loss() {
    let mut timings = fast();
    timings.relay_lost_after = Duration::from_secs(4);
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let db = lab.enrol(&key, "db").await;
    let mut stream = web.stream(&lab).await;
    assert!(network(&stream.map).relays.is_empty());

    let ams = lab.relay(&owner, "ams-1", 1001).await;
    stream
        .until("a home", |map| network(map).relays == [ams.id])
        .await;
    assert_eq!(stream.map.relays[&ams.id].addresses, ["127.0.0.1:1001"]);
    let mut fra = lab.relay(&owner, "fra-1", 1002).await;
    let both = vec![ams.id, fra.id];
    stream
        .until("a backup", |map| {
            network(map).relays == both && peer(map, "db").unwrap().relays == both
        })
        .await;

    fra.addresses = vec!["127.0.0.1:1003".to_owned()];
    let mut connection = fra.connect(&lab).await;
    let mut applied = 0;
    while network(&stream.map).relays != [fra.id]
        || peer(&stream.map, "db").unwrap().relays != [fra.id]
    {
        // Only one of the two relays lives on.
        let beat = fra.beat(applied, true);
        let orders: RelayOrders = connection
            .post(path::RELAY_HEARTBEAT, &beat, WITHIN)
            .await
            .unwrap();
        applied = orders.version;
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(10), stream.next()).await {
            assert!(event.is_some());
        }
    }
    assert_eq!(stream.map.relays[&fra.id].addresses, ["127.0.0.1:1003"]);

    let fresh = db.stream(&lab).await;
    assert_eq!(network(&fresh.map).relays, [fra.id]);
    let mut person = lab.person(&owner).await;
    let relays: Vec<RelaySummary> = person.get(path::RELAYS, WITHIN).await.unwrap();
    let online: Vec<bool> = relays.iter().map(|relay| relay.online).collect();
    assert_eq!(online, [false, true]);

    let replacement = lab.relay(&owner, "ams-1", 1004).await;
    assert_eq!(replacement.id, ams.id, "a lost relay is replaced by name");
    stream
        .until("the replacement as backup", |map| {
            network(map).relays == [fra.id, ams.id] && map.relays[&ams.id].pins == replacement.pins
        })
        .await;
}

#[tokio::test]
async fn impossible_addresses_and_long_reports_are_refused() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    for addresses in [
        vec![],
        vec!["nohost".to_owned()],
        vec!["host:0".to_owned()],
        vec!["ho st:1".to_owned()],
        vec!["host:1".to_owned(); 9],
    ] {
        let token = lab.relay_token(&owner, "ams-1").await;
        let mut relay = Relay::new(443);
        relay.addresses = addresses;
        let result = relay.register(&lab, &token).await;
        assert_eq!(refused(result), ProblemKind::BadRequest);
    }
    let key = lab.reusable_key(&owner).await;
    let device = lab.enrol(&key, "web").await;
    let mut connection = device.connect(&lab).await;
    let relay = lab.relay(&owner, "ams-2", 443).await;
    let mut report = DeviceReport {
        attached: vec![relay.id],
        round_trips_ms: vec![(relay.id, 12)],
        leaving: false,
    };
    connection
        .post::<_, serde_json::Value>(path::DEVICE_REPORT, &report, WITHIN)
        .await
        .unwrap();
    report.round_trips_ms = vec![(relay.id, 12); 65];
    let result = connection
        .post::<_, serde_json::Value>(path::DEVICE_REPORT, &report, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::BadRequest);
}

#[tokio::test]
async fn a_relay_cannot_speak_as_a_device_nor_a_device_as_a_relay() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let key = lab.reusable_key(&owner).await;
    let mut device = lab.enrol(&key, "web").await;
    let mut connection = device.connect(&lab).await;
    let result = connection
        .post::<_, RelayOrders>(path::RELAY_HEARTBEAT, &relay.beat(0, false), WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::NotAuthenticated);
    let connection = relay.connect(&lab).await;
    let result = connection.lines(path::DEVICE_NETMAP, WITHIN).await;
    assert_eq!(refused(result), ProblemKind::NotAuthenticated);
    let mut stranger = Relay::new(443);
    stranger.id = RelayId([9; 16]);
    let result = stranger
        .connect(&lab)
        .await
        .post::<_, RelayOrders>(path::RELAY_HEARTBEAT, &relay.beat(0, false), WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::RelayUnknown);
    let enrolled = device.enrolled.as_mut().unwrap();
    enrolled.device = DeviceId([9; 16]);
    let connection = device.connect(&lab).await;
    let unknown = connection.lines(path::DEVICE_NETMAP, WITHIN).await;
    assert_eq!(refused(unknown), ProblemKind::DeviceUnknown);
}

#[tokio::test]
async fn a_removed_relay_is_forgotten_and_told() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let spare = lab.relay_token(&owner, "old").await;
    let old = lab.relay(&owner, "old", 4_430).await;
    let key = lab.reusable_key(&owner).await;
    let mut stream = lab.enrol(&key, "web").await.stream(&lab).await;
    let kept = lab.relay(&owner, "kept", 4_431).await;
    stream.until("both", |map| map.relays.len() == 2).await;
    let mut person = lab.person(&owner).await;
    let gone = format!("{}/old", path::RELAYS);
    person.delete(&gone, WITHIN).await.unwrap();
    stream
        .until("the relay is gone", |map| {
            !map.relays.contains_key(&old.id) && network(map).relays.first() == Some(&kept.id)
        })
        .await;
    let listed: Vec<RelaySummary> = person.get(path::RELAYS, WITHIN).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        refused(person.delete(&gone, WITHIN).await),
        ProblemKind::NotFound
    );
    let beat = old
        .connect(&lab)
        .await
        .post::<_, RelayOrders>(path::RELAY_HEARTBEAT, &old.beat(0, false), WITHIN)
        .await;
    assert_eq!(refused(beat), ProblemKind::RelayUnknown);
    // A token that lay about for its name is void.
    let again = Relay::new(4_432).register(&lab, &spare).await;
    assert_eq!(refused(again.map(|_| ())), ProblemKind::KeyUnknown);
}

#[tokio::test]
async fn relay_tokens_are_listed_and_revoked() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    lab.relay(&owner, "ams-1", 4_430).await;
    let token = lab.relay_token(&owner, "fra-1").await;
    let mut person = lab.person(&owner).await;
    let tokens: Vec<RelayTokenSummary> = person.get(path::RELAY_TOKENS, WITHIN).await.unwrap();
    let said: Vec<_> = tokens
        .iter()
        .map(|token| (token.name.as_str(), token.used))
        .collect();
    assert_eq!(said, [("ams-1", true), ("fra-1", false)]);
    assert!(token.reveal().contains(&tokens[1].id));
    let path = format!("{}/{}", path::RELAY_TOKENS, tokens[1].id);
    person.delete(&path, WITHIN).await.unwrap();
    assert_eq!(
        refused(person.delete(&path, WITHIN).await),
        ProblemKind::NotFound
    );
    let late = Relay::new(4_431).register(&lab, &token).await;
    assert_eq!(refused(late.map(|_| ())), ProblemKind::KeyUnknown);
}
