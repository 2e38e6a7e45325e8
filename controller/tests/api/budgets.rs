//! Requests that cost everybody have a share for each source: a looping one has to wait, and nobody
//! else notices.

use overlan_protocol::api::{Credential, EnrolResponse, ProblemKind, path};
use overlan_protocol::key::Secret;
use overlan_transport::https::HttpsError;

use crate::lab::{Device, Lab, WITHIN, refused};

/// Requests on one connection of whom nobody knows; fewer than the controller takes.
const A_STRANGER_ASKS: usize = 4;

/// Enrols devices until one is refused; tells how many came in.
async fn enrol_until_refused(lab: &Lab, key: &Secret, most: usize) -> (usize, Option<HttpsError>) {
    let mut connection = lab.connect().await;
    for made in 0..most {
        if made % A_STRANGER_ASKS == 0 {
            connection = lab.connect().await;
        }
        let device = Device::new();
        let credential = Credential::AuthKey(key.clone());
        let request = device.request(&connection, credential, &format!("ci-{made}"));
        let enrolled = connection.post::<_, EnrolResponse>(path::ENROL, &request, WITHIN);
        if let Err(error) = enrolled.await {
            return (made, Some(error));
        }
    }
    (most, None)
}

#[tokio::test]
async fn a_key_that_enrols_without_end_is_slowed_down_and_no_other_key() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let (leaked, other) = (
        lab.reusable_key(&owner).await,
        lab.reusable_key(&owner).await,
    );
    let (made, error) = enrol_until_refused(&lab, &leaked, 2_000).await;
    assert!((500..1_000).contains(&made), "{made}");
    let answer: Result<(), HttpsError> = Err(error.unwrap());
    assert_eq!(refused(answer), ProblemKind::TooMany);
    assert_eq!(enrol_until_refused(&lab, &other, 20).await.0, 20);
}

#[tokio::test]
async fn a_device_that_opens_sessions_without_end_is_slowed_down_and_no_other() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let (looping, other) = (lab.enrol(&key, "loop").await, lab.enrol(&key, "web").await);
    let mut opened = 0;
    let error = loop {
        match looping
            .connect(&lab)
            .await
            .lines(path::DEVICE_NETMAP, WITHIN)
            .await
        {
            Ok(_lines) => opened += 1,
            Err(error) => break error,
        }
        assert!(opened < 200, "no end of sessions");
    };
    assert!(opened >= 40, "{opened}");
    let answer: Result<(), HttpsError> = Err(error);
    assert_eq!(refused(answer), ProblemKind::TooMany);
    other.stream(&lab).await;
}
