//! What lies behind devices: offered by them, approved by people.

use overlan_protocol::api::RouteSummary;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::key::{DeviceId, NetworkId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, parsed, signed};
use crate::registry::OrgId;

/// Makes `routes` all that the device offers in the network; what it offered before keeps its approval. Tells whether an approved
/// one went.
pub(crate) async fn offer(
    tx: &mut Tx,
    device: DeviceId,
    network: NetworkId,
    routes: &[GatewayRoute],
    now: u64,
) -> Result<bool, StoreError> {
    let rows =
        sqlx::query("SELECT route, approved FROM routes WHERE device_id = ? AND network_id = ?")
            .bind(device.to_string())
            .bind(network.to_string())
            .fetch_all(&mut **tx)
            .await?;
    let mut lost = false;
    for row in &rows {
        let text: String = row.try_get("route")?;
        if routes.iter().any(|route| route.to_string() == text) {
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
            "INSERT OR IGNORE INTO routes (device_id, network_id, route, approved, created) VALUES (?, ?, ?, 0, ?)",
        )
        .bind(device.to_string())
        .bind(network.to_string())
        .bind(route.to_string())
        .bind(signed(now))
        .execute(&mut **tx)
        .await?;
    }
    Ok(lost)
}

/// Approves an offered route or takes that back; tells whether it is offered.
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

/// What a device offers.
pub(crate) async fn of_device(
    tx: &mut Tx,
    device: DeviceId,
) -> Result<Vec<RouteSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT r.device_id, m.label, n.name, r.route, r.approved FROM routes r
         JOIN members m ON m.device_id = r.device_id AND m.network_id = r.network_id
         JOIN networks n ON n.id = r.network_id
         WHERE r.device_id = ? ORDER BY n.name, r.route",
    )
    .bind(device.to_string())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(summary).collect()
}

/// What the devices of an organisation offer, at most `limit`.
pub(crate) async fn of_org(
    tx: &mut Tx,
    org: OrgId,
    limit: u32,
) -> Result<Vec<RouteSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT r.device_id, m.label, n.name, r.route, r.approved FROM routes r
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
        approved: row.try_get("approved")?,
    })
}
