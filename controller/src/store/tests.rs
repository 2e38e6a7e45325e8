use super::*;
use crate::registry::{Fact, Member, OrgId};
use overlan_protocol::api::NamePolicy;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId, RelayId, TunnelKey};
use tempfile::TempDir;

const NOW: u64 = 1_800_000_000;

async fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("test.db")).await.unwrap();
    (dir, store)
}

/// An organisation with one network.
async fn tenant(store: &Store, vni: u32) -> (OrgId, NetworkId) {
    let mut tx = store.write().await.unwrap();
    let org = accounts::insert_organisation(&mut tx, "Example", NOW)
        .await
        .unwrap();
    let network = NetworkId::random();
    let vni = Vni::new(vni).unwrap();
    accounts::insert_network(&mut tx, org, network, "demo", vni, NOW)
        .await
        .unwrap();
    store.commit(tx).await.unwrap();
    (org, network)
}

async fn put_key(store: &Store, org: OrgId, network: NetworkId, expires: u64) -> keys::AuthKey {
    let key = keys::AuthKey {
        id: "00112233445566".to_owned(),
        org,
        network,
        reusable: false,
        ephemeral: false,
        on_name_taken: NamePolicy::TakeOverOffline,
        expires,
        last_used: None,
        revoked: None,
        note: String::new(),
    };
    let mut tx = store.write().await.unwrap();
    keys::insert_auth_key(&mut tx, &key, &[7; 32], NOW)
        .await
        .unwrap();
    store.commit(tx).await.unwrap();
    key
}

fn gone() -> Fact {
    Fact::Gone {
        device: DeviceId([1; 16]),
        host: 1,
    }
}

#[tokio::test]
async fn the_database_opens_again_with_the_settings_we_rely_on() {
    let (dir, store) = open().await;
    let org = tenant(&store, 0x1234).await.0;
    store.close().await;
    let store = Store::open(&dir.path().join("test.db")).await.unwrap();
    let mut tx = store.write().await.unwrap();
    assert_eq!(accounts::networks(&mut tx, org).await.unwrap().len(), 1);
    for (pragma, value) in [
        ("PRAGMA journal_mode", "wal"),
        ("PRAGMA synchronous", "2"),
        ("PRAGMA foreign_keys", "1"),
    ] {
        let row = sqlx::query(pragma).fetch_one(&mut *tx).await.unwrap();
        let text: String = row.try_get_unchecked(0).unwrap();
        assert_eq!(text, value, "{pragma}");
    }
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_dir, store) = open().await;
    let mut tx = store.read().await.unwrap();
    assert!(put_setting(&mut tx, "x", b"y").await.is_err());
}

#[tokio::test]
async fn a_dropped_transaction_leaves_no_version_behind() {
    let (_dir, store) = open().await;
    let (org, network) = tenant(&store, 0x1234).await;
    let mut tx = store.write().await.unwrap();
    changes::append(&mut tx, org, Some(network), &gone(), NOW)
        .await
        .unwrap();
    drop(tx);
    let mut tx = store.write().await.unwrap();
    for _ in 0..2 {
        changes::append(&mut tx, org, Some(network), &gone(), NOW)
            .await
            .unwrap();
    }
    store.commit(tx).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let entries = changes::since(&mut tx, 1, 10).await.unwrap();
    let versions: Vec<u64> = entries.iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [2, 3]);
    assert_eq!(changes::version(&mut tx).await.unwrap(), 3);
    assert_eq!(entries[0].fact, gone());
    assert_eq!(changes::base(&mut tx, 100).await.unwrap(), 1);
    assert_eq!(changes::base(&mut tx, 1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_key_is_consumed_once_and_only_while_it_may_be() {
    let (_dir, store) = open().await;
    let (org, network) = tenant(&store, 0x1234).await;
    let key = put_key(&store, org, network, NOW + 10).await;
    let mut tx = store.write().await.unwrap();
    let late = keys::consume_auth_key(&mut tx, &key.id, &[7; 32], NOW + 10).await;
    assert!(!late.unwrap(), "at its end");
    let guessed = keys::consume_auth_key(&mut tx, &key.id, &[8; 32], NOW).await;
    assert!(!guessed.unwrap(), "with another secret");
    let first = keys::consume_auth_key(&mut tx, &key.id, &[7; 32], NOW).await;
    assert!(first.unwrap());
    let second = keys::consume_auth_key(&mut tx, &key.id, &[7; 32], NOW).await;
    assert!(!second.unwrap(), "a second time");
    let read = keys::auth_key(&mut tx, &key.id, &[7; 32]).await.unwrap();
    let read = read.unwrap();
    assert_eq!(read.last_used, Some(NOW));
    assert_eq!(read.on_name_taken, NamePolicy::TakeOverOffline);
}

#[tokio::test]
async fn another_organisation_cannot_revoke_a_key() {
    let (_dir, store) = open().await;
    let (org, network) = tenant(&store, 0x1234).await;
    let (other, _) = tenant(&store, 0x1235).await;
    let key = put_key(&store, org, network, NOW + 10).await;
    let mut tx = store.write().await.unwrap();
    let foreign = keys::revoke_auth_key(&mut tx, other, &key.id, NOW).await;
    assert!(!foreign.unwrap());
    let own = keys::revoke_auth_key(&mut tx, org, &key.id, NOW).await;
    assert!(own.unwrap());
    let consumed = keys::consume_auth_key(&mut tx, &key.id, &[7; 32], NOW).await;
    assert!(!consumed.unwrap());
}

#[tokio::test]
async fn a_vni_belongs_to_one_network() {
    let (_dir, store) = open().await;
    let (org, _) = tenant(&store, 0x1234).await;
    let mut tx = store.write().await.unwrap();
    let vni = Vni::new(0x1234).unwrap();
    let id = NetworkId::random();
    let second = accounts::insert_network(&mut tx, org, id, "other", vni, NOW).await;
    assert!(matches!(second, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn a_session_ends_when_idle_or_old() {
    let (_dir, store) = open().await;
    let (org, _) = tenant(&store, 0x1234).await;
    let mut tx = store.write().await.unwrap();
    let account = accounts::insert_account(&mut tx, org, "a@b", "x", NOW).await;
    let token = [3; 32];
    accounts::insert_session(&mut tx, &token, org, account.unwrap(), NOW, NOW + 1_000)
        .await
        .unwrap();
    for (now, lives) in [(NOW, true), (NOW + 99, true), (NOW + 100, false)] {
        let session = accounts::session(&mut tx, &token, now, 100).await.unwrap();
        assert_eq!(session.is_some(), lives, "idle since {}", now - NOW);
    }
    for (now, lives) in [(NOW + 999, true), (NOW + 1_000, false)] {
        accounts::touch_session(&mut tx, &token, now).await.unwrap();
        let session = accounts::session(&mut tx, &token, now, 100).await.unwrap();
        assert_eq!(session.is_some(), lives, "{} old", now - NOW);
    }
}

#[tokio::test]
async fn a_device_that_attached_meanwhile_is_not_deleted() {
    let (_dir, store) = open().await;
    let (org, network) = tenant(&store, 0x1234).await;
    let device = devices::Device {
        org,
        network,
        member: Member {
            device: DeviceId([1; 16]),
            host: 1,
            label: "web".to_owned(),
            identity: IdentityKey([1; 32]),
            tunnel: TunnelKey([1; 32]),
            tunnel_signature: String::new(),
            relays: vec![RelayId([1; 16]), RelayId([2; 16])],
            online: false,
        },
        ephemeral: true,
        epoch: 1,
        attach_epoch: 0,
        auth_key: None,
    };
    let mut tx = store.write().await.unwrap();
    devices::insert(&mut tx, &device, NOW * 1_000)
        .await
        .unwrap();
    let early = devices::stale_ephemeral(&mut tx, NOW * 1_000 - 1, 10).await;
    assert!(early.unwrap().is_empty());
    let stale = devices::stale_ephemeral(&mut tx, NOW * 1_000, 10).await;
    let stale = stale.unwrap();
    assert_eq!(stale[0].member, device.member);
    devices::bump_attach_epoch(&mut tx, device.member.device)
        .await
        .unwrap();
    assert!(!devices::delete(&mut tx, &stale[0]).await.unwrap());
    let current = devices::get(&mut tx, device.member.device).await.unwrap();
    assert!(devices::delete(&mut tx, &current.unwrap()).await.unwrap());
}
