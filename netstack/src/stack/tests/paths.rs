//! Paths that stall, resume and lose what was in flight.

use std::time::Duration;

use super::net::*;
use crate::Config;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_stalled_path_sends_nothing_twice() {
    for resume_early in [true, false] {
        let mut net = Net::new(small());
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        let sent = pattern(40_000, 1);
        client.try_write(&sent).unwrap();
        net.settle();
        // The packets are under way and stay there.
        let before = net.stack(A).stats().packets_out;
        net.links[A].delay = Duration::ZERO;
        net.stack(A).path_stalled(net.now, address(B, false));
        net.stack(B).path_stalled(net.now, address(A, false));
        let held = net.hold_in_flight();
        net.pass(if resume_early {
            SECOND / 2
        } else {
            100 * SECOND
        });
        assert_eq!(net.stack(A).stats().packets_out, before);
        net.release_in_flight(held);
        net.stack(A).path_resumed(net.now, address(B, false));
        net.stack(B).path_resumed(net.now, address(A, false));
        net.pass(10 * SECOND);
        assert_eq!(net.stack(A).stats().retransmits, 0);
        let mut data = vec![0; 50_000];
        assert_eq!(server.try_read(&mut data).unwrap(), sent.len());
    }
}

#[test]
fn without_the_freeze_the_same_stall_sends_again() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, _server) = net.pair(&listener, false);
    client.try_write(&pattern(40_000, 1)).unwrap();
    net.settle();
    let held = net.hold_in_flight();
    net.pass(2 * SECOND);
    net.release_in_flight(held);
    assert!(net.stack(A).stats().retransmits > 0);
}

#[test]
fn a_retransmission_time_resumes_where_it_stood() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, _server) = net.pair(&listener, false);
    client.try_write(b"lost").unwrap();
    net.settle();
    net.lose_in_flight();
    net.pass(SECOND / 4);
    net.stack(A).path_stalled(net.now, address(B, false));
    net.pass(100 * SECOND);
    assert_eq!(net.stack(A).stats().retransmits, 0);
    net.stack(A).path_resumed(net.now, address(B, false));
    let took = net.until(2 * SECOND, |net| net.stack(A).stats().retransmits == 1);
    assert_eq!(took, SECOND * 3 / 4);
}

#[test]
fn a_long_silence_does_not_make_the_next_attempt_rare() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    for side in [A, B] {
        net.links[side].cut = true;
    }
    client.try_write(b"patience").unwrap();
    net.pass(100 * SECOND);
    for side in [A, B] {
        net.links[side].cut = false;
    }
    // Nobody says that the path works again: the flow finds out by itself.
    let mut data = [0; 20];
    net.until(5 * SECOND, |_| {
        server.try_read(&mut data).is_ok_and(|count| count == 8)
    });
}

#[test]
fn a_restored_path_repeats_what_was_lost_within_a_round_trip() {
    // With everything in flight, and with more waiting in the ring than the window lets out.
    for size in [30_000, 3_000_000] {
        let mut net = Net::new(Config::default());
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        let sent = pattern(size, 1);
        let (mut a, mut b) = (Program::new(&client, &sent), Program::new(&server, &[]));
        a.work();
        net.pass(Duration::from_millis(2));
        for side in [A, B] {
            net.stack(side)
                .path_stalled(net.now, address(1 - side, false));
            net.links[side].blocked = true;
        }
        net.lose_in_flight();
        net.pass(30 * SECOND);
        for side in [A, B] {
            net.links[side].blocked = false;
            net.stack(side)
                .path_restored(net.now, address(1 - side, false));
        }
        let took = net.until(SECOND, |_| {
            b.work();
            !b.received.is_empty()
        });
        assert!(took <= Duration::from_millis(11), "{took:?}");
        let took = net.until(SECOND, |net| {
            loop {
                a.work();
                b.work();
                if !net.settle() {
                    break;
                }
            }
            a.is_done() && b.is_done()
        });
        assert!(took < SECOND / 5, "{took:?}");
        assert!(b.received == sent);
    }
}

#[test]
fn a_flow_with_data_to_send_repeats_the_lost_too() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"lost ").unwrap();
    net.settle();
    net.lose_in_flight();
    net.links[A].blocked = true;
    client.try_write(b"and found").unwrap();
    net.settle();
    net.links[A].blocked = false;
    net.stack(A).path_restored(net.now, address(B, false));
    net.pass(Duration::from_millis(6));
    let mut data = [0; 32];
    assert_eq!(server.try_read(&mut data).unwrap(), 14);
    assert_eq!(&data[..14], b"lost and found");
}

#[test]
fn restoring_an_idle_path_sends_nothing() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, _server) = net.pair(&listener, false);
    client.try_write(b"acknowledged").unwrap();
    net.pass(5 * SECOND);
    let before = net.stack(A).stats().packets_out;
    net.stack(A).path_stalled(net.now, address(B, false));
    net.pass(5 * SECOND);
    net.stack(A).path_restored(net.now, address(B, false));
    net.pass(5 * SECOND);
    assert_eq!(net.stack(A).stats().packets_out, before);
}

#[test]
fn a_lingering_flow_does_not_age_on_a_stalled_path() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"still delivered").unwrap();
    net.settle();
    net.lose_in_flight();
    client.try_shutdown();
    drop(client);
    net.settle();
    net.lose_in_flight();
    net.stack(A).path_stalled(net.now, address(B, false));
    net.pass(3_600 * SECOND);
    net.stack(A).path_restored(net.now, address(B, false));
    net.pass(Duration::from_millis(20));
    let mut data = [0; 32];
    assert_eq!(server.try_read(&mut data).unwrap(), 15);
    assert_eq!(server.try_read(&mut data).unwrap(), 0);
}

#[test]
fn a_flow_that_owes_an_acknowledgement_repeats_the_lost_too() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"lost and found").unwrap();
    net.settle();
    net.lose_in_flight();
    // One full segment arrives; its acknowledgement waits for an answer of the program, or for the
    // next segment.
    server.try_write(&pattern(1_000, 1)).unwrap();
    net.pass(Duration::from_millis(6));
    assert_eq!(client.try_read(&mut [0; 2_000]).unwrap(), 1_000);
    net.stack(A).path_restored(net.now, address(B, false));
    let mut data = [0; 32];
    let took = net.until(5 * SECOND, |_| {
        server.try_read(&mut data).is_ok_and(|count| count == 14)
    });
    assert!(took <= Duration::from_millis(6), "{took:?}");
}

#[test]
fn an_acknowledgement_before_its_turn_does_not_undo_what_a_flow_repeats() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"arrives, ").unwrap();
    net.settle();
    let first = net.hold_in_flight();
    client.try_write(b"lost, ").unwrap();
    net.settle();
    net.lose_in_flight();
    net.links[A].blocked = true;
    net.release_in_flight(first);
    net.stack(A).path_restored(net.now, address(B, false));
    // It has to wait for its turn; meanwhile the other end has something to say and acknowledges
    // what it has.
    server.try_write(b"a word").unwrap();
    net.pass(Duration::from_millis(40));
    assert_eq!(client.try_read(&mut [0; 32]).unwrap(), 6);
    net.links[A].blocked = false;
    client.try_write(b"and new").unwrap();
    let (mut heard, mut data) = (0, [0; 32]);
    let took = net.until(10 * SECOND, |_| {
        heard += server.try_read(&mut data).unwrap_or(0);
        heard == 22
    });
    assert!(took <= Duration::from_millis(6), "{took:?}");
    // And a loss later is not waited for any longer: the jump was no round trip.
    client.try_write(b"lost again").unwrap();
    net.settle();
    net.lose_in_flight();
    let took = net.until(10 * SECOND, |_| {
        server.try_read(&mut data).is_ok_and(|count| count == 10)
    });
    assert!(took <= SECOND * 21 / 10, "{took:?}");
}

/// Repeated acknowledgements have the engine send its first segment again; the path goes before it
/// does, and with it all that was under way. The engine would send that one segment, or nothing,
/// and wait for a time of its own for the rest.
#[test]
fn a_fast_repeat_that_is_due_when_the_path_goes_is_not_all_that_is_repeated() {
    for more in [false, true] {
        let mut net = Net::new(small());
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        for _ in 0..6 {
            client.try_write(&[1; 1_000]).unwrap();
            net.settle();
        }
        let [mut there, back] = net.hold_in_flight();
        assert_eq!((there.len(), back.len()), (6, 0));
        there.remove(0);
        net.links[A].blocked = true;
        net.release_in_flight([there, back]);
        // Five arrive and are answered with what is missing; what is left of it is lost.
        net.pass(Duration::from_millis(6));
        for side in [A, B] {
            net.stack(side)
                .path_stalled(net.now, address(1 - side, false));
        }
        net.lose_in_flight();
        if more {
            client.try_write(&[1; 1_000]).unwrap();
        }
        net.pass(SECOND / 10);
        for side in [A, B] {
            net.stack(side)
                .path_restored(net.now, address(1 - side, false));
        }
        net.links[A].blocked = false;
        let (mut heard, mut data) = (0, vec![0; 65_535]);
        let all = if more { 7_000 } else { 6_000 };
        let took = net.until(5 * SECOND, |_| {
            heard += server.try_read(&mut data).unwrap_or(0);
            heard == all
        });
        assert!(took <= Duration::from_millis(6), "{more}: {took:?}");
    }
}

/// Like that, and the second half of what was under way is lost, too.
#[test]
fn what_was_lost_behind_a_fast_repeat_is_repeated_with_it() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    for _ in 0..9 {
        client.try_write(&[1; 1_000]).unwrap();
        net.settle();
    }
    let [mut there, back] = net.hold_in_flight();
    there.truncate(5);
    there.remove(0);
    net.links[A].blocked = true;
    net.release_in_flight([there, back]);
    net.pass(Duration::from_millis(6));
    net.lose_in_flight();
    net.stack(A).path_restored(net.now, address(B, false));
    net.links[A].blocked = false;
    let (mut heard, mut data) = (0, vec![0; 65_535]);
    let took = net.until(5 * SECOND, |_| {
        heard += server.try_read(&mut data).unwrap_or(0);
        heard == 9_000
    });
    assert!(took <= Duration::from_millis(11), "{took:?}");
}

/// Many flows at work both ways; at some moment everything under way is lost, and after a while
/// there is a new way, on which one direction has to wait for its credit. No flow waits for a timer
/// of its own.
#[test]
fn a_cut_costs_little() {
    const FLOWS: usize = 6;
    let credit = Duration::from_millis(30);
    for (round, cut_at) in [7, 23, 61]
        .map(Duration::from_millis)
        .into_iter()
        .enumerate()
    {
        let mut net = Net::with(small(), small(), round as u64 + 1);
        let listener = net.stack(B).listen(80).unwrap();
        let pairs: Vec<_> = (0..FLOWS).map(|_| net.pair(&listener, false)).collect();
        let streams: Vec<_> = pairs.iter().flat_map(|(a, b)| [a, b]).collect();
        let piece = pattern(3_000, 1);
        let mut last = vec![net.now; streams.len()];
        let mut longest = vec![Duration::ZERO; streams.len()];
        let mut data = vec![0; 65_535];
        let mut work = |net: &mut Net, time: Duration| {
            let end = net.now + time;
            while net.now < end {
                for (number, stream) in streams.iter().enumerate() {
                    let _ = stream.try_write(&piece);
                    while let Ok(1..) = stream.try_read(&mut data) {
                        longest[number] = longest[number].max(net.now - last[number]);
                        last[number] = net.now;
                    }
                }
                net.pass(Duration::from_millis(1));
            }
        };
        work(&mut net, cut_at);
        for side in [A, B] {
            net.stack(side)
                .path_stalled(net.now, address(1 - side, false));
            net.links[side].blocked = true;
        }
        net.lose_in_flight();
        work(&mut net, Duration::from_millis(130));
        for side in [A, B] {
            net.stack(side)
                .path_restored(net.now, address(1 - side, false));
        }
        net.links[B].blocked = false;
        work(&mut net, credit);
        net.links[A].blocked = false;
        work(&mut net, SECOND);
        for (wait, last) in longest.iter_mut().zip(last) {
            *wait = (*wait).max(net.now - last);
        }
        let slow: Vec<_> = longest
            .iter()
            .filter(|wait| **wait > Duration::from_millis(250))
            .collect();
        assert!(slow.is_empty(), "cut after {cut_at:?}: {slow:?}");
    }
}
