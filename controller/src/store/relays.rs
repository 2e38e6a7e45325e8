//! Relays and their orders.

use std::collections::BTreeMap;

use overlan_protocol::UnixTime;
use overlan_protocol::api::RelayTokenSummary;
use overlan_protocol::key::{DeviceId, Fingerprint, IdentityKey, RelayId};
use overlan_protocol::netmap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, parsed, seconds, time, unsigned};
use crate::netmaps::OrgId;
use crate::placement::Candidate;

/// A registered relay.
#[derive(Debug, Clone)]
pub(crate) struct RelayRow {
    pub(crate) id: RelayId,
    pub(crate) org: OrgId,
    pub(crate) name: String,
    pub(crate) identity: IdentityKey,
    pub(crate) addresses: Vec<String>,
    pub(crate) pins: Vec<Fingerprint>,
    pub(crate) online: bool,
}

impl RelayRow {
    /// Returns the relay as devices see it.
    pub(crate) fn public(&self) -> netmap::Relay {
        netmap::Relay {
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            pins: self.pins.clone(),
        }
    }
}

/// Makes a relay, or replaces the one with the same id.
pub(crate) async fn put(tx: &mut Tx, relay: &RelayRow, now: UnixTime) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO relays (id, org_id, name, identity, addresses, pins, online, created)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET identity = excluded.identity,
         addresses = excluded.addresses, pins = excluded.pins,
             online = excluded.online",
    )
    .bind(relay.id.to_string())
    .bind(relay.org.0)
    .bind(&relay.name)
    .bind(relay.identity.to_string())
    .bind(to_json(&relay.addresses)?)
    .bind(to_json(&relay.pins)?)
    .bind(relay.online)
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the relay with this id, of any organisation: for callers that then prove to be it.
pub(crate) async fn get(tx: &mut Tx, id: RelayId) -> Result<Option<RelayRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM relays WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(relay).transpose()
}

/// Returns the organisation's relays by name.
pub(crate) async fn list(tx: &mut Tx, org: OrgId) -> Result<Vec<RelayRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM relays WHERE org_id = ? ORDER BY name")
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(relay).collect()
}

/// Removes a relay, and the tokens that would register one of its name.
pub(crate) async fn delete(tx: &mut Tx, org: OrgId, id: RelayId) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM relay_tokens WHERE org_id = ?1 AND name = (SELECT name FROM relays
             WHERE id = ?2)",
        "DELETE FROM relays WHERE org_id = ?1 AND id = ?2",
    ] {
        sqlx::query(statement)
            .bind(org.0)
            .bind(id.to_string())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Returns the tokens of an organisation by name, newest first, at most `limit`.
pub(crate) async fn tokens(
    tx: &mut Tx,
    org: OrgId,
    limit: u32,
) -> Result<Vec<RelayTokenSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, expires, used FROM relay_tokens WHERE org_id = ? ORDER BY name,
             created DESC, id LIMIT ?",
    )
    .bind(org.0)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    let token = |row: &SqliteRow| {
        Ok(RelayTokenSummary {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            expires: time(row, "expires")?,
            used: row.try_get::<Option<i64>, _>("used")?.is_some(),
        })
    };
    rows.iter().map(token).collect()
}

/// Removes a token, used or not; returns the name that it was for, if there was one. A relay that
/// it registered stays.
pub(crate) async fn revoke_token(
    tx: &mut Tx,
    org: OrgId,
    id: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("DELETE FROM relay_tokens WHERE org_id = ? AND id = ? RETURNING name")
        .bind(org.0)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| row.try_get("name")).transpose()?)
}

/// Returns the relays that were online when the last process ended.
pub(crate) async fn online(tx: &mut Tx) -> Result<Vec<RelayId>, StoreError> {
    let rows = sqlx::query("SELECT id FROM relays WHERE online = 1")
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// Returns the organisation's relays as placement needs them.
pub(crate) async fn candidates(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<RelayId, Candidate>, StoreError> {
    let rows = sqlx::query(
        "SELECT r.id, r.online, (SELECT count(*) FROM devices d WHERE d.org_id = r.org_id
             AND substr(d.relays, 1, 32) = r.id)
             AS homed
         FROM relays r WHERE r.org_id = ?",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| {
            let candidate = Candidate {
                online: row.try_get("online")?,
                homed: unsigned(row, "homed")?,
            };
            Ok((parsed(row, "id")?, candidate))
        })
        .collect()
}

/// Returns the version of the organisation's orders.
pub(crate) async fn orders_version(tx: &mut Tx, org: OrgId) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT orders_version FROM organisations WHERE id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "orders_version")
}

/// Raises the version of the orders of every organisation.
pub(crate) async fn bump_orders(tx: &mut Tx) -> Result<(), StoreError> {
    sqlx::query("UPDATE organisations SET orders_version = orders_version + 1")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the organisation's devices revoked after `after`, with their epochs.
pub(crate) async fn revoked(
    tx: &mut Tx,
    org: OrgId,
    after: UnixTime,
) -> Result<Vec<(DeviceId, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT device_id, epoch FROM revocations WHERE org_id = ? AND at > ? ORDER BY at",
    )
    .bind(org.0)
    .bind(seconds(after))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| Ok((parsed(row, "device_id")?, unsigned(row, "epoch")?)))
        .collect()
}

fn relay(row: &SqliteRow) -> Result<RelayRow, StoreError> {
    Ok(RelayRow {
        id: parsed(row, "id")?,
        org: OrgId(row.try_get("org_id")?),
        name: row.try_get("name")?,
        identity: parsed(row, "identity")?,
        addresses: from_json(row, "addresses")?,
        pins: from_json(row, "pins")?,
        online: row.try_get("online")?,
    })
}

fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|_| damaged(column))
}
