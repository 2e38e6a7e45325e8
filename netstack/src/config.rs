//! The numbers of one stack and what each of them costs; holds no behaviour.

use std::time::Duration;

use crate::arena::{RING_UNIT, RingArena};

/// Limits and sizes of a [`Stack`](crate::Stack). The default is right for a client of a virtual
/// network.
#[derive(Debug, Clone)]
pub struct Config {
    /// Largest IP packet sent, in bytes, and the source of the announced MSS; 1,280 to 65,535. The
    /// default leaves room for tunnel framing in one 16 KiB TLS record. Costs nothing by itself; a
    /// larger value lengthens the time for which a small packet waits until a big one is out.
    pub mtu: usize,
    /// Largest receive ring of a flow in bytes, also the largest window it announces: 65,535 times
    /// a power of two. A flow gets what the round trip to its remote needs, see
    /// [`Stack::set_round_trip`](crate::Stack::set_round_trip). Memory is committed as it is used,
    /// and given back when the flow is idle.
    pub rx_ring: usize,
    /// The same for the transmit ring, whose first pages are used again whenever it runs empty.
    pub tx_ring: usize,
    /// The memory of the rings. Clones of a configuration share it, and so share its budget.
    pub rings: RingArena,
    /// TCP flows that may exist at once, half-open ones included. One costs about 2 KiB besides its
    /// rings. Of those that remotes open each remote may have as many as all others leave: half of
    /// them if it is alone, and there is room for the remote that comes next. A program may open
    /// thousands of connections at once, and a SYN beyond the limit is only repeated after a
    /// second.
    pub max_flows: usize,
    /// Inbound connections one listener holds until the program takes them, which remotes have in
    /// turn. Each remote has a share as of the flows. More are dropped; their senders try again.
    pub accept_backlog: usize,
    /// The time an outbound connection may take, on the wall clock.
    pub connect_timeout: Duration,
    /// The time an inbound connection may take from its SYN to the end of the handshake, including
    /// the time the program needs to accept it, on the wall clock.
    pub syn_received_timeout: Duration,
    /// The time that a flow without a handle waits for the remote's FIN after its own was
    /// acknowledged. Like all that follow, it stands still while the path is stalled.
    pub fin_wait_timeout: Duration,
    /// The time that a flow with a handle waits, once both sides have closed, for any sign that the
    /// remote takes the rest. The engine waits up to 60 s between two attempts, so anything shorter
    /// than twice that may give up on a remote that is still there.
    pub last_ack_timeout: Duration,
    /// The time that a flow without a handle, or one that a reset is to end, goes on delivering
    /// queued bytes without any of them being acknowledged; the same applies.
    pub linger_timeout: Duration,
    /// The time for which a closed connection is remembered in order to answer a repeated FIN.
    /// Costs about 100 bytes, no ring.
    pub time_wait: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mtu: 16_320,
            rx_ring: RING_UNIT * 256,
            tx_ring: RING_UNIT * 256,
            rings: RingArena::default(),
            max_flows: 20_000,
            accept_backlog: 20_000,
            connect_timeout: Duration::from_secs(30),
            syn_received_timeout: Duration::from_secs(30),
            fin_wait_timeout: Duration::from_secs(60),
            last_ack_timeout: Duration::from_secs(150),
            linger_timeout: Duration::from_secs(150),
            time_wait: Duration::from_millis(1_500),
        }
    }
}

impl Config {
    /// # Panics
    /// On sizes the engine cannot work with; they come from the program, never from a peer.
    pub(crate) fn assert_valid(&self) {
        assert!(
            (MIN_MTU..=MAX_MTU).contains(&self.mtu),
            "mtu must be {MIN_MTU} to {MAX_MTU}"
        );
        for ring in [self.rx_ring, self.tx_ring] {
            assert!(
                ring.is_multiple_of(RING_UNIT)
                    && (ring / RING_UNIT).is_power_of_two()
                    && ring <= MAX_RING,
                "a ring must be 65,535 times a power of two, at most {MAX_RING}"
            );
        }
    }
}

/// Returns whether a remote that holds `held` of `limit` places may have one more while `all` are
/// in use, its own included: as many as are left for others. So however many one of them takes,
/// others find room, and where nobody else wants any, half is one's own.
#[must_use]
pub fn has_share(held: usize, all: usize, limit: usize) -> bool {
    held < limit.saturating_sub(all)
}

/// 64 MiB, far below the 1 GiB that window scaling can express.
const MAX_RING: usize = RING_UNIT * 1_024;
/// The least that IPv6 asks of every link, in bytes.
const MIN_MTU: usize = 1_280;
/// The length field of IPv4 has 16 bits.
const MAX_MTU: usize = 65_535;
