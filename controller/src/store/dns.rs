//! Records and zones of networks. The API decides who may have which name; every change goes into
//! the change log here.

use std::collections::BTreeMap;

use overlan_protocol::UnixTime;
use overlan_protocol::dns::{Dns, Record, Zone};
use overlan_protocol::key::NetworkId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, changes, damaged, former_names, names, seconds};
use crate::netmaps::{Fact, OrgId};
use crate::records::says_where;

/// Returns all DNS settings of a network.
pub(crate) async fn settings(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<Dns, StoreError> {
    let rows = sqlx::query("SELECT zone, via FROM dns_zones WHERE org_id = ? AND network_id = ?")
        .bind(org.0)
        .bind(network.to_string())
        .fetch_all(&mut **tx)
        .await?;
    let zones = rows.iter().map(zone).collect::<Result<_, _>>()?;
    let rows = sqlx::query(
        "SELECT name, kind, value FROM dns_records WHERE org_id = ? AND network_id = ?
             ORDER BY name, kind, value",
    )
    .bind(org.0)
    .bind(network.to_string())
    .fetch_all(&mut **tx)
    .await?;
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for row in &rows {
        records
            .entry(row.try_get("name")?)
            .or_default()
            .push(record(row)?);
    }
    Ok(Dns {
        zones,
        records,
        former: former_names::of_network(tx, network).await?,
    })
}

/// Sets the records of one name; an empty list removes the name. `Conflict` if it is a device's
/// name and the records give it a place.
pub(crate) async fn set_records(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    name: &str,
    records: &[Record],
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM dns_records WHERE org_id = ? AND network_id = ? AND name = ?")
        .bind(org.0)
        .bind(network.to_string())
        .bind(name)
        .execute(&mut **tx)
        .await?;
    for record in records {
        sqlx::query(
            "INSERT INTO dns_records (org_id, network_id, name, kind, value, created) VALUES (?, ?,
                 ?, ?, ?, ?)",
        )
        .bind(org.0)
        .bind(network.to_string())
        .bind(name)
        .bind(record.kind())
        .bind(record.value())
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    }
    match records {
        [] => names::free_of_records(tx, network, name).await?,
        _ => {
            let say_where = records.iter().any(says_where);
            names::hold_for_records(tx, network, name, say_where).await?;
        }
    }
    let fact = Fact::DnsRecords {
        name: name.to_owned(),
        records: records.to_vec(),
    };
    changes::append(tx, org, Some(network), &fact, now).await
}

/// Sets or removes a zone.
pub(crate) async fn set_zone(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    zone: &str,
    settings: Option<&Zone>,
    now: UnixTime,
) -> Result<(), StoreError> {
    match settings {
        Some(settings) => {
            let via = serde_json::to_string(&settings.via)
                .map_err(|error| StoreError::Failed(error.to_string()))?;
            sqlx::query(
                "INSERT INTO dns_zones (org_id, network_id, zone, via, created) VALUES (?, ?, ?, ?,
                     ?)
                 ON CONFLICT (network_id, zone) DO UPDATE SET via = excluded.via",
            )
            .bind(org.0)
            .bind(network.to_string())
            .bind(zone)
            .bind(via)
            .bind(seconds(now))
            .execute(&mut **tx)
            .await?;
        }
        None => {
            sqlx::query("DELETE FROM dns_zones WHERE org_id = ? AND network_id = ? AND zone = ?")
                .bind(org.0)
                .bind(network.to_string())
                .bind(zone)
                .execute(&mut **tx)
                .await?;
        }
    }
    let fact = Fact::DnsZone {
        zone: zone.to_owned(),
        settings: settings.cloned(),
    };
    changes::append(tx, org, Some(network), &fact, now).await
}

fn zone(row: &SqliteRow) -> Result<(String, Zone), StoreError> {
    let via: String = row.try_get("via")?;
    let via = serde_json::from_str(&via).map_err(|_| damaged("via"))?;
    Ok((row.try_get("zone")?, Zone { via }))
}

fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    let kind: String = row.try_get("kind")?;
    let value: String = row.try_get("value")?;
    Record::parse(&kind, &value).map_err(|_| damaged("value"))
}
