//! Members of networks, rights to join by oneself, and released host indices.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::HostIndex;
use overlan_protocol::UnixTime;
use overlan_protocol::api::MembershipSummary;
use overlan_protocol::frame::Vni;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::key::{DeviceId, NetworkId};
use overlan_protocol::netmap::Owner;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, host, names, parsed, relay_list, seconds, tags, unsigned};
use crate::netmaps::{Member, OrgId};

/// A device's place in one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) network: NetworkId,
    /// The network's label.
    pub(crate) name: String,
    pub(crate) vni: Vni,
    pub(crate) host: HostIndex,
    /// The device's label there.
    pub(crate) label: String,
    /// Approved routes to gateway hosts.
    pub(crate) routes: Vec<GatewayRoute>,
    /// The right by which the device was enrolled.
    pub(crate) owner: Owner,
}

impl Membership {
    /// Returns the place as people and the device itself see it.
    pub(crate) fn summary(&self) -> MembershipSummary {
        MembershipSummary {
            network: self.name.clone(),
            label: self.label.clone(),
            address: self.host.v4().to_string(),
        }
    }
}

/// Writes a device's place; `Conflict` if its label is taken.
pub(crate) async fn insert(
    tx: &mut Tx,
    device: DeviceId,
    place: &Membership,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO members (device_id, network_id, host, label, created) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(device.to_string())
    .bind(place.network.to_string())
    .bind(place.host.get())
    .bind(&place.label)
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    names::give(tx, place.network, device, &place.label).await
}

/// Takes a device out of a network; says whether it was a member.
pub(crate) async fn delete(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM members WHERE device_id = ? AND network_id = ?")
        .bind(device.to_string())
        .bind(network.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Returns the places of one device, by network label.
pub(crate) async fn of_device(
    tx: &mut Tx,
    device: DeviceId,
) -> Result<Vec<Membership>, StoreError> {
    let rows = sqlx::query(
        "SELECT m.*, n.name, n.vni, (SELECT group_concat(r.route, ',') FROM routes r
             WHERE r.approved = 1 AND r.device_id = m.device_id
             AND r.network_id = m.network_id) AS routes,
             o.auth_key AS key_id, a.email AS person
         FROM members m JOIN devices o ON o.id = m.device_id
         LEFT JOIN accounts a ON a.id = o.account_id JOIN networks n ON n.id = m.network_id
         WHERE m.device_id = ? ORDER BY n.name",
    )
    .bind(device.to_string())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(membership).collect()
}

/// Returns the places of all devices of an organisation, each device's by network label.
pub(crate) async fn of_org(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<DeviceId, Vec<Membership>>, StoreError> {
    let rows = sqlx::query(
        "SELECT m.*, n.name, n.vni, (SELECT group_concat(r.route, ',') FROM routes r
             WHERE r.approved = 1 AND r.device_id = m.device_id
             AND r.network_id = m.network_id) AS routes,
             o.auth_key AS key_id, a.email AS person
         FROM members m JOIN devices o ON o.id = m.device_id
         LEFT JOIN accounts a ON a.id = o.account_id JOIN networks n ON n.id = m.network_id
         WHERE n.org_id = ? ORDER BY n.name",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    let mut places: BTreeMap<DeviceId, Vec<Membership>> = BTreeMap::new();
    for row in &rows {
        let device = parsed(row, "device_id")?;
        places.entry(device).or_default().push(membership(row)?);
    }
    Ok(places)
}

/// Returns the members of a network that take part.
pub(crate) async fn of_network(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<Vec<Member>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.*, m.host, m.label, (SELECT group_concat(r.route, ',') FROM routes r
             WHERE r.approved = 1
             AND r.device_id = m.device_id AND r.network_id = m.network_id) AS routes,
             d.auth_key AS key_id, a.email AS person
         FROM members m JOIN devices d ON d.id = m.device_id
         LEFT JOIN accounts a ON a.id = d.account_id
         WHERE d.org_id = ? AND m.network_id = ? AND d.barred IS NULL",
    )
    .bind(org.0)
    .bind(network.to_string())
    .fetch_all(&mut **tx)
    .await?;
    let mut tagged = tags::of_network(tx, network).await?;
    rows.iter()
        .map(|row| {
            let device = parsed(row, "id")?;
            Ok(Member {
                tags: tagged.remove(&device).unwrap_or_default(),
                device,
                host: host(row)?,
                label: row.try_get("label")?,
                identity: parsed(row, "identity")?,
                tunnel: parsed(row, "tunnel")?,
                tunnel_signature: row.try_get("tunnel_signature")?,
                relays: relay_list(row)?,
                online: row.try_get("online")?,
                routes: routes(row)?,
                owner: owner(row)?,
            })
        })
        .collect()
}

/// Returns the device that has a label in a network.
pub(crate) async fn by_label(
    tx: &mut Tx,
    network: NetworkId,
    label: &str,
) -> Result<Option<DeviceId>, StoreError> {
    let row = sqlx::query("SELECT device_id FROM members WHERE network_id = ? AND label = ?")
        .bind(network.to_string())
        .bind(label)
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(|row| parsed(row, "device_id")).transpose()
}

/// Returns the number of devices in a network.
pub(crate) async fn count(tx: &mut Tx, network: NetworkId) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS devices FROM members WHERE network_id = ?")
        .bind(network.to_string())
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "devices")
}

/// Returns the host indices of a network that are in use or were released after `released_after`,
/// ascending.
pub(crate) async fn taken_hosts(
    tx: &mut Tx,
    network: NetworkId,
    released_after: UnixTime,
) -> Result<Vec<HostIndex>, StoreError> {
    let rows = sqlx::query(
        "SELECT host FROM members WHERE network_id = ?1
         UNION SELECT host FROM released_hosts WHERE network_id = ?1 AND released > ?2
         ORDER BY host",
    )
    .bind(network.to_string())
    .bind(seconds(released_after))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(host).collect()
}

/// Sets aside the host index that a device had.
pub(crate) async fn release_host(
    tx: &mut Tx,
    org: OrgId,
    device: DeviceId,
    place: &Membership,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO released_hosts (org_id, network_id, host, device_id, released)
             VALUES (?, ?, ?, ?, ?)",
    )
    .bind(org.0)
    .bind(place.network.to_string())
    .bind(place.host.get())
    .bind(device.to_string())
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes back the host index that the device had in this network before, if it is still set aside.
pub(crate) async fn reclaim_host(
    tx: &mut Tx,
    network: NetworkId,
    device: DeviceId,
) -> Result<Option<HostIndex>, StoreError> {
    let row = sqlx::query(
        "DELETE FROM released_hosts WHERE network_id = ?1 AND device_id = ?2
             AND host NOT IN (SELECT host FROM members WHERE network_id = ?1) RETURNING host",
    )
    .bind(network.to_string())
    .bind(device.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(host).transpose()
}

/// Lets a device join a network by itself.
pub(crate) async fn grant(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR IGNORE INTO grants (device_id, network_id) VALUES (?, ?)")
        .bind(device.to_string())
        .bind(network.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes that right away.
pub(crate) async fn ungrant(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM grants WHERE device_id = ? AND network_id = ?")
        .bind(device.to_string())
        .bind(network.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the networks that a device has the right to join by itself.
pub(crate) async fn grants(
    tx: &mut Tx,
    device: DeviceId,
) -> Result<BTreeSet<NetworkId>, StoreError> {
    let rows = sqlx::query("SELECT network_id FROM grants WHERE device_id = ?")
        .bind(device.to_string())
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "network_id")).collect()
}

fn membership(row: &SqliteRow) -> Result<Membership, StoreError> {
    Ok(Membership {
        network: parsed(row, "network_id")?,
        name: row.try_get("name")?,
        vni: Vni::new(unsigned(row, "vni")?).ok_or_else(|| damaged("vni"))?,
        host: host(row)?,
        label: row.try_get("label")?,
        routes: routes(row)?,
        owner: owner(row)?,
    })
}

fn owner(row: &SqliteRow) -> Result<Owner, StoreError> {
    let (person, key): (Option<String>, Option<String>) =
        (row.try_get("person")?, row.try_get("key_id")?);
    Ok(match (person, key) {
        (Some(email), _) => Owner::Person(email),
        (None, Some(id)) => Owner::AuthKey(id),
        (None, None) => Owner::Unknown,
    })
}

fn routes(row: &SqliteRow) -> Result<Vec<GatewayRoute>, StoreError> {
    let text: Option<String> = row.try_get("routes")?;
    let routes = text.iter().flat_map(|text| text.split(','));
    let mut routes = routes
        .map(|route| route.parse().map_err(|_| damaged("routes")))
        .collect::<Result<Vec<_>, _>>()?;
    routes.sort();
    Ok(routes)
}
