use super::*;

const SECOND: u64 = 1_000_000;

/// Four processors, a third of them busy; 100 Mbyte in a second with nobody waiting.
fn calm() -> Sample {
    Sample {
        cpu_us: SECOND,
        busiest_us: SECOND / 2,
        machine_busy_us: SECOND * 4 / 3,
        machine_total_us: SECOND * 4,
        processors: 4,
        credit_window: 512 * 1_024,
        flows: 2,
        ring_bytes: 4 * 1_048_560,
        ..Sample::default()
    }
}

fn facts() -> DirectionFacts {
    DirectionFacts {
        local_sends: true,
        sender: calm(),
        receiver: calm(),
        elapsed_us: SECOND,
        bytes: 100_000_000,
        fastest: 100_000_000,
        idle_us: 1_000,
        loaded_us: 2_000,
    }
}

#[track_caller]
fn check(name: Bottleneck, text: &str, change: impl Fn(&mut DirectionFacts)) {
    let mut facts = facts();
    change(&mut facts);
    let found = find(&facts);
    assert_eq!(found.name, name, "{found:?}");
    assert!(found.text.contains(text), "{found:?}");
}

#[test]
fn when_nobody_waits_it_is_unclear() {
    check(Bottleneck::Unclear, "no counter stands out", |_| {});
    // Nothing is known about an end that tells nothing.
    check(Bottleneck::Unclear, "no counter stands out", |facts| {
        facts.sender = Sample::default();
        facts.receiver = Sample::default();
    });
}

#[test]
fn processors_come_first() {
    check(
        Bottleneck::LocalCpu,
        "uses 3.9 of its 4 processors",
        |facts| {
            facts.sender.cpu_us = 39 * SECOND / 10;
            facts.sender.link_stall_us = SECOND;
            facts.sender.credit_wait_us = SECOND;
        },
    );
    check(Bottleneck::LocalCpu, "97 % busy, with 1.0 of 4", |facts| {
        facts.sender.machine_busy_us = 388 * SECOND / 100;
        facts.receiver.machine_busy_us = 388 * SECOND / 100;
    });
    check(
        Bottleneck::LocalCpu,
        "one of this machine's 4 processors is 99 %",
        |facts| facts.sender.busiest_us = 99 * SECOND / 100,
    );
    check(Bottleneck::LocalCpu, "this machine's client", |facts| {
        facts.local_sends = false;
        facts.receiver.cpu_us = 4 * SECOND;
    });
}

#[test]
fn the_peers_processors_are_the_peer() {
    check(Bottleneck::Peer, "the peer's client uses 4.0", |facts| {
        facts.receiver.cpu_us = 4 * SECOND;
    });
    check(
        Bottleneck::Peer,
        "one of the peer's 4 processors",
        |facts| {
            facts.local_sends = false;
            facts.sender.busiest_us = SECOND;
        },
    );
}

#[test]
fn a_socket_that_takes_nothing_is_the_senders_link() {
    check(Bottleneck::Link, "took no byte for 40 %", |facts| {
        facts.sender.link_stall_us = 4 * SECOND / 10;
        facts.sender.credit_wait_us = SECOND / 2;
    });
    check(
        Bottleneck::Peer,
        "the peer's connection to the relay",
        |facts| {
            facts.local_sends = false;
            facts.sender.link_stall_us = 4 * SECOND / 10;
        },
    );
    check(Bottleneck::Unclear, "", |facts| {
        facts.receiver.link_stall_us = SECOND;
    });
}

#[test]
fn credit_limits_when_a_window_takes_a_round_trip_and_the_relay_when_it_takes_longer() {
    // 512 KiB at 100 MB/s take 5 ms.
    check(Bottleneck::Credit, "512 KiB per round trip", |facts| {
        facts.sender.credit_wait_us = SECOND / 2;
        facts.idle_us = 5_000;
    });
    check(Bottleneck::Relay, "stays 5.2 ms at the relay", |facts| {
        facts.sender.credit_wait_us = SECOND / 2;
        facts.idle_us = 1_000;
    });
    check(Bottleneck::Credit, "waited for credit 50 %", |facts| {
        facts.sender.credit_wait_us = SECOND / 2;
        facts.idle_us = 0;
    });
}

#[test]
fn a_flow_that_fills_its_window_every_round_trip_is_limited_by_it() {
    // 100 MB/s at 10 ms are 1 MB under way.
    check(Bottleneck::FlowWindow, "window of 1023 KiB", |facts| {
        facts.loaded_us = 10_000;
    });
    check(Bottleneck::Unclear, "", |facts| {
        facts.loaded_us = 10_000;
        facts.fastest = 50_000_000;
    });
    // The smaller of both ends' windows counts.
    check(Bottleneck::FlowWindow, "window of 511 KiB", |facts| {
        facts.loaded_us = 10_000;
        facts.fastest = 50_000_000;
        facts.receiver.ring_bytes /= 2;
    });
}

#[test]
fn names_are_those_that_programs_know() {
    let json = serde_json::to_value(Bottleneck::LocalCpu).unwrap();
    assert_eq!(json, "local-cpu");
    let json = serde_json::to_value(Bottleneck::FlowWindow).unwrap();
    assert_eq!(json, "flow-window");
}
