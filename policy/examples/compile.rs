//! Measures the compiler, for so many RULES and DEVICES:
//! `cargo run --release -p overlan-policy --example compile 10000 5000`.
//! A network with people, groups, tags and gateways, the same one in every run.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads a clock and prints"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use fastrand::Rng;
use overlan_policy::{
    Compiled, Destination, World, WorldDevice, WorldPerson, diff, parse, run_tests,
};
use overlan_protocol::api::Role;
use overlan_protocol::policy::Protocol;
use overlan_protocol::{HostIndex, UnixTime};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise: usize| {
        let argument = arguments.next().and_then(|text| text.parse().ok());
        argument.unwrap_or(otherwise)
    };
    let (rules, devices) = (number(10_000), number(5_000));
    let text = document(rules, devices, 0);
    let world = world(devices);
    let document = measured("parse", || parse(&text).expect("it is well formed"));
    let matrix = measured("compile", || Compiled::new(&document, &world, NOW));
    println!(
        "{rules} rules in {} KiB, {devices} devices in {} classes",
        text.len() / 1024,
        matrix.class_count()
    );
    measured("tests", || run_tests(&document, &matrix).len());

    let hosts: Vec<HostIndex> = world.devices.iter().map(|it| it.host).collect();
    let mut random = Rng::with_seed(3);
    let asked: Vec<(HostIndex, HostIndex)> = (0..100_000)
        .map(|_| {
            (
                hosts[random.usize(0..devices)],
                hosts[random.usize(0..devices)],
            )
        })
        .collect();
    each("judge", &asked, |(from, to)| {
        let to = Destination::Device(*to);
        black_box(matrix.judge(*from, to, Protocol::Tcp, 443));
    });
    each("rules of a device", &hosts, |host| {
        black_box(matrix.filter_of(*host));
    });
    each("peers of a device", &hosts, |host| {
        black_box(matrix.visible_to(*host));
    });

    let changed = parse(&self::document(rules, devices, 1)).expect("it is well formed");
    let next = measured("compile with one rule changed", || {
        Compiled::new(&changed, &world, NOW)
    });
    let affected = measured("who is affected by it", || next.affected(&matrix));
    let difference = measured("who gains and who loses", || diff(&matrix, &next));
    println!(
        "one rule: {} of {devices} devices affected, {} gains, {} losses{}",
        affected.len(),
        difference.gains.len(),
        difference.losses.len(),
        if difference.is_cut { ", cut" } else { "" }
    );
    let mut later = world.clone();
    later.devices[devices / 2].tags = vec!["t1".to_owned()];
    let mut next = measured("a copy of the matrix", || matrix.clone());
    let mut worlds = [&later, &world].into_iter().cycle();
    measured("one device changed, and followed", || {
        next.follow(worlds.next().expect("it goes round"));
    });
    next.follow(&later);
    let affected = measured("who is affected by it", || next.affected(&matrix));
    println!(
        "one device: {} of {devices} devices affected",
        affected.len()
    );
}

/// The shortest of a few runs.
fn measured<T>(what: &str, mut run: impl FnMut() -> T) -> T {
    let mut best = Duration::MAX;
    let mut result = None;
    for _ in 0..5 {
        let begin = Instant::now();
        result = Some(run());
        best = best.min(begin.elapsed());
    }
    println!("{:10.3} ms  {what}", best.as_secs_f64() * 1_000.0);
    result.expect("it ran")
}

fn each<T>(what: &str, all: &[T], mut run: impl FnMut(&T)) {
    let begin = Instant::now();
    all.iter().for_each(&mut run);
    let each = begin.elapsed().as_secs_f64() / all.len() as f64;
    println!("{:10.3} µs  {what}, of {}", each * 1_000_000.0, all.len());
}

fn document(rules: usize, devices: usize, changed: usize) -> String {
    let mut random = Rng::with_seed(1);
    let mut text = "[groups]\n".to_owned();
    for group in 0..GROUPS {
        let members = (0..12).map(|_| format!("\"p{}@x\"", random.usize(0..people(devices))));
        let members: Vec<String> = members.collect();
        let _ = writeln!(text, "g{group} = [{}]", members.join(", "));
    }
    text.push_str("[tags]\n");
    for tag in 0..TAGS {
        let _ = writeln!(text, "t{tag} = []");
    }
    for rule in 0..rules {
        let party = |random: &mut Rng| match random.u8(0..100) {
            0 => "members".to_owned(),
            1..40 => format!("group:g{}", random.usize(0..GROUPS)),
            40..75 => format!("tag:t{}", random.usize(0..TAGS)),
            75..90 => format!("p{}@x", random.usize(0..people(devices))),
            _ => format!("device:d{}", random.usize(0..devices)),
        };
        let (from, to) = (party(&mut random), party(&mut random));
        let port = random.u16(1..=9_999);
        let port = if rule == rules / 2 {
            port + u16::try_from(changed).unwrap_or(1)
        } else {
            port
        };
        let _ = write!(
            text,
            "[[rules]]\nid='r{rule}'\nfrom='{from}'\nto='{to}'\nservices='tcp/{port}'\n"
        );
    }
    for test in 0..50 {
        let (group, tag) = (test % GROUPS, test % TAGS);
        let _ = write!(
            text,
            "[[tests]]\nfrom='group:g{group}'\nto='tag:t{tag}'\ndeny='udp/1'\n"
        );
    }
    text
}

fn world(devices: usize) -> World {
    let mut random = Rng::with_seed(2);
    let people = people(devices);
    let device = |number: usize, random: &mut Rng| {
        let is_server = number.is_multiple_of(3);
        let tags = (0..random.usize(1..3)).map(|_| format!("t{}", random.usize(0..TAGS)));
        WorldDevice {
            host: HostIndex::new(u32::try_from(number + 2).unwrap_or(2)).expect("it is small"),
            label: format!("d{number}"),
            tags: tags.filter(|_| is_server).collect(),
            owner: Some(format!("p{}@x", random.usize(0..people))),
            routes: Vec::new(),
        }
    };
    World {
        devices: (0..devices)
            .map(|number| device(number, &mut random))
            .collect(),
        people: (0..people)
            .map(|number| WorldPerson {
                email: format!("p{number}@x"),
                role: Role::Member,
                groups: Vec::new(),
            })
            .collect(),
    }
}

fn people(devices: usize) -> usize {
    devices / 3 + 1
}

const GROUPS: usize = 300;
const TAGS: usize = 150;
