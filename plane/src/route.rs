//! Decides over which relay a peer is reached. Holds the peer's relay list and the relays at which
//! it was not found, and no link.
//!
//! The receiver's list decides, so that after a relay fails both ends meet at the same next one
//! without asking anybody.

use std::time::{Duration, Instant};

use overlan_protocol::key::RelayId;

/// The way to one peer.
#[derive(Debug)]
pub struct PeerRoute {
    /// Home first, then backups.
    relays: Vec<RelayId>,
    /// The relays at which the peer was not found, each with the time until which that is believed.
    absent: Vec<(RelayId, Instant)>,
    misses: u32,
    /// The number of searches in a row that found it at none of its relays.
    searches: u32,
}

/// The state of a link to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Frames can be sent.
    Up,
    /// It was not tried yet, or is being tried: worth waiting for.
    Pending,
    /// The last attempt failed; another follows later.
    Failed,
}

/// The way that frames for the peer take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Over the link to this relay.
    Send(RelayId),
    /// Nowhere yet: a link to this relay must be opened.
    Connect(RelayId),
    /// Nowhere for a while: the peer was not found at a relay whose link works.
    Wait,
    /// Nowhere: the peer has no relay, or none is reachable.
    Nowhere,
}

impl PeerRoute {
    /// A route with the peer's relays, as the netmap lists them.
    pub fn new(relays: Vec<RelayId>) -> Self {
        Self {
            relays,
            absent: Vec::new(),
            misses: 0,
            searches: 0,
        }
    }

    /// The netmap has another list, or reports that the peer came back: earlier findings are void.
    pub fn replace(&mut self, relays: Vec<RelayId>) {
        *self = Self::new(relays);
    }

    /// The relays of the list.
    pub fn relays(&self) -> &[RelayId] {
        &self.relays
    }

    /// `relay` reported that the peer is not attached to it. Returns whether that is news.
    pub fn handle_absent(&mut self, now: Instant, relay: RelayId) -> bool {
        if !self.relays.contains(&relay) || self.absent.iter().any(|(known, _)| *known == relay) {
            return false;
        }
        let wait = ABSENT_FIRST * 2u32.pow(self.misses.min(ABSENT_DOUBLINGS));
        self.misses += 1;
        self.absent.push((relay, now + wait));
        if self.is_absent_everywhere() {
            // All are asked again together, and more and more rarely: it may be away for days.
            let wait = ABSENT_FIRST * 2u32.pow(self.searches.min(SEARCH_DOUBLINGS));
            self.searches += 1;
            for (_, until) in &mut self.absent {
                *until = now + wait;
            }
        }
        true
    }

    /// The peer was heard over `relay`, so it is attached there; a peer that was found nowhere is
    /// back. Other absences are still believed: a peer that speaks over its backup is still not at
    /// home. Returns whether the way may have changed.
    pub fn handle_heard(&mut self, relay: RelayId) -> bool {
        let before = self.absent.len();
        if self.is_absent_everywhere() && !self.relays.contains(&relay) {
            self.absent.clear();
        }
        self.absent.retain(|(known, _)| *known != relay);
        self.searches = 0;
        if self.absent.is_empty() {
            self.misses = 0;
        }
        self.absent.len() < before
    }

    /// The peer reported that it moved to `relay`: for a while we believe that it is at none of the
    /// relays before that in its list. Returns whether the way may have changed.
    pub fn handle_moved(&mut self, now: Instant, relay: RelayId) -> bool {
        let Some(place) = self.relays.iter().position(|known| *known == relay) else {
            return false;
        };
        let (left, _) = self.relays.split_at(place);
        self.absent
            .retain(|(known, _)| *known != relay && !left.contains(known));
        self.absent
            .extend(left.iter().map(|left| (*left, now + MOVED_COUNTS)));
        self.searches = 0;
        true
    }

    /// Returns whether there is a relay at which the peer was not found lately.
    pub fn is_absent_somewhere(&self) -> bool {
        !self.absent.is_empty()
    }

    /// Returns the way that frames take, given the states of the links.
    pub fn choose(&self, state: impl Fn(RelayId) -> LinkState) -> Choice {
        let absent = |relay| self.absent.iter().any(|(known, _)| *known == relay);
        for relay in self.relays.iter().copied().filter(|relay| !absent(*relay)) {
            match state(relay) {
                LinkState::Up => return Choice::Send(relay),
                LinkState::Pending => return Choice::Connect(relay),
                LinkState::Failed => {}
            }
        }
        // A relay whose link failed since then will not say that the peer came back.
        let works = |relay| state(relay) != LinkState::Failed;
        match self.absent.iter().any(|(relay, _)| works(*relay)) {
            true => Choice::Wait,
            false => Choice::Nowhere,
        }
    }

    /// Returns whether the peer was not found at any of its relays.
    pub fn is_absent_everywhere(&self) -> bool {
        self.absent.len() >= self.relays.len()
    }

    /// Forgets absences that are no longer believed. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.absent.retain(|(_, until)| now < *until);
    }

    /// Returns the time at which [`PeerRoute::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.absent.iter().map(|(_, until)| *until).min()
    }
}

/// The time for which a peer that moved is believed to be away from its old relay: until a relay
/// that did not notice the move ends the old connection.
const MOVED_COUNTS: Duration = Duration::from_secs(8);

/// The time for which a peer is believed to be absent after the first report. A restarted client is
/// back in about this time.
const ABSENT_FIRST: Duration = Duration::from_millis(250);

/// Doublings of that time while the peer is found at another relay: at most 4 s.
const ABSENT_DOUBLINGS: u32 = 4;

/// Doublings while it is found nowhere: at most 16 s, so that a dial that waits for half a minute
/// finds a peer that came back.
const SEARCH_DOUBLINGS: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: RelayId = RelayId([1; 16]);
    const BACKUP: RelayId = RelayId([2; 16]);

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn the_home_relay_is_used_while_it_works() {
        let route = PeerRoute::new(vec![HOME, BACKUP]);
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
        assert_eq!(route.choose(|_| LinkState::Pending), Choice::Connect(HOME));
        let home_failed = |relay| {
            if relay == HOME {
                LinkState::Failed
            } else {
                LinkState::Up
            }
        };
        assert_eq!(route.choose(home_failed), Choice::Send(BACKUP));
        assert_eq!(route.choose(|_| LinkState::Failed), Choice::Nowhere);
        assert_eq!(
            PeerRoute::new(vec![]).choose(|_| LinkState::Up),
            Choice::Nowhere
        );
    }

    #[test]
    fn an_absent_peer_is_sought_at_the_backup_and_then_again() {
        let t0 = start();
        let mut route = PeerRoute::new(vec![HOME, BACKUP]);
        route.handle_absent(t0, HOME);
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(BACKUP));
        assert!(!route.is_absent_everywhere());
        route.handle_absent(t0, BACKUP);
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Wait);
        let backup_works = |relay| match relay == BACKUP {
            true => LinkState::Up,
            false => LinkState::Failed,
        };
        assert_eq!(route.choose(backup_works), Choice::Wait);
        assert_eq!(route.choose(|_| LinkState::Failed), Choice::Nowhere);
        assert!(route.is_absent_everywhere());
        let due = route.poll_timeout().unwrap();
        assert_eq!(due, t0 + ABSENT_FIRST);
        route.handle_timeout(due);
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
    }

    #[test]
    fn many_answers_about_one_absence_count_once() {
        let t0 = start();
        let mut route = PeerRoute::new(vec![HOME]);
        for _ in 0..100 {
            route.handle_absent(t0, HOME);
        }
        assert_eq!(route.poll_timeout(), Some(t0 + ABSENT_FIRST));
        assert!(route.handle_heard(HOME));
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
    }

    #[test]
    fn who_is_heard_over_the_backup_is_still_not_at_home() {
        let t0 = start();
        let mut route = PeerRoute::new(vec![HOME, BACKUP]);
        assert!(route.handle_absent(t0, HOME));
        assert!(!route.handle_heard(BACKUP));
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(BACKUP));
        assert!(route.handle_absent(t0, BACKUP));
        assert!(route.handle_heard(BACKUP));
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(BACKUP));
        assert!(route.handle_heard(HOME));
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
    }

    #[test]
    fn who_was_nowhere_and_is_heard_elsewhere_is_sought_again() {
        let t0 = start();
        let mut route = PeerRoute::new(vec![HOME, BACKUP]);
        assert!(route.handle_absent(t0, HOME) && route.handle_absent(t0, BACKUP));
        assert!(route.handle_heard(RelayId([3; 16])));
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
        assert!(!route.is_absent_somewhere());
    }

    #[test]
    fn who_says_that_it_moved_is_sought_there_for_a_while_and_at_home_again_later() {
        let t0 = start();
        let mut route = PeerRoute::new(vec![HOME, BACKUP]);
        route.handle_absent(t0, BACKUP);
        assert!(route.handle_moved(t0, BACKUP));
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(BACKUP));
        // It went on, or somebody lies: it is nowhere, and sought like anybody.
        assert!(route.handle_absent(t0, BACKUP));
        assert_eq!(route.poll_timeout(), Some(t0 + ABSENT_FIRST));
        assert!(route.handle_moved(t0, BACKUP));
        let due = route.poll_timeout().unwrap();
        route.handle_timeout(due);
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
        // Back home.
        assert!(route.handle_moved(t0, BACKUP) && route.handle_moved(t0, HOME));
        assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
        assert!(!route.handle_moved(t0, RelayId([3; 16])), "not one of its");
    }

    #[test]
    fn waits_for_an_absent_peer_grow_to_a_bound() {
        let mut now = start();
        let mut route = PeerRoute::new(vec![HOME]);
        for _ in 0..20 {
            route.handle_absent(now, HOME);
            let until = route.poll_timeout().unwrap();
            assert!(until - now <= Duration::from_secs(16));
            route.handle_timeout(until);
            now = until;
        }
        assert!(route.handle_absent(now, HOME) && route.handle_heard(HOME));
        assert!(route.handle_absent(now, HOME));
        assert_eq!(route.poll_timeout(), Some(now + ABSENT_FIRST));
    }

    #[test]
    fn who_is_nowhere_is_sought_more_rarely_and_who_is_at_its_backup_is_not_forgotten_for_long() {
        let mut now = start();
        let mut route = PeerRoute::new(vec![HOME, BACKUP]);
        let began = now;
        let mut searches = 0;
        while now < began + Duration::from_secs(600) {
            assert!(route.handle_absent(now, HOME) && route.handle_absent(now, BACKUP));
            searches += 1;
            now = route.poll_timeout().unwrap();
            route.handle_timeout(now);
            assert_eq!(route.choose(|_| LinkState::Up), Choice::Send(HOME));
        }
        assert!(searches < 50, "{searches}");

        let mut route = PeerRoute::new(vec![HOME, BACKUP]);
        for _ in 0..20 {
            route.handle_absent(now, HOME);
            assert!(!route.handle_heard(BACKUP));
            let until = route.poll_timeout().unwrap();
            assert!(until - now <= Duration::from_secs(4));
            route.handle_timeout(until);
            now = until;
        }
    }
}
