//! A name in a network means one thing: a device, or what records say, or what a device wishes for
//! a host.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use overlan_protocol::api::dns::{
    DnsRecordRemoval, DnsRecordRequest, DnsRecordSummary, DnsRemoved,
};
use overlan_protocol::api::{
    ApproveRequest, AuthKeyRequest, CertificateRequest, CertificateResponse, Credential,
    JoinRequest, LoginResponse, MembershipSummary, NameKey, NamePolicy, NetworkRequest,
    NetworkSummary, OfferRequest, ProblemKind, RouteSummary, name_key_message, path,
};
use overlan_protocol::key::{Secret, encode_signature};
use overlan_transport::https::HttpsError;

use crate::lab::{Device, Lab, WITHIN, network, peer, refused};

async fn record(
    lab: &Lab,
    owner: &LoginResponse,
    (network, name): (&str, &str),
    kind: &str,
    value: &str,
) -> Result<DnsRecordSummary, HttpsError> {
    let request = DnsRecordRequest {
        network: network.to_owned(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        value: value.to_owned(),
    };
    let mut person = lab.person(owner).await;
    person.post(path::DNS_RECORDS, &request, WITHIN).await
}

async fn key(lab: &Lab, owner: &LoginResponse, on_name_taken: NamePolicy) -> Secret {
    let request = AuthKeyRequest {
        networks: vec!["demo".to_owned(), "acme".to_owned()],
        reusable: true,
        on_name_taken,
        ..AuthKeyRequest::default()
    };
    lab.auth_key(owner, request).await.key
}

/// Enrols into the network `demo`, and may join `acme` later.
async fn enrol(lab: &Lab, key: &Secret, hostname: &str) -> Result<Device, HttpsError> {
    let mut device = Device::new();
    let mut connection = lab.connect().await;
    let mut request = device.request(&connection, Credential::AuthKey(key.clone()), hostname);
    request.networks = vec!["demo".to_owned()];
    device.enrolled = Some(connection.post(path::ENROL, &request, WITHIN).await?);
    Ok(device)
}

async fn join(lab: &Lab, device: &Device, name: &str) -> MembershipSummary {
    let request = JoinRequest {
        network: name.to_owned(),
    };
    let mut connection = device.connect(lab).await;
    connection
        .post(path::DEVICE_NETWORKS, &request, WITHIN)
        .await
        .unwrap()
}

async fn certified(lab: &Lab, device: &Device) -> Vec<String> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = NameKey(pair.public_key().as_ref().try_into().unwrap());
    let message = name_key_message(device.id(), &key);
    let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
    let request = CertificateRequest {
        key,
        proof: encode_signature(&signature.as_ref().try_into().unwrap()),
    };
    let mut connection = device.connect(lab).await;
    let issued: CertificateResponse = connection
        .post(path::DEVICE_CERTIFICATES, &request, WITHIN)
        .await
        .unwrap();
    issued.certificates.into_iter().map(|it| it.name).collect()
}

async fn offer(lab: &Lab, device: &Device, wishes: &[String]) -> Vec<RouteSummary> {
    let routes = wishes.iter().map(|text| text.parse().unwrap()).collect();
    let mut connection = device.connect(lab).await;
    connection
        .post(path::DEVICE_ROUTES, &OfferRequest { routes }, WITHIN)
        .await
        .unwrap()
}

async fn approve(
    lab: &Lab,
    owner: &LoginResponse,
    device: &Device,
    route: &str,
    approved: bool,
) -> Result<RouteSummary, HttpsError> {
    let request = ApproveRequest {
        device: device.id(),
        network: "demo".to_owned(),
        route: route.parse().unwrap(),
        approved,
    };
    let mut connection = lab.person(owner).await;
    connection.post(path::ROUTES, &request, WITHIN).await
}

async fn with_two_networks() -> (Lab, LoginResponse) {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let name = "acme".to_owned();
    let mut person = lab.person(&owner).await;
    let _: NetworkSummary = person
        .post(path::NETWORKS, &NetworkRequest { name }, WITHIN)
        .await
        .unwrap();
    (lab, owner)
}

#[tokio::test]
async fn a_newcomer_never_gets_the_name_of_a_record() {
    let (lab, owner) = with_two_networks().await;
    let suffix = key(&lab, &owner, NamePolicy::Suffix).await;
    let web = enrol(&lab, &suffix, "web").await.unwrap();
    for (name, kind, value) in [
        ("wiki", "CNAME", "web.demo.overlan.lan"),
        ("Git", "A", "100.64.0.1"),
        ("v6", "AAAA", "fd00::1"),
        ("text", "TXT", "x"),
        ("deep.er.demo.overlan.lan", "A", "100.64.0.1"),
    ] {
        record(&lab, &owner, ("demo", name), kind, value)
            .await
            .unwrap();
    }
    record(&lab, &owner, ("acme", "web"), "A", "100.64.0.9")
        .await
        .unwrap();
    for hostname in ["wiki", "WIKI.example.org", "git", "v6", "text"] {
        let device = enrol(&lab, &suffix, hostname).await.unwrap();
        let label = device.label();
        let stem = hostname.split('.').next().unwrap().to_lowercase();
        assert!(
            label.strip_prefix(&format!("{stem}-")).is_some(),
            "{hostname} became {label}"
        );
        let names = certified(&lab, &device).await;
        assert_eq!(names, [format!("{label}.demo.overlan.lan")]);
    }
    let fail = key(&lab, &owner, NamePolicy::Fail).await;
    let result = enrol(&lab, &fail, "wiki").await.map(|_| ());
    assert_eq!(refused(result), ProblemKind::NameTaken);
    let take_over = key(&lab, &owner, NamePolicy::TakeOverOffline).await;
    let taking = enrol(&lab, &take_over, "wiki").await.unwrap();
    assert_ne!(taking.label(), "wiki");

    // In its second network as in its first.
    assert_eq!(join(&lab, &web, "acme").await.label, "web-1");
    let names = certified(&lab, &web).await;
    assert_eq!(names, ["web-1.acme.overlan.lan", "web.demo.overlan.lan"]);

    // Names of a device may have further records, and keep their device.
    record(&lab, &owner, ("demo", "web"), "TXT", "note")
        .await
        .unwrap();
    let address = record(&lab, &owner, ("demo", "WEB"), "A", "100.64.0.7").await;
    assert_eq!(refused(address), ProblemKind::NameTaken);

    // A name is free when its last record is gone.
    let removal = DnsRecordRemoval {
        network: "demo".to_owned(),
        name: "wiki".to_owned(),
        kind: None,
        value: None,
    };
    let mut person = lab.person(&owner).await;
    let _: DnsRemoved = person
        .post(path::DNS_RECORDS_REMOVE, &removal, WITHIN)
        .await
        .unwrap();
    assert_eq!(enrol(&lab, &suffix, "wiki").await.unwrap().label(), "wiki");
    // So is that of a device that left, though notes about it stay.
    let mut connection = web.connect(&lab).await;
    connection.delete(path::DEVICE, WITHIN).await.unwrap();
    assert_eq!(enrol(&lab, &suffix, "web").await.unwrap().label(), "web");
}

#[tokio::test]
async fn a_device_that_waited_does_not_come_in_under_a_name_that_was_given_meanwhile() {
    let (lab, owner) = with_two_networks().await;
    let request = AuthKeyRequest {
        approval: true,
        ..AuthKeyRequest::default()
    };
    let waiting = lab.auth_key(&owner, request).await.key;
    let device = lab.enrol(&waiting, "wiki").await;
    record(&lab, &owner, ("demo", "wiki"), "A", "100.64.0.9")
        .await
        .unwrap();
    let mut person = lab.person(&owner).await;
    let approve = format!("{}/{}/approve", path::DEVICES, device.id());
    let places: Vec<MembershipSummary> = person
        .post(&approve, &serde_json::json!({}), WITHIN)
        .await
        .unwrap();
    assert_eq!(places[0].label, "wiki-1");
}

#[tokio::test]
async fn a_published_host_and_a_wish_hold_their_name_against_newcomers() {
    let (lab, owner) = with_two_networks().await;
    let suffix = key(&lab, &owner, NamePolicy::Suffix).await;
    let gateway = enrol(&lab, &suffix, "gateway").await.unwrap();
    let wish = |text: &str| vec![text.to_owned()];
    offer(&lab, &gateway, &wish("10.1.2.3 as wiki")).await;
    assert_eq!(
        enrol(&lab, &suffix, "wiki").await.unwrap().label(),
        "wiki-1"
    );
    approve(&lab, &owner, &gateway, "10.1.2.3", true)
        .await
        .unwrap();
    let second = enrol(&lab, &suffix, "wiki").await.unwrap();
    assert_eq!(second.label(), "wiki-2");
    assert_eq!(certified(&lab, &second).await, ["wiki-2.demo.overlan.lan"]);
    // Another host under a name that has one is refused, as is one under the name of a device.
    let other = enrol(&lab, &suffix, "other").await.unwrap();
    offer(
        &lab,
        &other,
        &[
            "10.9.9.9 as wiki".to_owned(),
            "10.9.9.8 as gateway".to_owned(),
        ],
    )
    .await;
    for route in ["10.9.9.9", "10.9.9.8"] {
        let taken = approve(&lab, &owner, &other, route, true).await;
        assert_eq!(refused(taken), ProblemKind::NameTaken, "{route}");
    }
    // Withdrawn, the name is free.
    offer(&lab, &other, &[]).await;
    offer(&lab, &gateway, &[]).await;
    assert_eq!(enrol(&lab, &suffix, "wiki").await.unwrap().label(), "wiki");

    // Nobody closes many names by wishes that nobody approved, and a person's word counts for more.
    let many: Vec<String> = (0..20).map(|n| format!("10.7.0.{n} as name{n}")).collect();
    offer(&lab, &gateway, &many).await;
    let mut held = 0;
    for number in 0..20 {
        let name = format!("name{number}");
        let device = enrol(&lab, &suffix, &name).await.unwrap();
        held += u32::from(device.label() != name);
    }
    assert_eq!(held, 8);
    record(&lab, &owner, ("demo", "name0"), "A", "100.64.0.9")
        .await
        .unwrap();
    let late = approve(&lab, &owner, &gateway, "10.7.0.0", true).await;
    assert_eq!(refused(late), ProblemKind::NameTaken);
}

#[tokio::test]
async fn a_database_where_a_device_took_the_name_of_a_record_is_mended_and_everybody_hears() {
    let (mut lab, owner) = with_two_networks().await;
    let suffix = key(&lab, &owner, NamePolicy::Suffix).await;
    let peer_device = enrol(&lab, &suffix, "peer").await.unwrap();
    record(&lab, &owner, ("demo", "wiki"), "A", "100.64.0.9")
        .await
        .unwrap();
    let mallory = enrol(&lab, &suffix, "mallory").await.unwrap();
    let known = peer_device.stream(&lab).await;
    let version = known.map.version;
    assert!(peer(&known.map, "mallory").is_some());
    drop(known);
    lab.stop().await;
    // As an earlier version left it.
    lab.sql(
        "DELETE FROM names;
         INSERT INTO names SELECT network_id, label, 'device', device_id FROM members;
         DELETE FROM settings WHERE name = 'domain';
         UPDATE names SET name = 'wiki' WHERE name = 'mallory';
         UPDATE members SET label = 'wiki' WHERE label = 'mallory';",
    )
    .await;
    lab.run().await;
    let stream = peer_device.stream_since(&lab, version).await;
    assert!(peer(&stream.map, "wiki").is_none());
    assert!(peer(&stream.map, "wiki-1").is_some());
    assert!(
        network(&stream.map)
            .dns
            .records
            .contains_key("wiki.demo.overlan.lan")
    );
    assert_eq!(certified(&lab, &mallory).await, ["wiki-1.demo.overlan.lan"]);
    assert_eq!(
        enrol(&lab, &suffix, "wiki").await.unwrap().label(),
        "wiki-2"
    );
    let again = lab.sql(
        "INSERT OR ABORT INTO names
         SELECT network_id, 'WIKI', 'record', NULL FROM names WHERE name = 'wiki'",
    );
    let refused = std::panic::AssertUnwindSafe(again);
    assert!(
        futures_util::FutureExt::catch_unwind(refused)
            .await
            .is_err(),
        "the database itself holds a name once, however it is written"
    );
}
