//! The wire of one flow for the duration of one poll: one packet in, packets appended to a buffer out; decides nothing.

use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Borrows everything, so that a packet is copied only into and out of the rings.
pub(crate) struct Wire<'a> {
    pub(crate) mtu: usize,
    pub(crate) inbound: Option<&'a [u8]>,
    pub(crate) outbound: &'a mut Vec<u8>,
}

/// What an engine may know of its wire.
pub(crate) fn capabilities(mtu: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu;
    capabilities.max_burst_size = None;
    // The tunnel authenticates every byte; a checksum on top finds nothing and costs a fifth of the time.
    capabilities.checksum = ChecksumCapabilities::ignored();
    capabilities
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Inbound<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outbound<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_>)> {
        let packet = self.inbound.take()?;
        Some((Inbound(packet), Outbound(self.outbound)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_>> {
        Some(Outbound(self.outbound))
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

pub(crate) struct Outbound<'a>(&'a mut Vec<u8>);

impl TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let start = self.0.len();
        self.0.resize(start + len, 0);
        write(&mut self.0[start..])
    }
}
