use super::*;
use std::time::Duration;

use zeroize::Zeroizing;

mod convergence;
mod lifetime;
mod notes;
mod resistance;

/// Two devices and the time they share. Device `a` has the lower id, so its handshake wins a tie.
struct Pair {
    a: PeerSession,
    b: PeerSession,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = tokio::time::Instant::now().into_std();
        Self {
            a: PeerSession::new(config(1, 2), now, 1),
            b: PeerSession::new(config(2, 1), now, 2),
            now,
        }
    }

    /// A pair with one finished handshake, started by `a`.
    fn established() -> Self {
        let mut pair = Self::new();
        pair.a.handle_want_send(pair.now);
        pair.exchange();
        assert_eq!(events(&mut pair.a), [Event::Established]);
        assert_eq!(events(&mut pair.b), [Event::Established]);
        pair
    }

    /// Carries handshake messages to and fro until there are none.
    fn exchange(&mut self) {
        for _ in 0..10 {
            let to_b = messages(&mut self.a);
            let to_a = messages(&mut self.b);
            if to_a.is_empty() && to_b.is_empty() {
                return;
            }
            for mut message in to_b {
                self.b.open(self.now, &mut message).unwrap();
            }
            for mut message in to_a {
                self.a.open(self.now, &mut message).unwrap();
            }
        }
        panic!("the two never stop talking");
    }

    /// Lets time pass and does on the way what is due.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due = [&self.a, &self.b]
                .into_iter()
                .filter_map(PeerSession::poll_timeout)
                .min();
            match due.filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
            self.a.handle_timeout(self.now);
            self.b.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn a_to_b(&mut self, text: &[u8]) {
        let mut message = sealed(&mut self.a, self.now, text);
        assert_eq!(
            opened(&mut self.b, self.now, &mut message),
            Ok(text.to_vec())
        );
    }

    fn b_to_a(&mut self, text: &[u8]) {
        let mut message = sealed(&mut self.b, self.now, text);
        assert_eq!(
            opened(&mut self.a, self.now, &mut message),
            Ok(text.to_vec())
        );
    }
}

fn config(local: u8, remote: u8) -> PeerConfig {
    PeerConfig {
        vni: 77,
        local_device: [local; 16],
        remote_device: [remote; 16],
        local_instance: [local; 8],
        local_static: Arc::new(static_key(local)),
        remote_static: *static_key(remote).public(),
    }
}

fn static_key(byte: u8) -> StaticKey {
    StaticKey::from_secret(Zeroizing::new([byte; 32]))
}

fn messages(session: &mut PeerSession) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| session.poll_message()).collect()
}

fn events(session: &mut PeerSession) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn buffer(text: &[u8]) -> Vec<u8> {
    [&[0; TRANSPORT_HEADER_LEN], text, &[0; TAG_LEN]].concat()
}

fn sealed(session: &mut PeerSession, now: Instant, text: &[u8]) -> Vec<u8> {
    let mut message = buffer(text);
    session.seal(now, &mut message).unwrap();
    message
}

fn opened(
    session: &mut PeerSession,
    now: Instant,
    message: &mut [u8],
) -> Result<Vec<u8>, OpenError> {
    match session.open(now, message)? {
        Opened::Packet(packet) => Ok(packet.to_vec()),
        Opened::Keepalive | Opened::Handshake => Ok(Vec::new()),
    }
}

/// The receiver index of a transport message.
fn index_of(message: &[u8]) -> u32 {
    match envelope::parse(message) {
        Some(Message::Transport { receiver, .. }) => receiver,
        other => panic!("not a transport message: {other:?}"),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
