use overlan_protocol::HostIndex;
use overlan_protocol::credit::SendCredit;
use overlan_protocol::frame::{self, BODY_MAX};
use overlan_protocol::key::DeviceId;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

use super::*;
use crate::memory::{Memory, QUEUED_MAX};

const WINDOW: u32 = 1_000;

fn to(host: u32) -> Place {
    let host = HostIndex::new(host).unwrap();
    Place { vni: 0x1000, host }
}

fn receive(ledger: &mut Ledger, to: Place, bytes: usize) {
    assert!(ledger.allowance(to).unwrap() > 0);
    ledger.handle_received(to, bytes);
}

fn account(memory: &Arc<Memory>) -> Account {
    memory.account(0x1000, DeviceId([1; 16]))
}

/// Too quickly for the window to learn anything.
fn release(ledger: &mut Ledger, to: Place, bytes: usize) -> bool {
    let now = overlan_transport::clock::now();
    let account = account(&Memory::new(QUEUED_MAX));
    // No window grows, so nothing is taken that another call would give back.
    assert!(account.charge(QUEUED_MAX));
    ledger.handle_released(now, to, bytes, None, &account)
}

/// Returns the notices that are due: (host, released) of CREDIT, (host, 0) of PEER_GONE frames.
fn notices(ledger: &mut Ledger) -> Vec<(u32, u64)> {
    let mut out = Vec::new();
    ledger.fill(&mut out, usize::MAX);
    let mut rest = &out[..];
    let mut found = Vec::new();
    while let Some((frame, length)) = frame::decode(rest, BODY_MAX).unwrap() {
        rest = &rest[length..];
        if let Frame::Credit {
            address, released, ..
        } = frame
        {
            found.push((address.host, released));
        } else if let Frame::PeerGone { address, .. } = frame {
            found.push((address.host, 0));
        } else {
            panic!("not a notice: {frame:?}");
        }
    }
    found
}

#[test]
fn a_notice_is_due_when_a_quarter_of_the_window_is_free() {
    let mut ledger = Ledger::new(WINDOW);
    receive(&mut ledger, to(2), 600);
    assert!(!release(&mut ledger, to(2), 249));
    assert_eq!(notices(&mut ledger), []);
    assert!(release(&mut ledger, to(2), 1));
    assert_eq!(notices(&mut ledger), [(2, 250)]);
    assert_eq!(notices(&mut ledger), []);
}

#[test]
fn notices_for_one_destination_are_merged_into_the_newest() {
    let mut ledger = Ledger::new(WINDOW);
    for _ in 0..10 {
        receive(&mut ledger, to(2), 300);
        assert!(release(&mut ledger, to(2), 300));
        ledger.handle_gone(to(2));
    }
    receive(&mut ledger, to(3), 300);
    assert!(release(&mut ledger, to(3), 300));
    assert_eq!(notices(&mut ledger), [(2, 3_000), (2, 0), (3, 300)]);
}

#[test]
fn one_destination_that_is_stuck_takes_nothing_from_another() {
    let mut ledger = Ledger::new(WINDOW);
    receive(&mut ledger, to(2), 1_000);
    assert_eq!(ledger.allowance(to(2)), Ok(0));
    assert_eq!(ledger.allowance(to(3)), Ok(1_000));
}

#[test]
fn a_connection_names_a_limited_number_of_destinations() {
    let mut ledger = Ledger::new(WINDOW);
    for host in 1..=DESTINATIONS_MAX as u32 {
        receive(&mut ledger, to(host), 10);
    }
    let one_more = to(HostIndex::MAX.get());
    assert_eq!(ledger.allowance(one_more), Err(TooManyDestinations));
    assert_eq!(ledger.allowance(to(1)), Ok(990));
}

#[test]
fn notices_stop_at_the_limit_and_come_later() {
    let mut ledger = Ledger::new(WINDOW);
    for host in 1..=10 {
        receive(&mut ledger, to(host), 10);
        ledger.handle_gone(to(host));
    }
    let mut out = Vec::new();
    ledger.fill(&mut out, 20);
    assert_eq!(out.len(), 2 * 13);
    assert_eq!(notices(&mut ledger).len(), 8);
}

#[test]
fn what_windows_grow_by_is_taken_from_the_relays_memory_and_given_back() {
    let memory = Memory::new(QUEUED_MAX);
    let account = account(&memory);
    let accounts = std::slice::from_ref(&account);
    let mut ledger = Ledger::new(1 << 20);
    let mut now = overlan_transport::clock::now();
    for _ in 0..30 {
        for host in 1..=8 {
            let bytes = ledger.allowance(to(host)).unwrap() as usize;
            ledger.handle_received(to(host), bytes);
            let _ = ledger.handle_released(now, to(host), bytes, None, &account);
        }
        now += Duration::from_millis(100);
        let mut notices = Vec::new();
        ledger.fill(&mut notices, usize::MAX);
    }
    assert_eq!(memory.grown(), SOURCE_GROWN_MAX, "and no more");
    assert_eq!(memory.grown(), ledger.reserved);
    // What rests gives its share back, and its source hears of it.
    let due = ledger.poll_timeout().unwrap().max(now + IDLE);
    assert!(ledger.handle_timeout(due, accounts));
    assert_eq!((memory.grown(), ledger.poll_timeout()), (0, None));
    let mut notices = Vec::new();
    ledger.fill(&mut notices, usize::MAX);
    assert!(!notices.is_empty());
    // So does a connection that ends.
    let bytes = ledger.allowance(to(1)).unwrap() as usize;
    for step in 0..20 {
        now = due + Duration::from_millis(100 * step);
        ledger.handle_received(to(1), bytes / 20);
        let _ = ledger.handle_released(now, to(1), bytes / 20, None, &account);
    }
    assert!(memory.grown() > 0);
    ledger.close(accounts);
    assert_eq!(memory.grown(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A source that keeps to its credit is never refused and never stuck, in whatever portions its
    /// bytes are released.
    #[test]
    fn an_honest_source_is_never_refused_and_never_stuck(
        steps in vec((any::<bool>(), 13..400usize), 1..300),
    ) {
        let mut source = SendCredit::new(WINDOW);
        let mut ledger = Ledger::new(WINDOW);
        let mut held = 0;
        for (send, bytes) in steps {
            if send && source.may_send() {
                source.handle_sent(bytes);
                prop_assert!(ledger.allowance(to(2)).unwrap() > 0);
                ledger.handle_received(to(2), bytes);
                held += bytes;
            } else if held > 0 {
                let part = bytes.min(held);
                held -= part;
                let _ = release(&mut ledger, to(2), part);
                for (_, released) in notices(&mut ledger) {
                    prop_assert!(source.handle_credit(released, WINDOW).is_ok());
                }
            }
        }
        let _ = release(&mut ledger, to(2), held);
        for (_, released) in notices(&mut ledger) {
            prop_assert!(source.handle_credit(released, WINDOW).is_ok());
        }
        prop_assert!(source.may_send());
    }
}
