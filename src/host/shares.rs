//! Places of a door and each source's share of them: decides whether a source may have one more, so
//! that no single one takes those of all others. Knows no socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use overlan_netstack::has_share;
use overlan_protocol::HostIndex;
use parking_lot::{Mutex, MutexGuard};

/// Places of which each source has a share.
#[derive(Debug)]
pub(crate) struct Shares {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: BTreeMap<Claimant, usize>,
}

/// A source that takes places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claimant {
    /// A device, whichever of its addresses it uses.
    Device(HostIndex),
    /// A user of this host, whichever of its programs asks.
    User(u32),
    /// Anybody else: an IPv4 address, or the /64 from which a host of IPv6 takes as many as it
    /// likes.
    Address(IpAddr),
}

impl From<IpAddr> for Claimant {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if let Some(host) = HostIndex::of_address(address) {
            return Self::Device(host);
        }
        Self::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & HOST_OF_V6).into(),
        })
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct SharePermit {
    shares: Arc<Shares>,
    source: Claimant,
}

impl Shares {
    /// Of `all` places, a source gets one of [`SOURCES_AT_LEAST`] parts at most, and never more
    /// than are left for others.
    pub(crate) fn of(all: usize) -> Arc<Self> {
        Self::with(all, (all / SOURCES_AT_LEAST).max(1))
    }

    /// Of `all` places, a source gets as many as are left for others: half of them where nobody
    /// else wants any.
    pub(crate) fn halves(all: usize) -> Arc<Self> {
        Self::with(all, all)
    }

    fn with(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            each,
            taken: Mutex::default(),
        })
    }

    /// A place for `source`, unless it has its share.
    pub(crate) fn take(self: &Arc<Self>, source: Claimant) -> Option<SharePermit> {
        let mut taken = self.taken();
        let its = taken.by.get(&source).copied().unwrap_or(0);
        if its >= self.each || !has_share(its, taken.all, self.all) {
            return None;
        }
        taken.all += 1;
        taken.by.insert(source, its + 1);
        Some(SharePermit {
            shares: Arc::clone(self),
            source,
        })
    }

    /// A count is never half done.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock()
    }
}

impl Drop for SharePermit {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        taken.all -= 1;
        if let Some(its) = taken.by.get_mut(&self.source) {
            *its -= 1;
            if *its == 0 {
                taken.by.remove(&self.source);
            }
        }
    }
}

/// So many sources, each with as many connections as it likes, have some.
pub(crate) const SOURCES_AT_LEAST: usize = 4;

/// The bits of an IPv6 address that a host cannot choose by itself.
const HOST_OF_V6: u128 = u128::MAX << 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_takes_its_share_by_all_its_addresses_and_no_more() {
        let shares = Shares::of(8);
        let [v4, v6] = HostIndex::new(7).unwrap().addresses();
        let first = shares.take(v4.into()).unwrap();
        let second = shares.take(v6.into()).unwrap();
        assert!(shares.take(v4.into()).is_none() && shares.take(v6.into()).is_none());
        let [other, _] = HostIndex::new(8).unwrap().addresses();
        let others = shares.take(other.into()).unwrap();
        drop(first);
        let again = shares.take(v6.into()).unwrap();
        assert!(shares.take(v4.into()).is_none());
        drop((second, again, others));
        let taken = shares.taken();
        assert!(
            taken.by.is_empty() && taken.all == 0,
            "nothing is kept of who is gone"
        );
        assert!(Shares::of(1).take(v4.into()).is_some(), "one at least");
    }

    /// Returns the number of places that each source gets if all take as many as they can, one
    /// after the other.
    fn greedy(shares: &Arc<Shares>, sources: impl Iterator<Item = Claimant>) -> Vec<usize> {
        let mut held = Vec::new();
        let counts = sources.map(|source| {
            let places: Vec<SharePermit> = std::iter::from_fn(|| shares.take(source)).collect();
            let count = places.len();
            held.push(places);
            count
        });
        counts.collect()
    }

    #[test]
    fn however_many_greedy_sources_there_are_the_next_one_finds_a_place() {
        let users = || (0..).map(Claimant::User);
        let halves = Shares::halves(448);
        assert_eq!(greedy(&halves, users().take(4)), [224, 112, 56, 28]);
        let quarters = Shares::of(448);
        assert_eq!(
            greedy(&quarters, users().take(6)),
            [112, 112, 112, 56, 28, 14]
        );
    }

    #[test]
    fn a_host_is_one_source_by_all_addresses_that_it_can_choose() {
        let source = |text: &str| Claimant::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.2"), source("192.0.2.1"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}
