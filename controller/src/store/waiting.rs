//! Devices that wait for a person's approval, and the networks that they wait for.

use std::collections::BTreeMap;

use overlan_protocol::key::{DeviceId, NetworkId};
use sqlx::Row;

use super::{StoreError, Tx, parsed, unsigned};
use crate::netmaps::OrgId;

/// A network that a device waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AwaitedNetwork {
    pub(crate) network: NetworkId,
    /// It joins at the approval; otherwise it gets the right to join by itself.
    pub(crate) joins: bool,
}

/// Lets a new device wait.
pub(crate) async fn insert(
    tx: &mut Tx,
    device: DeviceId,
    waiting: AwaitedNetwork,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO waiting (device_id, network_id, joins) VALUES (?, ?, ?)")
        .bind(device.to_string())
        .bind(waiting.network.to_string())
        .bind(waiting.joins)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the networks that a device waits for; none if it does not wait.
pub(crate) async fn of_device(
    tx: &mut Tx,
    device: DeviceId,
) -> Result<Vec<AwaitedNetwork>, StoreError> {
    let rows = sqlx::query(
        "SELECT w.network_id, w.joins FROM waiting w JOIN networks n ON n.id = w.network_id
             WHERE w.device_id = ? ORDER BY n.name",
    )
    .bind(device.to_string())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(AwaitedNetwork {
                network: parsed(row, "network_id")?,
                joins: row.try_get("joins")?,
            })
        })
        .collect()
}

/// Returns the labels of the networks that each device of an organisation waits to join.
pub(crate) async fn of_org(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<DeviceId, Vec<String>>, StoreError> {
    let rows = sqlx::query(
        "SELECT w.device_id, n.name FROM waiting w JOIN networks n ON n.id = w.network_id
         WHERE n.org_id = ? AND w.joins = 1 ORDER BY n.name",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    let mut names: BTreeMap<DeviceId, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let device = parsed(row, "device_id")?;
        names.entry(device).or_default().push(row.try_get("name")?);
    }
    Ok(names)
}

/// Returns the number of an organisation's devices that wait.
pub(crate) async fn count(tx: &mut Tx, org: OrgId) -> Result<u32, StoreError> {
    let row = sqlx::query(
        "SELECT count(DISTINCT w.device_id) AS devices FROM waiting w
             JOIN networks n ON n.id = w.network_id WHERE n.org_id = ?",
    )
    .bind(org.0)
    .fetch_one(&mut **tx)
    .await?;
    unsigned(&row, "devices")
}

/// Returns the number of waiting devices that this key enrolled. The device that asks is written
/// already, and does not wait yet.
pub(crate) async fn count_of_key(tx: &mut Tx, key: &str) -> Result<u32, StoreError> {
    let row = sqlx::query(
        "SELECT count(DISTINCT w.device_id) AS devices FROM waiting w
             JOIN devices d ON d.id = w.device_id WHERE d.auth_key = ?",
    )
    .bind(key)
    .fetch_one(&mut **tx)
    .await?;
    unsigned(&row, "devices")
}

/// Ends the waiting of a device: for one network, or for all.
pub(crate) async fn end(
    tx: &mut Tx,
    device: DeviceId,
    network: Option<NetworkId>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM waiting WHERE device_id = ?1 AND (?2 IS NULL OR network_id = ?2)")
        .bind(device.to_string())
        .bind(network.map(|network| network.to_string()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
