//! Rotation of the deployment's keys while the controller runs: who may, who hears of it, and what
//! a restart and a restored backup make of it.

use std::fs;

use overlan_controller::{backup, restore};
use overlan_protocol::api::{
    Confirmation, DeploymentKey, DeploymentKeySummary, Health, JoinString, LoginResponse,
    ProblemKind, RelayHeartbeat, RelayOrders, Role, RotateRequest, path,
};
use overlan_protocol::key::Fingerprint;
use overlan_protocol::netmap::MapEvent;
use overlan_transport::https::{Connection, HttpsError};
use tokio::time::timeout;

use crate::lab::{Device, Lab, WITHIN, refused};
use crate::tenants::{colleague, second_tenant};

async fn rotate(
    lab: &Lab,
    owner: &LoginResponse,
    key: DeploymentKey,
    grace_secs: Option<u64>,
) -> Result<DeploymentKeySummary, HttpsError> {
    let mut person = lab.person(owner).await;
    let request = RotateRequest { key, grace_secs };
    person.post(path::KEYS_ROTATE, &request, WITHIN).await
}

async fn keys(lab: &Lab, owner: &LoginResponse) -> [DeploymentKeySummary; 2] {
    let mut person = lab.person(owner).await;
    let keys: Vec<DeploymentKeySummary> = person.get(path::KEYS, WITHIN).await.unwrap();
    keys.try_into().unwrap()
}

fn pinned(lab: &Lab, ca: &str) -> JoinString {
    JoinString {
        ca: Some(ca.parse().unwrap()),
        ..lab.join.clone()
    }
}

async fn is_reached(join: &JoinString) -> bool {
    Connection::open(join, WITHIN).await.is_ok()
}

/// The CAs of the next ticket in a stream.
async fn named(stream: &mut crate::lab::Stream) -> Vec<Fingerprint> {
    loop {
        let event = timeout(WITHIN, stream.lines.next::<MapEvent>()).await;
        if let MapEvent::Ticket { cas, .. } = event.unwrap().unwrap().unwrap() {
            return cas;
        }
    }
}

async fn confirm(lab: &Lab, device: &Device, ca: &str) {
    let confirmation = Confirmation {
        version: 0,
        lineage: None,
        ca: ca.parse().ok(),
    };
    let mut connection = device.connect(lab).await;
    let _: serde_json::Value = connection
        .post(path::DEVICE_APPLIED, &confirmation, WITHIN)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_new_ca_reaches_who_is_there_and_both_pins_verify() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let (web, db) = (lab.enrol(&key, "web").await, lab.enrol(&key, "db").await);
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let old = lab.join.clone();
    let mut stream = web.stream(&lab).await;
    assert_eq!(named(&mut stream).await, [old.ca.unwrap()]);

    let made = rotate(&lab, &owner, DeploymentKey::Ca, None).await.unwrap();
    let new = pinned(&lab, &made.id);
    assert_ne!(new.ca, old.ca);
    let both = [new.ca.unwrap(), old.ca.unwrap()];
    assert_eq!(named(&mut stream).await, both);
    assert!(is_reached(&old).await && is_reached(&new).await);
    let mut stranger = lab.connect().await;
    let health: Health = stranger.get(path::HEALTH, WITHIN).await.unwrap();
    assert_eq!(health.cas, both.map(|ca| ca.to_string()));
    assert!(stranger.has_other_cas(&old) && !stranger.has_other_cas(&new));

    let before = keys(&lab, &owner).await[1].previous.clone().unwrap();
    assert_eq!(before.id, old.ca.unwrap().to_string());
    assert_eq!((before.devices_without, before.devices_of), (2, 2));
    assert_eq!((before.relays_without, before.relays_of), (1, 1));
    confirm(&lab, &web, &made.id).await;
    // A CA that is not the present one is not counted.
    confirm(&lab, &db, &before.id).await;
    let mut beats = relay.connect(&lab).await;
    let orders: RelayOrders = beats
        .post(path::RELAY_HEARTBEAT, &relay.beat(0, false), WITHIN)
        .await
        .unwrap();
    assert_eq!(orders.cas, both);
    let beat = RelayHeartbeat {
        ca: new.ca,
        ..relay.beat(orders.version, false)
    };
    let _: RelayOrders = beats
        .post(path::RELAY_HEARTBEAT, &beat, WITHIN)
        .await
        .unwrap();
    let before = keys(&lab, &owner).await[1].previous.clone().unwrap();
    assert_eq!((before.devices_without, before.relays_without), (1, 0));

    let again = rotate(&lab, &owner, DeploymentKey::Ca, None).await;
    let text = again.as_ref().unwrap_err().to_string();
    assert!(text.contains("ends in 30 d"), "{text}");
    assert_eq!(refused(again), ProblemKind::Conflict);

    lab.restart().await;
    assert_eq!(lab.join.ca, new.ca);
    assert!(is_reached(&old).await && is_reached(&new).await);
    db.stream(&lab).await;
}

#[tokio::test]
async fn a_new_ticket_key_is_in_the_orders_before_it_signs() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let mut beats = relay.connect(&lab).await;
    let orders = async |beats: &mut Connection| -> RelayOrders {
        let beat = relay.beat(0, false);
        beats
            .post(path::RELAY_HEARTBEAT, &beat, WITHIN)
            .await
            .unwrap()
    };
    let before = orders(&mut beats).await;
    let old = keys(&lab, &owner).await[0].clone();
    let made = rotate(&lab, &owner, DeploymentKey::Ticket, None)
        .await
        .unwrap();
    assert_eq!(made.previous.as_ref().unwrap().id, old.id);
    let after = orders(&mut beats).await;
    assert!(after.version > before.version);
    assert_eq!((before.ticket_keys.len(), after.ticket_keys.len()), (1, 2));
    let again = rotate(&lab, &owner, DeploymentKey::Ticket, None).await;
    assert_eq!(refused(again), ProblemKind::Conflict);
    let grace = rotate(&lab, &owner, DeploymentKey::Ticket, Some(86_400)).await;
    assert_eq!(refused(grace), ProblemKind::BadRequest);
}

#[tokio::test]
async fn the_keys_are_the_operators_alone() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let other = second_tenant(&lab).await;
    let admin = colleague(&lab, Role::Admin).await;
    for (who, key) in [(&other, DeploymentKey::Ca), (&admin, DeploymentKey::Ticket)] {
        let rotated = rotate(&lab, who, key, None).await;
        assert_eq!(refused(rotated), ProblemKind::Forbidden);
    }
    let mut guest = lab.person(&other).await;
    let listed: Vec<DeploymentKeySummary> = guest.get(path::KEYS, WITHIN).await.unwrap();
    assert!(listed.is_empty());
    for days in [0, 366] {
        let grace = Some(days * 86_400);
        let rotated = rotate(&lab, &owner, DeploymentKey::Ca, grace).await;
        assert_eq!(refused(rotated), ProblemKind::BadRequest, "{days}");
    }
    assert!(
        keys(&lab, &owner)
            .await
            .iter()
            .all(|key| key.previous.is_none())
    );
}

#[tokio::test]
async fn a_backup_of_before_the_rotation_still_serves_who_learnt_the_new_ca() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    lab.enrol(&key, "web").await;
    let old = lab.join.clone();
    let file = lab.dir.path().join("yesterday.backup");
    backup(&lab.data_dir(), &file).await.unwrap();
    let made = rotate(&lab, &owner, DeploymentKey::Ca, None).await.unwrap();
    let mut learnt = old.clone();
    assert!(learnt.learn(&[made.id.parse().unwrap(), old.ca.unwrap()]));
    assert!(is_reached(&learnt).await);
    lab.stop().await;
    fs::rename(lab.data_dir(), lab.dir.path().join("lost")).unwrap();
    restore(&file, &lab.data_dir()).await.unwrap();
    lab.run().await;
    assert_eq!(lab.join.ca, old.ca);
    let connection = Connection::open(&learnt, WITHIN).await.unwrap();
    assert!(
        connection.has_other_cas(&learnt),
        "it goes back to the old one"
    );
    // And the deployment can be rotated again.
    rotate(&lab, &owner, DeploymentKey::Ca, Some(86_400))
        .await
        .unwrap();
}
