use std::time::Duration;

use overlan_protocol::api::{
    AuthKeyRequest, AuthKeySummary, Credential, EnrolRequest, EnrolResponse, NamePolicy,
    NetworkSummary, ProblemKind, TicketResponse, path,
};
use overlan_protocol::key::{Secret, TunnelKey, encode_signature, random_bytes};
use overlan_protocol::proof::tunnel_key_message;
use overlan_protocol::ticket::Ticket;
use overlan_transport::https::HttpsError;

use crate::lab::{Device, Lab, Relay, WITHIN, refused};

fn by_key(key: &Secret) -> Credential {
    Credential::AuthKey(key.clone())
}

async fn enrol(lab: &Lab, key: &Secret, hostname: &str) -> Result<Device, HttpsError> {
    Device::new().enrol(lab, by_key(key), hostname).await
}

#[tokio::test]
async fn of_twenty_racing_enrolments_by_a_one_off_key_one_wins() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.auth_key(&owner, AuthKeyRequest::default()).await;
    let attempts = (0..20).map(|_| enrol(&lab, &key.key, "racer"));
    let outcomes = futures_util::future::join_all(attempts).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for result in lost {
        let Err(HttpsError::Problem(problem)) = result else {
            panic!("a loser is told why");
        };
        assert_eq!(problem.kind, ProblemKind::KeyUsed);
        assert!(problem.title.contains(&key.summary.id), "{}", problem.title);
    }
    let mut connection = lab.person(&owner).await;
    let keys: Vec<AuthKeySummary> = connection.get(path::AUTH_KEYS, WITHIN).await.unwrap();
    assert_eq!(keys[0].uses, 1);
}

#[tokio::test]
async fn a_key_that_is_unknown_revoked_or_expired_says_so() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    for text in ["", "ovk_nonsense", "ovk_00112233aabb_AAAA"] {
        let result = enrol(&lab, &Secret::new(text), "web").await.map(|_| ());
        assert_eq!(refused(result), ProblemKind::KeyUnknown, "{text:?}");
    }
    let request = AuthKeyRequest {
        reusable: true,
        ..AuthKeyRequest::default()
    };
    let key = lab.auth_key(&owner, request).await;
    let damaged = Secret::new(&format!("{}x", key.key.reveal()));
    let result = enrol(&lab, &damaged, "web").await.map(|_| ());
    assert_eq!(refused(result), ProblemKind::KeyUnknown);

    enrol(&lab, &key.key, "web").await.map(|_| ()).unwrap();
    let mut connection = lab.person(&owner).await;
    let one = format!("{}/{}", path::AUTH_KEYS, key.summary.id);
    connection.delete(&one, WITHIN).await.unwrap();
    let result = enrol(&lab, &key.key, "web").await.map(|_| ());
    assert_eq!(refused(result), ProblemKind::KeyRevoked);

    let key = lab.reusable_key(&owner).await;
    lab.sql("UPDATE auth_keys SET expires = 1").await;
    let result = enrol(&lab, &key, "web").await.map(|_| ());
    assert_eq!(refused(result), ProblemKind::KeyExpired);
}

#[tokio::test]
async fn a_retry_with_the_same_key_gives_the_same_device() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.auth_key(&owner, AuthKeyRequest::default()).await.key;
    let device = lab.enrol(&key, "web").await;
    let id = device.id();
    let again = device.enrol(&lab, by_key(&key), "web").await.unwrap();
    assert_eq!(again.id(), id);

    // Peers know its tunnel key: another one is another enrolment.
    let mut other = again;
    other.tunnel = TunnelKey(random_bytes());
    let result = other.enrol(&lab, by_key(&key), "web").await.map(|_| ());
    assert_eq!(refused(result), ProblemKind::Forbidden);
}

#[tokio::test]
async fn names_follow_the_policy_of_the_key() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = async |on_name_taken| {
        let request = AuthKeyRequest {
            reusable: true,
            on_name_taken,
            ..AuthKeyRequest::default()
        };
        lab.auth_key(&owner, request).await.key
    };
    let suffix = key(NamePolicy::Suffix).await;
    let fail = key(NamePolicy::Fail).await;
    let take_over = key(NamePolicy::TakeOverOffline).await;

    let web = lab.enrol(&suffix, "Web.example.org").await;
    assert_eq!(web.label(), "web");
    assert_eq!(lab.enrol(&suffix, "web").await.label(), "web-1");
    assert_eq!(lab.enrol(&suffix, "WEB").await.label(), "web-2");
    let refusal = enrol(&lab, &fail, "web").await.map(|_| ());
    assert_eq!(refused(refusal), ProblemKind::NameTaken);

    let mut observer = lab.enrol(&suffix, "observer").await.stream(&lab).await;
    let ci = lab.enrol(&take_over, "ci").await;
    let stream = ci.stream(&lab).await;
    observer.until_online("ci", true).await;
    assert_eq!(lab.enrol(&take_over, "ci").await.label(), "ci-1");
    drop(stream);
    observer.until_online("ci", false).await;
    let heir = lab.enrol(&take_over, "ci").await;
    assert_eq!(heir.label(), "ci");
    let mut connection = ci.connect(&lab).await;
    let removed = connection
        .post::<_, TicketResponse>(path::DEVICE_TICKET, &serde_json::json!({}), WITHIN)
        .await;
    assert_eq!(refused(removed), ProblemKind::DeviceRemoved);
}

#[tokio::test]
async fn a_key_takes_over_no_device_that_came_by_another_right() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let request = AuthKeyRequest {
        reusable: true,
        on_name_taken: NamePolicy::TakeOverOffline,
        ..AuthKeyRequest::default()
    };
    let theirs = lab.auth_key(&owner, request.clone()).await.key;
    let leaked = lab.auth_key(&owner, request).await.key;
    let by_person = Credential::Session(owner.session.clone());
    let laptop = Device::new()
        .enrol(&lab, by_person, "laptop")
        .await
        .unwrap();
    let server = lab.enrol(&theirs, "server").await;
    for (victim, name) in [(&laptop, "laptop"), (&server, "server")] {
        let thief = lab.enrol(&leaked, name).await;
        assert_eq!(thief.label(), format!("{name}-1"));
        let mut connection = victim.connect(&lab).await;
        connection
            .post::<_, TicketResponse>(path::DEVICE_TICKET, &serde_json::json!({}), WITHIN)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_address_of_a_removed_device_is_not_given_out_again() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let one = lab.enrol(&key, "one").await;
    let two = lab.enrol(&key, "two").await;
    let host = crate::lab::network(&two.stream(&lab).await.map).host;
    two.connect(&lab)
        .await
        .delete(path::DEVICE, WITHIN)
        .await
        .unwrap();
    let three = lab.enrol(&key, "three").await;
    let third = crate::lab::network(&three.stream(&lab).await.map).host;
    assert_ne!(third, host);
    assert_ne!(third, crate::lab::network(&one.stream(&lab).await.map).host);
}

#[tokio::test]
async fn a_session_enrols_into_the_network_that_is_named() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let mut connection = lab.connect().await;
    let device = Device::new();
    let credential = Credential::Session(owner.session.clone());
    let mut request = device.request(&connection, credential, "laptop");
    request.networks = vec!["nowhere".to_owned()];
    let result = connection
        .post::<_, EnrolResponse>(path::ENROL, &request, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::UnknownNetwork);
    request.networks = vec!["demo".to_owned()];
    let response: EnrolResponse = connection
        .post(path::ENROL, &request, WITHIN)
        .await
        .unwrap();
    assert_eq!(response.label, "laptop");
    let mut person = lab.person(&owner).await;
    let networks: Vec<NetworkSummary> = person.get(path::NETWORKS, WITHIN).await.unwrap();
    assert_eq!(networks[0].devices, 1);

    let credential = Credential::Session(Secret::new("ovs_guessed"));
    let guessed = Device::new().enrol(&lab, credential, "x").await.map(|_| ());
    assert_eq!(refused(guessed), ProblemKind::NotAuthenticated);
}

#[tokio::test]
async fn a_proof_counts_on_its_own_connection_only() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let device = Device::new();
    let first = lab.connect().await;
    let captured: EnrolRequest = device.request(&first, by_key(&key), "web");
    let mut second = lab.connect().await;
    let replayed = second
        .post::<_, EnrolResponse>(path::ENROL, &captured, WITHIN)
        .await;
    assert_eq!(refused(replayed), ProblemKind::NotAuthenticated);

    let mut swapped = device.request(&second, by_key(&key), "web");
    swapped.tunnel = TunnelKey(random_bytes());
    let result = second
        .post::<_, EnrolResponse>(path::ENROL, &swapped, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::NotAuthenticated);
    let signature = Device::new()
        .secret
        .sign(&tunnel_key_message(&swapped.tunnel));
    swapped.tunnel_signature = encode_signature(&signature);
    let result = second
        .post::<_, EnrolResponse>(path::ENROL, &swapped, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::NotAuthenticated);
}

#[tokio::test]
async fn a_ticket_is_what_relays_accept() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let token = lab.relay_token(&owner, "ams-1").await;
    let (_, orders) = Relay::new(443).register(&lab, &token).await.unwrap();
    let key = lab.reusable_key(&owner).await;
    let device = lab.enrol(&key, "web").await;
    let mut connection = device.connect(&lab).await;
    let response: TicketResponse = connection
        .post(path::DEVICE_TICKET, &serde_json::json!({}), WITHIN)
        .await
        .unwrap();
    let map = device.stream(&lab).await.map;
    let network = crate::lab::network(&map);
    for (text, expires) in [
        (&response.ticket, response.expires),
        (
            &device.enrolled().ticket.ticket,
            device.enrolled().ticket.expires,
        ),
    ] {
        let ticket =
            Ticket::verify(text, &orders.ticket_keys, expires - Duration::from_secs(1)).unwrap();
        assert_eq!(ticket.device, device.id());
        assert_eq!(ticket.identity, device.secret.public());
        assert_eq!(ticket.networks, [(network.vni, network.host)]);
    }
}
