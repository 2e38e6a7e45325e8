//! `/api/v1/devices/{id}/…`: people tag, rename, disable, enable and expire a device that is
//! there. [`crate::roster`] and [`crate::renaming`] do it; the list is in `devices`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    Bar, DEVICE_LIFE_MAX_SECS, DeviceExpiry, DeviceRename, DeviceSummary, ProblemKind, TagRequest,
};
use overlan_protocol::key::DeviceId;
use overlan_protocol::name::is_label;
use overlan_protocol::tag::{TAGS_MAX, Tag};

use super::arrival::{Arrival, Whom};
use super::body::{Empty, Json, readable};
use super::caller::Person;
use super::changed::{Changed, and};
use super::devices::{describe, known_device};
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::Fact;
use crate::renaming::{self, RenameError};
use crate::roster;
use crate::store::devices::Device;
use crate::store::{Tx, changes, device_rights, tags};

/// The id in the path of a request.
type WhichDevice = Result<Path<DeviceId>, PathRejection>;

/// A device that a person is about to change, in the transaction that does it.
struct Changing {
    tx: Tx,
    device: Device,
    now: UnixTime,
}

impl Changing {
    async fn begin(
        deployment: &Deployment,
        person: &Person,
        id: WhichDevice,
    ) -> Result<Self, Refusal> {
        let mut tx = deployment.store.write().await?;
        let device = known_device(&mut tx, person.org, readable(id)?).await?;
        let now = clock::wall();
        Ok(Self { tx, device, now })
    }

    /// Commits, waits until it has arrived, and answers with the device as it is now. Without words
    /// nothing was changed.
    async fn end(
        mut self,
        deployment: &Arc<Deployment>,
        what: Option<String>,
    ) -> Result<Changed<DeviceSummary>, Refusal> {
        let (org, id) = (self.device.org, self.device.id);
        let networks = self.device.places.iter().map(|place| place.network);
        let (networks, own) = (networks.collect(), BTreeSet::from([id]));
        // Relays must refuse one that takes no part any more; its own word is not waited for.
        let whom = match self.device.barred {
            Some(_) => Whom::Without(&networks, &own),
            None => Whom::Members(&networks),
        };
        let mut summary = describe(deployment, &mut self.tx, self.device).await?;
        let Some(what) = what else {
            deployment.store.commit(self.tx).await?;
            return Ok(Changed::nothing(summary));
        };
        let arrival = Arrival::expect(deployment, &mut self.tx, org, whom).await?;
        deployment.store.commit(self.tx).await?;
        summary.applied = arrival.wait().await;
        Ok(Changed::new(what, summary))
    }
}

/// Changes the tags of a device; the change log has it in the same transaction.
pub(super) async fn tag(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: WhichDevice,
    Json(request): Json<TagRequest>,
) -> Result<Changed<DeviceSummary>, Refusal> {
    let mut changing = Changing::begin(&deployment, &person, id).await?;
    let Changing { tx, device, now } = &mut changing;
    let kept = device.tags.difference(&request.remove);
    let wanted: BTreeSet<Tag> = kept.chain(&request.add).cloned().collect();
    if wanted.len() > TAGS_MAX {
        let called = device.called();
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!("{called} would have {} tags", wanted.len()),
            format!(
                "a device can have {TAGS_MAX}; take some away first: `overlan admin device tag \
                 {called} remove TAG`"
            ),
        ));
    }
    if wanted == device.tags {
        return changing.end(&deployment, None).await;
    }
    device.tags = wanted;
    tags::set(tx, device.id, &device.tags).await?;
    roster::announce(tx, device, *now).await?;
    for place in &device.places {
        let network = Some(place.network);
        changes::append(tx, device.org, network, &Fact::Policy, *now).await?;
    }
    let tags = and(device.tags.iter().map(Tag::to_string));
    let what = format!("tagged device {}: {tags}", device.called());
    changing.end(&deployment, Some(what)).await
}

/// Gives a device another name in all its networks.
pub(super) async fn rename(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: WhichDevice,
    Json(DeviceRename { label }): Json<DeviceRename>,
) -> Result<Changed<DeviceSummary>, Refusal> {
    if !is_label(&label) {
        return Err(Refusal::bad_request(
            "a device's name must be 1 to 63 lower-case letters, digits and hyphens",
        ));
    }
    let mut changing = Changing::begin(&deployment, &person, id).await?;
    let Changing { tx, device, now } = &mut changing;
    let before = device.called();
    renaming::device(tx, device, &label, *now)
        .await
        .map_err(|error| match error {
            RenameError::Taken { network } => Refusal::new(
                ProblemKind::NameTaken,
                &format!("the name {label} is in use in network {network}"),
                "a device, a DNS record or a gateway host has it; choose another name",
            ),
            RenameError::Store(error) => error.into(),
        })?;
    let what = format!("renamed device {before} to {}", device.called());
    changing.end(&deployment, Some(what)).await
}

/// Disables a device: its tickets are void and its peers forget it, but it keeps its place.
pub(super) async fn disable(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: WhichDevice,
    Json(Empty {}): Json<Empty>,
) -> Result<Changed<DeviceSummary>, Refusal> {
    let mut changing = Changing::begin(&deployment, &person, id).await?;
    let Changing { tx, device, now } = &mut changing;
    if device
        .barred
        .is_some_and(|barred| barred.why == Bar::Disabled)
    {
        return changing.end(&deployment, None).await;
    }
    roster::bar(tx, device, Bar::Disabled, *now).await?;
    let what = format!("disabled device {}", device.called());
    changing.end(&deployment, Some(what)).await
}

/// Lets a disabled or expired device take part again; it need not prove its right again.
pub(super) async fn enable(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: WhichDevice,
    Json(Empty {}): Json<Empty>,
) -> Result<Changed<DeviceSummary>, Refusal> {
    let mut changing = Changing::begin(&deployment, &person, id).await?;
    let Changing { tx, device, now } = &mut changing;
    let Some(barred) = device.barred else {
        return changing.end(&deployment, None).await;
    };
    if barred.why == Bar::Expired {
        device_rights::set_expiry(tx, device.id, None).await?;
        device.expires = None;
    }
    roster::admit(tx, device, *now).await?;
    let what = format!(
        "enabled device {}, which was {}",
        device.called(),
        barred.why
    );
    changing.end(&deployment, Some(what)).await
}

/// Sets the time by which a device has to prove its right again.
pub(super) async fn expire(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    id: WhichDevice,
    Json(DeviceExpiry { in_secs }): Json<DeviceExpiry>,
) -> Result<Changed<DeviceSummary>, Refusal> {
    if in_secs.is_some_and(|secs| secs > DEVICE_LIFE_MAX_SECS) {
        return Err(Refusal::bad_request(format!(
            "a device expires within {DEVICE_LIFE_MAX_SECS} s"
        )));
    }
    let mut changing = Changing::begin(&deployment, &person, id).await?;
    let Changing { tx, device, now } = &mut changing;
    device.expires = in_secs.map(|secs| *now + Duration::from_secs(secs));
    device_rights::set_expiry(tx, device.id, device.expires).await?;
    let called = device.called();
    let what = match in_secs {
        Some(0) if device.barred.is_none() => {
            roster::bar(tx, device, Bar::Expired, *now).await?;
            format!("device {called} expired: it has to prove its right again")
        }
        Some(secs) => format!("device {called} has to prove its right again within {secs} s"),
        None => format!("device {called} does not expire"),
    };
    changing.end(&deployment, Some(what)).await
}
