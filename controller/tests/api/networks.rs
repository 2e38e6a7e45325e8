use overlan_protocol::api::{
    AuthKeyRequest, Credential, DeviceSummary, EnrolResponse, JoinRequest, LoginResponse,
    MemberRequest, MembershipSummary, NamePolicy, NetworkChoice, NetworkRequest, NetworkSummary,
    ProblemKind, RelayOrders, path,
};
use overlan_protocol::key::Secret;
use overlan_protocol::netmap::{Netmap, Owner};
use overlan_transport::https::HttpsError;

use crate::lab::{Device, EMAIL, Lab, Stream, WITHIN, refused};

async fn create(
    lab: &Lab,
    owner: &LoginResponse,
    name: &str,
) -> Result<NetworkSummary, HttpsError> {
    let name = name.to_owned();
    let mut connection = lab.person(owner).await;
    connection
        .post(path::NETWORKS, &NetworkRequest { name }, WITHIN)
        .await
}

async fn key(lab: &Lab, owner: &LoginResponse, networks: &[&str]) -> Secret {
    let request = AuthKeyRequest {
        networks: networks.iter().map(|name| (*name).to_owned()).collect(),
        reusable: true,
        ..AuthKeyRequest::default()
    };
    lab.auth_key(owner, request).await.key
}

async fn enrol(
    lab: &Lab,
    credential: Credential,
    hostname: &str,
    networks: &[&str],
) -> Result<Device, HttpsError> {
    let mut device = Device::new();
    let mut connection = lab.connect().await;
    let mut request = device.request(&connection, credential, hostname);
    request.networks = networks.iter().map(|name| (*name).to_owned()).collect();
    let response: EnrolResponse = connection.post(path::ENROL, &request, WITHIN).await?;
    device.enrolled = Some(response);
    Ok(device)
}

async fn join(lab: &Lab, device: &Device, name: &str) -> Result<MembershipSummary, HttpsError> {
    let request = JoinRequest {
        network: name.to_owned(),
    };
    let mut connection = device.connect(lab).await;
    connection
        .post(path::DEVICE_NETWORKS, &request, WITHIN)
        .await
}

async fn leave(lab: &Lab, device: &Device, name: &str) -> Result<(), HttpsError> {
    let path = format!("{}/{name}", path::DEVICE_NETWORKS);
    device.connect(lab).await.delete(&path, WITHIN).await
}

async fn choices(lab: &Lab, device: &Device) -> Vec<(String, bool)> {
    let mut connection = device.connect(lab).await;
    let choices: Vec<NetworkChoice> = connection.get(path::DEVICE_NETWORKS, WITHIN).await.unwrap();
    choices
        .into_iter()
        .map(|choice| (choice.network, choice.joined.is_some()))
        .collect()
}

fn names(map: &Netmap) -> Vec<&str> {
    let mut names: Vec<&str> = map.networks.values().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn has_peer(map: &Netmap, network: &str, label: &str) -> bool {
    map.network_named(network)
        .is_some_and(|(_, network)| network.peer_named(label).is_some())
}

async fn in_networks(stream: &mut Stream, wanted: &[&str]) {
    stream
        .until("the networks", |map| names(map) == wanted)
        .await;
}

#[tokio::test]
async fn a_device_joins_leaves_and_comes_back_and_every_stream_follows() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    create(&lab, &owner, "acme").await.unwrap();
    let both = key(&lab, &owner, &["demo", "acme"]).await;
    let by_key = || Credential::AuthKey(both.clone());
    let other = enrol(&lab, by_key(), "other", &["acme"]).await.unwrap();
    let mut other_stream = other.stream(&lab).await;
    let one = enrol(&lab, by_key(), "one", &["demo"]).await.unwrap();
    let choice = |name: &str, joined| (name.to_owned(), joined);
    assert_eq!(
        choices(&lab, &one).await,
        [choice("acme", false), choice("demo", true)]
    );
    let mut stream = one.stream(&lab).await;
    assert_eq!(names(&stream.map), ["demo"]);

    let place = join(&lab, &one, "acme").await.unwrap();
    assert_eq!(
        (place.label.as_str(), place.address.as_str()),
        ("one", "100.64.0.2")
    );
    assert_eq!(
        join(&lab, &one, "acme").await.unwrap(),
        place,
        "once is enough"
    );
    in_networks(&mut stream, &["acme", "demo"]).await;
    assert!(has_peer(&stream.map, "acme", "other"));
    let vnis: Vec<_> = stream.map.networks.values().map(|it| it.vni).collect();
    assert!(
        stream.networks.len() == 2 && vnis.iter().all(|vni| stream.networks.contains(vni)),
        "the ticket comes before the map: {:?}",
        stream.networks
    );
    other_stream
        .until("one is there", |map| has_peer(map, "acme", "one"))
        .await;

    leave(&lab, &one, "acme").await.unwrap();
    in_networks(&mut stream, &["demo"]).await;
    assert_eq!(stream.networks.len(), 1);
    other_stream
        .until("one is gone", |map| !has_peer(map, "acme", "one"))
        .await;
    assert_eq!(
        refused(leave(&lab, &one, "acme").await),
        ProblemKind::NotFound
    );
    assert_eq!(
        join(&lab, &one, "acme").await.unwrap(),
        place,
        "the place was kept"
    );
    in_networks(&mut stream, &["acme", "demo"]).await;
    leave(&lab, &one, "demo").await.unwrap();
    let last = leave(&lab, &one, "acme").await;
    assert_eq!(refused(last), ProblemKind::Forbidden, "its last one");
}

#[tokio::test]
async fn a_key_opens_its_networks_and_no_others() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    for name in ["acme", "secret"] {
        create(&lab, &owner, name).await.unwrap();
    }
    let both = key(&lab, &owner, &["acme", "demo"]).await;
    let by_key = || Credential::AuthKey(both.clone());
    let all = enrol(&lab, by_key(), "all", &[]).await.unwrap();
    assert_eq!(all.enrolled().network, "demo", "the default one is named");
    assert_eq!(names(&all.stream(&lab).await.map), ["acme", "demo"]);
    let named = enrol(&lab, by_key(), "named", &["all"]).await.unwrap();
    assert_eq!(names(&named.stream(&lab).await.map), ["acme", "demo"]);
    let foreign = enrol(&lab, by_key(), "spy", &["secret"]).await.map(|_| ());
    assert_eq!(refused(foreign), ProblemKind::Forbidden);
    for unknown in ["secret", "nowhere"] {
        let result = join(&lab, &all, unknown).await;
        assert_eq!(refused(result), ProblemKind::Forbidden, "{unknown}");
    }
    let by_person = || Credential::Session(owner.session.clone());
    let person = enrol(&lab, by_person(), "person", &["acme"]).await.unwrap();
    assert_eq!(names(&person.stream(&lab).await.map), ["acme"]);
    assert_eq!(
        refused(join(&lab, &person, "secret").await),
        ProblemKind::Forbidden
    );
    let answer = person.stream(&lab).await.map;
    let (_, acme) = answer.network_named("acme").unwrap();
    let (_, peer) = acme.peer_named("all").unwrap();
    assert!(matches!(peer.owner, Owner::AuthKey(_)), "{peer:?}");
    let answer = all.stream(&lab).await.map;
    let (_, acme) = answer.network_named("acme").unwrap();
    let (_, peer) = acme.peer_named("person").unwrap();
    assert_eq!(peer.owner.person(), Some(EMAIL));
    let mut connection = lab.person(&owner).await;
    let devices: Vec<DeviceSummary> = connection.get(path::DEVICES, WITHIN).await.unwrap();
    let owners: Vec<bool> = devices
        .iter()
        .map(|device| device.owner == Owner::Person(EMAIL.to_owned()))
        .collect();
    assert_eq!(owners, [false, false, true], "{devices:#?}");
}

#[tokio::test]
async fn who_is_taken_out_stays_out_until_somebody_puts_it_back() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    create(&lab, &owner, "acme").await.unwrap();
    let key = key(&lab, &owner, &["demo"]).await;
    let one = lab.enrol(&key, "one").await;
    let mut stream = one.stream(&lab).await;
    let mut person = lab.person(&owner).await;
    let members = format!("{}/acme/devices", path::NETWORKS);
    let member = MemberRequest { device: one.id() };
    let place: MembershipSummary = person.post(&members, &member, WITHIN).await.unwrap();
    assert_eq!(place.network, "acme");
    in_networks(&mut stream, &["acme", "demo"]).await;

    let orders = async || -> RelayOrders {
        let mut connection = relay.connect(&lab).await;
        let beat = relay.beat(0, false);
        connection
            .post(path::RELAY_HEARTBEAT, &beat, WITHIN)
            .await
            .unwrap()
    };
    assert_eq!(orders().await.revoked, []);
    let out = format!("{members}/{}", one.id());
    person.delete(&out, WITHIN).await.unwrap();
    in_networks(&mut stream, &["demo"]).await;
    assert_eq!(
        orders().await.revoked,
        [(one.id(), 2)],
        "its old tickets are void"
    );
    assert_eq!(
        refused(join(&lab, &one, "acme").await),
        ProblemKind::Forbidden
    );
    assert_eq!(
        refused(person.delete(&out, WITHIN).await),
        ProblemKind::NotFound
    );
    let _: MembershipSummary = person.post(&members, &member, WITHIN).await.unwrap();
    in_networks(&mut stream, &["acme", "demo"]).await;

    let gone = format!("{}/{}", path::DEVICES, one.id());
    person.delete(&gone, WITHIN).await.unwrap();
    assert_eq!(
        refused(person.delete(&gone, WITHIN).await),
        ProblemKind::NotFound
    );
    assert_eq!(
        refused(join(&lab, &one, "demo").await),
        ProblemKind::DeviceRemoved
    );
}

#[tokio::test]
async fn networks_have_names_of_their_own_and_go_with_their_members_only_by_force() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    create(&lab, &owner, "acme").await.unwrap();
    for (name, kind) in [
        ("acme", ProblemKind::NameTaken),
        ("demo", ProblemKind::NameTaken),
        ("all", ProblemKind::BadRequest),
        ("Acme", ProblemKind::BadRequest),
        ("", ProblemKind::BadRequest),
    ] {
        assert_eq!(refused(create(&lab, &owner, name).await), kind, "{name:?}");
    }
    let key = key(&lab, &owner, &["acme", "demo"]).await;
    let one = lab.enrol(&key, "one").await;
    let mut stream = one.stream(&lab).await;
    let mut person = lab.person(&owner).await;
    let listed: Vec<NetworkSummary> = person.get(path::NETWORKS, WITHIN).await.unwrap();
    let row = |network: &NetworkSummary| (network.name.clone(), network.default, network.devices);
    let rows: Vec<_> = listed.iter().map(row).collect();
    assert_eq!(
        rows,
        [("acme".to_owned(), false, 1), ("demo".to_owned(), true, 1)]
    );
    let at = |name: &str| format!("{}/{name}", path::NETWORKS);
    for (path, kind) in [
        (at("acme"), ProblemKind::Forbidden),
        (at("demo?force"), ProblemKind::Forbidden),
        (at("nowhere"), ProblemKind::UnknownNetwork),
        (at("acme?now"), ProblemKind::BadRequest),
    ] {
        assert_eq!(refused(person.delete(&path, WITHIN).await), kind, "{path}");
    }
    person.delete(&at("acme?force"), WITHIN).await.unwrap();
    in_networks(&mut stream, &["demo"]).await;
    create(&lab, &owner, "acme").await.unwrap();
    assert_eq!(
        refused(join(&lab, &one, "acme").await),
        ProblemKind::Forbidden,
        "another network of the same name is another network"
    );
}

#[tokio::test]
async fn who_takes_a_name_over_takes_no_place_elsewhere() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    create(&lab, &owner, "acme").await.unwrap();
    let request = AuthKeyRequest {
        networks: vec!["acme".to_owned(), "demo".to_owned()],
        reusable: true,
        on_name_taken: NamePolicy::TakeOverOffline,
        ..AuthKeyRequest::default()
    };
    let taking = lab.auth_key(&owner, request).await.key;
    let by_key = || Credential::AuthKey(taking.clone());
    let first = enrol(&lab, by_key(), "web", &["all"]).await.unwrap();
    let second = enrol(&lab, by_key(), "web", &["acme"]).await.unwrap();
    assert_eq!(second.label(), "web");
    assert_eq!(names(&first.stream(&lab).await.map), ["demo"]);
    assert_eq!(
        refused(join(&lab, &first, "acme").await),
        ProblemKind::Forbidden
    );
}

#[tokio::test]
async fn a_device_that_waits_is_nowhere_until_a_person_approves_it() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    create(&lab, &owner, "acme").await.unwrap();
    let peer = lab.enrol(&key(&lab, &owner, &["demo"]).await, "peer").await;
    let request = AuthKeyRequest {
        networks: vec!["acme".to_owned(), "demo".to_owned()],
        approval: true,
        ..AuthKeyRequest::default()
    };
    let waiting_key = lab.auth_key(&owner, request).await;
    assert!(waiting_key.summary.approval);
    let credential = Credential::AuthKey(waiting_key.key);
    let device = enrol(&lab, credential, "build", &["demo"]).await.unwrap();
    let (mut stream, mut peers) = (device.stream(&lab).await, peer.stream(&lab).await);
    assert_eq!(names(&stream.map), [""; 0]);
    assert_eq!(peers.map.networks.values().next().unwrap().peers.len(), 0);

    // It cannot let itself in, and hears of nothing.
    assert_eq!(choices(&lab, &device).await, []);
    for network in ["demo", "acme"] {
        let joined = join(&lab, &device, network).await;
        assert_eq!(refused(joined), ProblemKind::Forbidden, "{network}");
    }
    let mut person = lab.person(&owner).await;
    let devices: Vec<DeviceSummary> = person.get(path::DEVICES, WITHIN).await.unwrap();
    let waits: Vec<_> = devices
        .iter()
        .map(|it| (it.label.as_str(), &it.waiting[..]))
        .collect();
    assert!(
        waits.contains(&("build", &["demo".to_owned()][..])),
        "{waits:?}"
    );
    assert!(waits.contains(&("peer", &[])), "{waits:?}");

    let approve = format!("{}/{}/approve", path::DEVICES, device.id());
    let places: Vec<MembershipSummary> = person
        .post(&approve, &serde_json::json!({}), WITHIN)
        .await
        .unwrap();
    assert_eq!(
        (places[0].label.as_str(), places[0].network.as_str()),
        ("build", "demo")
    );
    stream.until("it is in", |map| names(map) == ["demo"]).await;
    peers
        .until("a peer", |map| {
            map.networks.values().next().unwrap().peers.len() == 1
        })
        .await;
    // The key's other network is open to it from now on, and nothing is left to approve.
    join(&lab, &device, "acme").await.unwrap();
    let again = person
        .post::<_, Vec<MembershipSummary>>(&approve, &serde_json::json!({}), WITHIN)
        .await;
    assert_eq!(refused(again), ProblemKind::NotFound);
}

#[tokio::test]
async fn a_key_that_went_astray_fills_no_list_with_devices_that_wait() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        let request = AuthKeyRequest {
            reusable: true,
            approval: true,
            ..AuthKeyRequest::default()
        };
        keys.push(lab.auth_key(&owner, request).await.key);
    }
    let credential = |nth: usize| Credential::AuthKey(keys[nth].clone());
    for nth in 0..4 {
        for number in 0..64 {
            enrol(&lab, credential(nth), &format!("guest-{number}"), &[])
                .await
                .unwrap();
        }
        // It has its share, and the next one has another.
        let one_more = enrol(&lab, credential(nth), "one-more", &[]).await;
        assert_eq!(refused(one_more.map(|_| ())), ProblemKind::Forbidden);
    }
    let refused_one = enrol(&lab, credential(4), "one-more", &[])
        .await
        .map(|_| ());
    assert_eq!(refused(refused_one), ProblemKind::Forbidden);
    let mut person = lab.person(&owner).await;
    let devices: Vec<DeviceSummary> = person.get(path::DEVICES, WITHIN).await.unwrap();
    assert_eq!(devices.len(), 256, "the refused one leaves nothing");
    let one = format!("{}/{}", path::DEVICES, devices[0].id);
    person.delete(&one, WITHIN).await.unwrap();
    enrol(&lab, credential(4), "one-more", &[]).await.unwrap();
}

#[tokio::test]
async fn a_device_that_joins_and_leaves_in_a_loop_is_told_to_wait_and_no_other() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    create(&lab, &owner, "acme").await.unwrap();
    let both = key(&lab, &owner, &["demo", "acme"]).await;
    let by_key = || Credential::AuthKey(both.clone());
    let looping = enrol(&lab, by_key(), "looping", &["demo"]).await.unwrap();
    let other = enrol(&lab, by_key(), "other", &["demo"]).await.unwrap();
    let mut connection = looping.connect(&lab).await;
    let request = JoinRequest {
        network: "acme".to_owned(),
    };
    let path = format!("{}/acme", path::DEVICE_NETWORKS);
    let mut changes = 0;
    let problem = loop {
        let joined = connection
            .post::<_, MembershipSummary>(path::DEVICE_NETWORKS, &request, WITHIN)
            .await;
        let done = match joined {
            Ok(_) => connection.delete(&path, WITHIN).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => changes += 2,
            Err(HttpsError::Problem(problem)) => break problem,
            Err(error) => panic!("{error}"),
        }
        assert!(changes < 100, "it never had to wait");
    };
    assert_eq!(problem.kind, ProblemKind::TooMany);
    assert!(problem.retry_after_secs.is_some_and(|secs| secs >= 1));
    assert!(problem.detail.contains("try again in"), "{problem:?}");
    join(&lab, &other, "acme").await.unwrap();
    // It may still ask for its networks.
    assert_eq!(choices(&lab, &looping).await.len(), 2);
}
