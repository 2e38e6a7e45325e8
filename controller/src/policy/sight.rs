//! The view that each member of one network has of the others, and its rules, by the policy at one
//! version of the change log. Holds no store and no clock: another one is made when something that
//! policy looks at changed.

use std::collections::BTreeSet;

use overlan_policy::{Compiled, World};
use overlan_protocol::key::DeviceId;
use overlan_protocol::policy::Filter;
use overlan_protocol::{HostIndex, UnixTime};

/// The policy of one network, compiled.
#[derive(Debug)]
pub(crate) struct Sight {
    /// The version of the change log at which something that policy looks at changed last.
    at: u64,
    /// The version from which the document counts.
    document_at: u64,
    rules: SightRules,
    /// The sight before this one, by its version, and the hosts for which this one differs.
    step: Option<(u64, BTreeSet<HostIndex>)>,
}

#[derive(Debug)]
enum SightRules {
    /// Every member reaches every member and all hosts of gateways: nothing has to be looked up.
    Open,
    Compiled {
        world: World,
        compiled: Box<Compiled>,
    },
}

/// The difference between two sights for one member.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Its new rules, if they differ.
    pub(crate) filter: Option<Filter>,
    /// Hosts that it sees from now on.
    pub(crate) appeared: BTreeSet<HostIndex>,
    /// Hosts that it sees no longer.
    pub(crate) vanished: BTreeSet<HostIndex>,
}

impl Sight {
    /// Makes the sight of a network with the document that every network starts with: everybody
    /// reaches everybody.
    pub(crate) fn open(at: u64, document_at: u64) -> Self {
        Self {
            at,
            document_at,
            rules: SightRules::Open,
            step: None,
        }
    }

    /// Makes the sight of a network from its compiled policy.
    pub(crate) fn new(at: u64, document_at: u64, mut world: World, compiled: Compiled) -> Self {
        world.devices.sort_unstable_by_key(|device| device.host);
        let compiled = Box::new(compiled);
        Self {
            rules: SightRules::Compiled { world, compiled },
            ..Self::open(at, document_at)
        }
    }

    /// Notes for whom this sight differs from `before`, once for all streams.
    #[must_use]
    pub(crate) fn after(mut self, before: &Self) -> Self {
        self.step = match (&before.rules, &self.rules) {
            (SightRules::Open, SightRules::Open) => Some((before.at, BTreeSet::new())),
            (
                SightRules::Compiled { compiled: old, .. },
                SightRules::Compiled { compiled: new, .. },
            ) => Some((before.at, new.affected(old))),
            (SightRules::Open, SightRules::Compiled { .. })
            | (SightRules::Compiled { .. }, SightRules::Open) => None,
        };
        self
    }

    /// The version of the change log at which something that policy looks at changed last.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Returns whether a device that followed the network up to `version` has this sight, with
    /// nothing but joins and leaves of others to hear of.
    pub(crate) fn was_same_at(&self, version: u64) -> bool {
        let is_open = matches!(self.rules, SightRules::Open);
        self.at <= version || is_open && self.document_at <= version
    }

    /// Returns whether `host` has `other` in its netmap.
    pub(crate) fn sees(&self, host: HostIndex, other: HostIndex) -> bool {
        match &self.rules {
            SightRules::Open => true,
            SightRules::Compiled { compiled, .. } => compiled.sees(host, other),
        }
    }

    /// Returns whether `host` is a member, as far as policy had to look at members.
    pub(crate) fn knows(&self, host: HostIndex) -> bool {
        match &self.rules {
            SightRules::Open => true,
            SightRules::Compiled { world, .. } => {
                let found = world
                    .devices
                    .binary_search_by_key(&host, |device| device.host);
                found.is_ok()
            }
        }
    }

    /// Returns the rules of one member.
    pub(crate) fn filter_of(&self, host: HostIndex) -> Filter {
        match &self.rules {
            SightRules::Open => Filter::starter(),
            SightRules::Compiled { compiled, .. } => compiled.filter_of(host),
        }
    }

    /// Returns the time at which the policy changes by itself, because a rule ends.
    pub(crate) fn next_change(&self) -> Option<UnixTime> {
        match &self.rules {
            SightRules::Open => None,
            SightRules::Compiled { compiled, .. } => compiled.next_change(),
        }
    }

    /// Returns what became different for `host`, which had `before`.
    pub(crate) fn turn_from(&self, before: &Self, host: HostIndex) -> Turn {
        let is_same = match &self.step {
            Some((at, affected)) if *at == before.at => !affected.contains(&host),
            Some(_) | None => self.at == before.at,
        };
        let both_open = matches!(
            (&before.rules, &self.rules),
            (SightRules::Open, SightRules::Open)
        );
        if is_same || both_open {
            return Turn::default();
        }
        let (old, new) = (before.filter_of(host), self.filter_of(host));
        // Where everybody is seen, those are meant whom the other sight knows.
        let known = |sight: &Self, other: &Self| match (&sight.rules, &other.rules) {
            (SightRules::Open, SightRules::Compiled { world, .. }) => {
                let others = world.devices.iter().map(|device| device.host);
                others.filter(|other| *other != host).collect()
            }
            (SightRules::Open, SightRules::Open) => BTreeSet::new(),
            (SightRules::Compiled { compiled, .. }, _) => compiled.visible_to(host),
        };
        let (seen, sees) = (known(before, self), known(self, before));
        Turn {
            filter: (old != new).then_some(new),
            appeared: sees.difference(&seen).copied().collect(),
            vanished: seen.difference(&sees).copied().collect(),
        }
    }
}

/// The eyes with which a member sees the others of one network.
pub(crate) struct Eyes<'a> {
    pub(crate) device: DeviceId,
    pub(crate) host: HostIndex,
    pub(crate) before: &'a Sight,
    pub(crate) now: &'a Sight,
}

impl Eyes<'_> {
    /// Returns whether it sees a member.
    pub(crate) fn sees(&self, other: HostIndex) -> bool {
        self.now.sees(self.host, other)
    }

    /// Returns whether it may have seen a member that leaves. A policy that is newer than the leave
    /// does not know that member.
    pub(crate) fn saw(&self, other: HostIndex) -> bool {
        self.before.sees(self.host, other) || !self.before.knows(other)
    }
}
