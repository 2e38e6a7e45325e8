//! Runs of the controller over this database, and the note that it went back in time.

use std::time::Duration;

use overlan_protocol::frame::Vni;
use overlan_protocol::key::{DeviceId, Lineage};
use overlan_protocol::ticket::{CLOCK_SKEW_SECS, TICKET_LIFE_SECS};
use overlan_protocol::{HostIndex, UnixTime};
use sqlx::sqlite::SqliteRow;

use super::{
    StoreError, Tx, damaged, host, parsed, put_setting, seconds, setting, signed, unsigned,
};
use crate::lineage::{Run, Runs};
use crate::netmaps::OrgId;

/// Notes that a run begins, and forgets all but the newest `keep`.
pub(crate) async fn begin(tx: &mut Tx, now: UnixTime, keep: u64) -> Result<Runs, StoreError> {
    let rows = sqlx::query("SELECT id, version FROM runs ORDER BY rowid")
        .fetch_all(&mut **tx)
        .await?;
    let before = rows.iter().map(|row| {
        Ok(Run {
            id: parsed(row, "id")?,
            version: unsigned(row, "version")?,
        })
    });
    let before = before.collect::<Result<Vec<_>, StoreError>>()?;
    let present = Run {
        id: Lineage::random(),
        version: super::changes::version(tx).await?,
    };
    sqlx::query("INSERT INTO runs (id, version, started) VALUES (?, ?, ?)")
        .bind(present.id.to_string())
        .bind(signed(present.version))
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM runs WHERE rowid <= (SELECT max(rowid) FROM runs) - ?")
        .bind(signed(keep))
        .execute(&mut **tx)
        .await?;
    let is_new = before.is_empty() && !super::accounts::is_set_up(tx).await?;
    Ok(Runs::new(before, present, is_new))
}

/// Notes that since `at`, in seconds since the Unix epoch, the database is older than the
/// deployment.
pub(crate) async fn set_rewound(tx: &mut Tx, at: UnixTime) -> Result<(), StoreError> {
    put_setting(tx, REWOUND, &at.as_secs().to_le_bytes()).await
}

/// Returns the time since which the database is older than the deployment, while tickets of the
/// lost time may live.
pub(crate) async fn rewound(tx: &mut Tx, now: UnixTime) -> Result<Option<UnixTime>, StoreError> {
    let Some(value) = setting(tx, REWOUND).await? else {
        return Ok(None);
    };
    let at = <[u8; 8]>::try_from(value.as_slice()).map_err(|_| damaged("value"))?;
    let at = UnixTime::from_secs(u64::from_le_bytes(at));
    let tickets = Duration::from_secs(TICKET_LIFE_SECS + 2 * CLOCK_SKEW_SECS);
    Ok((now < at + tickets).then_some(at))
}

/// Returns the devices that got an address since `at`, newest first, at most `limit`.
pub(crate) async fn holders(
    tx: &mut Tx,
    org: OrgId,
    at: UnixTime,
    limit: usize,
) -> Result<Vec<(Vni, HostIndex, DeviceId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT n.vni, m.host, m.device_id FROM members m JOIN networks n ON n.id = m.network_id
         WHERE n.org_id = ? AND m.created >= ? ORDER BY m.created DESC, m.rowid DESC LIMIT ?",
    )
    .bind(org.0)
    .bind(seconds(at))
    .bind(signed(limit as u64))
    .fetch_all(&mut **tx)
    .await?;
    let holder = |row: &SqliteRow| {
        let vni = Vni::new(unsigned(row, "vni")?).ok_or_else(|| damaged("vni"))?;
        Ok((vni, host(row)?, parsed(row, "device_id")?))
    };
    rows.iter().map(holder).collect()
}

/// Setting with the time since which the database is older than the deployment.
const REWOUND: &str = "rewound";
