use std::collections::BTreeSet;

use overlan_protocol::api::{
    AuthKeyRequest, AuthKeySummary, DeviceSummary, LoginResponse, PolicyRequest, ProblemKind,
    TagRequest, path,
};
use overlan_protocol::key::DeviceId;
use overlan_protocol::tag::{TAGS_MAX, Tag};
use overlan_transport::https::HttpsError;

use crate::lab::{Lab, WITHIN, peer, refused};

fn tags(texts: &[&str]) -> BTreeSet<Tag> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn change(
    lab: &Lab,
    owner: &LoginResponse,
    device: DeviceId,
    add: BTreeSet<Tag>,
    remove: BTreeSet<Tag>,
) -> Result<DeviceSummary, HttpsError> {
    let path = format!("{}/{device}/tags", path::DEVICES);
    let mut connection = lab.person(owner).await;
    let request = TagRequest { add, remove };
    connection.post(&path, &request, WITHIN).await
}

#[tokio::test]
async fn a_device_has_the_tags_of_its_key_and_those_that_people_give_it() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let request = AuthKeyRequest {
        reusable: true,
        tags: tags(&["ci", "linux"]),
        ..AuthKeyRequest::default()
    };
    let made = lab.auth_key(&owner, request).await;
    assert_eq!(made.summary.tags, tags(&["ci", "linux"]));
    let device = lab.enrol(&made.key, "build").await;
    let mut connection = lab.person(&owner).await;
    let keys: Vec<AuthKeySummary> = connection.get(path::AUTH_KEYS, WITHIN).await.unwrap();
    assert_eq!(keys[0].tags, tags(&["ci", "linux"]));

    let changed = change(&lab, &owner, device.id(), tags(&["gpu"]), tags(&["linux"])).await;
    assert_eq!(changed.unwrap().tags, tags(&["ci", "gpu"]));
    let again = change(&lab, &owner, device.id(), tags(&["gpu"]), tags(&["linux"])).await;
    assert_eq!(again.unwrap().tags, tags(&["ci", "gpu"]), "asked again");
    let listed: Vec<DeviceSummary> = connection.get(path::DEVICES, WITHIN).await.unwrap();
    assert_eq!(listed[0].tags, tags(&["ci", "gpu"]));
    // The change log has one entry for the one change, with the tags in it.
    let facts = lab
        .texts("SELECT payload FROM changes WHERE kind = 'device' ORDER BY version")
        .await;
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert!(facts[0].contains(r#""tags":["ci","gpu"]"#), "{facts:?}");
}

#[tokio::test]
async fn tags_are_few_and_plain_and_of_devices_that_are_there() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let device = lab.enrol(&key, "web").await;
    let many = (0..=TAGS_MAX).map(|number| format!("t{number}").parse().unwrap());
    let many: BTreeSet<Tag> = many.collect();
    let most: BTreeSet<Tag> = many.iter().take(TAGS_MAX).cloned().collect();
    let nothing = BTreeSet::new;
    let full = change(&lab, &owner, device.id(), most.clone(), nothing()).await;
    assert_eq!(full.unwrap().tags, most);
    let more = change(&lab, &owner, device.id(), many.clone(), nothing()).await;
    assert_eq!(refused(more), ProblemKind::Forbidden);
    let swapped = change(&lab, &owner, device.id(), tags(&["new"]), tags(&["t0"])).await;
    assert_eq!(
        swapped.unwrap().tags.len(),
        TAGS_MAX,
        "one went before one came"
    );

    let nobody = change(&lab, &owner, DeviceId([7; 16]), tags(&["a"]), nothing()).await;
    assert_eq!(refused(nobody), ProblemKind::NotFound);
    let mut connection = lab.person(&owner).await;
    let bad = serde_json::json!({ "add": ["UPPER"] });
    let path = format!("{}/{}/tags", path::DEVICES, device.id());
    let bad = connection.post::<_, DeviceSummary>(&path, &bad, WITHIN);
    assert_eq!(refused(bad.await), ProblemKind::BadRequest);
    let request = AuthKeyRequest {
        tags: many,
        ..AuthKeyRequest::default()
    };
    let key = connection.post::<_, serde_json::Value>(path::AUTH_KEYS, &request, WITHIN);
    assert_eq!(refused(key.await), ProblemKind::BadRequest);
}

/// The stream begins as soon as the device may begin one: the policy has to know it by then.
#[tokio::test]
async fn a_device_that_has_just_joined_sees_its_peers_in_its_first_map() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let tagged = |tag: &str| AuthKeyRequest {
        reusable: true,
        tags: tags(&[tag]),
        ..AuthKeyRequest::default()
    };
    let server_key = lab.auth_key(&owner, tagged("server")).await.key;
    let job_key = lab.auth_key(&owner, tagged("ci")).await.key;
    lab.enrol(&server_key, "web").await;
    let document = "[tags]\nserver = []\nci = []\n\n[[rules]]\nid = \"jobs\"\n\
                    from = \"tag:ci\"\nto = \"tag:server\"\nservices = [\"tcp/80\"]\n";
    let request = PolicyRequest {
        text: document.to_owned(),
        if_number: None,
    };
    let policy = format!("{}/demo/policy", path::NETWORKS);
    let mut person = lab.person(&owner).await;
    let _: serde_json::Value = person.post(&policy, &request, WITHIN).await.unwrap();
    for number in 0..20 {
        let job = lab.enrol(&job_key, &format!("job-{number}")).await;
        let stream = job.stream(&lab).await;
        assert!(peer(&stream.map, "web").is_some(), "job {number}");
    }
}
