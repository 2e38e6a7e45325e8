use super::*;
use crate::netmaps::{Fact, OrgId};
use crate::roster;
use crate::store::members::Membership;
use overlan_protocol::api::{NamePolicy, Role};
use overlan_protocol::frame::Vni;
use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};
use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId, RelayId, TunnelKey};
use tempfile::TempDir;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const NOW_MS: u64 = 1_800_000_000_000;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

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
    let network = network("demo", vni);
    accounts::insert_network(&mut tx, org, &network, NOW)
        .await
        .unwrap();
    store.commit(tx).await.unwrap();
    (org, network.id)
}

fn network(name: &str, vni: u32) -> accounts::NetworkRow {
    accounts::NetworkRow {
        id: NetworkId::random(),
        name: name.to_owned(),
        vni: Vni::new(vni).unwrap(),
        is_default: name == "demo",
        devices: 0,
        online: 0,
        former: Vec::new(),
    }
}

async fn put_key(
    store: &Store,
    org: OrgId,
    network: NetworkId,
    expires: UnixTime,
) -> keys::AuthKey {
    let key = keys::AuthKey {
        id: "00112233445566".to_owned(),
        org,
        networks: [network].into(),
        reusable: false,
        ephemeral: false,
        approval: false,
        on_name_taken: NamePolicy::TakeOverOffline,
        expires,
        last_used: None,
        revoked: None,
        note: String::new(),
        tags: Default::default(),
        uses: 0,
        max_uses: None,
        sources: Vec::new(),
        ephemeral_secs: None,
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
    let key = put_key(&store, org, network, NOW + secs(10)).await;
    let mut tx = store.write().await.unwrap();
    let late = keys::consume_auth_key(&mut tx, &key.id, &[7; 32], NOW + secs(10)).await;
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
    let key = put_key(&store, org, network, NOW + secs(10)).await;
    let mut tx = store.write().await.unwrap();
    let foreign = keys::revoke_auth_key(&mut tx, other, &key.id, NOW).await;
    assert_eq!(foreign.unwrap(), None);
    let own = keys::revoke_auth_key(&mut tx, org, &key.id, NOW).await;
    assert_eq!(own.unwrap().as_deref(), Some(key.note.as_str()));
    let consumed = keys::consume_auth_key(&mut tx, &key.id, &[7; 32], NOW).await;
    assert!(!consumed.unwrap());
}

#[tokio::test]
async fn a_vni_belongs_to_one_network() {
    let (_dir, store) = open().await;
    let (org, _) = tenant(&store, 0x1234).await;
    let mut tx = store.write().await.unwrap();
    let second = accounts::insert_network(&mut tx, org, &network("other", 0x1234), NOW).await;
    assert!(matches!(second, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn a_session_ends_when_idle_or_old() {
    let (_dir, store) = open().await;
    let (org, _) = tenant(&store, 0x1234).await;
    let mut tx = store.write().await.unwrap();
    let account = accounts::insert_account(&mut tx, "a@b", "x", NOW).await;
    let account = account.unwrap();
    let role = Role::Auditor;
    let place = people::Place { org, account, role };
    people::insert(&mut tx, place, NOW).await.unwrap();
    let token = [3; 32];
    let begun = sessions::Beginning {
        org,
        account,
        source: [127, 0, 0, 1].into(),
        at: NOW,
        expires: NOW + secs(1_000),
    };
    sessions::insert(&mut tx, &token, &begun).await.unwrap();
    for (now, lives) in [
        (NOW, true),
        (NOW + secs(99), true),
        (NOW + secs(100), false),
    ] {
        let session = sessions::get(&mut tx, &token, now, secs(100))
            .await
            .unwrap();
        assert_eq!(
            session.is_some(),
            lives,
            "idle since {}",
            now.since(NOW).as_secs()
        );
    }
    for (now, lives) in [(NOW + secs(999), true), (NOW + secs(1_000), false)] {
        sessions::touch(&mut tx, &token, now).await.unwrap();
        let session = sessions::get(&mut tx, &token, now, secs(100))
            .await
            .unwrap();
        assert_eq!(session.is_some(), lives, "{} old", now.since(NOW).as_secs());
    }
}

#[tokio::test]
async fn routes_that_no_gateway_may_have_are_forgotten() {
    let (_dir, store) = open().await;
    let (org, network) = tenant(&store, 0x1234).await;
    let device = device(org);
    let mut tx = store.write().await.unwrap();
    devices::insert(&mut tx, &device, NOW_MS).await.unwrap();
    let membership = place(network, host(1));
    members::insert(&mut tx, device.id, &membership, NOW)
        .await
        .unwrap();
    // An earlier version took routes to metadata services.
    sqlx::query(
        "INSERT INTO routes (device_id, network_id, route, approved, created) VALUES (?, ?,
    'fd00:ec2::254', 1, 0)",
    )
    .bind(device.id.to_string())
    .bind(network.to_string())
    .execute(&mut *tx)
    .await
    .unwrap();
    let forgotten = routes::forget_forbidden(&mut tx).await.unwrap();
    assert_eq!(forgotten, ["fd00:ec2::254"]);
    assert_eq!(routes::forget_forbidden(&mut tx).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_device_that_attached_meanwhile_is_not_deleted() {
    let (_dir, store) = open().await;
    let (org, network) = tenant(&store, 0x1234).await;
    let mut device = device(org);
    let mut tx = store.write().await.unwrap();
    devices::insert(&mut tx, &device, NOW_MS).await.unwrap();
    device.places = vec![place(network, host(1))];
    members::insert(&mut tx, device.id, &device.places[0], NOW)
        .await
        .unwrap();
    let known = devices::get(&mut tx, device.id).await.unwrap();
    assert_eq!(known, Some(device.clone()));
    let early = devices::stale_ephemeral(&mut tx, NOW_MS - 1, 0, 10).await;
    assert!(early.unwrap().is_empty());
    let stale = devices::stale_ephemeral(&mut tx, NOW_MS, 0, 10).await;
    let stale = stale.unwrap();
    assert_eq!(stale[0].id, device.id);
    devices::bump_attach_epoch(&mut tx, device.id)
        .await
        .unwrap();
    assert_eq!(devices::delete(&mut tx, &stale[0]).await.unwrap(), None);
    let route: GatewayRoute = "db.internal:5432".parse().unwrap();
    let offer = OfferedRoute::named(route.clone(), "db").unwrap();
    routes::offer(&mut tx, device.id, network, &[offer], NOW)
        .await
        .unwrap();
    routes::set_record(&mut tx, device.id, network, &route, "db.demo.overlan.lan")
        .await
        .unwrap();
    let removed = roster::remove_device(&mut tx, &stale[0], NOW).await;
    assert!(!removed.unwrap());
    let recorded = routes::recorded(&mut tx, device.id, network).await;
    assert_eq!(recorded.unwrap().len(), 1, "its names stay with it");
    let current = devices::get(&mut tx, device.id).await.unwrap();
    let deleted = devices::delete(&mut tx, &current.unwrap()).await;
    assert_eq!(deleted.unwrap(), Some(device.epoch));
    let places = members::of_device(&mut tx, device.id).await.unwrap();
    assert_eq!(places, [], "they went with it");
}

fn device(org: OrgId) -> devices::Device {
    devices::Device {
        id: DeviceId([1; 16]),
        org,
        hostname: "web".to_owned(),
        identity: IdentityKey([1; 32]),
        tunnel: TunnelKey([1; 32]),
        tunnel_signature: String::new(),
        relays: vec![RelayId([1; 16]), RelayId([2; 16])],
        online: false,
        ephemeral: true,
        epoch: 1,
        attach_epoch: 0,
        auth_key: None,
        key_note: String::new(),
        account: None,
        tags: Default::default(),
        barred: None,
        expires: None,
        version: String::new(),
        ephemeral_secs: None,
        offline_since: NOW,
        created: NOW,
        places: Vec::new(),
    }
}

fn host(number: u32) -> HostIndex {
    HostIndex::new(number).unwrap()
}

fn place(network: NetworkId, host: HostIndex) -> Membership {
    Membership {
        owner: Default::default(),
        network,
        name: "demo".to_owned(),
        vni: Vni::new(0x1234).unwrap(),
        host,
        label: "web".to_owned(),
        routes: Vec::new(),
    }
}

#[tokio::test]
async fn a_host_index_waits_for_the_device_that_had_it() {
    let (_dir, store) = open().await;
    let (org, network) = tenant(&store, 0x1234).await;
    let device = device(org);
    let place = place(network, host(7));
    let mut tx = store.write().await.unwrap();
    devices::insert(&mut tx, &device, NOW_MS).await.unwrap();
    members::insert(&mut tx, device.id, &place, NOW)
        .await
        .unwrap();
    assert!(
        members::delete(&mut tx, device.id, network).await.unwrap(),
        "it was in"
    );
    assert!(!members::delete(&mut tx, device.id, network).await.unwrap());
    members::release_host(&mut tx, org, device.id, &place, NOW)
        .await
        .unwrap();
    let taken = members::taken_hosts(&mut tx, network, NOW - secs(1)).await;
    assert_eq!(taken.unwrap(), [host(7)]);
    let stranger = members::reclaim_host(&mut tx, network, DeviceId([2; 16])).await;
    assert_eq!(stranger.unwrap(), None);
    let again = members::reclaim_host(&mut tx, network, device.id).await;
    assert_eq!(again.unwrap(), Some(host(7)));
    let taken = members::taken_hosts(&mut tx, network, NOW - secs(1)).await;
    assert_eq!(taken.unwrap(), [] as [HostIndex; 0]);
}

#[tokio::test]
async fn a_deployment_with_one_network_per_device_becomes_one_with_several() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.db");
    let old = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .foreign_keys(true);
    let pool = SqlitePoolOptions::new().connect_with(old).await.unwrap();
    let before = migrations().into_iter().filter(|step| step.version < 11);
    Migrator::with_migrations(before.collect())
        .run(&pool)
        .await
        .unwrap();
    let network = NetworkId([9; 16]);
    let row = device(OrgId(1));
    let rows = format!(
        "INSERT INTO organisations (id, name, created) VALUES (1, 'Example', {NOW});
         INSERT INTO networks (id, org_id, name, vni, is_default, created) VALUES ('{network}', 1,
         'demo', 4660, 1, {NOW});
         INSERT INTO auth_keys (id, org_id, network_id, secret, reusable, ephemeral, on_name_taken,
         expires, note, created)
             VALUES ('k1', 1, '{network}', x'{key}', 1, 0, 'suffix', {later}, 'CI', {NOW});
         INSERT INTO devices (id, org_id, network_id, host, label, identity, tunnel,
         tunnel_signature, ephemeral, epoch, auth_key,
             relays, offline_since_ms, created)
             VALUES ('{id}', 1, '{network}', 5, 'web-1', '{identity}', '{tunnel}', 'sig', 0, 3,
             'k1', '', 0, {NOW});
         INSERT INTO released_hosts (org_id, network_id, host, released) VALUES (1, '{network}', 6,
         {NOW});",
        key = "07".repeat(32),
        later = NOW + secs(100),
        id = row.id,
        identity = row.identity,
        tunnel = row.tunnel,
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows))
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;

    let store = Store::open(&path).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let known = devices::get(&mut tx, row.id).await.unwrap().unwrap();
    assert_eq!((known.epoch, known.hostname.as_str()), (3, "web-1"));
    let place = known.place(network).unwrap();
    assert_eq!((place.host.get(), place.label.as_str()), (5, "web-1"));
    let grants = members::grants(&mut tx, row.id).await.unwrap();
    assert_eq!(grants, [network].into(), "it may come back");
    let key = keys::auth_key(&mut tx, "k1", &[7; 32]).await.unwrap();
    let key = key.unwrap();
    assert_eq!(key.networks, [network].into());
    assert!(key.reusable && key.note == "CI");
    let taken = members::taken_hosts(&mut tx, network, UnixTime::EPOCH)
        .await
        .unwrap();
    assert_eq!(taken, [host(5), host(6)]);
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *tx);
    assert_eq!(broken.await.unwrap().len(), 0);
}

/// Makes the writer fail as on a full disk from here on, until the connection is another one.
async fn fill_up(store: &Store) {
    let mut tx = store.write().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1")
        .execute(&mut *tx)
        .await
        .unwrap();
    store.commit(tx).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_failed_in_a_transaction_is_not_used_again() {
    let (_dir, store) = open().await;
    let big = vec![7; 1 << 20];
    for _ in 0..3 {
        fill_up(&store).await;
        let mut tx = store.write().await.unwrap();
        // SQLite rolls back by itself, and the ROLLBACK that comes later fails.
        assert!(put_setting(&mut tx, "big", &big).await.is_err());
        drop(tx);
        let mut tx = store.write().await.unwrap();
        put_setting(&mut tx, "small", b"x").await.unwrap();
        store.commit(tx).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_that_fails_blocks_nobody() {
    let (_dir, store) = open().await;
    tenant(&store, 0x1234).await;
    for _ in 0..3 {
        let mut tx = store.write().await.unwrap();
        for statement in [
            "PRAGMA defer_foreign_keys = ON",
            "DELETE FROM organisations",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.unwrap();
        }
        assert!(store.commit(tx).await.is_err());
        let mut tx = store.write().await.unwrap();
        put_setting(&mut tx, "small", b"x").await.unwrap();
        store.commit(tx).await.unwrap();
    }
}

#[test]
fn every_step_of_the_folder_is_taken_in_order() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut files: Vec<i64> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|name| name.split_once('_').unwrap().0.parse().unwrap())
        .collect();
    files.sort_unstable();
    let steps: Vec<i64> = migrations().iter().map(|step| step.version).collect();
    assert_eq!(steps, files);
}
