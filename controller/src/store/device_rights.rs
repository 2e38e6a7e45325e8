//! Rights of devices to take part, their numbers, and the versions of their programs.

use overlan_protocol::UnixTime;
use overlan_protocol::api::{Bar, Barred};
use overlan_protocol::key::DeviceId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, parsed, seconds, time_or_none, unsigned};
use crate::netmaps::OrgId;

/// Bars a device, or admits it again.
pub(crate) async fn set_barred(
    tx: &mut Tx,
    id: DeviceId,
    barred: Option<Barred>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET barred = ?, barred_since = ? WHERE id = ?")
        .bind(barred.map(|barred| barred.why.to_string()))
        .bind(barred.map(|barred| seconds(barred.since)))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the time by which a device has to prove its right again.
pub(crate) async fn set_expiry(
    tx: &mut Tx,
    id: DeviceId,
    expires: Option<UnixTime>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET expires = ? WHERE id = ?")
        .bind(expires.map(seconds))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns devices whose right ended by `now` and that still take part, at most `limit`.
pub(crate) async fn expired(
    tx: &mut Tx,
    now: UnixTime,
    limit: u32,
) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query("SELECT id FROM devices WHERE barred IS NULL AND expires <= ? LIMIT ?")
        .bind(seconds(now))
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// Writes the version of a device's program.
pub(crate) async fn set_version(
    tx: &mut Tx,
    id: DeviceId,
    version: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET version = ? WHERE id = ?")
        .bind(version)
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the number of an organisation's devices.
pub(crate) async fn count(tx: &mut Tx, org: OrgId) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS devices FROM devices WHERE org_id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "devices")
}

/// Returns the number of those that one person enrolled.
pub(crate) async fn count_of_account(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
) -> Result<u32, StoreError> {
    let row =
        sqlx::query("SELECT count(*) AS devices FROM devices WHERE org_id = ? AND account_id = ?")
            .bind(org.0)
            .bind(account)
            .fetch_one(&mut **tx)
            .await?;
    unsigned(&row, "devices")
}

/// Reads the columns of a device that takes no part.
pub(super) fn barred(row: &SqliteRow) -> Result<Option<Barred>, StoreError> {
    let why: Option<String> = row.try_get("barred")?;
    let why = match why.as_deref() {
        None => return Ok(None),
        Some("disabled") => Bar::Disabled,
        Some("expired") => Bar::Expired,
        Some(_) => return Err(damaged("barred")),
    };
    let since = time_or_none(row, "barred_since")?.unwrap_or_default();
    Ok(Some(Barred { why, since }))
}
