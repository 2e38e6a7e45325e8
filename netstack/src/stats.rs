//! Counts what a stack does; decides nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of a stack, as of one call to [`Stack::stats`](crate::Stack::stats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// TCP flows that exist, half-open ones included.
    pub flows: u64,
    /// Inbound flows whose handshake is not complete.
    pub half_open: u64,
    /// Closed connections that are still remembered.
    pub time_wait: u64,
    /// Flows that have an entry in the timer table.
    pub timers: u64,
    /// TCP flows ever made.
    pub flows_opened: u64,
    /// Flows that ended because the engine failed on them.
    pub flows_panicked: u64,
    /// Bytes of ring the live flows may fill, over all stacks that share a
    /// [`RingArena`](crate::RingArena); most of it is never committed.
    pub ring_bytes: u64,
    /// Bytes of memory the rings hold of all stacks that share a [`RingArena`](crate::RingArena).
    pub ring_committed: u64,
    /// IP packets handed in and their bytes.
    pub packets_in: u64,
    /// Bytes of [`Stats::packets_in`].
    pub bytes_in: u64,
    /// IP packets handed out and their bytes.
    pub packets_out: u64,
    /// Bytes of [`Stats::packets_out`].
    pub bytes_out: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Packets that went no further, by reason.
    pub drops: Drops,
}

macro_rules! drops {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Packets a stack dropped, by reason.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Drops { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Default)]
        pub(crate) struct DropCounters { $(pub(crate) $name: Counter,)* }

        impl DropCounters {
            pub(crate) fn read(&self) -> Drops {
                Drops { $($name: self.$name.get(),)* }
            }
        }

        impl Drops {
            /// All of them together.
            #[must_use]
            pub fn total(&self) -> u64 {
                0 $(+ self.$name)*
            }
        }
    };
}

drops! {
    /// Not an IP packet, or lengths that do not fit what arrived.
    malformed,
    /// Fragments, IP options, extension headers.
    unsupported,
    /// A protocol or ICMP message nobody here listens to.
    protocol,
    /// From or to an address no host has, or to one that is not ours.
    address,
    /// Asked for something new and was not admitted.
    denied,
    /// TCP for no flow and no listener; answered with a reset as far as the rate allows.
    no_flow,
    /// A SYN beyond the limit on flows, or its remote's share of them.
    flow_limit,
    /// A SYN beyond a listener's backlog, or its remote's share of it.
    backlog,
    /// A SYN when nearly all of the budget for rings was used, answered with a reset as far as the
    /// rate allows; data for which a [bounded](crate::RingArena::bounded) budget had no room.
    ring_budget,
    /// TCP data beyond the window we announced.
    out_of_window,
    /// TCP for a flow whose inbox was full.
    inbox_full,
    /// UDP for a port nobody has; answered as far as the rate allows.
    no_socket,
    /// UDP that waited too long for its reader or for the path; the oldest go.
    datagram_queue,
    /// Resets and answers beyond their rate or their queue.
    answer_limit,
    /// Packets of a remote beyond the number of remotes a stack keeps apart.
    remotes,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) flows: Counter,
    pub(crate) half_open: Counter,
    pub(crate) flows_opened: Counter,
    pub(crate) flows_panicked: Counter,
    pub(crate) packets_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) packets_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) retransmits: Counter,
    pub(crate) drops: DropCounters,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Counts up unless that would exceed `limit`. Returns whether it did.
    pub(crate) fn reserve(&self, limit: usize) -> bool {
        self.0
            .fetch_update(Relaxed, Relaxed, |value| {
                (value < limit as u64).then_some(value + 1)
            })
            .is_ok()
    }

    pub(crate) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
