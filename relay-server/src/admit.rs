//! Decides whether a HELLO makes a stranger a client. Holds no connection; the wall clock is an
//! argument.

use std::collections::BTreeMap;

use overlan_protocol::api::RelayOrders;
use overlan_protocol::hello::{Hello, Reject, RejectCode};
use overlan_protocol::key::{DeviceId, RelayId};
use overlan_protocol::ticket::{Ticket, TicketError, TicketKeys};
use overlan_protocol::{Exporter, UnixTime};

use crate::switch::Place;

/// The controller's orders, in the form that judging needs.
#[derive(Debug)]
pub(crate) struct Orders {
    /// Version as the controller counts.
    pub(crate) version: u64,
    /// Keys that sign tickets.
    pub(crate) keys: TicketKeys,
    /// Lowest epoch that a device's ticket must have.
    pub(crate) revoked: BTreeMap<DeviceId, u64>,
    /// The device that holds a place that may be in two tickets.
    pub(crate) holders: BTreeMap<Place, DeviceId>,
}

/// The facts that a good HELLO proves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The verified ticket.
    pub(crate) ticket: Ticket,
    /// The attach sequence that the client's key signed.
    pub(crate) sequence: u64,
    /// The version both sides speak.
    pub(crate) version: u8,
}

impl From<RelayOrders> for Orders {
    fn from(orders: RelayOrders) -> Self {
        let mut revoked = BTreeMap::new();
        for (device, epoch) in orders.revoked {
            let known = revoked.entry(device).or_insert(epoch);
            *known = epoch.max(*known);
        }
        Self {
            version: orders.version,
            keys: orders.ticket_keys,
            revoked,
            holders: orders
                .holders
                .into_iter()
                .map(|(vni, host, device)| (Place::new(vni, host), device))
                .collect(),
        }
    }
}

impl Orders {
    /// Returns whether a device with a ticket of `epoch` must not be here.
    pub(crate) fn revokes(&self, device: DeviceId, epoch: u64) -> bool {
        self.revoked
            .get(&device)
            .is_some_and(|needed| epoch < *needed)
    }

    /// Places that another device than the one in them may hold, with the device that holds each.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (Place, DeviceId)> {
        self.holders.iter().map(|(place, device)| (*place, *device))
    }

    /// Returns whether the place is another device's.
    pub(crate) fn is_held_by_another(&self, place: Place, device: DeviceId) -> bool {
        let holder = self.holders.get(&place);
        holder.is_some_and(|holder| *holder != device)
    }
}

/// Judges the body of a HELLO that came over the connection of `exporter`, at the time `wall`.
/// Nothing in a ticket is believed before its signature fits, and the client is not the ticket's
/// device before the proof fits.
pub(crate) fn admit(
    body: &[u8],
    exporter: &Exporter,
    relay: RelayId,
    orders: &Orders,
    wall: UnixTime,
) -> Result<Admitted, Reject> {
    let hello = Hello::decode(body)
        .ok_or_else(|| Reject::new(RejectCode::Protocol, "the HELLO is malformed"))?;
    let version = hello.common_version().ok_or_else(|| {
        Reject::new(
            RejectCode::Version,
            "no common protocol version; update the older side",
        )
    })?;
    let mut ticket = Ticket::verify(hello.ticket, &orders.keys, wall).map_err(|error| {
        let code = match error {
            TicketError::Expired => RejectCode::TicketExpired,
            TicketError::Malformed
            | TicketError::UnknownKey
            | TicketError::Forged
            | TicketError::NotYet => RejectCode::TicketInvalid,
        };
        Reject::new(code, error.to_string())
    })?;
    if !hello.is_proved_by(&ticket.identity, exporter, relay) {
        return Err(Reject::new(
            RejectCode::ProofInvalid,
            "the signature does not fit ticket, relay and connection; a proxy may stand between",
        ));
    }
    if orders.revokes(ticket.device, ticket.epoch) {
        return Err(revoked());
    }
    let (device, before) = (ticket.device, ticket.networks.len());
    ticket.networks.retain(|(vni, host)| {
        let place = Place::new(*vni, *host);
        !orders.is_held_by_another(place, device)
    });
    if ticket.networks.is_empty() && before > 0 {
        return Err(held_by_others());
    }
    Ok(Admitted {
        ticket,
        sequence: hello.attach_sequence,
        version,
    })
}

/// The answer to a device whose addresses the controller gave to other devices.
pub(crate) fn held_by_others() -> Reject {
    Reject::new(
        RejectCode::HeldByOthers,
        "the controller gave the address of this ticket to another device",
    )
}

/// The answer to a removed device, at its HELLO or later.
pub(crate) fn revoked() -> Reject {
    Reject::new(
        RejectCode::Revoked,
        "the device was removed or its rights changed",
    )
}

#[cfg(test)]
mod tests;
