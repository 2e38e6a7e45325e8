//! Decides which relays need a link. Holds, for each relay, the link's state and the peers that are
//! ready to send over it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Waker;

use overlan_protocol::frame::Vni;
use overlan_protocol::key::RelayId;
use parking_lot::Mutex;

use super::peer::Peer;
use crate::route::LinkState;

/// All links of a client.
#[derive(Debug, Default)]
pub(super) struct Links {
    slots: BTreeMap<RelayId, Slot>,
    /// Each network's list: home first. A link to the first that works is kept, so that others
    /// reach this device.
    homes: BTreeMap<Vni, Vec<RelayId>>,
}

#[derive(Debug)]
struct Slot {
    state: LinkState,
    link: Option<Arc<Link>>,
    /// Networks of the ticket by which the link was opened; none = all.
    networks: Vec<Vni>,
    /// The steps of a relay that will stop: its link is used until a backup stands in, but does not
    /// count as a home.
    drain: Drain,
    /// A peer has packets for it.
    wanted: bool,
    /// The owner was asked to open it and has not given up.
    opening: bool,
}

/// The steps in which a relay that will stop is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    /// A backup is opened; frames still go over this link.
    Announced,
    /// Frames go over other links; frames that come are still taken.
    Left,
}

impl Links {
    pub(super) fn set_homes(&mut self, homes: BTreeMap<Vni, Vec<RelayId>>) {
        self.homes = homes;
        self.update_kept();
    }

    /// The state of the link to `relay`. A relay that was never tried is worth waiting for.
    pub(super) fn state(&self, relay: RelayId) -> LinkState {
        self.slots
            .get(&relay)
            .map_or(LinkState::Pending, |slot| slot.state)
    }

    /// The state for frames of one network. A link that was opened before this device joined the
    /// network will be opened again soon.
    pub(super) fn state_for(&self, relay: RelayId, network: Vni) -> LinkState {
        match self.slots.get(&relay) {
            Some(slot) if slot.state == LinkState::Up && slot.drain == Drain::Left => {
                LinkState::Failed
            }
            Some(slot) if slot.state == LinkState::Up && !slot.carries(network) => {
                LinkState::Pending
            }
            _ => self.state(relay),
        }
    }

    pub(super) fn states(&self) -> BTreeMap<RelayId, LinkState> {
        self.slots
            .iter()
            .map(|(relay, slot)| (*relay, slot.state))
            .collect()
    }

    pub(super) fn link(&self, relay: RelayId) -> Option<Arc<Link>> {
        self.slots.get(&relay)?.link.clone()
    }

    /// Wakes the task of every link, which then asks for frames.
    pub(super) fn wake_all(&self) {
        for link in self.slots.values().filter_map(|slot| slot.link.as_ref()) {
            link.wake();
        }
    }

    pub(super) fn want(&mut self, relay: RelayId) {
        self.slot(relay).wanted = true;
    }

    pub(super) fn take_wanted(&mut self) -> Vec<RelayId> {
        for relay in self.kept() {
            self.want(relay);
        }
        let mut wanted = Vec::new();
        for (relay, slot) in &mut self.slots {
            if slot.wanted && !slot.opening {
                slot.opening = true;
                wanted.push(*relay);
            }
        }
        wanted
    }

    /// A link to `relay` is up; `networks` is as in [`Slot::networks`].
    pub(super) fn attach(&mut self, relay: RelayId, networks: &[Vni]) -> Arc<Link> {
        let link = Arc::new(Link::new(relay));
        let slot = self.slot(relay);
        slot.networks = networks.to_vec();
        slot.state = LinkState::Up;
        slot.drain = Drain::No;
        slot.wanted = false;
        slot.link = Some(link.clone());
        self.update_kept();
        link
    }

    /// The relay will stop: a backup is attached to before it is left.
    pub(super) fn drain(&mut self, relay: RelayId) {
        self.slot(relay).drain = Drain::Announced;
        self.update_kept();
    }

    /// The relay is about to stop: frames go over other links.
    pub(super) fn leave(&mut self, relay: RelayId) {
        self.slot(relay).drain = Drain::Left;
    }

    /// Per network, the relay over which others reach this device: the first of its list with a
    /// link.
    pub(super) fn places(&self) -> BTreeMap<Vni, RelayId> {
        let up = |network: Vni, relay: &RelayId| self.state_for(*relay, network) == LinkState::Up;
        let place = |(network, list): (&Vni, &Vec<RelayId>)| {
            let place = list.iter().find(|relay| up(*network, relay))?;
            Some((*network, *place))
        };
        self.homes.iter().filter_map(place).collect()
    }

    /// The link broke: it is worth waiting for, until an attempt fails.
    pub(super) fn detach(&mut self, relay: RelayId) {
        let slot = self.slot(relay);
        slot.state = LinkState::Pending;
        slot.drain = Drain::No;
        slot.link = None;
    }

    pub(super) fn fail(&mut self, relay: RelayId) {
        self.slot(relay).state = LinkState::Failed;
        self.update_kept();
    }

    pub(super) fn keep_trying(&mut self, relay: RelayId) -> bool {
        // A home is tried without end; a backup only while it stands in for one.
        let is_home = self.homes.values().any(|list| list.first() == Some(&relay));
        let is_wanted = self.slots.get(&relay).is_some_and(|slot| slot.wanted);
        let keep = is_wanted || is_home || self.kept().contains(&relay);
        if !keep {
            self.slots.remove(&relay);
        } else if let Some(slot) = self.slots.get_mut(&relay) {
            // The next attempt answers this wish; a later one needs a new wish.
            slot.wanted = false;
        }
        keep
    }

    pub(super) fn homes_attached(&self) -> bool {
        let up = |network, relay: &RelayId| self.state_for(*relay, network) == LinkState::Up;
        let mut homes = self.homes.iter();
        !self.homes.is_empty()
            && homes.all(|(network, list)| list.iter().any(|relay| up(*network, relay)))
    }

    /// Per network the first relay that is not known to fail.
    fn kept(&self) -> Vec<RelayId> {
        let usable = |relay: &&RelayId| {
            let drains = |slot: &Slot| slot.drain != Drain::No;
            self.state(**relay) != LinkState::Failed && !self.slots.get(*relay).is_some_and(drains)
        };
        self.homes
            .values()
            .filter_map(|list| list.iter().find(usable).or(list.first()))
            .copied()
            .collect()
    }

    fn update_kept(&mut self) {
        let kept = self.kept();
        for (relay, slot) in &self.slots {
            if let Some(link) = &slot.link {
                link.kept.store(kept.contains(relay), Relaxed);
            }
        }
    }

    fn slot(&mut self, relay: RelayId) -> &mut Slot {
        self.slots.entry(relay).or_insert(Slot {
            state: LinkState::Pending,
            link: None,
            drain: Drain::No,
            networks: Vec::new(),
            wanted: false,
            opening: false,
        })
    }
}

impl Slot {
    fn carries(&self, network: Vni) -> bool {
        self.networks.is_empty() || self.networks.contains(&network)
    }
}

/// One link that is up: the peers that are ready to send over it, and the waker of its task.
#[derive(Debug)]
pub(super) struct Link {
    relay: RelayId,
    /// The link stays open without traffic, because peers reach this device over it.
    kept: AtomicBool,
    /// A peer that may wait for credit here is reached over another link.
    stale: AtomicBool,
    ready: Mutex<Ready>,
}

#[derive(Debug, Default)]
struct Ready {
    /// Every peer stands here at most once (`Peer::queued`), so the number of peers bounds it.
    peers: VecDeque<Arc<Peer>>,
    waker: Option<Waker>,
    /// Nobody takes peers from here any more.
    closed: bool,
}

impl Link {
    fn new(relay: RelayId) -> Self {
        Self {
            relay,
            kept: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            ready: Mutex::default(),
        }
    }

    pub(super) fn relay(&self) -> RelayId {
        self.relay
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Relaxed)
    }

    /// Has the link's task look for peers that wait for credit here but are reached over another
    /// link.
    pub(super) fn look_through(&self) {
        self.stale.store(true, Relaxed);
        self.wake();
    }

    pub(super) fn take_stale(&self) -> bool {
        self.stale.load(Relaxed) && self.stale.swap(false, Relaxed)
    }

    /// Puts a peer at the end, and wakes the link's task. Returns false if the link was closed
    /// meanwhile: it does not take the peer.
    #[must_use]
    pub(super) fn push(&self, peer: Arc<Peer>) -> bool {
        let waker = {
            let mut ready = self.ready.lock();
            if ready.closed {
                return false;
            }
            ready.peers.push_back(peer);
            ready.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn wake(&self) {
        let waker = self.ready.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts a peer that has more to send after the others. Wakes nothing: the link's task itself
    /// calls it.
    pub(super) fn push_again(&self, peer: Arc<Peer>) {
        self.ready.lock().peers.push_back(peer);
    }

    pub(super) fn pop(&self) -> Option<Arc<Peer>> {
        self.ready.lock().peers.pop_front()
    }

    pub(super) fn register(&self, waker: &Waker) {
        let mut ready = self.ready.lock();
        if ready.peers.is_empty() {
            match &mut ready.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        } else {
            drop(ready);
            waker.wake_by_ref();
        }
    }

    /// Returns the peers that wait here. From here on the link takes none: one that was pushed
    /// after the others were moved to another link would wait without end.
    pub(super) fn close(&self) -> Vec<Arc<Peer>> {
        let mut ready = self.ready.lock();
        ready.closed = true;
        ready.peers.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: RelayId = RelayId([1; 16]);
    const BACKUP: RelayId = RelayId([2; 16]);
    const OTHER: RelayId = RelayId([3; 16]);

    fn links() -> Links {
        let mut links = Links::default();
        links.set_homes(BTreeMap::from([(network(1), vec![HOME, BACKUP])]));
        links
    }

    fn network(number: u32) -> Vni {
        Vni::new(Vni::FIRST + number).unwrap()
    }

    #[test]
    fn the_home_is_wanted_once_and_tried_without_end() {
        let mut links = links();
        assert_eq!(links.take_wanted(), vec![HOME]);
        assert_eq!(links.take_wanted(), vec![], "its owner is at it");
        assert!(links.attach(HOME, &[]).is_kept());
        assert!(links.homes_attached());
        links.detach(HOME);
        assert!(links.keep_trying(HOME));
    }

    #[test]
    fn a_backup_stands_in_while_the_home_fails_and_leaves_afterwards() {
        let mut links = links();
        let _ = links.take_wanted();
        links.fail(HOME);
        assert_eq!(links.take_wanted(), vec![BACKUP]);
        let backup = links.attach(BACKUP, &[]);
        assert!(backup.is_kept() && links.homes_attached());
        assert!(links.keep_trying(HOME), "the home is still sought");
        links.attach(HOME, &[]);
        assert!(!backup.is_kept());
        links.detach(BACKUP);
        assert!(!links.keep_trying(BACKUP));
        assert_eq!(links.take_wanted(), vec![]);
    }

    #[test]
    fn a_relay_that_drains_is_used_until_it_is_left_and_a_backup_is_attached_meanwhile() {
        let network = network(1);
        let mut links = links();
        let _ = links.take_wanted();
        let home = links.attach(HOME, &[]);
        links.drain(HOME);
        assert_eq!(links.take_wanted(), vec![BACKUP]);
        assert_eq!(links.state_for(HOME, network), LinkState::Up);
        assert!(links.attach(BACKUP, &[]).is_kept() && !home.is_kept());
        assert!(links.homes_attached());
        links.leave(HOME);
        assert_eq!(links.state_for(HOME, network), LinkState::Failed);
        assert!(links.link(HOME).is_some(), "what comes is still taken");
        links.detach(HOME);
        links.fail(HOME);
        assert!(links.keep_trying(HOME), "it is home again when it is back");
        assert!(links.attach(HOME, &[]).is_kept());
    }

    #[test]
    fn a_link_from_before_a_network_was_joined_does_not_count_for_it() {
        let (old, new) = (network(1), network(2));
        let mut links = links();
        links.attach(HOME, &[old]);
        links.set_homes(BTreeMap::from([(old, vec![HOME]), (new, vec![HOME])]));
        assert!(!links.homes_attached());
        assert_eq!(links.state_for(HOME, old), LinkState::Up);
        assert_eq!(links.state_for(HOME, new), LinkState::Pending);
        links.attach(HOME, &[old, new]);
        assert!(links.homes_attached());
    }

    #[test]
    fn a_relay_of_a_peer_is_tried_while_somebody_has_packets_for_it() {
        let mut links = links();
        let _ = links.take_wanted();
        links.want(OTHER);
        assert_eq!(links.take_wanted(), vec![OTHER]);
        links.fail(OTHER);
        assert!(
            links.keep_trying(OTHER),
            "the wish stands for one more attempt"
        );
        links.fail(OTHER);
        assert!(!links.keep_trying(OTHER), "nobody wished again");
        assert_eq!(links.state(OTHER), LinkState::Pending);
    }
}
