//! Auth keys for some uses and some addresses, and the operator's limit of devices.

use std::time::Duration;

use overlan_protocol::api::{
    AuthKeyRequest, AuthKeySummary, Credential, DeviceSummary, ProblemKind, path,
};
use overlan_protocol::key::Secret;
use overlan_transport::https::HttpsError;

use crate::lab::{Device, Lab, WITHIN, fast, refused};

async fn enrol(lab: &Lab, key: &Secret, name: &str) -> Result<Device, HttpsError> {
    let credential = Credential::AuthKey(key.clone());
    Device::new().enrol(lab, credential, name).await
}

#[tokio::test]
async fn a_key_enrols_as_many_devices_as_it_may_and_only_from_where_it_may() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let two = AuthKeyRequest {
        max_uses: Some(2),
        sources: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
        ..AuthKeyRequest::default()
    };
    let two = lab.auth_key(&owner, two).await;
    assert!(two.summary.reusable);
    enrol(&lab, &two.key, "one").await.unwrap();
    enrol(&lab, &two.key, "two").await.unwrap();
    let third = enrol(&lab, &two.key, "three").await;
    assert_eq!(refused(third), ProblemKind::KeyUsed);

    let elsewhere = AuthKeyRequest {
        sources: vec!["192.0.2.0/24".parse().unwrap()],
        ..AuthKeyRequest::default()
    };
    let elsewhere = lab.auth_key(&owner, elsewhere).await;
    let Err(HttpsError::Problem(problem)) = enrol(&lab, &elsewhere.key, "far").await else {
        panic!("it does not work from here");
    };
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert!(problem.title.contains("127.0.0.1"), "{}", problem.title);
    assert!(
        problem.detail.contains("192.0.2.0/24"),
        "{}",
        problem.detail
    );
    let mut connection = lab.person(&owner).await;
    let keys: Vec<AuthKeySummary> = connection.get(path::AUTH_KEYS, WITHIN).await.unwrap();
    let of = |id: &str| keys.iter().find(|key| key.id == id).unwrap();
    assert_eq!(
        (of(&two.summary.id).uses, of(&two.summary.id).max_uses),
        (2, Some(2))
    );
    assert_eq!(of(&elsewhere.summary.id).uses, 0, "it was not used up");
    for bad in [
        AuthKeyRequest {
            max_uses: Some(0),
            ..AuthKeyRequest::default()
        },
        AuthKeyRequest {
            ephemeral_secs: Some(1),
            ..AuthKeyRequest::default()
        },
        AuthKeyRequest {
            sources: vec!["::1".parse().unwrap(); 17],
            ..AuthKeyRequest::default()
        },
    ] {
        let made = connection.post::<_, serde_json::Value>(path::AUTH_KEYS, &bad, WITHIN);
        assert_eq!(refused(made.await), ProblemKind::BadRequest);
    }
}

#[tokio::test]
async fn an_ephemeral_device_stays_for_as_long_as_its_key_says() {
    let mut timings = fast();
    timings.ephemeral_after = Duration::from_millis(100);
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let long = AuthKeyRequest {
        ephemeral_secs: Some(3_600),
        ..AuthKeyRequest::default()
    };
    let short = AuthKeyRequest {
        ephemeral: true,
        ..AuthKeyRequest::default()
    };
    let long = lab.auth_key(&owner, long).await.key;
    let short = lab.auth_key(&owner, short).await.key;
    let stays = enrol(&lab, &long, "stays").await.unwrap();
    let mut stream = stays.stream(&lab).await;
    enrol(&lab, &short, "goes").await.unwrap();
    stream
        .until("the short one came", |map| {
            crate::lab::peer(map, "goes").is_some()
        })
        .await;
    drop(stays.stream(&lab).await);
    stream
        .until("the short one went", |map| {
            crate::lab::peer(map, "goes").is_none()
        })
        .await;
    drop(stream);
    let mut connection = lab.person(&owner).await;
    let left: Vec<DeviceSummary> = connection.get(path::DEVICES, WITHIN).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].label, "stays");
}

#[tokio::test]
async fn a_full_plan_says_the_limit_and_what_to_do_and_a_removal_makes_room() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    lab.devices_max = Some(3);
    lab.restart().await;
    let key = lab.reusable_key(&owner).await;
    let mut devices = Vec::new();
    for name in ["one", "two", "three"] {
        devices.push(enrol(&lab, &key, name).await.unwrap());
    }
    let Err(HttpsError::Problem(problem)) = enrol(&lab, &key, "four").await else {
        panic!("the plan is full");
    };
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert_eq!(
        problem.title,
        "the organisation has 3 devices, and 3 are its limit"
    );
    assert!(problem.detail.contains("overlan admin device remove"));
    let path = format!("{}/{}", path::DEVICES, devices[0].id());
    lab.person(&owner)
        .await
        .delete(&path, WITHIN)
        .await
        .unwrap();
    enrol(&lab, &key, "four").await.unwrap();
}
