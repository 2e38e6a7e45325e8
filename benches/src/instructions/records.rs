//! The workload of a link: full TLS records from one pump to another, on one thread, through a
//! socket of this machine.
//!
//! The kernel's instructions are not counted, so what is left is the handshake, which cancels out,
//! and the pumps' own work.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_protocol::HostPort;
use overlan_protocol::TLS_RECORD_MAX;
use overlan_protocol::exchange::{Batch, Exchange};
use overlan_transport::connect;
use overlan_transport::pump::{self, Ended};
use overlan_transport::tls::{self, ServerTrust, Stepwise};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::chain::runtime;
use crate::hop::self_signed;
use crate::trouble::{During, Result, Trouble};

/// `count` full records from one pump to another.
pub(super) fn records(count: u64) -> Result<()> {
    let bytes = count as usize * TLS_RECORD_MAX;
    let (certificate, key) = self_signed(HOST)?;
    let pin = tls::key_fingerprint(&certificate).ok_or_else(|| Trouble::failed("no key"))?;
    let server = tls::server_config(vec![certificate], key.into(), ALPN).during("TLS")?;
    let client = tls::client_config(&ServerTrust::Pinned(vec![pin]), ALPN);
    runtime()?.block_on(async {
        let listener = TcpListener::bind((HOST, 0)).await.during("listen")?;
        let port = listener.local_addr().during("listen")?.port();
        let sending = async {
            let (tcp, _) = listener.accept().await.during("accept")?;
            tls::set_up(&tcp).during("socket")?;
            let acceptor = TlsAcceptor::from(Arc::clone(&server));
            let stream = acceptor.accept(Stepwise::new(tcp)).await.during("TLS")?;
            let mut sender = Sender { left: bytes };
            let ended = pump::run(stream.into(), &mut sender).await;
            if !matches!(ended, Ended::Closed) {
                return Err(Trouble::failed(format!("the sender ended: {ended:?}")));
            }
            Ok(())
        };
        let receiving = async {
            let to = HostPort::new(HOST, port).during("address")?;
            let stream = connect::direct(&to, client, PATIENCE).await;
            let mut receiver = Receiver { left: bytes };
            let ended = pump::run(stream.during("TLS")?, &mut receiver).await;
            if !matches!(ended, Ended::Ours(Whole)) {
                return Err(Trouble::failed(format!("the receiver ended: {ended:?}")));
            }
            Ok(())
        };
        tokio::try_join!(sending, receiving)?;
        Ok(())
    })
}

const HOST: &str = "127.0.0.1";

const ALPN: &[u8] = b"count";

/// The longest that a handshake may take under valgrind on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives buffers of a full record each, as a client gives sealed packets.
struct Sender {
    left: usize,
}

/// Everything has arrived.
#[derive(Debug)]
struct Whole;

impl Exchange for Sender {
    type End = Whole;

    fn handle_bytes(&mut self, _: Instant, bytes: &mut [u8]) -> std::result::Result<usize, Whole> {
        Ok(bytes.len())
    }

    fn handle_timeout(&mut self, _: Instant) -> std::result::Result<(), Whole> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    fn fill(&mut self, _: Instant, _: &Waker, out: &mut Batch) -> std::result::Result<(), Whole> {
        let mut spent: Vec<Vec<u8>> = out.take_spent().collect();
        while out.room() > 0 && self.left > 0 {
            let buffer = spent.pop().unwrap_or_else(|| vec![0x5a; TLS_RECORD_MAX]);
            self.left -= buffer.len();
            out.push(buffer);
        }
        Ok(())
    }

    fn last_words(&mut self, _: &Whole, _: &mut Vec<u8>) {}
}

/// Counts what arrives.
struct Receiver {
    left: usize,
}

impl Exchange for Receiver {
    type End = Whole;

    fn handle_bytes(&mut self, _: Instant, bytes: &mut [u8]) -> std::result::Result<usize, Whole> {
        self.left -= bytes.len();
        if self.left == 0 {
            return Err(Whole);
        }
        Ok(bytes.len())
    }

    fn handle_timeout(&mut self, _: Instant) -> std::result::Result<(), Whole> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    fn fill(&mut self, _: Instant, _: &Waker, _: &mut Batch) -> std::result::Result<(), Whole> {
        Ok(())
    }

    fn last_words(&mut self, _: &Whole, _: &mut Vec<u8>) {}
}
