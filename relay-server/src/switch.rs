//! Decides which connection gets a frame. Holds who is attached; no clock, no socket, no payload.
//!
//! A connection reaches a network only through the handles that it was given at attach: routing
//! compares a frame's VNI with that short list and with nothing else. There is no function from a
//! VNI to a table, so a foreign number leads nowhere.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use overlan_protocol::HostIndex;
use overlan_protocol::frame::{Address, Vni};
use overlan_protocol::key::DeviceId;
use parking_lot::{Mutex, RwLock};

/// All networks of one relay. `H` is the handle of a receiver; the switch only keeps and copies it.
pub(crate) struct Switch<H> {
    state: Mutex<State<H>>,
}

/// The place of one device in one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The network's number.
    pub(crate) vni: u32,
    /// The device's number in it.
    pub(crate) host: HostIndex,
}

impl Place {
    /// A place as tickets and orders have it.
    pub(crate) fn new(vni: Vni, host: HostIndex) -> Self {
        let vni = vni.get();
        Self { vni, host }
    }

    /// Returns whether a frame to `address` is for this place.
    pub(crate) fn is_of(self, address: Address) -> bool {
        (self.vni, self.host.get()) == (address.vni, address.host)
    }

    /// The address of a frame for or about this place, of no flow.
    pub(crate) fn address(self) -> Address {
        Address {
            vni: self.vni,
            flow: 0,
            host: self.host.get(),
        }
    }
}

/// The places that one verified ticket claims.
pub(crate) struct Claim<'a> {
    /// The device that proved its key.
    pub(crate) device: DeviceId,
    /// Of two connections of a device the higher number stays.
    pub(crate) sequence: u64,
    /// The ticket's device epoch, for later revocations.
    pub(crate) epoch: u64,
    /// The device's places; of several in one network the first counts.
    pub(crate) places: &'a [Place],
}

/// Names one attach for as long as the relay runs; later attaches have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttachId(pub(crate) u64);

/// One connection's right to send: handles to the networks of its ticket. Useless once another
/// attach has its places.
pub(crate) struct Attachment<H> {
    id: AttachId,
    ports: Vec<Port<H>>,
}

struct Port<H> {
    place: Place,
    table: Arc<Table<H>>,
}

/// The decision about one frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<H> {
    /// Goes to `receiver`, with `source` as the host index of the sender.
    Deliver {
        /// The destination.
        to: Place,
        /// Its handle.
        receiver: H,
        /// The host index that the sending connection has.
        source: HostIndex,
    },
    /// The destination could exist and is not attached here.
    PeerGone(Place),
    /// No honest client sends this.
    Drop(Misroute),
}

/// The reason why a frame cannot be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misroute {
    /// The VNI is not in the connection's ticket.
    ForeignNetwork,
    /// The destination is the sender itself, the network address or beyond the last host.
    NoSuchHost,
    /// The connection was superseded or revoked and has not ended yet.
    NotAttached,
}

/// A newer connection of the same device is attached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Superseded;

impl<H: Clone> Switch<H> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                tables: BTreeMap::new(),
                devices: BTreeMap::new(),
                next: 0,
            }),
        }
    }

    /// Attaches a device. `make` builds its handle from the new id. Also returns the handles of
    /// connections that lost their place to this one: an older one of the device, or of a device
    /// whose host index was given to this one.
    pub(crate) fn attach(
        &self,
        claim: &Claim<'_>,
        make: impl FnOnce(AttachId) -> H,
    ) -> Result<(Attachment<H>, H, Vec<H>), Superseded> {
        let mut state = self.state.lock();
        let older = state.devices.get(&claim.device);
        if older.is_some_and(|older| older.sequence >= claim.sequence) {
            return Err(Superseded);
        }
        let mut displaced: Vec<H> = state.remove(claim.device).into_iter().collect();
        state.next += 1;
        let id = AttachId(state.next);
        let handle = make(id);
        let mut ports: Vec<Port<H>> = Vec::with_capacity(claim.places.len());
        for &place in claim.places {
            if ports.iter().any(|port| port.place.vni == place.vni) {
                continue;
            }
            if let Some(holder) = state.holder(place) {
                displaced.extend(state.remove(holder));
            }
            let table = state.tables.entry(place.vni);
            let table = table.or_insert_with(Table::empty).clone();
            let member = Member {
                id,
                device: claim.device,
                handle: handle.clone(),
            };
            table.members.write().insert(place.host, member);
            ports.push(Port { place, table });
        }
        let attached = Attached {
            id,
            sequence: claim.sequence,
            epoch: claim.epoch,
            handle: handle.clone(),
            places: ports.iter().map(|port| port.place).collect(),
        };
        state.devices.insert(claim.device, attached);
        Ok((Attachment { id, ports }, handle, displaced))
    }

    /// Takes a connection out. Returns whether it was still in, that is, neither superseded nor
    /// revoked.
    pub(crate) fn detach(&self, device: DeviceId, id: AttachId) -> bool {
        let mut state = self.state.lock();
        let still_in = state.devices.get(&device).is_some_and(|now| now.id == id);
        still_in && state.remove(device).is_some()
    }

    /// Takes out every device whose ticket has a lower epoch than `revoked` demands, and returns
    /// their handles.
    pub(crate) fn revoke(&self, revoked: &BTreeMap<DeviceId, u64>) -> Vec<H> {
        let mut state = self.state.lock();
        let gone: Vec<DeviceId> = state
            .devices
            .iter()
            .filter(|(device, attached)| {
                revoked
                    .get(device)
                    .is_some_and(|epoch| attached.epoch < *epoch)
            })
            .map(|(device, _)| *device)
            .collect();
        gone.into_iter()
            .filter_map(|device| state.remove(device))
            .collect()
    }

    /// Takes out every device that has the place of another one, and returns their handles.
    /// `holders` has each place with the device that holds it.
    pub(crate) fn displace(&self, holders: impl Iterator<Item = (Place, DeviceId)>) -> Vec<H> {
        let mut state = self.state.lock();
        let mut gone = Vec::new();
        for (place, holder) in holders {
            let found = state.holder(place);
            if let Some(device) = found.filter(|device| *device != holder) {
                gone.extend(state.remove(device));
            }
        }
        gone
    }

    /// Returns the handles of all devices with a place in the network `vni`.
    pub(crate) fn members(&self, vni: u32) -> Vec<H> {
        let table = self.state.lock().tables.get(&vni).cloned();
        table.map_or_else(Vec::new, |table| table.handles())
    }

    /// Returns the handles of all attached devices.
    pub(crate) fn handles(&self) -> Vec<H> {
        let state = self.state.lock();
        state
            .devices
            .values()
            .map(|attached| attached.handle.clone())
            .collect()
    }

    /// The number of attached devices.
    pub(crate) fn attached(&self) -> usize {
        self.state.lock().devices.len()
    }
}

impl<H: Clone> Attachment<H> {
    /// Judges one frame of this connection by the address that it names.
    pub(crate) fn route(&self, address: Address) -> Verdict<H> {
        let of_network = |port: &&Port<H>| port.place.vni == address.vni;
        let Some(Port { place: own, table }) = self.ports.iter().find(of_network) else {
            return Verdict::Drop(Misroute::ForeignNetwork);
        };
        let host = match HostIndex::new(address.host) {
            Some(host) if host != own.host => host,
            _ => return Verdict::Drop(Misroute::NoSuchHost),
        };
        let members = table.members.read();
        if members
            .get(&own.host)
            .is_none_or(|holder| holder.id != self.id)
        {
            return Verdict::Drop(Misroute::NotAttached);
        }
        let to = Place { host, ..*own };
        match members.get(&host) {
            Some(member) => Verdict::Deliver {
                to,
                receiver: member.handle.clone(),
                source: own.host,
            },
            None => Verdict::PeerGone(to),
        }
    }
}

struct State<H> {
    tables: BTreeMap<u32, Arc<Table<H>>>,
    devices: BTreeMap<DeviceId, Attached<H>>,
    next: u64,
}

struct Attached<H> {
    id: AttachId,
    sequence: u64,
    epoch: u64,
    handle: H,
    places: Vec<Place>,
}

impl<H> State<H> {
    fn holder(&self, place: Place) -> Option<DeviceId> {
        self.tables.get(&place.vni)?.holder(place.host)
    }

    fn remove(&mut self, device: DeviceId) -> Option<H> {
        let attached = self.devices.remove(&device)?;
        for place in attached.places {
            let Entry::Occupied(table) = self.tables.entry(place.vni) else {
                continue;
            };
            let mut members = table.get().members.write();
            members.remove(&place.host);
            let empty = members.is_empty();
            drop(members);
            if empty {
                table.remove();
            }
        }
        Some(attached.handle)
    }
}

/// The members of one network that are attached to this relay. Built in this module only.
struct Table<H> {
    members: RwLock<BTreeMap<HostIndex, Member<H>>>,
}

struct Member<H> {
    id: AttachId,
    device: DeviceId,
    handle: H,
}

impl<H> Table<H> {
    fn empty() -> Arc<Self> {
        Arc::new(Self {
            members: RwLock::new(BTreeMap::new()),
        })
    }

    fn holder(&self, host: HostIndex) -> Option<DeviceId> {
        let members = self.members.read();
        members.get(&host).map(|member| member.device)
    }

    fn handles(&self) -> Vec<H>
    where
        H: Clone,
    {
        let members = self.members.read();
        members
            .values()
            .map(|member| member.handle.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests;
