//! The runs: many seeds, and the traces that a failing one leaves.

use crate::world::World;

/// Seeds that every run of the tests goes through.
const SEEDS: u64 = 200;

#[test]
fn every_byte_arrives_once_and_in_order_whatever_happens_to_links() {
    if let Some(seed) = chosen_seed() {
        return run(seed);
    }
    // Two halves, one per core of a small machine.
    std::thread::scope(|scope| {
        for start in 0..2 {
            scope.spawn(move || (start..SEEDS).step_by(2).for_each(run));
        }
    });
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    if let Err(problem) = world.run() {
        let trace = world.trace.join("\n");
        panic!(
            "seed {seed}: {problem}\n{trace}\nreplay: OVERLAN_SIM_SEED={seed} cargo test --test sim"
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one knob of the simulation, for replaying a failure"
)]
fn chosen_seed() -> Option<u64> {
    std::env::var("OVERLAN_SIM_SEED").ok()?.parse().ok()
}
