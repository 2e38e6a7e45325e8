//! Holds the matrix against an interpreter that reads rules one by one, on random documents and
//! worlds, and against what must be true of every policy.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what it makes up is well formed, and the interpreter is to be short"
)]

mod interpreter;
mod random;

use overlan_policy::{Among, Compiled, Destination, Document, Shift, World, diff, run_tests};
use overlan_protocol::UnixTime;
use overlan_protocol::policy::{Protocol, Verdict};

use random::{HOSTS, NOW, Random};

/// Random policies that are compared.
const POLICIES: u64 = 100_000;

/// Connections that are asked about: ports that services name, their neighbours, and ICMP.
const ASKED: [(Protocol, u16); 5] = [
    (Protocol::Tcp, 22),
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Udp, 53),
    (Protocol::Icmp, 0),
];

fn compiled(document: &Document, world: &World) -> Compiled {
    Compiled::new(document, world, NOW)
}

/// Every answer, the rule of every answer, the rules of both devices and their netmaps are the
/// interpreter's.
#[test]
fn the_matrix_is_the_interpreter() {
    let (mut allowed, mut asked) = (0_u64, 0_u64);
    for seed in 0..POLICIES {
        let mut random = Random::new(seed);
        let (document, world) = (random.document(), random.world());
        let matrix = compiled(&document, &world);
        for _ in 0..2 {
            let (from, to) = random.pair(&world);
            let filter = matrix.filter_of(from.host);
            let inbound = matrix.filter_of(to.host);
            for (protocol, port) in ASKED {
                let by = interpreter::rule(&document, &world, (from, to), (protocol, port));
                let destination = Destination::Device(to.host);
                let verdict = matrix.judge(from.host, destination, protocol, port);
                let rule = match &verdict {
                    Verdict::Allowed(rule) => Some(rule),
                    Verdict::Denied(_) => None,
                };
                assert_eq!(rule, by, "seed {seed}: {from:?} to {to:?}: {port}");
                let out = filter.judge_outbound(to.host, protocol, port);
                assert_eq!(out.is_allowed(), by.is_some(), "seed {seed}: outbound");
                let into = inbound.judge_inbound(from.host, protocol, port);
                assert_eq!(into.is_allowed(), by.is_some(), "seed {seed}: inbound");
                allowed += u64::from(by.is_some());
                asked += 1;
            }
            let sees = interpreter::sees(&document, &world, from, to);
            assert_eq!(matrix.sees(from.host, to.host), sees, "seed {seed}");
            let visible = matrix.visible_to(from.host);
            assert_eq!(visible.contains(&to.host), sees, "seed {seed}");
            for host in HOSTS {
                let by = interpreter::host_rule(&document, &world, from, host, 80);
                let destination = Destination::Host(random::host(host));
                let verdict = matrix.judge(from.host, destination, Protocol::Tcp, 80);
                assert_eq!(verdict.is_allowed(), by, "seed {seed}: {host}");
            }
        }
    }
    let share = allowed * 100 / asked;
    assert!(
        (5..60).contains(&share),
        "{share} % of the questions are allowed"
    );
}

/// Rules only allow: a further one never takes anything away.
#[test]
fn a_further_rule_never_takes_away() {
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let (document, world) = (random.document(), random.world());
        let mut fewer = document.clone();
        fewer.rules.pop();
        let (all, fewer) = (compiled(&document, &world), compiled(&fewer, &world));
        let (there, back) = (diff(&fewer, &all), diff(&all, &fewer));
        assert_eq!(there.losses, [], "seed {seed}");
        assert_eq!(back.gains, [], "seed {seed}");
        assert_eq!(there.gains, back.losses, "seed {seed}");
    }
}

/// A comparison names exactly those whose reach changes, each with the rule that it changes by.
#[test]
fn a_comparison_is_what_the_answers_are() {
    for seed in 0..5_000 {
        let mut random = Random::new(seed);
        let (before, after, world) = (random.document(), random.document(), random.world());
        let (old, new) = (compiled(&before, &world), compiled(&after, &world));
        let difference = diff(&old, &new);
        let (from, to) = random.pair(&world);
        let is_own = interpreter::is_same_person(&world, from, to);
        for (protocol, port) in ASKED {
            let destination = Destination::Device(to.host);
            let judge = |matrix: &Compiled| matrix.judge(from.host, destination, protocol, port);
            let (was, is) = (judge(&old), judge(&new));
            let named = |shifts: &[Shift], by: &Verdict| {
                shifts.iter().any(|shift| {
                    shift.from.contains(&from.label)
                        && shift.to.contains(&to.label)
                        && shift.service.matches(protocol, port)
                        && match shift.among {
                            Among::All => true,
                            Among::OnePerson => is_own,
                            Among::Others => !is_own,
                        }
                        && *by == Verdict::Allowed(shift.rule.clone())
                })
            };
            let gained = is.is_allowed() && !was.is_allowed();
            let lost = was.is_allowed() && !is.is_allowed();
            let place = format!("seed {seed}: {} to {}: {port}", from.label, to.label);
            assert_eq!(
                named(&difference.gains, &is),
                gained,
                "{place}: {difference:?}"
            );
            assert_eq!(
                named(&difference.losses, &was),
                lost,
                "{place}: {difference:?}"
            );
        }
    }
}

/// A device that is not affected has the same rules and sees the same peers as before.
#[test]
fn those_that_are_not_affected_see_no_difference() {
    let mut spared = 0_usize;
    for seed in 0..10_000 {
        let mut random = Random::new(seed);
        let (before, world) = (random.document(), random.world());
        let (mut after, mut later) = (before.clone(), world.clone());
        random.change(&mut after, &mut later);
        let (old, new) = (compiled(&before, &world), compiled(&after, &later));
        let affected = new.affected(&old);
        for device in later
            .devices
            .iter()
            .filter(|it| !affected.contains(&it.host))
        {
            let host = device.host;
            assert_eq!(
                old.filter_of(host),
                new.filter_of(host),
                "seed {seed}: {host:?}"
            );
            assert_eq!(
                old.visible_to(host),
                new.visible_to(host),
                "seed {seed}: {host:?}"
            );
            spared += 1;
        }
    }
    assert!(spared > 10_000, "only {spared} devices were spared");
}

/// A matrix that followed many changes of its world is the one that is made of the last world.
#[test]
fn following_is_compiling_again() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let (document, mut world) = (random.document(), random.world());
        let mut matrix = compiled(&document, &world);
        for _ in 0..6 {
            let older = matrix.clone();
            random.change_world(&mut world);
            matrix.follow(&world);
            let fresh = compiled(&document, &world);
            assert_eq!(
                matrix.affected(&older),
                fresh.affected(&older),
                "seed {seed}"
            );
            for device in &world.devices {
                let host = device.host;
                assert_eq!(matrix.filter_of(host), fresh.filter_of(host), "seed {seed}");
                assert_eq!(
                    matrix.visible_to(host),
                    fresh.visible_to(host),
                    "seed {seed}"
                );
            }
            assert_eq!(matrix.class_count(), fresh.class_count(), "seed {seed}");
            assert_eq!(matrix.notes(), fresh.notes(), "seed {seed}");
        }
    }
}

/// A test that holds, holds between all devices that its words mean.
#[test]
fn tests_that_hold_are_true_of_all_devices() {
    let mut held = 0;
    for seed in 0..10_000 {
        let mut random = Random::new(seed);
        let (mut document, world) = (random.document(), random.world());
        random.add_test(&mut document);
        if run_tests(&document, &compiled(&document, &world)).is_empty() {
            held += 1;
            assert!(interpreter::test_holds(&document, &world), "seed {seed}");
        }
    }
    assert!((500..9_500).contains(&held), "{held} tests hold");
}

/// Time alone turns one matrix into the other.
#[test]
fn advancing_is_compiling_later() {
    let mut ended = 0;
    for seed in 0..5_000 {
        let mut random = Random::new(seed);
        let (document, world) = (random.document(), random.world());
        let mut matrix = compiled(&document, &world);
        let Some(next) = matrix.next_change() else {
            continue;
        };
        assert!(!matrix.advance(UnixTime::from_secs(next.as_secs() - 1)));
        assert!(matrix.advance(next));
        let fresh = Compiled::new(&document, &world, next);
        for device in &world.devices {
            assert_eq!(matrix.filter_of(device.host), fresh.filter_of(device.host));
        }
        assert_eq!(matrix.next_change(), fresh.next_change());
        ended += 1;
    }
    assert!(ended > 1_000, "{ended}");
}
