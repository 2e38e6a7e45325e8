use smoltcp::iface::{Config as InterfaceConfig, Interface};
use smoltcp::wire::HardwareAddress;

use super::engine::ticks;
use super::*;
use crate::device::{Room, Wire};
use crate::packet::Tcp;

fn segment(seq: u32, payload_len: usize) -> Tcp {
    Tcp {
        source: 1,
        destination: 2,
        seq,
        ack: Some(1),
        syn: false,
        fin: false,
        rst: false,
        window: 0,
        payload_len,
    }
}

#[test]
fn the_window_ends_where_the_ring_does() {
    let window = Window {
        start: Some(u32::MAX - 10),
        ..Window::new(65_535)
    };
    let first = (u32::MAX - 10).wrapping_add(1);
    assert!(window.admits(&segment(first, 65_535)));
    assert!(!window.admits(&segment(first, 65_536)));
    assert!(!window.admits(&segment(first.wrapping_add(1), 65_535)));
    assert!(window.admits(&segment(first.wrapping_sub(1_000), 1_000)));
    // Everything is let through until it is known where the remote starts.
    let window = Window {
        start: None,
        ..window
    };
    assert!(window.admits(&segment(5, 1_000_000)));
}

#[test]
fn the_window_moves_with_what_was_read_across_the_wrap() {
    let window = Window {
        start: Some(100),
        read: u32::MAX,
        ..Window::new(65_535)
    };
    let first = 100_u32;
    assert!(window.admits(&segment(first, 65_535)));
    assert!(!window.admits(&segment(first.wrapping_add(1), 65_535)));
}

#[test]
fn wishes_for_an_end_add_up_and_a_fin_comes_before_a_reset_only() {
    let mut holder = Holder::Program(Closing::Unasked);
    assert!(!holder.has_asked());
    holder.ask_for_fin();
    holder.ask_for_reset();
    assert_eq!(holder, Holder::Program(Closing::FinThenReset));
    holder.fin_handed_over();
    assert_eq!(holder, Holder::Program(Closing::Reset));
    holder.ask_for_fin();
    assert!(holder.wants_reset() && !holder.wants_fin());
    // Without a program nobody has a wish.
    let mut holder = Holder::Undecided;
    holder.ask_for_fin();
    holder.ask_for_reset();
    assert!(!holder.has_asked());
}

fn rings(config: &Config) -> RingPair {
    config.rings.lend(config.rx_ring, config.tx_ring).unwrap()
}

fn key() -> FlowKey {
    FlowKey {
        local: "100.64.0.1:5000".parse().unwrap(),
        remote: "100.64.0.2:80".parse().unwrap(),
    }
}

#[test]
fn a_flow_alone_sends_its_syn_and_gives_up_in_time() {
    let config = Config {
        rx_ring: 65_535,
        tx_ring: 65_535,
        ..Config::default()
    };
    let start = Moment { real: 0, path: 0 };
    let mut flow = Flow::connect(&key(), &config, rings(&config), 1, start).unwrap();
    flow.settle(&config, Some(start));
    assert_eq!(flow.due(), Due::Now);
    let mut out = Vec::new();
    let emission = flow.poll_packet(&config, start, &mut out, 0).unwrap();
    assert!(!emission.retransmission);
    assert!(packet::emitted_tcp(&out).unwrap().syn);
    assert_eq!(flow.due(), Due::At(1_000_000));
    assert_eq!(flow.deadline(), Some((30_000_000, true)));
    // Too early.
    flow.handle_timeout(
        &config,
        Moment {
            real: 29_999_999,
            path: 0,
        },
    );
    assert!(!flow.is_over());
    flow.handle_timeout(
        &config,
        Moment {
            real: 30_000_000,
            path: 0,
        },
    );
    assert_eq!(flow.opened(), Some(Err(End::TimedOut)));
    assert!(flow.take_replies().is_empty());
}

// Without overflow checks the engine does not notice.
#[cfg(debug_assertions)]
#[test]
fn an_engine_that_fails_ends_only_its_flow() {
    let config = Config {
        rx_ring: 65_535,
        tx_ring: 65_535,
        ..Config::default()
    };
    let start = Moment { real: 0, path: 0 };
    let mut flow = Flow::connect(&key(), &config, rings(&config), 1, start).unwrap();
    // An MTU smaller than the headers makes the engine's arithmetic overflow.
    let mut nothing = Vec::new();
    let mut wire = Wire {
        mtu: 0,
        inbound: None,
        outbound: Room::new(&mut nothing, 0),
    };
    let mut interface = Interface::new(
        InterfaceConfig::new(HardwareAddress::Ip),
        &mut wire,
        ticks(0),
    );
    interface.set_any_ip(true);
    flow.phase.engine_mut().unwrap().interface = interface;
    let mut out = vec![1, 2, 3];
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    assert_eq!(flow.egress(&config, &mut out, 3), 0);
    std::panic::set_hook(hook);
    assert_eq!(flow.end(), Some(End::Panicked));
    assert_eq!(out, [1, 2, 3]);
    assert_eq!(flow.due(), Due::Never);
    assert_eq!(flow.write(|_| (0, ())), Transfer::Failed(End::Panicked));
}
