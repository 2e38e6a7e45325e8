//! People list, rename, disable and expire devices, and every stream follows.

use std::time::Duration;

use overlan_protocol::api::{
    AuthKeyRequest, Bar, Credential, DeviceExpiry, DeviceRename, DeviceSummary, EnrolResponse,
    LoginResponse, NamePolicy, NetworkRename, NetworkRequest, NetworkSummary, ProblemKind,
    RelayOrders, TicketResponse, path,
};
use overlan_protocol::key::Secret;
use overlan_protocol::netmap::MapEvent;
use overlan_transport::https::HttpsError;
use serde::Serialize;

use crate::lab::{Device, Lab, WITHIN, fast, peer, refused};

async fn change<T: Serialize + Sync>(
    lab: &Lab,
    owner: &LoginResponse,
    device: &Device,
    what: &str,
    request: &T,
) -> Result<DeviceSummary, HttpsError> {
    let path = format!("{}/{}/{what}", path::DEVICES, device.id());
    lab.person(owner).await.post(&path, request, WITHIN).await
}

async fn list(lab: &Lab, owner: &LoginResponse, query: &str) -> Vec<String> {
    let path = format!("{}?{query}", path::DEVICES);
    let mut connection = lab.person(owner).await;
    let listed: Vec<DeviceSummary> = connection.get(&path, WITHIN).await.unwrap();
    listed.into_iter().map(|device| device.label).collect()
}

async fn ticket(lab: &Lab, device: &Device) -> Result<TicketResponse, HttpsError> {
    let mut connection = device.connect(lab).await;
    connection
        .post(path::DEVICE_TICKET, &nothing(), WITHIN)
        .await
}

/// Asks again for the enrolment of a device that is there, by its own keys.
async fn enrol_again(
    lab: &Lab,
    device: &Device,
    credential: Credential,
) -> Result<EnrolResponse, HttpsError> {
    let mut connection = lab.connect().await;
    let request = device.request(&connection, credential, "web");
    connection.post(path::ENROL, &request, WITHIN).await
}

async fn orders(lab: &Lab, owner: &LoginResponse) -> RelayOrders {
    let token = lab.relay_token(owner, "relay-x").await;
    let relay = crate::lab::Relay::new(9);
    relay.register(lab, &token).await.unwrap().1
}

fn nothing() -> serde_json::Value {
    serde_json::json!({})
}

#[tokio::test]
async fn a_disabled_device_is_forgotten_by_peers_and_kept_with_its_place() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let other = lab.enrol(&key, "other").await;
    let web = lab.enrol(&key, "web").await;
    let mut others = other.stream(&lab).await;
    let mut stream = web.stream(&lab).await;
    others.until_online("web", true).await;
    let address = peer(&others.map, "web").unwrap().device;

    let disabled = change(&lab, &owner, &web, "disable", &nothing())
        .await
        .unwrap();
    assert_eq!(disabled.barred.unwrap().why, Bar::Disabled);
    others
        .until("web is gone", |map| peer(map, "web").is_none())
        .await;
    while let Some(event) = stream.next().await {
        assert!(
            !matches!(event, MapEvent::Removed),
            "it must not erase its keys"
        );
    }
    // Relays refuse the tickets that it has.
    let orders = orders(&lab, &owner).await;
    let is_revoked = |(id, _): &(_, u64)| *id == web.id();
    assert!(orders.revoked.iter().any(is_revoked), "{orders:?}");
    // It hears why, and what to do.
    for answer in [
        ticket(&lab, &web).await.map(|_| ()),
        enrol_again(&lab, &web, Credential::AuthKey(key.clone()))
            .await
            .map(|_| ()),
    ] {
        let Err(HttpsError::Problem(problem)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(problem.kind, ProblemKind::DeviceDisabled);
        assert!(
            problem
                .detail
                .contains("overlan admin device enable web.demo")
        );
    }
    // Nobody takes its name, and what changes about it is not told to peers.
    assert_eq!(lab.enrol(&key, "web").await.label(), "web-1");
    change(
        &lab,
        &owner,
        &web,
        "tags",
        &serde_json::json!({ "add": ["old"] }),
    )
    .await
    .unwrap();
    others
        .until("the second one is there", |map| {
            peer(map, "web-1").is_some()
        })
        .await;
    assert!(peer(&others.map, "web").is_none());

    let enabled = change(&lab, &owner, &web, "enable", &nothing())
        .await
        .unwrap();
    assert!(enabled.barred.is_none());
    others
        .until("web is back", |map| peer(map, "web").is_some())
        .await;
    assert_eq!(peer(&others.map, "web").unwrap().device, address);
    ticket(&lab, &web).await.unwrap();
    assert_eq!(web.stream(&lab).await.map.networks.len(), 1);
}

#[tokio::test]
async fn an_expired_device_stays_the_same_one_when_it_proves_its_right_again() {
    let mut timings = fast();
    // Devices are looked at in a quarter of this.
    timings.ephemeral_after = Duration::from_millis(400);
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let other = lab.enrol(&key, "other").await;
    let web = lab.enrol(&key, "web").await;
    let mut others = other.stream(&lab).await;
    let late = DeviceExpiry { in_secs: Some(1) };
    let told = change(&lab, &owner, &web, "expire", &late).await.unwrap();
    assert!(told.expires.is_some() && told.barred.is_none());
    others
        .until("web expired", |map| peer(map, "web").is_none())
        .await;
    let refusal = ticket(&lab, &web).await;
    assert_eq!(refused(refusal), ProblemKind::DeviceExpired);

    // A right that has ended, or leads elsewhere, is none.
    let unknown = Credential::AuthKey(Secret::new("ovk_0011223344556677_AAAA"));
    assert_eq!(
        refused(enrol_again(&lab, &web, unknown).await),
        ProblemKind::KeyUnknown
    );
    let mut connection = lab.person(&owner).await;
    let acme = NetworkRequest {
        name: "acme".to_owned(),
    };
    let _: NetworkSummary = connection
        .post(path::NETWORKS, &acme, WITHIN)
        .await
        .unwrap();
    let elsewhere = AuthKeyRequest {
        networks: vec!["acme".to_owned()],
        ..AuthKeyRequest::default()
    };
    let elsewhere = Credential::AuthKey(lab.auth_key(&owner, elsewhere).await.key);
    assert_eq!(
        refused(enrol_again(&lab, &web, elsewhere).await),
        ProblemKind::Forbidden
    );
    let one = lab.auth_key(&owner, AuthKeyRequest::default()).await.key;
    let again = enrol_again(&lab, &web, Credential::AuthKey(one)).await;
    assert_eq!(again.unwrap().device, web.id());
    others
        .until("web is back", |map| peer(map, "web").is_some())
        .await;
    ticket(&lab, &web).await.unwrap();

    // Now, by a login, and never again.
    let now = DeviceExpiry { in_secs: Some(0) };
    let told = change(&lab, &owner, &web, "expire", &now).await.unwrap();
    assert_eq!(told.barred.unwrap().why, Bar::Expired);
    let login = Credential::Session(owner.session.clone());
    enrol_again(&lab, &web, login).await.unwrap();
    ticket(&lab, &web).await.unwrap();
    change(&lab, &owner, &web, "expire", &now).await.unwrap();
    let enabled = change(&lab, &owner, &web, "enable", &nothing())
        .await
        .unwrap();
    assert!(enabled.expires.is_none() && enabled.barred.is_none());
    ticket(&lab, &web).await.unwrap();
    let later = DeviceExpiry { in_secs: Some(60) };
    change(&lab, &owner, &web, "expire", &later).await.unwrap();
    let never = DeviceExpiry { in_secs: None };
    let never = change(&lab, &owner, &web, "expire", &never).await.unwrap();
    assert!(never.expires.is_none());
}

#[tokio::test]
async fn a_renamed_device_is_found_by_its_new_name_and_only_by_that() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let other = lab.enrol(&key, "other").await;
    let web = lab.enrol(&key, "web").await;
    let mut others = other.stream(&lab).await;
    let mut stream = web.stream(&lab).await;
    let name = |label: &str| DeviceRename {
        label: label.to_owned(),
    };
    let taken = change(&lab, &owner, &web, "rename", &name("other")).await;
    assert_eq!(refused(taken), ProblemKind::NameTaken);
    let bad = change(&lab, &owner, &web, "rename", &name("Web.x")).await;
    assert_eq!(refused(bad), ProblemKind::BadRequest);
    let renamed = change(&lab, &owner, &web, "rename", &name("shop"))
        .await
        .unwrap();
    assert_eq!(renamed.networks[0].label, "shop");
    others
        .until("peers know", |map| peer(map, "shop").is_some())
        .await;
    assert!(peer(&others.map, "web").is_none());
    stream
        .until("it knows", |map| crate::lab::network(map).label == "shop")
        .await;
    let again = change(&lab, &owner, &web, "rename", &name("shop")).await;
    again.unwrap();
    assert_eq!(lab.enrol(&key, "web").await.label(), "web", "it is free");
}

#[tokio::test]
async fn a_list_shows_who_was_seen_when_by_which_version() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let request = AuthKeyRequest {
        reusable: true,
        tags: ["ci".parse().unwrap()].into(),
        on_name_taken: NamePolicy::Fail,
        note: "a & b".to_owned(),
        ..AuthKeyRequest::default()
    };
    let key = lab.auth_key(&owner, request).await.key;
    let (app, never) = (lab.enrol(&key, "app").await, lab.enrol(&key, "never").await);
    let mut stream = never.stream(&lab).await;
    drop(app.stream(&lab).await);
    stream.until_online("app", true).await;
    stream.until_online("app", false).await;
    let mut connection = lab.person(&owner).await;
    let listed: Vec<DeviceSummary> = connection.get(path::DEVICES, WITHIN).await.unwrap();
    assert_eq!(listed[0].version, env!("CARGO_PKG_VERSION"));
    assert!(listed[0].last_seen.is_some() && listed[1].last_seen.is_none());
    assert!(listed[0].last_seen.unwrap() >= listed[0].created);
    let path = format!("{}/{}", path::DEVICES, app.id());
    let shown: DeviceSummary = connection.get(&path, WITHIN).await.unwrap();
    assert_eq!(shown, listed[0]);

    assert_eq!(list(&lab, &owner, "online=true").await, ["never"]);
    assert_eq!(list(&lab, &owner, "offline_for=0").await, ["app"]);
    assert_eq!(list(&lab, &owner, "offline_for=60").await.len(), 0);
    assert_eq!(
        list(&lab, &owner, "tag=ci&sort=created&owner=a%20%26%20b")
            .await
            .len(),
        2
    );
    assert_eq!(list(&lab, &owner, "network=acme").await.len(), 0);
    for bad in ["tag=CI", "sort=size", "size=1", "online=1"] {
        let path = format!("{}?{bad}", path::DEVICES);
        let answer = connection.get::<Vec<DeviceSummary>>(&path, WITHIN).await;
        assert_eq!(refused(answer), ProblemKind::BadRequest, "{bad}");
    }
}

#[tokio::test]
async fn a_renamed_network_keeps_its_old_name_as_an_alias_for_a_while() {
    let mut timings = fast();
    timings.ephemeral_after = Duration::from_millis(400);
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    let mut connection = lab.person(&owner).await;
    let record = |name: &str, kind: &str, value: &str| {
        let network = "demo";
        serde_json::json!({ "network": network, "name": name, "type": kind, "value": value })
    };
    let records = [
        record("www.demo.overlan.lan", "CNAME", "web.demo.overlan.lan"),
        record(
            "_db._tcp.demo.overlan.lan",
            "SRV",
            "1 2 3 web.demo.overlan.lan",
        ),
        record("note.demo.overlan.lan", "TXT", "web.demo.overlan.lan"),
    ];
    for record in records {
        let added = connection.post::<_, serde_json::Value>(path::DNS_RECORDS, &record, WITHIN);
        added.await.unwrap();
    }
    let rename = async |from: &str, to: &str, keep: Option<u64>| {
        let path = format!("{}/{from}/rename", path::NETWORKS);
        let request = NetworkRename {
            name: to.to_owned(),
            keep_old_secs: keep,
        };
        let mut connection = lab.person(&owner).await;
        connection
            .post::<_, NetworkSummary>(&path, &request, WITHIN)
            .await
    };
    let renamed = rename("demo", "office", None).await.unwrap();
    assert_eq!(renamed.name, "office");
    assert_eq!(renamed.former[0].name, "demo");
    stream
        .until("the new name", |map| map.network_named("office").is_some())
        .await;
    let dns = &crate::lab::network(&stream.map).dns;
    assert_eq!(dns.former, ["demo"]);
    let records = serde_json::to_string(&dns.records).unwrap();
    assert_eq!(records.matches("overlan.lan").count(), 6);
    assert_eq!(records.matches("demo.overlan.lan").count(), 1, "{records}");
    assert!(
        stream.map.network_named("demo").is_some(),
        "it answers to both"
    );

    // Nobody else gets the old name; requests that name it mean the network.
    let demo = NetworkRequest {
        name: "demo".to_owned(),
    };
    let taken = connection
        .post::<_, NetworkSummary>(path::NETWORKS, &demo, WITHIN)
        .await;
    assert_eq!(refused(taken), ProblemKind::NameTaken);
    let by_old = AuthKeyRequest {
        networks: vec!["demo".to_owned()],
        ..AuthKeyRequest::default()
    };
    let by_old = lab.auth_key(&owner, by_old).await;
    assert_eq!(by_old.summary.networks, ["office"]);
    let too_long = rename("office", "x", Some(1_000 * 86_400)).await;
    assert_eq!(refused(too_long), ProblemKind::BadRequest);

    // Back and forth: an own old name is free for the network itself.
    let back = rename("demo", "demo", Some(1)).await.unwrap();
    assert_eq!(
        (back.name.as_str(), back.former[0].name.as_str()),
        ("demo", "office")
    );
    stream
        .until("the old name ended", |map| {
            map.network_named("demo").is_some() && map.network_named("office").is_none()
        })
        .await;
    let office = NetworkRequest {
        name: "office".to_owned(),
    };
    let made = connection
        .post::<_, NetworkSummary>(path::NETWORKS, &office, WITHIN)
        .await;
    made.unwrap();
    let taken = rename("demo", "office", Some(0)).await;
    assert_eq!(refused(taken), ProblemKind::NameTaken);
}
