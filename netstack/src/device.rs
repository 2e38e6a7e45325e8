//! The wire of one flow for the duration of one poll: one packet in, packets appended to a buffer
//! out; decides nothing.

use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Borrows everything, so that a packet is copied only into and out of the rings.
pub(crate) struct Wire<'a> {
    pub(crate) mtu: usize,
    pub(crate) inbound: Option<&'a [u8]>,
    pub(crate) outbound: Room<'a>,
}

/// The place for packets: the part of a buffer from `at` on. What lies there already is written
/// over and never cleared, which would cost as much as the copy out of the ring.
pub(crate) struct Room<'a> {
    buffer: &'a mut Vec<u8>,
    at: usize,
}

impl<'a> Room<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>, at: usize) -> Room<'a> {
        Room { buffer, at }
    }

    /// The place of the next packet.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn put(&mut self, packet: &[u8]) {
        self.claim(packet.len()).copy_from_slice(packet);
    }

    fn claim(&mut self, len: usize) -> &mut [u8] {
        let start = self.at;
        self.at += len;
        if self.buffer.len() < self.at {
            self.buffer.resize(self.at, 0);
        }
        &mut self.buffer[start..self.at]
    }
}

/// The properties of the wire, as far as an engine knows them.
pub(crate) fn capabilities(mtu: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu;
    capabilities.max_burst_size = None;
    // The tunnel authenticates every byte; a checksum on top finds nothing and costs a fifth of the
    // time.
    capabilities.checksum = ChecksumCapabilities::ignored();
    capabilities
}

impl<'a> Device for Wire<'a> {
    type RxToken<'t>
        = Inbound<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outbound<'t, 'a>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_, 'a>)> {
        let packet = self.inbound.take()?;
        Some((Inbound(packet), Outbound(&mut self.outbound)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_, 'a>> {
        Some(Outbound(&mut self.outbound))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

/// A wire that takes no packet and has none: the engine sees the time and can do nothing about it.
pub(crate) struct Blocked {
    pub(crate) mtu: usize,
}

impl Device for Blocked {
    type RxToken<'t> = Inbound<'t>;
    type TxToken<'t> = Outbound<'t, 't>;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_, '_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_, '_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

pub(crate) struct Inbound<'a>(&'a [u8]);

impl RxToken for Inbound<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

pub(crate) struct Outbound<'t, 'a>(&'t mut Room<'a>);

impl TxToken for Outbound<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        // The engine writes every byte, so the old ones do not matter.
        write(self.0.claim(len))
    }
}
