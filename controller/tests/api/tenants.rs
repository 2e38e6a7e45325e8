use overlan_protocol::api::{
    AuthKeyRequest, AuthKeySummary, Credential, DeviceSummary, LoginRequest, LoginResponse,
    NetworkSummary, ProblemKind, RelaySummary, Role, path,
};
use overlan_protocol::key::Secret;

use crate::lab::{Device, Lab, PASSWORD, WITHIN, network, peer, refused};

/// The statement that makes a person with this role and the owner's password.
macro_rules! colleague {
    ($role:literal) => {
        concat!(
            "INSERT INTO accounts (email, password, created) SELECT '",
            $role,
            "@example.com', password, 1 FROM accounts WHERE id = 1;
             INSERT INTO people (org_id, account_id, role, created)
             SELECT 1, id, '",
            $role,
            "', 1 FROM accounts WHERE email = '",
            $role,
            "@example.com';",
        )
    };
}

/// A second organisation with an owner who has the same password, made without the API: there is no
/// sign-up.
pub(crate) async fn second_tenant(lab: &Lab) -> LoginResponse {
    lab.sql(
        "INSERT INTO organisations (id, name, created) VALUES (2, 'Other', 1);
         INSERT INTO accounts (id, email, password, created)
             SELECT 2, 'other@example.org', password, 1 FROM accounts WHERE id = 1;
         INSERT INTO people (org_id, account_id, role, created) VALUES (2, 2, 'owner', 1);
         INSERT INTO networks (id, org_id, name, vni, is_default, created)
             VALUES ('ffffffffffffffffffffffffffffffff', 2, 'lab', 4096, 1, 1);",
    )
    .await;
    let request = LoginRequest {
        email: "other@example.org".to_owned(),
        password: Secret::new(PASSWORD),
        organisation: None,
    };
    let mut connection = lab.connect().await;
    connection
        .post(path::LOGIN, &request, WITHIN)
        .await
        .unwrap()
}

/// A person of this role in the first organisation.
pub(crate) async fn colleague(lab: &Lab, role: Role) -> LoginResponse {
    let statement = match role {
        Role::Owner => colleague!("owner"),
        Role::Admin => colleague!("admin"),
        Role::Auditor => colleague!("auditor"),
        Role::Member => colleague!("member"),
    };
    lab.sql(statement).await;
    let request = LoginRequest {
        email: format!("{role}@example.com"),
        password: Secret::new(PASSWORD),
        organisation: None,
    };
    let mut connection = lab.connect().await;
    connection
        .post(path::LOGIN, &request, WITHIN)
        .await
        .unwrap()
}

#[tokio::test]
async fn two_organisations_never_see_each_other() {
    let lab = Lab::start().await;
    let one = lab.set_up().await;
    let two = second_tenant(&lab).await;
    let key_one = lab.auth_key(&one, AuthKeyRequest::default()).await;
    let device_one = lab.enrol(&key_one.key, "web").await;
    let mut stream = device_one.stream(&lab).await;

    let key_two = lab.reusable_key(&two).await;
    let device_two = lab.enrol(&key_two, "web").await;
    assert_eq!(device_two.label(), "web", "names do not clash");
    assert_eq!(device_two.enrolled().network, "lab");
    let relay_two = lab.relay(&two, "ams-1", 443).await;
    let relay_one = lab.relay(&one, "ams-1", 444).await;
    stream
        .until("the own relay", |map| network(map).relays == [relay_one.id])
        .await;
    assert!(!stream.map.relays.contains_key(&relay_two.id));
    assert!(network(&stream.map).peers.is_empty());
    let map_two = device_two.stream(&lab).await.map;
    assert_eq!(network(&map_two).relays, [relay_two.id]);
    assert!(peer(&map_two, "web").is_none());

    let mut person = lab.person(&two).await;
    let devices: Vec<DeviceSummary> = person.get(path::DEVICES, WITHIN).await.unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].id, device_two.id());
    let relays: Vec<RelaySummary> = person.get(path::RELAYS, WITHIN).await.unwrap();
    assert_eq!(relays.len(), 1);
    assert_eq!(relays[0].id, relay_two.id);
    let networks: Vec<NetworkSummary> = person.get(path::NETWORKS, WITHIN).await.unwrap();
    assert_eq!(networks.len(), 1);
    assert_eq!(networks[0].name, "lab");
    let keys: Vec<AuthKeySummary> = person.get(path::AUTH_KEYS, WITHIN).await.unwrap();
    assert!(keys.iter().all(|key| key.id != key_one.summary.id));

    let foreign = format!("{}/{}", path::AUTH_KEYS, key_one.summary.id);
    let result = person.delete(&foreign, WITHIN).await;
    assert_eq!(refused(result), ProblemKind::NotFound);
    let request = AuthKeyRequest {
        networks: vec!["demo".to_owned()],
        ..AuthKeyRequest::default()
    };
    let result = person
        .post::<_, serde_json::Value>(path::AUTH_KEYS, &request, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::UnknownNetwork);
    let mut connection = lab.connect().await;
    let credential = Credential::Session(two.session.clone());
    let spy = Device::new();
    let mut request = spy.request(&connection, credential, "spy");
    request.networks = vec!["demo".to_owned()];
    let result = connection
        .post::<_, serde_json::Value>(path::ENROL, &request, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::UnknownNetwork);
}
