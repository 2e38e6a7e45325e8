//! The two tasks beside the requests: one follows the change log, the other does what is due with
//! time. [`crate::presence`] and [`crate::heartbeat`] decide.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::address::QUARANTINE;
use crate::auth::{API_TOKEN_KEPT, SESSION_IDLE};
use crate::clock;
use crate::deployment::Deployment;
use crate::fleet;
use crate::login_requests::KEPT;
use crate::netmaps::Fact;
use crate::oidc;
use crate::presence::Transition;
use crate::renaming;
use crate::roster;
use crate::store::{
    StoreError, api_tokens, changes, device_rights, devices, former_names, invitations, keys,
    login_requests, policies, sessions, trust_rules,
};
use overlan_protocol::UnixTime;
use overlan_protocol::api::Bar;

/// Reads new entries of the change log into memory, soon after each commit and at every poll. Ends
/// with the controller.
pub(crate) async fn follow_changes(deployment: Arc<Deployment>) {
    loop {
        match read_changes(&deployment).await {
            Ok(more) if more => continue,
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "cannot read the change log"),
        }
        tokio::select! {
            () = deployment.stop.cancelled() => return,
            () = deployment.store.changed() => {}
            () = tokio::time::sleep(deployment.timings.poll_every) => {}
        }
        // Commits that come together reach the streams together.
        tokio::select! {
            () = deployment.stop.cancelled() => return,
            () = tokio::time::sleep(COALESCE) => {}
        }
    }
}

/// Reads the whole change log once: a device that reconnects right after a restart goes on from its
/// map.
pub(crate) async fn catch_up(deployment: &Deployment) -> Result<(), StoreError> {
    while read_changes(deployment).await? {}
    // Rules may have ended meanwhile.
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    for (org, network) in policies::with_ends(&mut tx).await? {
        changes::append(&mut tx, org, Some(network), &Fact::Policy, now).await?;
    }
    deployment.store.commit(tx).await
}

async fn read_changes(deployment: &Deployment) -> Result<bool, StoreError> {
    let mut tx = deployment.store.read().await?;
    let head = deployment.changelog.head();
    let entries = changes::since(&mut tx, head, READ_MAX).await?;
    let more = entries.len() == READ_MAX;
    {
        let mut reports = deployment.reports.lock();
        for entry in &entries {
            if let Fact::Gone { device, .. } = &entry.fact {
                reports.remove(*device);
            }
        }
    }
    // Before streams hear of the entries, so that each policy is compiled once for all of them.
    for (org, network) in deployment.sights.handle_entries(&entries) {
        if let Err(error) = deployment.sight(&mut tx, org, network).await {
            tracing::error!(%error, %network, "cannot compile the policy of a network");
        }
    }
    deployment.changelog.extend(entries);
    Ok(more)
}

/// Writes who is online, finds lost relays, removes stale ephemeral devices and prunes. Ends with
/// the controller.
pub(crate) async fn keep_house(deployment: Arc<Deployment>) {
    let mut sweep_at = clock::now();
    let mut prune_at = clock::now();
    loop {
        let now = clock::now();
        write_presence(&deployment, now).await;
        lose_relays(&deployment, now).await;
        end_rules(&deployment).await;
        if now >= sweep_at || deployment.ends_changed.swap(false, Ordering::Relaxed) {
            report("remove ephemeral devices", sweep(&deployment).await);
            report("end old names", end_former_names(&deployment).await);
            report("expire devices", expire_devices(&deployment).await);
            end_previous_ca(&deployment).await;
            let next = next_end(&deployment).await;
            let most = (deployment.timings.ephemeral_after / 4).clamp(SWEEP_MIN, SWEEP_MAX);
            sweep_at = now + next.map_or(most, |next| next.clamp(SWEEP_MIN, most));
        }
        if now >= prune_at {
            report("prune the database", prune(&deployment).await);
            prune_at = now + PRUNE_EVERY;
        }
        let presence = deployment.presence.lock().deadline(clock::now());
        let relays = deployment.heartbeats.lock().deadline();
        let wall = clock::wall();
        let rules = deployment.sights.next_end(wall);
        let rules = rules.map(|at| clock::now() + at.since(wall));
        let due = [presence, relays, rules, Some(sweep_at), Some(prune_at)];
        let due = due.into_iter().flatten().min().unwrap_or(sweep_at);
        tokio::select! {
            () = deployment.stop.cancelled() => return,
            () = deployment.presence_changed.notified() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }
}

async fn write_presence(deployment: &Deployment, now: Instant) {
    let transitions = deployment.presence.lock().due(now, PRESENCE_BATCH);
    if transitions.is_empty() {
        return;
    }
    if let Err(error) = try_write_presence(deployment, &transitions).await {
        tracing::error!(%error, "cannot write who is online");
        deployment
            .presence
            .lock()
            .retry(now + RETRY_AFTER, &transitions);
        // Arrivals are due at once; a failing database must not make this a busy loop.
        tokio::select! {
            () = deployment.stop.cancelled() => {}
            () = tokio::time::sleep(RETRY_AFTER) => {}
        }
    }
}

async fn try_write_presence(
    deployment: &Deployment,
    transitions: &[Transition],
) -> Result<(), StoreError> {
    let now_ms = clock::unix_millis();
    let mut tx = deployment.store.write().await?;
    for Transition { device, online } in transitions {
        let Some(device) = devices::set_online(&mut tx, *device, *online, now_ms).await? else {
            continue;
        };
        for place in &device.places {
            let fact = Fact::Online {
                device: device.id,
                host: place.host,
                online: *online,
            };
            let network = Some(place.network);
            changes::append(
                &mut tx,
                device.org,
                network,
                &fact,
                UnixTime::from_secs(now_ms / 1_000),
            )
            .await?;
        }
    }
    deployment.store.commit(tx).await
}

async fn lose_relays(deployment: &Deployment, now: Instant) {
    let lost = deployment.heartbeats.lock().lost(now);
    for relay in lost {
        let result = async {
            let mut tx = deployment.store.write().await?;
            let name =
                fleet::lose_relay(&mut tx, relay, &deployment.reports, clock::wall()).await?;
            deployment.store.commit(tx).await?;
            Ok::<_, StoreError>(name)
        };
        match result.await {
            Ok(Some(name)) => {
                tracing::warn!(relay = name, "no heartbeat from a relay; its devices move");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, %relay, "cannot mark a relay as offline");
                // As if it had been heard just now: it is lost again after the same silence.
                deployment.heartbeats.lock().handle_beat(now, relay, 0);
            }
        }
    }
}

/// Tells devices of the rules that have ended.
async fn end_rules(deployment: &Deployment) {
    let now = clock::wall();
    let ended = deployment.sights.take_ended(now);
    if ended.is_empty() {
        return;
    }
    let written = async {
        let mut tx = deployment.store.write().await?;
        for (org, network) in &ended {
            changes::append(&mut tx, *org, Some(*network), &Fact::Policy, now).await?;
        }
        deployment.store.commit(tx).await
    };
    if let Err(error) = written.await {
        tracing::error!(%error, "cannot write that rules of a policy ended");
        deployment.sights.forget_ended(&ended);
    }
}

async fn sweep(deployment: &Deployment) -> Result<(), StoreError> {
    let now_ms = clock::unix_millis();
    let age = u64::try_from(deployment.timings.ephemeral_after.as_millis()).unwrap_or(u64::MAX);
    end_devices(deployment, UnixTime::from_secs(now_ms / 1_000)).await?;
    let mut tx = deployment.store.read().await?;
    let stale = devices::stale_ephemeral(&mut tx, now_ms, age, SWEEP_BATCH).await?;
    drop(tx);
    if stale.is_empty() {
        return Ok(());
    }
    let mut tx = deployment.store.write().await?;
    for device in &stale {
        let attached = deployment.presence.lock().is_attached(device.id);
        if !attached
            && roster::remove_device(&mut tx, device, UnixTime::from_secs(now_ms / 1_000)).await?
        {
            tracing::info!(
                device = device.hostname,
                "an ephemeral device stayed away and was removed"
            );
        }
    }
    deployment.store.commit(tx).await
}

/// Removes devices whose life is over, whether they are online or not.
async fn end_devices(deployment: &Deployment, now: UnixTime) -> Result<(), StoreError> {
    let mut tx = deployment.store.read().await?;
    let ended = trust_rules::ended(&mut tx, now, SWEEP_BATCH).await?;
    drop(tx);
    if ended.is_empty() {
        return Ok(());
    }
    let mut tx = deployment.store.write().await?;
    for id in ended {
        let device = devices::get(&mut tx, id).await?;
        if let Some(device) = device
            && roster::remove_device(&mut tx, &device, now).await?
        {
            tracing::info!(
                device = device.hostname,
                "a device reached the end of its life and was removed"
            );
        }
    }
    deployment.store.commit(tx).await
}

/// Returns the time until the next device ends.
async fn next_end(deployment: &Deployment) -> Option<Duration> {
    let mut tx = deployment.store.read().await.ok()?;
    let next = trust_rules::next_end(&mut tx).await.ok()??;
    Some(next.since(clock::wall()))
}

async fn expire_devices(deployment: &Deployment) -> Result<(), StoreError> {
    let now = clock::wall();
    let mut tx = deployment.store.read().await?;
    let expired = device_rights::expired(&mut tx, now, SWEEP_BATCH).await?;
    drop(tx);
    for id in expired {
        let mut tx = deployment.store.write().await?;
        // An admin may have changed it meanwhile.
        let device = devices::get(&mut tx, id).await?;
        let is_due = |device: &devices::Device| {
            device.barred.is_none() && device.expires.is_some_and(|expires| expires <= now)
        };
        if let Some(mut device) = device.filter(is_due) {
            roster::bar(&mut tx, &mut device, Bar::Expired, now).await?;
            deployment.store.commit(tx).await?;
            tracing::info!(
                device = device.hostname,
                "a device has to prove its right again"
            );
        }
    }
    Ok(())
}

/// Takes the CA before the present one out of the chain when its time has come.
async fn end_previous_ca(deployment: &Arc<Deployment>) {
    let ending = deployment.clone();
    let ended = tokio::task::spawn_blocking(move || ending.keys.end_previous_ca(clock::wall()));
    match ended.await {
        Ok(Ok(true)) => {
            tracing::info!("the CA before the last rotation ended");
            deployment.keys.announce();
        }
        Ok(Ok(false)) | Err(_) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot end the CA before the last rotation"),
    }
}

async fn end_former_names(deployment: &Deployment) -> Result<(), StoreError> {
    let now = clock::wall();
    let mut tx = deployment.store.read().await?;
    if !former_names::is_any_over(&mut tx, now).await? {
        return Ok(());
    }
    drop(tx);
    let mut tx = deployment.store.write().await?;
    let ended = renaming::end_former(&mut tx, now).await?;
    deployment.store.commit(tx).await?;
    tracing::info!(names = ended.join(", "), "old names of networks ended");
    Ok(())
}

async fn prune(deployment: &Deployment) -> Result<(), StoreError> {
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    changes::prune(&mut tx, CHANGES_KEPT).await?;
    // The key before a rotation ends at some time.
    fleet::announce_keys(&mut tx, &deployment.keys.signer(), now).await?;
    fleet::announce_ca(&mut tx, deployment.keys.server().identity.ca).await?;
    sessions::prune(&mut tx, now, SESSION_IDLE).await?;
    api_tokens::prune(&mut tx, now, API_TOKEN_KEPT).await?;
    keys::prune(&mut tx, now - KEYS_KEPT).await?;
    trust_rules::prune(&mut tx, now - oidc::LEEWAY).await?;
    invitations::prune(&mut tx, now - INVITATIONS_KEPT, now).await?;
    login_requests::prune(&mut tx, now - KEPT).await?;
    let released = now - QUARANTINE;
    devices::prune(&mut tx, released, now - REVOCATIONS_KEPT).await?;
    deployment.store.commit(tx).await
}

fn report(what: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::error!(%error, "cannot {what}");
    }
}

/// The time for which commits are gathered before streams are woken.
const COALESCE: Duration = Duration::from_millis(10);

/// Most entries read at once.
const READ_MAX: usize = 1_000;

/// Most devices that come or go in one transaction.
const PRESENCE_BATCH: usize = 1_000;

/// Pause after the database failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bounds of the time between two looks for stale ephemeral devices, and most devices that one look
/// removes.
const SWEEP_MIN: Duration = Duration::from_millis(50);
const SWEEP_MAX: Duration = Duration::from_secs(60);
const SWEEP_BATCH: u32 = 500;

const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// Entries of the change log that are kept on disk. Streams look into memory, which is filled from
/// there after a restart.
const CHANGES_KEPT: u64 = 2 * crate::changelog::ENTRIES_MAX as u64;

/// The time for which ended keys and tokens are kept, so that their users hear "expired" and not
/// "unknown".
const KEYS_KEPT: Duration = Duration::from_secs(90 * 24 * 3_600);

/// The time for which ended invitations stay in the list, where people see what became of them.
const INVITATIONS_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The time for which removed devices are remembered, so that their owners hear "removed" and not
/// "unknown".
const REVOCATIONS_KEPT: Duration = Duration::from_secs(90 * 24 * 3_600);
