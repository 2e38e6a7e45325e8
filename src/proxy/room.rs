//! Places of the doors' clients. Decides whether a source may have one more: before it has given the credentials and after, so that no
//! one source, and no crowd of strangers, takes those of all others. Knows no socket.
//!
//! ```text
//! nothing is asked for, our own user, root ──────────> a place of all
//! others ──> a share of strangers' places ──proved──> a share of all
//! ```

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ProxyConfig;
use crate::host::{self, Shares, Source};

/// What doors have room for. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<OnceLock<Arc<Places>>>);

impl Room {
    /// Its places; the first door says how many there are.
    pub(super) fn places(&self, config: &ProxyConfig) -> Arc<Places> {
        let places = self.0.get_or_init(|| Arc::new(Places::new(config)));
        Arc::clone(places)
    }
}

#[derive(Debug)]
pub(crate) struct Places {
    /// All connections.
    pub(super) connections: Arc<Semaphore>,
    /// Those that have not given the credentials yet.
    strangers: Arc<Shares>,
    /// Those that have.
    known: Arc<Shares>,
    associations: Arc<Semaphore>,
    associating: Arc<Shares>,
}

impl Places {
    fn new(config: &ProxyConfig) -> Self {
        let (connections, associations) = (config.max_connections, config.max_associations);
        Self {
            connections: Arc::new(Semaphore::new(connections)),
            strangers: Shares::halves(connections.div_ceil(STRANGERS_SHARE)),
            known: Shares::halves(connections),
            associations: Arc::new(Semaphore::new(associations)),
            associating: Shares::halves(associations),
        }
    }

    /// Lets a client in that need not prove itself.
    pub(super) fn admit(self: &Arc<Self>) -> Entry {
        Entry::new(self, None, Held::Known(None))
    }

    /// Lets a client in that has to prove itself, unless too many like it did not yet.
    pub(super) fn admit_stranger(self: &Arc<Self>, source: Source) -> Option<Entry> {
        if is_unlimited(source) {
            return Some(Entry::new(self, None, Held::Stranger(None)));
        }
        let place = self.strangers.take(source)?;
        Some(Entry::new(self, Some(source), Held::Stranger(Some(place))))
    }
}

/// Whoever runs as our user, or as root, could end us as well: those wait for places and are never refused one.
fn is_unlimited(source: Source) -> bool {
    let own = rustix::process::geteuid().as_raw();
    matches!(source, Source::User(user) if user == own || user == ROOT)
}

/// A client that was let in, and the places that it has until this is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    places: Arc<Places>,
    /// Whose share it takes; nobody's, if it has no limit.
    source: Option<Source>,
    held: Mutex<Held>,
    proved: watch::Sender<bool>,
}

/// What a client has.
#[derive(Debug)]
enum Held {
    /// One of strangers' places.
    Stranger(#[expect(dead_code, reason = "it is given back by its drop")] Option<host::Place>),
    /// One of all.
    Known(#[expect(dead_code, reason = "it is given back by its drop")] Option<host::Place>),
}

/// A source has as many places as are left for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoShare;

impl Entry {
    fn new(places: &Arc<Places>, source: Option<Source>, held: Held) -> Self {
        let is_known = matches!(held, Held::Known(_));
        Self {
            places: Arc::clone(places),
            source,
            held: Mutex::new(held),
            proved: watch::Sender::new(is_known),
        }
    }

    /// Whose share it takes; nobody's, if it has no limit.
    pub(super) fn source(&self) -> Option<Source> {
        self.source
    }

    /// The client gave the credentials: it leaves the strangers' places. Again it does nothing.
    ///
    /// # Errors
    /// Its source has its share.
    pub(crate) fn prove(&self) -> Result<(), NoShare> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*held, Held::Known(_)) {
            return Ok(());
        }
        let place = match self.source {
            Some(source) => Some(self.places.known.take(source).ok_or(NoShare)?),
            None => None,
        };
        *held = Held::Known(place);
        self.proved.send_replace(true);
        Ok(())
    }

    /// Returns once the client has proved itself, if it ever does.
    pub(crate) async fn proved(&self) {
        // The sender is this entry's own.
        let _ = self.proved.subscribe().wait_for(|proved| *proved).await;
    }

    /// A place for a UDP association.
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
    _place: Option<host::Place>,
}

/// One of so many parts of all places is for clients that have not given the credentials yet.
const STRANGERS_SHARE: usize = 2;

const ROOT: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::IpAddr;

    fn places(connections: usize) -> Arc<Places> {
        let config = ProxyConfig {
            max_connections: connections,
            max_associations: 8,
            ..ProxyConfig::default()
        };
        Room::default().places(&config)
    }

    fn source(last: u8) -> Source {
        Source::from(IpAddr::from([192, 0, 2, last]))
    }

    fn all_of<T>(next: impl FnMut() -> Option<T>) -> Vec<T> {
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn strangers_of_one_source_leave_places_for_others_and_for_who_has_proved_itself() {
        let places = places(64);
        let flood = all_of(|| places.admit_stranger(source(1)));
        assert_eq!(flood.len(), 16);
        let other = places.admit_stranger(source(2)).unwrap();
        assert_eq!(other.prove(), Ok(()));
        // Whoever has proved itself is no stranger any more.
        let more = all_of(|| {
            let entry = places.admit_stranger(source(2))?;
            entry.prove().ok().map(|()| entry)
        });
        assert_eq!(more.len(), 31);
        assert!(places.admit_stranger(source(2)).is_some(), "it may ask");
        let third = places.admit_stranger(source(3)).unwrap();
        assert_eq!(third.prove(), Ok(()));
        drop(more);
        assert_eq!(all_of(|| places.admit_stranger(source(4))).len(), 8);
    }

    #[test]
    fn our_own_programs_have_no_share_and_other_users_one_each() {
        let places = places(64);
        let own = Source::User(rustix::process::geteuid().as_raw());
        let held: Vec<_> = (0..64)
            .map(|_| places.admit_stranger(own).unwrap())
            .collect();
        assert!(held.iter().all(|entry| entry.prove().is_ok()));
        let other = Source::User(4_711);
        assert_eq!(all_of(|| places.admit_stranger(other)).len(), 16);
    }

    #[test]
    fn associations_of_one_source_leave_some_for_others() {
        let places = places(64);
        let first = places.admit_stranger(source(1)).unwrap();
        let held = all_of(|| first.associate());
        assert_eq!(held.len(), 4);
        let second = places.admit_stranger(source(2)).unwrap();
        assert!(second.associate().is_some());
        let ours = places.admit();
        assert_eq!(all_of(|| ours.associate()).len(), 4, "all that there are");
    }
}
