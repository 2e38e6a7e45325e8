//! `/v1/relay`: a relay registers by a token, then sends heartbeats with proof of its key.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use overlan_protocol::HostPort;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    ProblemKind, RelayHeartbeat, RelayOrders, RelayRegisterRequest, RelayRegisterResponse,
};
use overlan_protocol::key::{Fingerprint, RelayId};
use overlan_protocol::proof::enrolment_message;
use tokio::sync::watch;
use tokio::time::Instant;

use super::body::Json;
use super::caller::{RelayCaller, ThisChannel, check_signature};
use super::changed::Changed;
use super::problem::Refusal;
use super::relay_tokens::relay_name_taken;
use crate::auth::{NamedSecret, RELAY_TOKEN_PREFIX};
use crate::clock;
use crate::deployment::Deployment;
use crate::enrol::{self, KeyKind, QuotaError, RelayNameError, key_end};
use crate::fleet;
use crate::lineage::Claim;
use crate::netmaps::{Entry, Fact, OrgId};
use crate::store::keys::{self, RelayToken};
use crate::store::learnt;
use crate::store::relays::{self, RelayRow};
use crate::store::{StoreError, Tx};

pub(super) async fn register(
    State(deployment): State<Arc<Deployment>>,
    ThisChannel(exporter): ThisChannel,
    Json(request): Json<RelayRegisterRequest>,
) -> Result<Changed<RelayRegisterResponse>, Refusal> {
    let message = enrolment_message(&exporter, &request.identity);
    check_signature("proof", &request.identity, &message, &request.proof)?;
    check_reach(&request.addresses, &request.pins)?;
    let named = NamedSecret::parse(RELAY_TOKEN_PREFIX, &request.token)
        .ok_or_else(|| Refusal::key_unknown(KeyKind::RelayToken))?;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let token = keys::relay_token(&mut tx, &named.id, &named.digest).await?;
    let token = token.ok_or_else(|| Refusal::key_unknown(KeyKind::RelayToken))?;
    let known = relays::list(&mut tx, token.org).await?;
    let same = known
        .iter()
        .find(|relay| relay.identity == request.identity);
    if let Some(relay) = same {
        let orders = what_it_is(&deployment, &mut tx, relay, &token, now).await?;
        return Ok(Changed::nothing(answer(relay, orders)));
    }
    let room = enrol::relay_named(&token.name, &known);
    let id = match room {
        Ok(Some(replaced)) => replaced.id,
        Ok(None) | Err(_) => RelayId::random(),
    };
    if !keys::consume_relay_token(&mut tx, &named.id, &named.digest, id, now).await? {
        let (end, ago) = key_end(None, token.used, token.expires, now);
        return Err(Refusal::key_ended(KeyKind::RelayToken, &named.id, end, ago));
    }
    let before = room.map_err(|error| match error {
        RelayNameError::Online => relay_name_taken(&token.name),
        RelayNameError::Full => Refusal::bad_request(QuotaError::Relays.to_string()),
    })?;
    let relay = RelayRow {
        id,
        org: token.org,
        name: token.name,
        identity: request.identity,
        addresses: request.addresses,
        pins: request.pins,
        online: true,
    };
    fleet::put_relay(&mut tx, &relay, before, &deployment.reports, now).await?;
    let orders = fleet::orders(&deployment, &mut tx, relay.org, now).await?;
    deployment.store.commit(tx).await?;
    hear(&deployment, id, 0);
    let what = format!("registered relay {} by token {}", relay.name, named.id);
    Ok(Changed::new(what, answer(&relay, orders)))
}

fn answer(relay: &RelayRow, orders: RelayOrders) -> RelayRegisterResponse {
    RelayRegisterResponse {
        relay: relay.id,
        name: relay.name.clone(),
        orders,
    }
}

/// Answers a relay that is registered already, since the answer to its first attempt may have been
/// lost. Reads what is, whatever became of the token, and changes nothing; the relay's addresses
/// come with its heartbeats.
async fn what_it_is(
    deployment: &Deployment,
    tx: &mut Tx,
    relay: &RelayRow,
    token: &RelayToken,
    now: UnixTime,
) -> Result<RelayOrders, Refusal> {
    if relay.name != token.name {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("this relay is already registered as {}", relay.name),
            format!(
                "to register it as {}, move its state directory away and start it again",
                token.name
            ),
        ));
    }
    Ok(fleet::orders(deployment, tx, relay.org, now).await?)
}

pub(super) async fn heartbeat(
    State(deployment): State<Arc<Deployment>>,
    RelayCaller(relay): RelayCaller,
    Json(beat): Json<RelayHeartbeat>,
) -> Result<Json<RelayOrders>, Refusal> {
    check_reach(&beat.addresses, &beat.pins)?;
    let current = relay.online && relay.addresses == beat.addresses && relay.pins == beat.pins;
    hear(&deployment, relay.id, beat.clients);
    if !current {
        update(&deployment, relay.id, &beat).await?;
    }
    if beat
        .lineage
        .is_some_and(|lineage| deployment.runs.is_present(lineage))
    {
        deployment.confirm_relay(relay.id, beat.applied);
    }
    if let Some(ca) = beat.ca {
        note_ca(&deployment, relay.id, ca).await?;
    }
    let hold = if beat.wait {
        deployment.timings.heartbeat_hold
    } else {
        Duration::ZERO
    };
    if let Some(lineage) = beat.lineage
        && deployment.runs.judge(lineage, 0) == Claim::Lost
    {
        deployment.handle_lost_time(&relay.name).await?;
    }
    let orders = wait_for_orders(&deployment, relay.org, &beat, hold).await?;
    hear(&deployment, relay.id, beat.clients);
    Ok(Json(orders))
}

/// Writes what the heartbeat says about the relay, if it differs from the stored row.
async fn update(
    deployment: &Deployment,
    id: RelayId,
    beat: &RelayHeartbeat,
) -> Result<(), StoreError> {
    let mut tx = deployment.store.write().await?;
    if let Some(before) = relays::get(&mut tx, id).await? {
        let after = RelayRow {
            addresses: beat.addresses.clone(),
            pins: beat.pins.clone(),
            online: true,
            ..before.clone()
        };
        fleet::put_relay(
            &mut tx,
            &after,
            Some(&before),
            &deployment.reports,
            clock::wall(),
        )
        .await?;
    }
    deployment.store.commit(tx).await
}

/// Notes the CA that the relay has stored.
async fn note_ca(
    deployment: &Deployment,
    relay: RelayId,
    ca: Fingerprint,
) -> Result<(), StoreError> {
    let mut tx = deployment.store.read().await?;
    let is_news = learnt::of_relay(&mut tx, relay).await? != Some(ca);
    drop(tx);
    if is_news && deployment.keys.server().identity.ca == ca {
        let mut tx = deployment.store.write().await?;
        learnt::set_of_relay(&mut tx, relay, ca).await?;
        deployment.store.commit(tx).await?;
    }
    Ok(())
}

/// Returns the orders as soon as they differ from those that the relay has, at the latest after
/// `hold`.
async fn wait_for_orders(
    deployment: &Deployment,
    org: OrgId,
    beat: &RelayHeartbeat,
    hold: Duration,
) -> Result<RelayOrders, StoreError> {
    let until = Instant::now() + hold;
    let mut head = deployment.changelog.watch();
    let mut keys = deployment.keys.watch();
    loop {
        let looked_at = *head.borrow_and_update();
        let mut tx: Tx = deployment.store.read().await?;
        // Orders of an older database may have a higher version than these, which are new all the
        // same.
        let news = relays::orders_version(&mut tx, org).await? != beat.applied
            || beat
                .lineage
                .is_some_and(|lineage| !deployment.runs.is_present(lineage));
        if news || Instant::now() >= until || deployment.stop.is_cancelled() {
            return fleet::orders(deployment, &mut tx, org, clock::wall()).await;
        }
        drop(tx);
        tokio::select! {
            () = revoked_since(deployment, org, looked_at, &mut head) => {}
            _ = keys.changed() => {}
            () = tokio::time::sleep_until(until) => {}
            () = deployment.stop.cancelled() => {}
        }
    }
}

/// Completes when the change log after `looked_at` holds something that may change the orders: a
/// device of the organisation was removed, left a network or, as long as addresses may be in doubt,
/// joined one.
async fn revoked_since(
    deployment: &Deployment,
    org: OrgId,
    mut looked_at: u64,
    head: &mut watch::Receiver<u64>,
) {
    while head.changed().await.is_ok() {
        let Some((now, entries)) = deployment.changelog.since(looked_at) else {
            return;
        };
        let revokes = |entry: &Arc<Entry>| {
            entry.org == org
                && matches!(
                    entry.fact,
                    Fact::Gone { .. } | Fact::Left { .. } | Fact::Joined(_)
                )
        };
        if entries.iter().any(revokes) {
            return;
        }
        looked_at = now;
    }
}

fn hear(deployment: &Deployment, relay: RelayId, clients: u32) {
    deployment
        .heartbeats
        .lock()
        .handle_beat(clock::now(), relay, clients);
    // The housekeeping task may sleep until another relay is due.
    deployment.presence_changed.notify_one();
}

fn check_reach(addresses: &[String], pins: &[Fingerprint]) -> Result<(), Refusal> {
    let plausible = |address: &String| address.parse::<HostPort>().is_ok();
    if !(1..=ADDRESSES_MAX).contains(&addresses.len()) || !addresses.iter().all(plausible) {
        return Err(Refusal::bad_request(format!(
            "a relay has 1 to {ADDRESSES_MAX} addresses of the form host:port"
        )));
    }
    if !(1..=PINS_MAX).contains(&pins.len()) {
        return Err(Refusal::bad_request("a relay has 1 or 2 pins"));
    }
    Ok(())
}

/// Most addresses of a relay.
const ADDRESSES_MAX: usize = 8;
/// Most pins of a relay: those of the current and the next key.
const PINS_MAX: usize = 2;
