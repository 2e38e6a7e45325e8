//! Routes to gateway hosts: offered by devices, approved by people.

use overlan_protocol::UnixTime;
use overlan_protocol::api::RouteSummary;
use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};
use overlan_protocol::key::{DeviceId, NetworkId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, names, parsed, seconds};
use crate::netmaps::OrgId;

/// Makes `routes` all routes that the device offers in the network; those that it offered before
/// keep their approval. Says whether an approved one went.
pub(crate) async fn offer(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
    routes: &[OfferedRoute],
    now: UnixTime,
) -> Result<bool, StoreError> {
    let rows = sqlx::query(
        "SELECT route, name, approved FROM routes WHERE device_id = ? AND network_id = ?",
    )
    .bind(device.to_string())
    .bind(network.to_string())
    .fetch_all(&mut **tx)
    .await?;
    let mut lost = false;
    for row in &rows {
        let text: String = row.try_get("route")?;
        let name: Option<String> = row.try_get("name")?;
        // Another name is another wish, which nobody has approved.
        let same = |offer: &OfferedRoute| {
            offer.route().to_string() == text && offer.name() == name.as_deref()
        };
        if routes.iter().any(same) {
            continue;
        }
        lost |= row.try_get::<bool, _>("approved")?;
        sqlx::query("DELETE FROM routes WHERE device_id = ? AND network_id = ? AND route = ?")
            .bind(device.to_string())
            .bind(network.to_string())
            .bind(text)
            .execute(&mut **tx)
            .await?;
    }
    for route in routes {
        sqlx::query(
            "INSERT OR IGNORE INTO routes (device_id, network_id, route, name, approved,
                 created) VALUES (?, ?, ?, ?, 0, ?)",
        )
        .bind(device.to_string())
        .bind(network.to_string())
        .bind(route.route().to_string())
        .bind(route.name())
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    }
    names::hold_for_wishes(tx, network, device).await?;
    Ok(lost)
}

/// Approves an offered route or withdraws the approval; says whether it is offered.
pub(crate) async fn approve(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
    route: &GatewayRoute,
    approved: bool,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE routes SET approved = ? WHERE device_id = ? AND network_id = ? AND route = ?",
    )
    .bind(approved)
    .bind(device.to_string())
    .bind(network.to_string())
    .bind(route.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes offers that no gateway may make any more, and returns them: an earlier version accepted
/// some of them.
pub(crate) async fn forget_forbidden(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT route FROM routes")
        .fetch_all(&mut **tx)
        .await?;
    let mut forbidden = Vec::new();
    for row in rows {
        let text: String = row.try_get("route")?;
        if text.parse::<GatewayRoute>().is_ok() {
            continue;
        }
        sqlx::query("DELETE FROM routes WHERE route = ?")
            .bind(&text)
            .execute(&mut **tx)
            .await?;
        forbidden.push(text);
    }
    Ok(forbidden)
}

/// Notes that the record of the absolute name `record` is there by this route alone.
pub(crate) async fn set_record(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
    route: &GatewayRoute,
    record: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE routes SET record = ? WHERE device_id = ? AND network_id = ? AND route = ?",
    )
    .bind(record)
    .bind(device.to_string())
    .bind(network.to_string())
    .bind(route.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the routes of a device in a network by which names have records, each with that name.
pub(crate) async fn recorded(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
) -> Result<Vec<(OfferedRoute, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT route, name, record FROM routes
         WHERE device_id = ? AND network_id = ? AND record IS NOT NULL AND name IS NOT NULL",
    )
    .bind(device.to_string())
    .bind(network.to_string())
    .fetch_all(&mut **tx)
    .await?;
    let offer = |row: &SqliteRow| {
        let name: String = row.try_get("name")?;
        let offer = OfferedRoute::named(parsed(row, "route")?, &name);
        Ok((offer.map_err(|_| damaged("route"))?, row.try_get("record")?))
    };
    rows.iter().map(offer).collect()
}

/// Ends a device's hold on a record. Another device with the same approved wish takes it over; says
/// whether there is none.
pub(crate) async fn release_record(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
    offer: &OfferedRoute,
    record: &str,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE routes SET record = NULL WHERE device_id = ? AND network_id = ? AND route = ?",
    )
    .bind(device.to_string())
    .bind(network.to_string())
    .bind(offer.route().to_string())
    .execute(&mut **tx)
    .await?;
    let taken_over = sqlx::query(
        "UPDATE routes SET record = ? WHERE rowid = (SELECT rowid FROM routes
             WHERE network_id = ? AND route = ? AND name = ? AND approved = 1
             AND device_id != ? LIMIT 1)",
    )
    .bind(record)
    .bind(network.to_string())
    .bind(offer.route().to_string())
    .bind(offer.name())
    .bind(device.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(taken_over.rows_affected() == 0)
}

/// Returns the routes that a device offers.
pub(crate) async fn of_device(
    tx: &mut Tx,
    device: DeviceId,
) -> Result<Vec<RouteSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT r.device_id, m.label, n.name, r.route, r.name AS host_name, r.approved FROM routes r
         JOIN members m ON m.device_id = r.device_id AND m.network_id = r.network_id
         JOIN networks n ON n.id = r.network_id
         WHERE r.device_id = ? ORDER BY n.name, r.route",
    )
    .bind(device.to_string())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(summary).collect()
}

/// Returns the routes that the devices of an organisation offer, at most `limit`.
pub(crate) async fn of_org(
    tx: &mut Tx,
    org: OrgId,
    limit: u32,
) -> Result<Vec<RouteSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT r.device_id, m.label, n.name, r.route, r.name AS host_name, r.approved FROM routes r
         JOIN members m ON m.device_id = r.device_id AND m.network_id = r.network_id
         JOIN networks n ON n.id = r.network_id
         WHERE n.org_id = ? ORDER BY n.name, m.label, r.route LIMIT ?",
    )
    .bind(org.0)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(summary).collect()
}

fn summary(row: &SqliteRow) -> Result<RouteSummary, StoreError> {
    Ok(RouteSummary {
        device: parsed(row, "device_id")?,
        label: row.try_get("label")?,
        network: row.try_get("name")?,
        route: parsed(row, "route")?,
        name: row.try_get("host_name")?,
        approved: row.try_get("approved")?,
    })
}
