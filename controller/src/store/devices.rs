//! Devices, what is left of removed ones, and where each attaches.

use std::collections::BTreeSet;

use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId, RelayId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, parsed, signed, unsigned};
use crate::registry::{Member, OrgId, Viewer};

/// A device with what only the controller needs.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) org: OrgId,
    pub(crate) network: NetworkId,
    pub(crate) member: Member,
    pub(crate) ephemeral: bool,
    pub(crate) epoch: u64,
    pub(crate) attach_epoch: u64,
    pub(crate) auth_key: Option<String>,
}

impl Device {
    pub(crate) fn viewer(&self) -> Viewer {
        Viewer {
            device: self.member.device,
            org: self.org,
            network: self.network,
        }
    }
}

pub(crate) async fn insert(tx: &mut Tx, device: &Device, now_ms: u64) -> Result<(), StoreError> {
    let member = &device.member;
    sqlx::query(
        "INSERT INTO devices (id, org_id, network_id, host, label, identity, tunnel, tunnel_signature, ephemeral, epoch,
             auth_key, relays, offline_since_ms, created)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(member.device.to_string())
    .bind(device.org.0)
    .bind(device.network.to_string())
    .bind(member.host)
    .bind(&member.label)
    .bind(member.identity.to_string())
    .bind(member.tunnel.to_string())
    .bind(&member.tunnel_signature)
    .bind(device.ephemeral)
    .bind(signed(device.epoch))
    .bind(&device.auth_key)
    .bind(relay_text(&member.relays))
    .bind(signed(now_ms))
    .bind(signed(now_ms / 1_000))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The device with this id, of whatever organisation: for those who then prove to be it.
pub(crate) async fn get(tx: &mut Tx, id: DeviceId) -> Result<Option<Device>, StoreError> {
    let row = sqlx::query("SELECT * FROM devices WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(device).transpose()
}

/// The organisation's device with this identity key.
pub(crate) async fn by_identity(
    tx: &mut Tx,
    org: OrgId,
    identity: &IdentityKey,
) -> Result<Option<Device>, StoreError> {
    let row = sqlx::query("SELECT * FROM devices WHERE org_id = ? AND identity = ?")
        .bind(org.0)
        .bind(identity.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(device).transpose()
}

/// The network's device with this label.
pub(crate) async fn by_label(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    label: &str,
) -> Result<Option<Device>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM devices WHERE org_id = ? AND network_id = ? AND label = ?")
            .bind(org.0)
            .bind(network.to_string())
            .bind(label)
            .fetch_optional(&mut **tx)
            .await?;
    row.as_ref().map(device).transpose()
}

/// Labels of a network that begin with `prefix`.
pub(crate) async fn labels_like(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    prefix: &str,
) -> Result<BTreeSet<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT label FROM devices WHERE org_id = ?1 AND network_id = ?2 AND substr(label, 1, length(?3)) = ?3",
    )
    .bind(org.0)
    .bind(network.to_string())
    .bind(prefix)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("label")?)).collect()
}

/// Host indices of a network in use or released after `released_after`, ascending.
pub(crate) async fn taken_hosts(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    released_after: u64,
) -> Result<Vec<u32>, StoreError> {
    let rows = sqlx::query(
        "SELECT host FROM devices WHERE org_id = ?1 AND network_id = ?2
         UNION SELECT host FROM released_hosts WHERE org_id = ?1 AND network_id = ?2 AND released > ?3 ORDER BY host",
    )
    .bind(org.0)
    .bind(network.to_string())
    .bind(signed(released_after))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| unsigned(row, "host")).collect()
}

/// The members of a network.
pub(crate) async fn members(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<Vec<Member>, StoreError> {
    let rows = sqlx::query("SELECT * FROM devices WHERE org_id = ? AND network_id = ?")
        .bind(org.0)
        .bind(network.to_string())
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(member).collect()
}

/// Devices of an organisation by network and label, at most `limit`, with the labels of their networks.
pub(crate) async fn list(
    tx: &mut Tx,
    org: OrgId,
    limit: u32,
) -> Result<Vec<(Device, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.*, n.name AS network_name FROM devices d JOIN networks n ON n.id = d.network_id
         WHERE d.org_id = ? ORDER BY n.name, d.label LIMIT ?",
    )
    .bind(org.0)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| Ok((device(row)?, row.try_get("network_name")?)))
        .collect()
}

/// All devices of an organisation.
pub(crate) async fn of_org(tx: &mut Tx, org: OrgId) -> Result<Vec<Device>, StoreError> {
    let rows = sqlx::query("SELECT * FROM devices WHERE org_id = ?")
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(device).collect()
}

/// Number of devices in a network.
pub(crate) async fn count(tx: &mut Tx, org: OrgId, network: NetworkId) -> Result<u32, StoreError> {
    let row =
        sqlx::query("SELECT count(*) AS devices FROM devices WHERE org_id = ? AND network_id = ?")
            .bind(org.0)
            .bind(network.to_string())
            .fetch_one(&mut **tx)
            .await?;
    unsigned(&row, "devices")
}

/// Devices that were online when the last process ended.
pub(crate) async fn online(tx: &mut Tx) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query("SELECT id FROM devices WHERE online = 1")
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// Writes whether a device is online; returns it as it is now, if it exists and that is news.
pub(crate) async fn set_online(
    tx: &mut Tx,
    id: DeviceId,
    online: bool,
    now_ms: u64,
) -> Result<Option<Device>, StoreError> {
    let row = sqlx::query(
        "UPDATE devices SET online = ?2, offline_since_ms = ?3 WHERE id = ?1 AND online <> ?2 RETURNING *",
    )
    .bind(id.to_string())
    .bind(online)
    .bind(signed(now_ms))
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(device).transpose()
}

/// Notes that a stream of the device opened.
pub(crate) async fn bump_attach_epoch(tx: &mut Tx, id: DeviceId) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET attach_epoch = attach_epoch + 1 WHERE id = ?")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ephemeral devices that are offline since before `before_ms`, at most `limit`.
pub(crate) async fn stale_ephemeral(
    tx: &mut Tx,
    before_ms: u64,
    limit: u32,
) -> Result<Vec<Device>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM devices WHERE ephemeral = 1 AND online = 0 AND offline_since_ms <= ? LIMIT ?",
    )
    .bind(signed(before_ms))
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(device).collect()
}

/// Writes a device's tunnel key.
pub(crate) async fn set_tunnel(tx: &mut Tx, org: OrgId, member: &Member) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET tunnel = ?, tunnel_signature = ? WHERE id = ? AND org_id = ?")
        .bind(member.tunnel.to_string())
        .bind(&member.tunnel_signature)
        .bind(member.device.to_string())
        .bind(org.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes where a device attaches.
pub(crate) async fn set_relays(
    tx: &mut Tx,
    org: OrgId,
    id: DeviceId,
    relays: &[RelayId],
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET relays = ? WHERE id = ? AND org_id = ?")
        .bind(relay_text(relays))
        .bind(id.to_string())
        .bind(org.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a device that still has the attach epoch that the caller saw; tells whether it had.
pub(crate) async fn delete(tx: &mut Tx, device: &Device) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM devices WHERE id = ? AND org_id = ? AND attach_epoch = ?")
        .bind(device.member.device.to_string())
        .bind(device.org.0)
        .bind(signed(device.attach_epoch))
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts the host index of a removed device aside.
pub(crate) async fn release_host(tx: &mut Tx, device: &Device, now: u64) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO released_hosts (org_id, network_id, host, released) VALUES (?, ?, ?, ?)")
        .bind(device.org.0)
        .bind(device.network.to_string())
        .bind(device.member.host)
        .bind(signed(now))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes for relays that tickets of the device below `epoch` are void, and moves the version of their orders.
pub(crate) async fn revoke(
    tx: &mut Tx,
    device: &Device,
    epoch: u64,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO revocations (device_id, org_id, identity, epoch, at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(device.member.device.to_string())
    .bind(device.org.0)
    .bind(device.member.identity.to_string())
    .bind(signed(epoch))
    .bind(signed(now))
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE organisations SET orders_version = orders_version + 1 WHERE id = ?")
        .bind(device.org.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The identity key that a removed device had.
pub(crate) async fn removed_identity(
    tx: &mut Tx,
    id: DeviceId,
) -> Result<Option<IdentityKey>, StoreError> {
    let row = sqlx::query("SELECT identity FROM revocations WHERE device_id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| parsed(&row, "identity")).transpose()
}

/// Forgets host indices released and devices revoked before these times.
pub(crate) async fn prune(
    tx: &mut Tx,
    released_before: u64,
    revoked_before: u64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM released_hosts WHERE released <= ?")
        .bind(signed(released_before))
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM revocations WHERE at <= ?")
        .bind(signed(revoked_before))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn device(row: &SqliteRow) -> Result<Device, StoreError> {
    Ok(Device {
        org: OrgId(row.try_get("org_id")?),
        network: parsed(row, "network_id")?,
        member: member(row)?,
        ephemeral: row.try_get("ephemeral")?,
        epoch: unsigned(row, "epoch")?,
        attach_epoch: unsigned(row, "attach_epoch")?,
        auth_key: row.try_get("auth_key")?,
    })
}

fn member(row: &SqliteRow) -> Result<Member, StoreError> {
    let relays: String = row.try_get("relays")?;
    let relays = relays.split(',').filter(|id| !id.is_empty());
    Ok(Member {
        device: parsed(row, "id")?,
        host: unsigned(row, "host")?,
        label: row.try_get("label")?,
        identity: parsed(row, "identity")?,
        tunnel: parsed(row, "tunnel")?,
        tunnel_signature: row.try_get("tunnel_signature")?,
        relays: relays
            .map(|id| id.parse().map_err(|_| damaged("relays")))
            .collect::<Result<_, _>>()?,
        online: row.try_get("online")?,
    })
}

fn relay_text(relays: &[RelayId]) -> String {
    let ids: Vec<String> = relays.iter().map(RelayId::to_string).collect();
    ids.join(",")
}
