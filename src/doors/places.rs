//! Places of the doors' clients. Decides whether a source may have one more: before it has given
//! the credentials and after, so that no one source, and no crowd of strangers, takes those of all
//! others. Knows no socket.
//!
//! ```text
//! nothing is asked for, our own user, root ──────────> a place of all
//! others ──> a share of strangers' places ──proved──> a share of all
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use overlan_transport::strangers::Strangers;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::host::shares::{Claimant, SharePermit, Shares};

/// The places that doors have. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<OnceLock<Arc<ProxyPlaces>>>);

impl Room {
    /// Returns its places; the first door says how many there are.
    pub(super) fn places(&self, connections: usize, associations: usize) -> Arc<ProxyPlaces> {
        let places = self
            .0
            .get_or_init(|| Arc::new(ProxyPlaces::new(connections, associations)));
        Arc::clone(places)
    }
}

#[derive(Debug)]
pub(crate) struct ProxyPlaces {
    /// All connections.
    pub(super) connections: Arc<Semaphore>,
    /// Those that have not given the credentials yet.
    strangers: Mutex<Unproven>,
    /// Those that have.
    known: Arc<Shares>,
    associations: Arc<Semaphore>,
    associating: Arc<Shares>,
}

/// Clients that have not given the credentials yet, and for each the token that fires when it has
/// to go for another.
#[derive(Debug)]
struct Unproven {
    strangers: Strangers<u64, Claimant>,
    next: u64,
    evictions: BTreeMap<u64, CancellationToken>,
}

impl ProxyPlaces {
    fn new(connections: usize, associations: usize) -> Self {
        let strangers = connections.div_ceil(STRANGERS_SHARE);
        Self {
            connections: Arc::new(Semaphore::new(connections)),
            strangers: Mutex::new(Unproven::new(strangers)),
            // One at least, where there is one in all.
            known: Shares::halves((connections - strangers).max(1)),
            associations: Arc::new(Semaphore::new(associations)),
            associating: Shares::halves(associations),
        }
    }

    /// Lets in a client that need not prove itself.
    pub(super) fn admit(self: &Arc<Self>) -> AdmittedClient {
        AdmittedClient::new(self, None, HeldPlace::Known(None))
    }

    /// Lets in a client that has to prove itself, at `now`, unless too many such clients have not
    /// done so yet. Where there is no room, one of the source that holds most goes for it.
    pub(super) fn admit_stranger(
        self: &Arc<Self>,
        now: Instant,
        source: Claimant,
    ) -> Option<AdmittedClient> {
        if is_unlimited(source) {
            return Some(AdmittedClient::new(self, None, HeldPlace::Stranger(None)));
        }
        let (place, evicted) = self.unproven().admit(now, source)?;
        let places = Arc::clone(self);
        let stranger = StrangerPlace {
            places,
            place,
            evicted,
        };
        Some(AdmittedClient::new(
            self,
            Some(source),
            HeldPlace::Stranger(Some(stranger)),
        ))
    }

    fn unproven(&self) -> MutexGuard<'_, Unproven> {
        self.strangers.lock()
    }
}

impl Unproven {
    fn new(all: usize) -> Self {
        Self {
            strangers: Strangers::new(all, all.div_ceil(2)),
            next: 0,
            evictions: BTreeMap::new(),
        }
    }

    fn admit(&mut self, now: Instant, source: Claimant) -> Option<(u64, CancellationToken)> {
        let place = self.next;
        let evicted = self.strangers.admit(now, source, place).ok()?;
        self.next += 1;
        if let Some(eviction) = evicted.and_then(|evicted| self.evictions.remove(&evicted)) {
            eviction.cancel();
        }
        let eviction = CancellationToken::new();
        self.evictions.insert(place, eviction.clone());
        Some((place, eviction))
    }
}

/// One of strangers' places until this is dropped.
#[derive(Debug)]
struct StrangerPlace {
    places: Arc<ProxyPlaces>,
    place: u64,
    evicted: CancellationToken,
}

impl Drop for StrangerPlace {
    fn drop(&mut self) {
        let mut unproven = self.places.unproven();
        unproven.evictions.remove(&self.place);
        unproven.strangers.leave(self.place);
    }
}

/// Returns whether a source waits for places and is never refused one. That holds for our own user
/// and root, whose programs could end us as well.
fn is_unlimited(source: Claimant) -> bool {
    let own = rustix::process::geteuid().as_raw();
    matches!(source, Claimant::User(user) if user == own || user == ROOT)
}

/// A client that was let in, and the places that it has until this is dropped.
#[derive(Debug)]
pub(crate) struct AdmittedClient {
    places: Arc<ProxyPlaces>,
    /// The source whose share it takes; `None` = it has no limit.
    source: Option<Claimant>,
    held: Mutex<HeldPlace>,
    proved: watch::Sender<bool>,
}

/// The place that a client holds.
#[derive(Debug)]
enum HeldPlace {
    /// One of strangers' places.
    Stranger(Option<StrangerPlace>),
    /// One of all.
    Known(#[expect(dead_code, reason = "it is given back by its drop")] Option<SharePermit>),
}

/// A source has as many places as are left for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its source has its share of the connections")]
pub(crate) struct NoShare;

impl AdmittedClient {
    fn new(places: &Arc<ProxyPlaces>, source: Option<Claimant>, held: HeldPlace) -> Self {
        let is_known = matches!(held, HeldPlace::Known(_));
        Self {
            places: Arc::clone(places),
            source,
            held: Mutex::new(held),
            proved: watch::Sender::new(is_known),
        }
    }

    /// The source whose share it takes; `None` = it has no limit.
    pub(super) fn source(&self) -> Option<Claimant> {
        self.source
    }

    /// Returns the token that fires if the client has to go for another before it has proved
    /// itself; `None` if that cannot be.
    pub(super) fn evicted(&self) -> Option<CancellationToken> {
        match &*self.held.lock() {
            HeldPlace::Stranger(Some(stranger)) => Some(stranger.evicted.clone()),
            HeldPlace::Stranger(None) | HeldPlace::Known(_) => None,
        }
    }

    /// Moves the client out of the places for strangers, because it gave the credentials. A second
    /// call does nothing.
    ///
    /// # Errors
    /// Its source has its share.
    pub(crate) fn prove(&self) -> Result<(), NoShare> {
        let mut held = self.held.lock();
        if matches!(*held, HeldPlace::Known(_)) {
            return Ok(());
        }
        let place = match self.source {
            Some(source) => Some(self.places.known.take(source).ok_or(NoShare)?),
            None => None,
        };
        *held = HeldPlace::Known(place);
        self.proved.send_replace(true);
        Ok(())
    }

    /// Returns once the client has proved itself, if it ever does.
    pub(crate) async fn proved(&self) {
        // The sender is this entry's own.
        let _ = self.proved.subscribe().wait_for(|proved| *proved).await;
    }

    /// Takes a place for a UDP association, if there is one.
    pub(crate) fn associate(&self) -> Option<Associating> {
        let place = match self.source {
            Some(source) => Some(self.places.associating.take(source)?),
            None => None,
        };
        let permit = Arc::clone(&self.places.associations);
        Some(Associating {
            _permit: permit.try_acquire_owned().ok()?,
            _place: place,
        })
    }
}

/// The place of a UDP association until this is dropped.
#[derive(Debug)]
pub(crate) struct Associating {
    _permit: OwnedSemaphorePermit,
    _place: Option<SharePermit>,
}

/// One of so many parts of all places is for clients that have not given the credentials yet, and
/// for nobody else. Known clients could otherwise hold so many that a few strangers take the rest,
/// and then nobody is let in who could make one of them go.
const STRANGERS_SHARE: usize = 4;

const ROOT: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::IpAddr;

    fn places(connections: usize) -> Arc<ProxyPlaces> {
        Room::default().places(connections, 8)
    }

    fn source(last: u8) -> Claimant {
        Claimant::from(IpAddr::from([192, 0, 2, last]))
    }

    /// The same moment for all: nobody has had time to prove itself.
    fn now() -> Instant {
        static NOW: OnceLock<Instant> = OnceLock::new();
        *NOW.get_or_init(|| tokio::time::Instant::now().into_std())
    }

    fn all_of<T>(next: impl FnMut() -> Option<T>) -> Vec<T> {
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn strangers_of_one_source_leave_places_for_others_and_for_who_has_proved_itself() {
        let places = places(64);
        let flood = all_of(|| places.admit_stranger(now(), source(1)));
        assert_eq!(flood.len(), 8);
        let other = places.admit_stranger(now(), source(2)).unwrap();
        assert_eq!(other.prove(), Ok(()));
        // A client that has proved itself is not a stranger any more.
        let more = all_of(|| {
            let entry = places.admit_stranger(now(), source(2))?;
            entry.prove().ok().map(|()| entry)
        });
        assert_eq!(more.len(), 23);
        assert!(
            places.admit_stranger(now(), source(2)).is_some(),
            "it may ask"
        );
        let third = places.admit_stranger(now(), source(3)).unwrap();
        assert_eq!(third.prove(), Ok(()));
        drop(more);
        assert_eq!(all_of(|| places.admit_stranger(now(), source(4))).len(), 8);
    }

    #[test]
    fn those_who_are_known_leave_strangers_their_places() {
        let places = places(384);
        let known: Vec<_> = (1..=12)
            .map(|last| {
                all_of(|| {
                    let entry = places.admit_stranger(now(), source(last))?;
                    entry.prove().ok().map(|()| entry)
                })
            })
            .collect();
        let count = known.iter().map(Vec::len).sum::<usize>();
        assert_eq!(known[0].len(), 144);
        assert!(count <= 288, "{count}");
        let strangers = all_of(|| places.admit_stranger(now(), source(99)));
        assert!(count + strangers.len() < 384, "the next one is let in");
    }

    #[test]
    fn however_many_sources_hold_strangers_places_the_next_one_finds_one() {
        let places = places(128);
        let held: Vec<_> = (1..=16)
            .map(|last| all_of(|| places.admit_stranger(now(), source(last))))
            .collect();
        let first = held[0].first().unwrap().evicted().unwrap();
        let newcomer = places.admit_stranger(now(), source(99)).unwrap();
        assert!(
            first.is_cancelled()
                || held
                    .iter()
                    .flatten()
                    .any(|it| it.evicted().unwrap().is_cancelled())
        );
        assert_eq!(newcomer.prove(), Ok(()));
        assert!(
            newcomer.evicted().is_none(),
            "who is known does not go for others"
        );
    }

    #[test]
    fn our_own_programs_have_no_share_and_other_users_one_each() {
        let places = places(64);
        let own = Claimant::User(rustix::process::geteuid().as_raw());
        let held: Vec<_> = (0..64)
            .map(|_| places.admit_stranger(now(), own).unwrap())
            .collect();
        assert!(held.iter().all(|entry| entry.prove().is_ok()));
        let other = Claimant::User(4_711);
        assert_eq!(all_of(|| places.admit_stranger(now(), other)).len(), 8);
    }

    #[test]
    fn associations_of_one_source_leave_some_for_others() {
        let places = places(64);
        let first = places.admit_stranger(now(), source(1)).unwrap();
        let held = all_of(|| first.associate());
        assert_eq!(held.len(), 4);
        let second = places.admit_stranger(now(), source(2)).unwrap();
        assert!(second.associate().is_some());
        let ours = places.admit();
        assert_eq!(all_of(|| ours.associate()).len(), 4, "all that there are");
    }
}
