//! The change log.

use overlan_protocol::UnixTime;
use overlan_protocol::key::NetworkId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, seconds, signed, unsigned};
use crate::netmaps::{Entry, Fact, OrgId};

/// Returns the newest version.
pub(crate) async fn version(tx: &mut Tx) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT version FROM counter")
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "version")
}

/// Appends an entry under the next version.
pub(crate) async fn append(
    tx: &mut Tx,
    org: OrgId,
    network: Option<NetworkId>,
    fact: &Fact,
    now: UnixTime,
) -> Result<(), StoreError> {
    let row = sqlx::query("UPDATE counter SET version = version + 1 RETURNING version")
        .fetch_one(&mut **tx)
        .await?;
    let version: i64 = row.try_get("version")?;
    let (kind, key) = match fact {
        Fact::Device(member) => ("device", member.device.to_string()),
        Fact::Joined(member) => ("joined", member.device.to_string()),
        Fact::Left { device, .. } => ("left", device.to_string()),
        Fact::Gone { device, .. } => ("gone", device.to_string()),
        Fact::Barred { device, .. } => ("barred", device.to_string()),
        Fact::Online { device, .. } => ("online", device.to_string()),
        Fact::Relay { id, .. } => ("relay", id.to_string()),
        Fact::RelayGone { id } => ("relay_gone", id.to_string()),
        Fact::DnsRecords { name, .. } => ("dns_records", name.clone()),
        Fact::DnsZone { zone, .. } => ("dns_zone", zone.clone()),
        Fact::Network => ("network", String::new()),
        Fact::Policy => ("policy", String::new()),
    };
    let payload =
        serde_json::to_string(fact).map_err(|error| StoreError::Failed(error.to_string()))?;
    sqlx::query(
        "INSERT INTO changes (version, org_id, network_id, kind, key, payload, at) VALUES (?, ?, ?,
             ?, ?, ?, ?)",
    )
    .bind(version)
    .bind(org.0)
    .bind(network.map(|network| network.to_string()))
    .bind(kind)
    .bind(key)
    .bind(payload)
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    match fact.is_of_policy() {
        true => mark_policy(tx, org, network, version).await,
        false => Ok(()),
    }
}

/// Notes in a network, or in all of an organisation, that something which policy looks at changed.
async fn mark_policy(
    tx: &mut Tx,
    org: OrgId,
    network: Option<NetworkId>,
    version: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE networks SET policy_at = ? WHERE org_id = ? AND id = coalesce(?, id)")
        .bind(version)
        .bind(org.0)
        .bind(network.map(|network| network.to_string()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns entries after `from` in order, at most `limit`.
pub(crate) async fn since(tx: &mut Tx, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query(
        "SELECT version, org_id, network_id, payload FROM changes WHERE version > ?
             ORDER BY version LIMIT ?",
    )
    .bind(signed(from))
    .bind(signed(limit as u64))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let network: Option<String> = row.try_get("network_id")?;
    let network = network
        .map(|text| text.parse().map_err(|_| damaged("network_id")))
        .transpose()?;
    let payload: String = row.try_get("payload")?;
    Ok(Entry {
        version: unsigned(row, "version")?,
        org: OrgId(row.try_get("org_id")?),
        network,
        fact: serde_json::from_str(&payload).map_err(|_| damaged("payload"))?,
    })
}

/// Returns the version before the oldest of the newest `keep` entries.
pub(crate) async fn base(tx: &mut Tx, keep: u64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT max((SELECT version FROM counter) - ?,
             coalesce((SELECT min(version) - 1 FROM changes), (SELECT version
             FROM counter))) AS base",
    )
    .bind(signed(keep))
    .fetch_one(&mut **tx)
    .await?;
    unsigned(&row, "base")
}

/// Removes all but the newest `keep` entries.
pub(crate) async fn prune(tx: &mut Tx, keep: u64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM changes WHERE version <= (SELECT version FROM counter) - ?")
        .bind(signed(keep))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Forgets all entries under a new version: a device with an older map gets a whole one.
pub(crate) async fn restart(tx: &mut Tx) -> Result<(), StoreError> {
    for statement in [
        "UPDATE counter SET version = version + 1",
        "DELETE FROM changes",
    ] {
        sqlx::query(statement).execute(&mut **tx).await?;
    }
    Ok(())
}
