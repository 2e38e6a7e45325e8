//! Transfers: each opens a connection, writes, closes and compares every byte that arrives.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use overlan_netstack::{Connecting, TcpStream};

use super::World;
use crate::deployment::{HOSTS, NETWORK, PORT};
use crate::script::Transfer;

pub(super) struct Running {
    pub(super) plan: Transfer,
    pub(super) stage: Stage,
    pub(super) opener: Side,
    pub(super) acceptor: Side,
}

pub(super) enum Stage {
    Waiting,
    Connecting(Pin<Box<Connecting>>),
    Open {
        opener: TcpStream,
        acceptor: Option<TcpStream>,
    },
}

/// One end of a transfer: what it has written and read, and whether it saw the end.
#[derive(Default)]
pub(super) struct Side {
    pub(super) written: usize,
    pub(super) closed: bool,
    pub(super) read: usize,
    pub(super) ended: bool,
}

impl World {
    pub(super) fn run_transfers(&mut self) -> Result<bool, String> {
        let mut moved = false;
        let mut cx = Context::from_waker(Waker::noop());
        for client in &mut self.clients {
            while let Poll::Ready(incoming) = client.listener.poll_accept(&mut cx) {
                let remote = incoming.remote();
                client.accepted.push((remote, incoming.accept()));
                moved = true;
            }
        }
        for running in &mut self.transfers {
            let (from, to) = (running.plan.from, 1 - running.plan.from);
            if let Stage::Waiting = running.stage
                && self.started + running.plan.at <= self.now
            {
                let memberships = self.clients[from].engine.memberships();
                let stack = memberships[&NETWORK].stack();
                let remote = HOSTS[to].addresses()[usize::from(running.plan.v6)];
                let connecting = stack
                    .connect(self.now, SocketAddr::new(remote, PORT))
                    .map_err(|error| error.to_string())?;
                running.stage = Stage::Connecting(Box::pin(connecting));
                moved = true;
            }
            if let Stage::Connecting(connecting) = &mut running.stage
                && let Poll::Ready(result) = connecting.as_mut().poll(&mut cx)
            {
                let opener = result.map_err(|error| format!("a connect failed: {error}"))?;
                running.stage = Stage::Open {
                    opener,
                    acceptor: None,
                };
                moved = true;
            }
            let Stage::Open { opener, acceptor } = &mut running.stage else {
                continue;
            };
            if acceptor.is_none() {
                let accepted = &mut self.clients[to].accepted;
                let found = accepted
                    .iter()
                    .position(|(remote, _)| *remote == opener.local_addr());
                *acceptor = found.map(|at| accepted.swap_remove(at).1);
            }
            let (up, down) = (running.plan.up, running.plan.down);
            moved |= running.opener.run(opener, up, down)?;
            if let Some(acceptor) = acceptor {
                moved |= running.acceptor.run(acceptor, down, up)?;
            }
        }
        Ok(moved)
    }
}

impl Running {
    pub(super) fn is_done(&self) -> bool {
        let matches = |side: &Side, length| side.ended && side.closed && side.read == length;
        matches(&self.opener, self.plan.down) && matches(&self.acceptor, self.plan.up)
    }
}

impl Side {
    /// Writes what is left to write, closes after it, and reads and compares what has come.
    fn run(&mut self, stream: &TcpStream, to_write: usize, to_read: usize) -> Result<bool, String> {
        let mut moved = false;
        while self.written < to_write {
            let chunk: Vec<u8> = (self.written..to_write.min(self.written + 16_384))
                .map(pattern)
                .collect();
            match stream.try_write(&chunk) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    return Err(format!("a write failed at byte {}: {error}", self.written));
                }
            }
            moved = true;
        }
        if self.written == to_write && !self.closed {
            stream.try_shutdown();
            self.closed = true;
            moved = true;
        }
        let mut buffer = [0; 8_192];
        while !self.ended {
            match stream.try_read(&mut buffer) {
                Ok(0) if self.read == to_read => self.ended = true,
                Ok(0) => {
                    return Err(format!(
                        "the stream ended at byte {} of {to_read}",
                        self.read
                    ));
                }
                Ok(count) => {
                    for byte in &buffer[..count] {
                        if self.read == to_read || *byte != pattern(self.read) {
                            return Err(format!("byte {} of {to_read} is wrong", self.read));
                        }
                        self.read += 1;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a read failed at byte {}: {error}", self.read)),
            }
            moved = true;
        }
        Ok(moved)
    }
}

/// A byte that tells where it belongs, with a period that no buffer size divides.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8 ^ (at / 65_521) as u8
}
