//! Holders of names in a network: one table for devices, records and wishes, so that a name never
//! means two things.

use std::collections::BTreeSet;

use overlan_protocol::key::{DeviceId, NetworkId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, parsed};
use crate::netmaps::OrgId;

/// The holder of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// It is the label of a device.
    Device(DeviceId),
    /// Records give its place.
    Records,
    /// A device wishes to serve a gateway host by it.
    Wish(DeviceId),
}

/// A network of the deployment.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) org: OrgId,
    pub(crate) id: NetworkId,
    pub(crate) name: String,
}

/// Returns the holder of `name`, which is relative to the network's domain.
pub(crate) async fn holder(
    tx: &mut Tx,
    network: NetworkId,
    name: &str,
) -> Result<Option<Holder>, StoreError> {
    let row = sqlx::query("SELECT kind, device_id FROM names WHERE network_id = ? AND name = ?")
        .bind(network.to_string())
        .bind(name)
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns the names of a network that begin with `prefix`, in lower case.
pub(crate) async fn like(
    tx: &mut Tx,
    network: NetworkId,
    prefix: &str,
) -> Result<BTreeSet<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT lower(name) AS name FROM names WHERE network_id = ?1 AND lower(substr(name, 1,
             length(?2))) = ?2",
    )
    .bind(network.to_string())
    .bind(prefix)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
}

/// Gives a free name to a device as its label; `Conflict` if it is taken.
pub(super) async fn give(
    tx: &mut Tx,
    network: NetworkId,
    device: DeviceId,
    label: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO names (network_id, name, kind, device_id) VALUES (?, ?, 'device', ?)")
        .bind(network.to_string())
        .bind(label)
        .bind(device.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Gives a device another label, which is free.
pub(crate) async fn rename(
    tx: &mut Tx,
    network: NetworkId,
    device: DeviceId,
    label: &str,
) -> Result<(), StoreError> {
    for statement in [
        "UPDATE names SET name = ? WHERE kind = 'device' AND device_id = ? AND network_id = ?",
        "UPDATE members SET label = ? WHERE device_id = ? AND network_id = ?",
    ] {
        sqlx::query(statement)
            .bind(label)
            .bind(device.to_string())
            .bind(network.to_string())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Holds an absolute name for its records if it is below the network's domain: a wish gives way.
/// `Conflict` if it is a device's name and the records give it a place; other records are notes
/// about the device.
pub(super) async fn hold_for_records(
    tx: &mut Tx,
    network: NetworkId,
    name: &str,
    say_where: bool,
) -> Result<(), StoreError> {
    let Some(name) = relative(tx, network, name).await? else {
        return Ok(());
    };
    let held = sqlx::query(
        "INSERT INTO names (network_id, name, kind, device_id) VALUES (?, ?, 'record', NULL)
         ON CONFLICT (network_id, name) DO UPDATE SET kind = 'record', device_id = NULL
         WHERE kind <> 'device'",
    )
    .bind(network.to_string())
    .bind(name)
    .execute(&mut **tx)
    .await?;
    match held.rows_affected() {
        0 if say_where => Err(StoreError::Conflict),
        _ => Ok(()),
    }
}

/// Frees an absolute name whose last record is gone.
pub(super) async fn free_of_records(
    tx: &mut Tx,
    network: NetworkId,
    name: &str,
) -> Result<(), StoreError> {
    if let Some(name) = relative(tx, network, name).await? {
        sqlx::query("DELETE FROM names WHERE network_id = ? AND name = ? AND kind = 'record'")
            .bind(network.to_string())
            .bind(name)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Replaces the names that a device holds by wishes in the network: it gets the free ones of its
/// first [`WISHES_HELD_MAX`] wishes that nobody has approved.
pub(super) async fn hold_for_wishes(
    tx: &mut Tx,
    network: NetworkId,
    device: DeviceId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM names WHERE kind = 'wish' AND device_id = ? AND network_id = ?")
        .bind(device.to_string())
        .bind(network.to_string())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT OR IGNORE INTO names (network_id, name, kind, device_id)
             SELECT DISTINCT network_id, name, 'wish', device_id FROM routes
             WHERE device_id = ? AND network_id = ? AND approved = 0 AND name IS NOT NULL
             ORDER BY created, route LIMIT ?",
    )
    .bind(device.to_string())
    .bind(network.to_string())
    .bind(WISHES_HELD_MAX)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns all networks of the deployment.
pub(crate) async fn networks(tx: &mut Tx) -> Result<Vec<Named>, StoreError> {
    let rows = sqlx::query("SELECT id, org_id, name FROM networks ORDER BY id")
        .fetch_all(&mut **tx)
        .await?;
    let named = |row: &SqliteRow| {
        Ok(Named {
            org: OrgId(row.try_get("org_id")?),
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
        })
    };
    rows.iter().map(named).collect()
}

/// Forgets the names that records and wishes hold, to fill them in again.
pub(crate) async fn clear(tx: &mut Tx) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM names WHERE kind <> 'device'")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Holds the names of a network's records and wishes again, as far as they are free.
pub(crate) async fn fill(
    tx: &mut Tx,
    network: NetworkId,
    records: impl IntoIterator<Item = &String>,
) -> Result<(), StoreError> {
    for name in records {
        // Notes about a device do not hold its name.
        hold_for_records(tx, network, name, false).await?;
    }
    let rows = sqlx::query(
        "SELECT DISTINCT device_id FROM routes WHERE network_id = ? AND name IS NOT NULL",
    )
    .bind(network.to_string())
    .fetch_all(&mut **tx)
    .await?;
    for row in &rows {
        hold_for_wishes(tx, network, parsed(row, "device_id")?).await?;
    }
    Ok(())
}

/// Returns a name without the network's domain; `None` if it is not below that.
async fn relative(
    tx: &mut Tx,
    network: NetworkId,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT '.' || n.name || '.' || CAST(s.value AS TEXT) AS end FROM networks n,
             settings s WHERE n.id = ? AND s.name = ?",
    )
    .bind(network.to_string())
    .bind(DOMAIN)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let end: String = row.try_get("end")?;
    Ok(name.strip_suffix(&end).map(str::to_owned))
}

fn read(row: &SqliteRow) -> Result<Holder, StoreError> {
    let kind: String = row.try_get("kind")?;
    Ok(match kind.as_str() {
        "device" => Holder::Device(parsed(row, "device_id")?),
        "record" => Holder::Records,
        "wish" => Holder::Wish(parsed(row, "device_id")?),
        _ => return Err(damaged("kind")),
    })
}

/// Setting that holds the deployment's domain, with which names of records end.
pub(crate) const DOMAIN: &str = "domain";

/// Names that one device holds in a network by wishes that nobody has approved: enough for the
/// hosts of one gateway that wait together, and few enough that no device blocks a network's names.
const WISHES_HELD_MAX: u32 = 8;
