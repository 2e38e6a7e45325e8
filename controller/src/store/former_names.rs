//! Names that networks had before, and the records that follow a network to its new name.

use std::collections::BTreeMap;

use overlan_protocol::UnixTime;
use overlan_protocol::api::FormerName;
use overlan_protocol::key::NetworkId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, parsed, seconds, time};
use crate::netmaps::OrgId;

/// Gives a network another name, which no network of the organisation has.
pub(crate) async fn rename(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    name: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM former_names WHERE org_id = ? AND name = ? AND network_id = ?")
        .bind(org.0)
        .bind(name)
        .bind(network.to_string())
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE networks SET name = ? WHERE org_id = ? AND id = ?")
        .bind(name)
        .bind(org.0)
        .bind(network.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Keeps a name for the network that had it.
pub(crate) async fn keep(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    former: &FormerName,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO former_names (org_id, name, network_id, until) VALUES (?, ?, ?, ?)")
        .bind(org.0)
        .bind(&former.name)
        .bind(network.to_string())
        .bind(seconds(former.until))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the former names of an organisation's networks, by name.
pub(super) async fn of_org(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<NetworkId, Vec<FormerName>>, StoreError> {
    let rows = sqlx::query("SELECT * FROM former_names WHERE org_id = ? ORDER BY name")
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?;
    let mut names: BTreeMap<NetworkId, Vec<FormerName>> = BTreeMap::new();
    for row in &rows {
        let network = parsed(row, "network_id")?;
        names.entry(network).or_default().push(read(row)?);
    }
    Ok(names)
}

/// Returns the former names of a network.
pub(super) async fn of_network(tx: &mut Tx, network: NetworkId) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT name FROM former_names WHERE network_id = ? ORDER BY name")
        .bind(network.to_string())
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
}

/// Says whether a name is kept no longer than until `now`.
pub(crate) async fn is_any_over(tx: &mut Tx, now: UnixTime) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT count(*) AS names FROM former_names WHERE until <= ?")
        .bind(seconds(now))
        .fetch_one(&mut **tx)
        .await?;
    Ok(row.try_get::<i64, _>("names")? > 0)
}

/// Frees the names that are kept no longer than until `now`; returns whose they were.
pub(crate) async fn free(
    tx: &mut Tx,
    now: UnixTime,
) -> Result<Vec<(OrgId, NetworkId, String)>, StoreError> {
    let rows =
        sqlx::query("DELETE FROM former_names WHERE until <= ? RETURNING org_id, network_id, name")
            .bind(seconds(now))
            .fetch_all(&mut **tx)
            .await?;
    rows.iter()
        .map(|row| {
            let org = OrgId(row.try_get("org_id")?);
            Ok((org, parsed(row, "network_id")?, row.try_get("name")?))
        })
        .collect()
}

/// Moves the name `old` and those below it to `new`, in records of all networks of the organisation
/// and in what their aliases and services point to. Returns the networks whose records changed.
pub(crate) async fn move_records(
    tx: &mut Tx,
    org: OrgId,
    old: &str,
    new: &str,
) -> Result<Vec<NetworkId>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT network_id FROM dns_records WHERE org_id = ?1 AND (name = ?2
             OR substr(name, length(name) - length(?2)) = '.' || ?2
             OR (kind IN ('CNAME', 'SRV') AND (value = ?2
                 OR substr(value, length(value) - length(?2)) IN ('.' || ?2, ' ' || ?2))))",
    )
    .bind(org.0)
    .bind(old)
    .fetch_all(&mut **tx)
    .await?;
    let networks = rows.iter().map(|row| parsed(row, "network_id"));
    let networks = networks.collect::<Result<Vec<NetworkId>, StoreError>>()?;
    for statement in [
        "UPDATE OR REPLACE dns_records
             SET name = substr(name, 1, length(name) - length(?2)) || ?3
             WHERE org_id = ?1
             AND (name = ?2 OR substr(name, length(name) - length(?2)) = '.' || ?2)",
        "UPDATE OR REPLACE dns_records
             SET value = substr(value, 1, length(value) - length(?2)) || ?3
             WHERE org_id = ?1 AND kind IN ('CNAME', 'SRV') AND (value = ?2
             OR substr(value, length(value) - length(?2)) IN ('.' || ?2, ' ' || ?2))",
        "UPDATE routes SET record = substr(record, 1, length(record) - length(?2)) || ?3
             WHERE network_id IN (SELECT id FROM networks WHERE org_id = ?1)
             AND substr(record, length(record) - length(?2)) = '.' || ?2",
    ] {
        sqlx::query(statement)
            .bind(org.0)
            .bind(old)
            .bind(new)
            .execute(&mut **tx)
            .await?;
    }
    Ok(networks)
}

fn read(row: &SqliteRow) -> Result<FormerName, StoreError> {
    Ok(FormerName {
        name: row.try_get("name")?,
        until: time(row, "until")?,
    })
}
