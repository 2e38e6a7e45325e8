//! One netmap for one question. Whoever waits, dials, answers a DNS message or shows a status takes
//! a snapshot once and hands it on, so that no two steps of it see two versions. Decides nothing:
//! it asks the rooms beside it.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Netmap;

use super::{
    Destination, DialError, GatewayHosts, NameError, Resolved, Way, advice, in_overlay, short, way,
};

/// The netmap of one moment, and the setting by which destinations are meant.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    netmap: Arc<Netmap>,
    /// The network of bare overlay addresses where the device is in several, by label.
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

    /// Finds the device that a destination means, where nothing else will do.
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

    /// Returns the destination that a person means by a name, whole; `text` is not an address.
    ///
    /// # Errors
    /// [`NameError::AmbiguousName`], and [`NameError::Missing`] for a short name that nothing has.
    pub(crate) fn find(&self, text: &str) -> Result<Destination, NameError> {
        short::find(&self.netmap, text)
    }

    /// Returns whether a destination is written as a short name, of something that may be there or
    /// not.
    pub(crate) fn is_short(&self, destination: &Destination) -> bool {
        short::is_short(&self.netmap, destination)
    }

    /// Says what to do about `error`, if that is known.
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
