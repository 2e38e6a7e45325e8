//! The end of an organisation: who may ask for it, what goes, and what its devices are told.

use overlan_protocol::api::{
    LoginRequest, LoginResponse, NetworkSummary, OrganisationDelete, OrganisationDeleted,
    ProblemKind, RelayOrders, path,
};
use overlan_protocol::key::Secret;
use overlan_protocol::netmap::MapEvent;
use overlan_transport::https::HttpsError;

use crate::lab::{Lab, PASSWORD, WITHIN, refused};
use crate::tenants::second_tenant;

async fn delete(
    lab: &Lab,
    owner: &LoginResponse,
    name: &str,
    with_everybody: bool,
) -> Result<OrganisationDeleted, HttpsError> {
    let request = OrganisationDelete {
        name: name.to_owned(),
        with_everybody,
    };
    let mut person = lab.person(owner).await;
    person
        .post(path::ORGANISATION_DELETE, &request, WITHIN)
        .await
}

async fn log_in(lab: &Lab, email: &str) -> Result<LoginResponse, HttpsError> {
    let request = LoginRequest {
        email: email.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: None,
    };
    lab.connect()
        .await
        .post(path::LOGIN, &request, WITHIN)
        .await
}

#[tokio::test]
async fn an_organisation_ends_with_all_that_is_its_own() {
    let lab = Lab::start().await;
    let one = lab.set_up().await;
    let two = second_tenant(&lab).await;
    let keys = (lab.reusable_key(&one).await, lab.reusable_key(&two).await);
    let web = lab.enrol(&keys.0, "web").await;
    let guest = lab.enrol(&keys.1, "guest").await;
    let relay = lab.relay(&two, "ams-1", 443).await;
    lab.relay_token(&two, "ams-2").await;
    let mut stream = guest.stream(&lab).await;

    let wrong = delete(&lab, &two, "Example", true).await;
    assert_eq!(refused(wrong), ProblemKind::Conflict);
    let operator = delete(&lab, &one, "Example", true).await;
    let text = operator.as_ref().unwrap_err().to_string();
    assert!(text.contains("operator"), "{text}");
    assert_eq!(refused(operator), ProblemKind::Conflict);

    let deleted = delete(&lab, &two, "Other", false).await.unwrap();
    assert_eq!((deleted.people, deleted.accounts_deleted), (1, 1));
    assert_eq!(
        (deleted.networks, deleted.devices, deleted.relays),
        (1, 1, 1)
    );
    assert!(matches!(stream.next().await, Some(MapEvent::Removed)));
    let mut again = guest.connect(&lab).await;
    let told = again
        .get::<serde_json::Value>(path::DEVICE_NETWORKS, WITHIN)
        .await;
    assert_eq!(refused(told), ProblemKind::DeviceRemoved);
    let mut beats = relay.connect(&lab).await;
    let beat = relay.beat(0, false);
    let orders = beats
        .post::<_, RelayOrders>(path::RELAY_HEARTBEAT, &beat, WITHIN)
        .await;
    assert_eq!(refused(orders), ProblemKind::RelayUnknown);
    let mut person = lab.person(&two).await;
    let networks = person
        .get::<Vec<NetworkSummary>>(path::NETWORKS, WITHIN)
        .await;
    assert_eq!(refused(networks), ProblemKind::NotAuthenticated);
    let login = log_in(&lab, "other@example.org").await;
    assert_eq!(refused(login), ProblemKind::WrongPassword);

    web.stream(&lab).await;
    let left = lab.texts("SELECT name FROM organisations").await;
    assert_eq!(left, ["Example"]);
    let broken = lab
        .texts("SELECT \"table\" FROM pragma_foreign_key_check")
        .await;
    assert_eq!(broken, [""; 0]);
}

#[tokio::test]
async fn other_people_lose_their_organisation_only_if_that_is_said() {
    let lab = Lab::start().await;
    let one = lab.set_up().await;
    let two = second_tenant(&lab).await;
    // The owner of the first is in the second, too.
    lab.sql("INSERT INTO people (org_id, account_id, role, created) VALUES (2, 1, 'member', 1)")
        .await;
    let alone = delete(&lab, &two, "Other", false).await;
    let text = alone.as_ref().unwrap_err().to_string();
    assert!(
        text.contains("1 other people") && text.contains("--with-everybody"),
        "{text}"
    );
    assert_eq!(refused(alone), ProblemKind::Conflict);
    let deleted = delete(&lab, &two, "Other", true).await.unwrap();
    assert_eq!((deleted.people, deleted.accounts_deleted), (2, 1));
    let mut person = lab.person(&one).await;
    let networks: Vec<NetworkSummary> = person.get(path::NETWORKS, WITHIN).await.unwrap();
    assert_eq!(networks.len(), 1);
}
