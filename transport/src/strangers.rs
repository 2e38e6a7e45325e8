//! Decides which strangers may hold a connection with a server: each source has a share of the
//! places, and if none are left, the source that holds most loses one. Holds no clock and no
//! socket; a connection that has proved its identity leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Connections that have not proved an identity. `P` is the place of one of them; lower ones of a
/// source came earlier. `S` is a source, see [`source`].
#[derive(Debug)]
pub struct Strangers<P, S = IpAddr> {
    all: usize,
    of_one_source: usize,
    held: BTreeMap<P, Stranger<S>>,
    sources: BTreeMap<S, BTreeSet<P>>,
}

#[derive(Debug)]
struct Stranger<S> {
    source: S,
    since: Instant,
}

/// The reason why a stranger's connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There are too many, and no source holds more than this one would.
    All,
    /// Its source has its full share.
    Source,
}

impl<P: Copy + Ord, S: Copy + Ord> Strangers<P, S> {
    /// Room for `all` strangers, of whom `of_one_source` may come from one source.
    #[must_use]
    pub fn new(all: usize, of_one_source: usize) -> Self {
        Self {
            all,
            of_one_source,
            held: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }

    /// A stranger connects at `now` and gets `place`, which must be free. Without room, it replaces
    /// a stranger that had time to prove itself: of the same source if that has its full share,
    /// otherwise of the source that holds most. Returns the replaced one, whose place is free
    /// already.
    ///
    /// # Errors
    /// If there is no stranger that it may replace.
    pub fn admit(&mut self, now: Instant, source: S, place: P) -> Result<Option<P>, Refused> {
        let own = self.sources.get(&source).map_or(0, BTreeSet::len);
        let evicted = if own >= self.of_one_source {
            Some(self.patient(now, source).ok_or(Refused::Source)?)
        } else if self.held.len() >= self.all {
            let largest = self.sources.iter().max_by_key(|(_, places)| places.len());
            let (largest, held) = largest
                .map(|(source, places)| (*source, places.len()))
                .ok_or(Refused::All)?;
            // A source that holds more than the newcomer would loses a place at once.
            let oldest = match held > own + 1 {
                true => self.oldest(largest),
                false => self.patient(now, largest),
            };
            Some(oldest.ok_or(Refused::All)?)
        } else {
            None
        };
        if let Some(evicted) = evicted {
            self.leave(evicted);
        }
        self.held.insert(place, Stranger { source, since: now });
        self.sources.entry(source).or_default().insert(place);
        Ok(evicted)
    }

    /// The connection has ended, or has proved its identity. Does nothing for one that was replaced
    /// before.
    pub fn leave(&mut self, place: P) {
        if let Some(stranger) = self.held.remove(&place)
            && let Some(places) = self.sources.get_mut(&stranger.source)
        {
            places.remove(&place);
            if places.is_empty() {
                self.sources.remove(&stranger.source);
            }
        }
    }

    /// Returns whether a stranger holds the place.
    #[must_use]
    pub fn holds(&self, place: P) -> bool {
        self.held.contains_key(&place)
    }

    /// The number of strangers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held.len()
    }

    fn oldest(&self, source: S) -> Option<P> {
        self.sources.get(&source)?.first().copied()
    }

    /// The oldest stranger of a source, if it had time to prove itself.
    fn patient(&self, now: Instant, source: S) -> Option<P> {
        let place = self.oldest(source)?;
        let since = self.held.get(&place)?.since;
        (now.saturating_duration_since(since) >= PROVE_WITHIN).then_some(place)
    }
}

/// Returns the source of an address: the IPv4 address itself, or the /56 that one IPv6 customer
/// gets.
#[must_use]
pub fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let prefix = v6.to_bits() & !(u128::MAX >> SOURCE_PREFIX_V6);
            IpAddr::V6(prefix.into())
        }
        canonical @ (IpAddr::V4(_) | IpAddr::V6(_)) => canonical,
    }
}

const SOURCE_PREFIX_V6: u32 = 56;

/// A stranger older than this may be replaced by another: TLS and the first request take three
/// round trips.
pub const PROVE_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn from(text: &str) -> IpAddr {
        source(text.parse().unwrap())
    }

    fn start() -> (Strangers<u32>, Instant) {
        let now = tokio::time::Instant::now().into_std();
        (Strangers::new(4, 2), now)
    }

    #[test]
    fn a_source_has_its_share_and_who_waits_for_long_makes_room() {
        let (mut strangers, now) = start();
        assert_eq!(strangers.admit(now, from("192.0.2.1"), 1), Ok(None));
        assert_eq!(strangers.admit(now, from("::ffff:192.0.2.1"), 2), Ok(None));
        let third = strangers.admit(now, from("192.0.2.1"), 3);
        assert_eq!(third, Err(Refused::Source), "the others are just as new");
        assert_eq!(strangers.admit(now, from("192.0.2.2"), 4), Ok(None));
        let later = now + PROVE_WITHIN;
        assert_eq!(strangers.admit(later, from("192.0.2.1"), 5), Ok(Some(1)));
        assert!(!strangers.holds(1) && strangers.holds(5));
        strangers.leave(1);
        strangers.leave(2);
        assert_eq!(strangers.admit(later, from("192.0.2.1"), 6), Ok(None));
        assert_eq!(strangers.count(), 3);
    }

    #[test]
    fn where_there_is_no_room_the_largest_source_pays_at_once() {
        let (mut strangers, now) = start();
        for (place, of) in [
            (1, "192.0.2.1"),
            (2, "192.0.2.1"),
            (3, "192.0.2.2"),
            (4, "192.0.2.2"),
        ] {
            assert_eq!(strangers.admit(now, from(of), place), Ok(None));
        }
        let evicted = strangers.admit(now, from("192.0.2.3"), 5).unwrap();
        assert_eq!(evicted, Some(3), "the oldest of one that holds two");
        let evicted = strangers.admit(now, from("192.0.2.4"), 6).unwrap();
        assert_eq!(evicted, Some(1));
        // All hold one now: nobody has more than the next one would.
        assert_eq!(
            strangers.admit(now, from("192.0.2.5"), 7),
            Err(Refused::All)
        );
        let later = strangers.admit(now + PROVE_WITHIN, from("192.0.2.5"), 8);
        assert!(matches!(later, Ok(Some(_))));
    }

    #[test]
    fn an_ipv6_customer_is_one_source() {
        let (mut strangers, now) = start();
        assert_eq!(
            strangers.admit(now, from("2001:db8:0:aa01::1"), 1),
            Ok(None)
        );
        assert_eq!(
            strangers.admit(now, from("2001:db8:0:aaff::2"), 2),
            Ok(None)
        );
        let third = strangers.admit(now, from("2001:db8:0:aa02:ffff::3"), 3);
        assert_eq!(third, Err(Refused::Source));
        assert_eq!(
            strangers.admit(now, from("2001:db8:0:ab01::1"), 4),
            Ok(None)
        );
        assert_eq!(from("::1"), IpAddr::from(Ipv6Addr::LOCALHOST));
    }
}
