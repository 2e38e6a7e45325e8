//! The other end is killed, sleeps or leaves: what connections see of it, over relays that notice
//! in their own time.

use std::io::ErrorKind;
use std::time::Duration;

use overlan_netstack::TcpStream;
use overlan_plane::engine::PATIENCE;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The error by which a stream has ended, if it has.
fn error_of(stream: &TcpStream) -> Option<ErrorKind> {
    match stream.try_read(&mut [0; 16]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(error.kind()),
        Ok(count) => panic!("{count} bytes came"),
    }
}

#[test]
fn an_idle_connection_ends_when_the_peer_was_killed_and_is_back() {
    for away in [Duration::ZERO, 3 * SECOND, 10 * MINUTE] {
        let mut world = World::quiet();
        let (near, _far) = world.open();
        world.pass(5 * MINUTE);
        world.kill(1);
        world.pass(away);
        world.start_anew(1);
        world.pass(MINUTE + 5 * SECOND);
        assert_eq!(
            error_of(&near),
            Some(ErrorKind::ConnectionReset),
            "{away:?}"
        );
        let (near, far) = world.open();
        near.try_write(b"overlay").unwrap();
        world.pass(SECOND);
        assert_eq!(far.try_read(&mut [0; 16]).unwrap(), 7);
    }
}

#[test]
fn a_busy_connection_outlasts_a_sleep() {
    // Of the receiver and of the sender; what relays and controller notice meanwhile changes
    // nothing.
    for (sleeper, sleep) in [
        (1, Duration::from_secs(55)),
        (1, 10 * MINUTE),
        (0, Duration::from_secs(55)),
        (0, 10 * MINUTE),
    ] {
        let mut world = World::quiet();
        let (near, far) = world.open();
        let (mut sent, mut received) = (0u64, 0u64);
        let mut run = |world: &mut World, time: Duration, asleep: Option<usize>| {
            let mut buffer = [0; 65_536];
            let mut left = time;
            while left > Duration::ZERO {
                if asleep != Some(0) {
                    while let Ok(count) = near.try_write(&buffer[..10_000]) {
                        sent += count as u64;
                    }
                }
                if asleep != Some(1) {
                    while let Ok(count) = far.try_read(&mut buffer) {
                        received += count as u64;
                    }
                }
                let step = left.min(SECOND / 4);
                world.pass(step);
                left -= step;
            }
        };
        run(&mut world, SECOND, None);
        world.suspend(sleeper);
        run(&mut world, 50 * SECOND, Some(sleeper));
        if sleeper == 1 {
            world.tell_online(1, false);
        }
        run(&mut world, sleep - 50 * SECOND, Some(sleeper));
        world.resume(sleeper);
        if sleeper == 1 {
            world.tell_online(1, true);
        }
        run(&mut world, 10 * SECOND, None);
        // Nothing more is written, and all of it arrives.
        near.try_shutdown();
        let mut buffer = [0; 65_536];
        for _ in 0..100 {
            world.pass(SECOND / 4);
            while let Ok(count @ 1..) = far.try_read(&mut buffer) {
                received += count as u64;
            }
        }
        assert_eq!(far.try_read(&mut buffer).unwrap(), 0, "{sleeper} {sleep:?}");
        assert_eq!(sent, received, "{sleeper} {sleep:?}");
        assert!(sent > 1_000_000);
    }
}

#[test]
fn an_idle_connection_with_a_peer_that_was_killed_for_good_ends() {
    for controller in [true, false] {
        let mut world = World::quiet();
        let (near, _far) = world.open();
        world.pass(MINUTE);
        world.kill(1);
        world.pass(6 * SECOND);
        if controller {
            world.tell_online(1, false);
        }
        world.pass(PATIENCE - MINUTE);
        assert_eq!(error_of(&near), None, "{controller}");
        world.pass(3 * MINUTE);
        assert_eq!(
            error_of(&near),
            Some(ErrorKind::ConnectionReset),
            "{controller}"
        );
    }
}

#[test]
fn who_leaves_in_order_ends_its_connections_at_once() {
    let mut world = World::quiet();
    let (near, far) = world.open();
    far.try_write(b"overlay").unwrap();
    world.pass(SECOND);
    world.leave(1);
    world.pass(SECOND / 10);
    assert_eq!(near.try_read(&mut [0; 16]).unwrap(), 7, "what had arrived");
    assert_eq!(error_of(&near), Some(ErrorKind::ConnectionReset));
}

/// Bytes that come over `stream` until there are no more.
fn drain(stream: &TcpStream) -> usize {
    let (mut buffer, mut all) = ([0; 65_536], 0);
    while let Ok(count @ 1..) = stream.try_read(&mut buffer) {
        all += count;
    }
    all
}

#[test]
fn both_start_anew_at_once_under_load_and_go_on() {
    for apart in [0, 1, 20, 700] {
        let mut world = World::quiet();
        let old: Vec<_> = (0..8).map(|_| world.open()).collect();
        for (near, far) in &old {
            while near.try_write(&[1; 65_536]).is_ok() {}
            while far.try_write(&[2; 65_536]).is_ok() {}
        }
        // Everything is full of what nobody knows any more.
        world.pass(SECOND / 50);
        for index in 0..2 {
            world.kill(index);
        }
        world.start_anew(0);
        world.pass(Duration::from_millis(apart));
        world.start_anew(1);
        // Both have something to say before either knows the other's new keys.
        let opening: Vec<_> = [0, 1, 0, 1].map(|from| world.connect(from)).into();
        world.pass(3 * SECOND);
        for (number, connecting) in opening.into_iter().enumerate() {
            let (near, far) = world.opened(number % 2, connecting);
            assert_eq!(near.try_write(&[3; 50_000]).unwrap(), 50_000);
            assert_eq!(far.try_write(&[4; 50_000]).unwrap(), 50_000);
            world.pass(SECOND);
            assert_eq!((drain(&near), drain(&far)), (50_000, 50_000), "{apart}");
        }
    }
}

#[test]
fn a_controller_that_changes_its_mind_all_the_time_ends_nothing() {
    let mut world = World::quiet();
    let (near, far) = world.open();
    let (mut sent, mut received) = (0, 0);
    for turn in 0..600 {
        world.tell_online(1, turn % 2 == 0);
        world.tell_online(0, turn % 3 == 0);
        sent += near.try_write(&[1; 10_000]).unwrap_or(0);
        world.pass(SECOND / 10);
        received += drain(&far);
    }
    world.pass(SECOND);
    received += drain(&far);
    assert_eq!((sent, received), (6_000_000, 6_000_000));
    // A dial reaches it although the last word was that it is away: it was heard since.
    world.tell_online(1, false);
    near.try_write(b"?").unwrap();
    far.try_write(b"!").unwrap();
    world.pass(SECOND);
    let (again, there) = world.open();
    again.try_write(b"overlay").unwrap();
    world.pass(SECOND);
    assert_eq!(drain(&there), 7);
}
