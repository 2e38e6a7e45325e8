//! The packet parser, and handshakes and messages between two devices with something in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::script::Script;
use crate::tunnel::{
    Opened, Packet, PeerConfig, PeerSession, StaticKey, TAG_LEN, TRANSPORT_HEADER_LEN, check_source,
};

/// Runs the script between two sessions from `start` on.
pub fn messages(start: Instant, data: &[u8]) {
    let mut script = Script::new(data);
    let mut now = start;
    let mut pair = [session(1, 2, now), session(2, 1, now)];
    // A copy of what was sent last, which anybody may send again.
    let mut kept = Vec::new();
    while let Some(step) = script.step() {
        let (from, to) = if step & 0x80 == 0 { (0, 1) } else { (1, 0) };
        match step & 0x7f {
            0 => inner(script.bytes()),
            1 => pair[from].handle_want_send(now),
            2 => {
                if let Some(mut message) = pair[from].poll_message() {
                    kept.clone_from(&message);
                    script.damage(&mut message);
                    let _ = pair[to].open(now, &mut message);
                }
            }
            3 => {
                let text = script.bytes();
                let mut message = [&[0; TRANSPORT_HEADER_LEN], text, &[0; TAG_LEN]].concat();
                if pair[from].seal(now, &mut message).is_ok() {
                    kept.clone_from(&message);
                    let damaged = script.damage(&mut message);
                    if let Ok(Opened::Packet(opened)) = pair[to].open(now, &mut message) {
                        assert!(!damaged, "a changed message opened");
                        assert_eq!(opened, text);
                        inner(opened);
                    }
                }
            }
            4 => {
                let mut message = kept.clone();
                script.damage(&mut message);
                let _ = pair[to].open(now, &mut message);
            }
            5 => {
                let mut message = script.bytes().to_vec();
                let opened = pair[to].open(now, &mut message);
                assert!(
                    !matches!(opened, Ok(Opened::Packet(_))),
                    "a made up message opened"
                );
            }
            6 => {
                now += Duration::from_millis(u64::from(script.word()));
                for session in &mut pair {
                    session.handle_timeout(now);
                    assert!(session.poll_timeout().is_none_or(|due| due > now));
                }
            }
            7 => pair[from].ask(now),
            8 => pair[from].say_farewell(now),
            9 => {
                pair[from].say_moved(now, [script.byte(); 16]);
            }
            _ => {}
        }
        for session in &mut pair {
            while session.poll_event().is_some() {}
        }
    }
}

/// Parses a packet, of which the origin alone is proved.
fn inner(packet: &[u8]) {
    if let Ok(parsed) = Packet::parse(packet) {
        let own = [parsed.destination];
        assert!(check_source(&parsed, &[parsed.source], &own).is_ok());
        assert!(check_source(&parsed, &[], &own).is_err());
    }
}

fn session(local: u8, remote: u8, now: Instant) -> PeerSession {
    let key = |byte| StaticKey::from_secret(Zeroizing::new([byte; 32]));
    let config = PeerConfig {
        vni: 77,
        local_device: [local; 16],
        remote_device: [remote; 16],
        local_instance: [local; 8],
        local_static: Arc::new(key(local)),
        remote_static: *key(remote).public(),
    };
    PeerSession::new(config, now, u64::from(local))
}
