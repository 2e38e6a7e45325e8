//! `/v1/device`: an enrolled device asks for its ticket and its netmap, reports, and removes
//! itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use overlan_protocol::api::{Confirmation, DeviceReport, TicketResponse};
use overlan_protocol::key::Lineage;

use super::body::{Empty, Json};
use super::caller::{DeviceCaller, device_removed};
use super::changed::Changed;
use super::feed::Feed;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::roster;
use crate::store::{device_rights, devices, learnt};

pub(super) async fn ticket(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
    Json(Empty {}): Json<Empty>,
) -> Result<Json<TicketResponse>, Refusal> {
    Ok(Json(deployment.keys.signer().issue(&device, clock::wall())))
}

pub(super) async fn netmap(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    let known = known(uri.query())?;
    let counted = deployment
        .budgets
        .lock()
        .streams
        .count(clock::now(), device.id);
    let what = "this device opens sessions too often";
    counted.map_err(|wait| Refusal::too_often(what, wait))?;
    let agent = headers.get(header::USER_AGENT);
    let version = agent.and_then(|agent| program_version(agent.to_str().ok()?));
    let version = version.filter(|version| *version != device.version);
    if device.ephemeral || version.is_some() {
        let mut tx = deployment.store.write().await?;
        if device.ephemeral {
            devices::bump_attach_epoch(&mut tx, device.id).await?;
        }
        if let Some(version) = version {
            device_rights::set_version(&mut tx, device.id, version).await?;
        }
        deployment.store.commit(tx).await?;
    }
    let feed = Feed::open(deployment, device, known).await?;
    let lines = futures_util::stream::unfold(feed, |mut feed| async move {
        let line = feed.next_line().await?;
        Some((Ok::<_, std::convert::Infallible>(line), feed))
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(lines)).into_response())
}

pub(super) async fn report(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
    Json(report): Json<DeviceReport>,
) -> Result<Json<Empty>, Refusal> {
    if report.attached.len() > REPORT_MAX || report.round_trips_ms.len() > REPORT_MAX {
        return Err(Refusal::bad_request(format!(
            "a report names at most {REPORT_MAX} relays"
        )));
    }
    if report.leaving {
        deployment
            .presence
            .lock()
            .handle_leaving(clock::now(), device.id);
        deployment.presence_changed.notify_one();
    } else {
        deployment.reports.lock().put(device.id, report);
    }
    Ok(Json(Empty {}))
}

/// Takes note that the device has applied a version of its netmap.
pub(super) async fn applied(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
    Json(confirmation): Json<Confirmation>,
) -> Result<Json<Empty>, Refusal> {
    let is_present = |lineage| deployment.runs.is_present(lineage);
    if confirmation.lineage.is_some_and(is_present) {
        deployment.confirm_device(device.id, confirmation.version);
    }
    if let Some(ca) = confirmation.ca {
        let mut tx = deployment.store.read().await?;
        let is_news = learnt::of_device(&mut tx, device.id).await? != Some(ca);
        drop(tx);
        if is_news && deployment.keys.server().identity.ca == ca {
            let mut tx = deployment.store.write().await?;
            learnt::set_of_device(&mut tx, device.id, ca).await?;
            deployment.store.commit(tx).await?;
        }
    }
    Ok(Json(Empty {}))
}

pub(super) async fn remove(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
) -> Result<Changed<Empty>, Refusal> {
    let mut tx = deployment.store.write().await?;
    // Its own streams may have raised the epoch since the proof was checked.
    let current = devices::get(&mut tx, device.id).await?;
    let current = current.ok_or_else(device_removed)?;
    roster::remove_device(&mut tx, &current, clock::wall()).await?;
    deployment.store.commit(tx).await?;
    Ok(Changed::new("removed itself", Empty {}))
}

/// Reads `since=<version>&lineage=<lineage>`; nothing else may be in the query. A version alone, as
/// programs before 0.2 send it, cannot be judged.
fn known(query: Option<&str>) -> Result<Option<(u64, Lineage)>, Refusal> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(None);
    };
    let bad = || Refusal::bad_request("the query may only be since=<version>&lineage=<lineage>");
    let rest = query.strip_prefix("since=").ok_or_else(bad)?;
    let (version, lineage) = match rest.split_once("&lineage=") {
        Some((version, lineage)) => (version, Some(lineage)),
        None => (rest, None),
    };
    let version: u64 = version.parse().map_err(|_| bad())?;
    let lineage = lineage.map(str::parse).transpose().map_err(|_| bad())?;
    Ok(lineage.map(|lineage| (version, lineage)))
}

/// Reads the version of the program from its name, as each request has it.
fn program_version(agent: &str) -> Option<&str> {
    let version = agent.strip_prefix("overlan/")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    let fits = (1..=VERSION_MAX).contains(&version.len()) && version.bytes().all(is_plain);
    fits.then_some(version)
}

/// Longest version that is kept, characters; ours have ten or so.
const VERSION_MAX: usize = 32;

/// Most relays in a report.
const REPORT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_version_of_our_program_is_kept() {
        assert_eq!(
            program_version("overlan/0.3.0-rc.1+g1"),
            Some("0.3.0-rc.1+g1")
        );
        let long = format!("overlan/{}", "1".repeat(VERSION_MAX + 1));
        for other in [
            "",
            "curl/8.0",
            "overlan/",
            "overlan/1 2",
            "overlan/\u{1b}[1m",
            &long,
        ] {
            assert_eq!(program_version(other), None, "{other:?}");
        }
    }
}
