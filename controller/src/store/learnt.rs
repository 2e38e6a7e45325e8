//! The CA that each device and relay has stored, and the organisation whose owners rotate it.

use overlan_protocol::key::{DeviceId, Fingerprint, RelayId};
use sqlx::Row;

use super::{StoreError, Tx, damaged, put_setting, setting, unsigned};
use crate::netmaps::OrgId;

/// Returns the CA that a device has stored, by its own word.
pub(crate) async fn of_device(
    tx: &mut Tx,
    id: DeviceId,
) -> Result<Option<Fingerprint>, StoreError> {
    of(tx, "SELECT ca FROM devices WHERE id = ?", &id.to_string()).await
}

/// Returns the CA that a relay has stored, by its own word.
pub(crate) async fn of_relay(tx: &mut Tx, id: RelayId) -> Result<Option<Fingerprint>, StoreError> {
    of(tx, "SELECT ca FROM relays WHERE id = ?", &id.to_string()).await
}

async fn of(tx: &mut Tx, query: &'static str, id: &str) -> Result<Option<Fingerprint>, StoreError> {
    let row = sqlx::query(query)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let ca: Option<Vec<u8>> = row.try_get("ca")?;
    Ok(ca.and_then(|ca| ca.try_into().ok()).map(Fingerprint))
}

/// Notes the CA that a device has stored.
pub(crate) async fn set_of_device(
    tx: &mut Tx,
    id: DeviceId,
    ca: Fingerprint,
) -> Result<(), StoreError> {
    set(
        tx,
        "UPDATE devices SET ca = ? WHERE id = ?",
        &id.to_string(),
        ca,
    )
    .await
}

/// Notes the CA that a relay has stored.
pub(crate) async fn set_of_relay(
    tx: &mut Tx,
    id: RelayId,
    ca: Fingerprint,
) -> Result<(), StoreError> {
    set(
        tx,
        "UPDATE relays SET ca = ? WHERE id = ?",
        &id.to_string(),
        ca,
    )
    .await
}

async fn set(
    tx: &mut Tx,
    query: &'static str,
    id: &str,
    ca: Fingerprint,
) -> Result<(), StoreError> {
    let query = sqlx::query(query).bind(ca.0.to_vec()).bind(id);
    query.execute(&mut **tx).await?;
    Ok(())
}

/// The devices and relays of all organisations, and those that do not know a CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Without {
    pub(crate) devices: u64,
    pub(crate) devices_of: u64,
    pub(crate) relays: u64,
    pub(crate) relays_of: u64,
}

/// Counts who has not said that it knows `ca`.
pub(crate) async fn without(tx: &mut Tx, ca: Fingerprint) -> Result<Without, StoreError> {
    let row = sqlx::query(
        "SELECT
            (SELECT count(*) FROM devices) AS devices_of,
            (SELECT count(*) FROM devices WHERE ca IS NULL OR ca <> ?) AS devices,
            (SELECT count(*) FROM relays) AS relays_of,
            (SELECT count(*) FROM relays WHERE ca IS NULL OR ca <> ?) AS relays",
    )
    .bind(ca.0.to_vec())
    .bind(ca.0.to_vec())
    .fetch_one(&mut **tx)
    .await?;
    Ok(Without {
        devices: unsigned(&row, "devices")?,
        devices_of: unsigned(&row, "devices_of")?,
        relays: unsigned(&row, "relays")?,
        relays_of: unsigned(&row, "relays_of")?,
    })
}

/// Notes the organisation of the operator.
pub(crate) async fn set_operator(tx: &mut Tx, org: OrgId) -> Result<(), StoreError> {
    put_setting(tx, OPERATOR, org.0.to_string().as_bytes()).await
}

/// Returns the organisation of the operator, once setup was done.
pub(crate) async fn operator(tx: &mut Tx) -> Result<Option<OrgId>, StoreError> {
    let Some(stored) = setting(tx, OPERATOR).await? else {
        return Ok(None);
    };
    let number = String::from_utf8(stored)
        .ok()
        .and_then(|text| text.parse().ok());
    Ok(Some(OrgId(number.ok_or_else(|| damaged("operator"))?)))
}

/// Setting that holds the number of that organisation, in decimal digits.
const OPERATOR: &str = "operator";
