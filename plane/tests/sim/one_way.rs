//! One direction of one link dies without notice: bounds the time for which a conversation of few
//! bytes stands still.

use std::io::ErrorKind;
use std::time::Duration;

use overlan_netstack::TcpStream;

use crate::world::World;

/// Bytes that have come.
fn read(stream: &TcpStream) -> usize {
    let mut buffer = [0; 4_096];
    let mut all = 0;
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => panic!("the stream ended"),
            Ok(count) => all += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The longest time for which no echo came back, when one direction between `client` and `relay`
/// dies.
fn longest_stall(client: usize, relay: usize, up: bool, pause: Duration) -> Duration {
    let mut world = World::quiet();
    let (near, far) = world.open();
    let (mut sent, mut echoed, mut longest) = (0, 0, Duration::ZERO);
    let began = world.now;
    let mut last = world.now;
    let mut next = world.now;
    let mut is_cut = false;
    while world.now < began + Duration::from_secs(40) {
        if !is_cut && world.now >= began + Duration::from_secs(5) {
            is_cut = true;
            world.deaden(client, relay, up);
        }
        let writes = world.now < began + Duration::from_secs(30);
        if writes && world.now >= next {
            next = world.now + pause;
            sent += near.try_write(b"keystroke").unwrap();
        }
        world.pass(Duration::from_millis(20));
        let heard = read(&far);
        if heard > 0 {
            assert_eq!(far.try_write(&vec![1; heard]).unwrap(), heard);
        }
        let came = read(&near);
        if came > 0 {
            echoed += came;
            longest = longest.max(world.now - last);
        }
        if came > 0 || sent == echoed {
            last = world.now;
        }
    }
    assert_eq!(sent, echoed);
    longest
}

#[test]
fn few_bytes_stand_still_for_little_more_than_four_seconds() {
    // A socket that takes few bytes never fills, and an end that only receives has nothing
    // unanswered.
    for pause in [Duration::from_millis(200), Duration::from_secs(3)] {
        for (client, relay, up) in (0..8).map(|case| (case & 1, case >> 1 & 1, case & 4 > 0)) {
            let stall = longest_stall(client, relay, up, pause);
            assert!(
                stall < Duration::from_millis(5_000),
                "client {client}, relay {relay}, up {up}, pause {pause:?}: {stall:?}"
            );
        }
    }
}
