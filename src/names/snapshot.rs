//! One netmap for one question. A wait, a dial, a DNS answer and a status each take one snapshot
//! and hand it on, so that all their steps see the same version. Decides nothing: the rooms beside
//! it do.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Netmap;

use super::{
    Destination, DialError, GatewayHosts, NameError, Resolved, Way, advice, in_overlay, short, way,
};

/// The netmap of one moment, and the setting for bare addresses.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    netmap: Arc<Netmap>,
    /// Label of the network that a bare overlay address means where the device is in several.
    address_network: Option<String>,
}

impl Snapshot {
    /// Joins a netmap with the label of the network that bare addresses mean.
    pub(crate) fn new(netmap: Arc<Netmap>, address_network: Option<String>) -> Self {
        Self {
            netmap,
            address_network,
        }
    }

    /// Decides the way to a destination: to `port` of it, or, without one, to any port.
    ///
    /// # Errors
    /// [`DialError::NotReady`] before there is a netmap; see [`NameError`].
    pub(crate) fn way(
        &self,
        destination: &Destination,
        port: Option<u16>,
    ) -> Result<Way, DialError> {
        self.known()?;
        Ok(way::way(&self.netmap, &self.meant(destination), port)?)
    }

    /// Finds the device that a destination means, where only a device will do.
    ///
    /// # Errors
    /// As [`Snapshot::way`].
    pub(crate) fn device(&self, destination: &Destination) -> Result<Resolved, DialError> {
        self.known()?;
        Ok(way::device(&self.netmap, &self.meant(destination))?)
    }

    /// Finds the gateways of one network that reach `port` of a destination.
    pub(crate) fn gateways_within(
        &self,
        network: NetworkId,
        destination: &Destination,
        port: u16,
    ) -> Option<GatewayHosts> {
        let meant = self.meant(destination);
        way::gateways(&self.netmap, &meant, Some(port), Some(network))
    }

    /// Returns the destination that a person means by a name, in full; `text` is not an address.
    ///
    /// # Errors
    /// [`NameError::AmbiguousName`], and [`NameError::Missing`] for a short name that nothing has.
    pub(crate) fn find(&self, text: &str) -> Result<Destination, NameError> {
        short::find(&self.netmap, text)
    }

    /// Returns true for a destination that is written as a short name, whether or not anything has
    /// it.
    pub(crate) fn is_short(&self, destination: &Destination) -> bool {
        short::is_short(&self.netmap, destination)
    }

    /// Returns the next step after a dial of `destination` ended with `error`, if one is known.
    pub(crate) fn next_step(
        &self,
        destination: &Destination,
        port: u16,
        error: &DialError,
    ) -> Option<String> {
        advice::next(&self.netmap, &self.meant(destination), port, error)
    }

    fn known(&self) -> Result<(), DialError> {
        match self.netmap.version {
            0 => Err(DialError::NotReady),
            _ => Ok(()),
        }
    }

    /// Applies the setting for bare addresses: where several networks have an overlay address, it
    /// belongs to the network that was chosen for them. An address outside the overlay belongs to
    /// no network; gateways may reach it.
    fn meant<'a>(&self, destination: &'a Destination) -> Cow<'a, Destination> {
        match (destination, &self.address_network) {
            (Destination::Address(address), Some(network))
                if self.netmap.networks.len() > 1 && in_overlay(address.get()) =>
            {
                Cow::Owned(Destination::AddressIn(*address, network.clone()))
            }
            _ => Cow::Borrowed(destination),
        }
    }
}

impl Deref for Snapshot {
    type Target = Netmap;

    fn deref(&self) -> &Netmap {
        &self.netmap
    }
}
