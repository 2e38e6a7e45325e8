//! The decisions of a seed: sizes, delays, rates, and the cuts of links. Pure numbers, so a failing
//! seed replays exactly.

use std::time::Duration;

/// Every stream of decisions of a run comes from one seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.0.u64(..100) < percent
    }
}

/// The way in which a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends notice at once; everything in flight is lost.
    Clean,
    /// The client notices; what it sent still reaches the relay, later than what it sends over the
    /// next link.
    ClientFirst,
    /// The relay notices; the client goes on sending into nothing until its liveness finds out.
    RelayFirst,
}

/// One cut of the script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CutAt {
    pub(crate) at: Duration,
    pub(crate) client: usize,
    pub(crate) relay: usize,
    pub(crate) how: Cut,
    /// Attempts to attach fail for so long.
    pub(crate) outage: Duration,
}

/// One connection that a client opens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) at: Duration,
    pub(crate) from: usize,
    pub(crate) up: usize,
    pub(crate) down: usize,
    pub(crate) v6: bool,
}

/// All that a seed decides before the run starts.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) cuts: Vec<CutAt>,
    /// One-way delay per client and relay.
    pub(crate) delays: [[Duration; 2]; 2],
    /// Bytes per second of each wire.
    pub(crate) rate: u64,
}

impl Script {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let millis = |ms: u64| Duration::from_millis(ms);
        let transfers = (0..dice.between(1, 5))
            .map(|_| Transfer {
                at: millis(dice.between(0, 1_500)),
                from: dice.between(0, 1) as usize,
                up: size(&mut dice),
                down: size(&mut dice),
                v6: dice.chance(30),
            })
            .collect();
        let cuts = (0..dice.between(0, 5))
            .map(|_| CutAt {
                at: millis(dice.between(0, 3_000)),
                client: dice.between(0, 1) as usize,
                relay: dice.between(0, 1) as usize,
                how: [Cut::Clean, Cut::ClientFirst, Cut::RelayFirst][dice.between(0, 2) as usize],
                outage: millis([0, 200, 2_000][dice.between(0, 2) as usize]),
            })
            .collect();
        let mut delay = || Duration::from_micros(dice.between(50, 40_000));
        let delays = [[delay(), delay()], [delay(), delay()]];
        Self {
            transfers,
            cuts,
            delays,
            rate: dice.between(500_000, 50_000_000),
        }
    }
}

/// Small transfers find the edges, large ones find the windows.
fn size(dice: &mut Dice) -> usize {
    let most = [0, 1, 1_000, 70_000, 600_000][dice.between(0, 4) as usize];
    dice.between(0, most) as usize
}
