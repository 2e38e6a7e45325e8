//! Tags of devices and of auth keys.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::key::{DeviceId, NetworkId};
use overlan_protocol::tag::Tag;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, parsed};
use crate::netmaps::OrgId;

/// Writes the tags of a device in place of those that it had.
pub(crate) async fn set(
    tx: &mut Tx,
    device: DeviceId,
    tags: &BTreeSet<Tag>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM device_tags WHERE device_id = ?")
        .bind(device.to_string())
        .execute(&mut **tx)
        .await?;
    for tag in tags {
        sqlx::query("INSERT INTO device_tags (device_id, tag) VALUES (?, ?)")
            .bind(device.to_string())
            .bind(tag.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Returns the tags of a device.
pub(super) async fn of_device(tx: &mut Tx, device: DeviceId) -> Result<BTreeSet<Tag>, StoreError> {
    let rows = sqlx::query("SELECT tag FROM device_tags WHERE device_id = ?")
        .bind(device.to_string())
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "tag")).collect()
}

/// Returns the tags of the organisation's devices that have any.
pub(super) async fn of_org(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<DeviceId, BTreeSet<Tag>>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.device_id, t.tag FROM device_tags t JOIN devices d ON d.id = t.device_id
         WHERE d.org_id = ?",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    by_device(&rows)
}

/// Returns the tags of a network's members that have any.
pub(super) async fn of_network(
    tx: &mut Tx,
    network: NetworkId,
) -> Result<BTreeMap<DeviceId, BTreeSet<Tag>>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.device_id, t.tag FROM device_tags t JOIN members m
             ON m.device_id = t.device_id WHERE m.network_id = ?",
    )
    .bind(network.to_string())
    .fetch_all(&mut **tx)
    .await?;
    by_device(&rows)
}

/// Writes the tags of a new auth key.
pub(super) async fn insert_of_key(
    tx: &mut Tx,
    key: &str,
    tags: &BTreeSet<Tag>,
) -> Result<(), StoreError> {
    for tag in tags {
        sqlx::query("INSERT INTO auth_key_tags (key_id, tag) VALUES (?, ?)")
            .bind(key)
            .bind(tag.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Returns the tags of an auth key.
pub(super) async fn of_key(tx: &mut Tx, key: &str) -> Result<BTreeSet<Tag>, StoreError> {
    let rows = sqlx::query("SELECT tag FROM auth_key_tags WHERE key_id = ?")
        .bind(key)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "tag")).collect()
}

/// Returns the tags of the organisation's auth keys that have any.
pub(super) async fn of_keys(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<String, BTreeSet<Tag>>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.key_id, t.tag FROM auth_key_tags t JOIN auth_keys k ON k.id = t.key_id
         WHERE k.org_id = ?",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    let mut tags: BTreeMap<String, BTreeSet<Tag>> = BTreeMap::new();
    for row in &rows {
        let key = row.try_get("key_id")?;
        tags.entry(key).or_default().insert(parsed(row, "tag")?);
    }
    Ok(tags)
}

fn by_device(rows: &[SqliteRow]) -> Result<BTreeMap<DeviceId, BTreeSet<Tag>>, StoreError> {
    let mut tags: BTreeMap<DeviceId, BTreeSet<Tag>> = BTreeMap::new();
    for row in rows {
        let device = parsed(row, "device_id")?;
        tags.entry(device).or_default().insert(parsed(row, "tag")?);
    }
    Ok(tags)
}
