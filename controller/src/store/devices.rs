//! Devices, the remains of removed ones, and their relays. Their networks are in
//! [`super::members`].

use std::collections::BTreeSet;

use overlan_protocol::UnixTime;
use overlan_protocol::api::Barred;
use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId, RelayId, TunnelKey};
use overlan_protocol::netmap::Owner;
use overlan_protocol::tag::Tag;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::members::{self, Membership};
use super::{
    StoreError, Tx, accounts, device_rights, parsed, relay_list, seconds, signed, tags, time,
    time_or_none, unsigned,
};
use crate::netmaps::{Member, OrgId};

/// A device, with the fields that only the controller needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) org: OrgId,
    /// The name that it asked for, as a label.
    pub(crate) hostname: String,
    pub(crate) identity: IdentityKey,
    pub(crate) tunnel: TunnelKey,
    pub(crate) tunnel_signature: String,
    /// Home first.
    pub(crate) relays: Vec<RelayId>,
    pub(crate) online: bool,
    pub(crate) ephemeral: bool,
    pub(crate) epoch: u64,
    pub(crate) attach_epoch: u64,
    pub(crate) auth_key: Option<String>,
    /// The note of that key, which may be forgotten before the device.
    pub(crate) key_note: String,
    /// The person who enrolled it.
    pub(crate) account: Option<i64>,
    pub(crate) tags: BTreeSet<Tag>,
    /// It takes no part.
    pub(crate) barred: Option<Barred>,
    /// It has to prove its right again by then.
    pub(crate) expires: Option<UnixTime>,
    /// The version of its program at its last session.
    pub(crate) version: String,
    /// For an ephemeral device: seconds for which it may be offline, if that is not the
    /// controller's own time.
    pub(crate) ephemeral_secs: Option<u64>,
    /// The end of its last session, if it is not online.
    pub(crate) offline_since: UnixTime,
    pub(crate) created: UnixTime,
    /// Its networks, by label.
    pub(crate) places: Vec<Membership>,
}

impl Device {
    /// Returns the device as the other members of that network see it.
    pub(crate) fn member(&self, place: &Membership) -> Member {
        Member {
            device: self.id,
            host: place.host,
            label: place.label.clone(),
            identity: self.identity,
            tunnel: self.tunnel,
            tunnel_signature: self.tunnel_signature.clone(),
            relays: self.relays.clone(),
            online: self.online,
            routes: place.routes.clone(),
            owner: place.owner.clone(),
            tags: self.tags.clone(),
        }
    }

    /// Returns the name that people use: that in its first network, or the one that it asked for.
    pub(crate) fn called(&self) -> String {
        match self.places.first() {
            Some(place) => format!("{}.{}", place.label, place.name),
            None => self.hostname.clone(),
        }
    }

    /// Returns its place in a network.
    pub(crate) fn place(&self, network: NetworkId) -> Option<&Membership> {
        self.places.iter().find(|place| place.network == network)
    }
}

/// Writes a new device, in no network yet.
pub(crate) async fn insert(tx: &mut Tx, device: &Device, now_ms: u64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO devices (id, org_id, hostname, identity, tunnel, tunnel_signature, ephemeral,
             epoch, auth_key, account_id,
             key_note, relays, offline_since_ms, created, ephemeral_secs)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(device.id.to_string())
    .bind(device.org.0)
    .bind(&device.hostname)
    .bind(device.identity.to_string())
    .bind(device.tunnel.to_string())
    .bind(&device.tunnel_signature)
    .bind(device.ephemeral)
    .bind(signed(device.epoch))
    .bind(&device.auth_key)
    .bind(device.account)
    .bind(&device.key_note)
    .bind(relay_text(&device.relays))
    .bind(signed(now_ms))
    .bind(signed(now_ms / 1_000))
    .bind(device.ephemeral_secs.map(signed))
    .execute(&mut **tx)
    .await?;
    tags::set(tx, device.id, &device.tags).await
}

/// Returns the device with this id, of any organisation: for callers that then prove to be it.
pub(crate) async fn get(tx: &mut Tx, id: DeviceId) -> Result<Option<Device>, StoreError> {
    let row = sqlx::query("SELECT * FROM devices WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    with_places(tx, row.as_ref()).await
}

/// Returns the organisation's device with this identity key.
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
    with_places(tx, row.as_ref()).await
}

/// Returns the right by which `device` was enrolled, as other members see it.
pub(crate) async fn owner(tx: &mut Tx, device: &Device) -> Result<Owner, StoreError> {
    let email = match device.account {
        Some(account) => accounts::email(tx, account).await?,
        None => None,
    };
    let key = device.auth_key.clone();
    Ok(match (email, key) {
        (Some(email), _) => Owner::Person(email),
        (None, Some(key)) => Owner::AuthKey(key),
        (None, None) => Owner::Unknown,
    })
}

/// Returns the devices of an organisation by name, at most `limit`, with the emails of those who
/// enrolled them.
pub(crate) async fn list(
    tx: &mut Tx,
    org: OrgId,
    limit: u32,
) -> Result<Vec<(Device, Option<String>)>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.*, a.email FROM devices d LEFT JOIN accounts a ON a.id = d.account_id
         WHERE d.org_id = ? ORDER BY d.hostname, d.id LIMIT ?",
    )
    .bind(org.0)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    let mut places = members::of_org(tx, org).await?;
    let mut tagged = tags::of_org(tx, org).await?;
    let mut listed = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut device = device(row)?;
        device.places = places.remove(&device.id).unwrap_or_default();
        device.tags = tagged.remove(&device.id).unwrap_or_default();
        listed.push((device, row.try_get("email")?));
    }
    Ok(listed)
}

/// Returns all devices of an organisation.
pub(crate) async fn of_org(tx: &mut Tx, org: OrgId) -> Result<Vec<Device>, StoreError> {
    let rows = sqlx::query("SELECT * FROM devices WHERE org_id = ?")
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?;
    let mut places = members::of_org(tx, org).await?;
    let mut tagged = tags::of_org(tx, org).await?;
    let mut devices = rows.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    for device in &mut devices {
        device.places = places.remove(&device.id).unwrap_or_default();
        device.tags = tagged.remove(&device.id).unwrap_or_default();
    }
    Ok(devices)
}

/// Returns the devices that were online when the last process ended.
pub(crate) async fn online(tx: &mut Tx) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query("SELECT id FROM devices WHERE online = 1")
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// Writes whether a device is online; returns it if it exists and that changed.
pub(crate) async fn set_online(
    tx: &mut Tx,
    id: DeviceId,
    online: bool,
    now_ms: u64,
) -> Result<Option<Device>, StoreError> {
    let row = sqlx::query(
        "UPDATE devices SET online = ?2, offline_since_ms = ?3 WHERE id = ?1
             AND online <> ?2 RETURNING *",
    )
    .bind(id.to_string())
    .bind(online)
    .bind(signed(now_ms))
    .fetch_optional(&mut **tx)
    .await?;
    with_places(tx, row.as_ref()).await
}

/// Notes that a stream of the device opened.
pub(crate) async fn bump_attach_epoch(tx: &mut Tx, id: DeviceId) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET attach_epoch = attach_epoch + 1 WHERE id = ?")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns ephemeral devices that are offline for longer at `now_ms` than they may be, or than
/// `unless_told_ms`; at most `limit`, without their places and tags.
pub(crate) async fn stale_ephemeral(
    tx: &mut Tx,
    now_ms: u64,
    unless_told_ms: u64,
    limit: u32,
) -> Result<Vec<Device>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM devices WHERE ephemeral = 1 AND online = 0 AND barred IS NULL
             AND offline_since_ms + coalesce(ephemeral_secs * 1000, ?) <= ? LIMIT ?",
    )
    .bind(signed(unless_told_ms))
    .bind(signed(now_ms))
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(device).collect()
}

/// Writes the name that a device asks for in networks.
pub(crate) async fn set_hostname(
    tx: &mut Tx,
    id: DeviceId,
    hostname: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET hostname = ? WHERE id = ?")
        .bind(hostname)
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the relays of a device.
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

/// Says whether the device exists and still has the attach epoch that the caller saw.
pub(crate) async fn is_unattached_since(tx: &mut Tx, device: &Device) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM devices WHERE id = ? AND org_id = ? AND attach_epoch = ?")
        .bind(device.id.to_string())
        .bind(device.org.0)
        .bind(signed(device.attach_epoch))
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.is_some())
}

/// Deletes a device that still has the attach epoch that the caller saw; returns its revocation
/// epoch if it was deleted.
pub(crate) async fn delete(tx: &mut Tx, device: &Device) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "DELETE FROM devices WHERE id = ? AND org_id = ? AND attach_epoch = ? RETURNING epoch",
    )
    .bind(device.id.to_string())
    .bind(device.org.0)
    .bind(signed(device.attach_epoch))
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(|row| unsigned(row, "epoch")).transpose()
}

/// Voids the tickets of a device, and returns its new epoch, which later tickets have.
pub(crate) async fn bump_epoch(tx: &mut Tx, id: DeviceId) -> Result<u64, StoreError> {
    let row = sqlx::query("UPDATE devices SET epoch = epoch + 1 WHERE id = ? RETURNING epoch")
        .bind(id.to_string())
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "epoch")
}

/// Notes for relays that tickets of the device below `epoch` are void, and raises the version of
/// their orders.
pub(crate) async fn revoke(
    tx: &mut Tx,
    device: &Device,
    epoch: u64,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO revocations (device_id, org_id, identity, epoch, at) VALUES (?, ?,
             ?, ?, ?)",
    )
    .bind(device.id.to_string())
    .bind(device.org.0)
    .bind(device.identity.to_string())
    .bind(signed(epoch))
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE organisations SET orders_version = orders_version + 1 WHERE id = ?")
        .bind(device.org.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the identity key of a removed device.
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
    released_before: UnixTime,
    revoked_before: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM released_hosts WHERE released <= ?")
        .bind(seconds(released_before))
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM revocations WHERE at <= ?")
        .bind(seconds(revoked_before))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn with_places(tx: &mut Tx, row: Option<&SqliteRow>) -> Result<Option<Device>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let mut device = device(row)?;
    device.places = members::of_device(tx, device.id).await?;
    device.tags = tags::of_device(tx, device.id).await?;
    Ok(Some(device))
}

fn device(row: &SqliteRow) -> Result<Device, StoreError> {
    Ok(Device {
        id: parsed(row, "id")?,
        org: OrgId(row.try_get("org_id")?),
        hostname: row.try_get("hostname")?,
        identity: parsed(row, "identity")?,
        tunnel: parsed(row, "tunnel")?,
        tunnel_signature: row.try_get("tunnel_signature")?,
        relays: relay_list(row)?,
        online: row.try_get("online")?,
        ephemeral: row.try_get("ephemeral")?,
        epoch: unsigned(row, "epoch")?,
        attach_epoch: unsigned(row, "attach_epoch")?,
        auth_key: row.try_get("auth_key")?,
        key_note: row.try_get("key_note")?,
        account: row.try_get("account_id")?,
        tags: BTreeSet::new(),
        barred: device_rights::barred(row)?,
        expires: time_or_none(row, "expires")?,
        version: row.try_get("version")?,
        ephemeral_secs: row
            .try_get::<Option<i64>, _>("ephemeral_secs")?
            .map(i64::unsigned_abs),
        offline_since: UnixTime::from_secs(unsigned::<u64>(row, "offline_since_ms")? / 1_000),
        created: time(row, "created")?,
        places: Vec::new(),
    })
}

fn relay_text(relays: &[RelayId]) -> String {
    let ids: Vec<String> = relays.iter().map(RelayId::to_string).collect();
    ids.join(",")
}
