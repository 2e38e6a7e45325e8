//! Opens a link: TCP, TLS by the relay's pinned key, HELLO, WELCOME. Decides which address is
//! tried; frames that follow are the engine's.

use std::io;
use std::time::{Duration, Instant};

use overlan_protocol::ALPN_RELAY;
use overlan_protocol::frame::{self, Frame, HEADER_LEN, UNPROVEN_BODY_MAX};
use overlan_protocol::hello::{Hello, Reject, Welcome};
use overlan_protocol::key::{IdentitySecret, RelayId};
use overlan_protocol::netmap;
use overlan_transport::clock::now;
use overlan_transport::outgoing::Outgoing;
use overlan_transport::tls::{self, ServerTrust, Stepwise};
use overlan_transport::{ConnectError, connect};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

/// The proof of this device to a relay.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// The device's identity.
    pub identity: &'a IdentitySecret,
    /// The ticket's text.
    pub ticket: &'a str,
    /// A number that is higher than at every earlier attach.
    pub attach_sequence: u64,
}

/// A link that the relay welcomed.
#[derive(Debug)]
pub struct Attached {
    /// The connection.
    pub stream: TlsStream<Stepwise>,
    /// The relay's answer to HELLO.
    pub welcome: Welcome,
    /// Time to the relay and back.
    pub round_trip: Duration,
}

/// The reason why a link could not be opened: one variant for each thing that the owner does
/// differently.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// None of the relay's addresses could be connected to; this is the error of the last one.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The netmap has no usable address.
    #[error("the netmap has no usable address of relay {0}")]
    NoAddress(String),
    /// The relay refused this device.
    #[error("the relay refused: {} ({:?})", .0.text, .0.code)]
    Rejected(Reject),
    /// The relay answered something else, or nothing.
    #[error("the relay did not answer as a relay does: {0}")]
    NotWelcomed(#[from] io::Error),
}

/// Opens a link to `relay` by `outgoing`, trying its addresses in order.
pub async fn attach(
    id: RelayId,
    relay: &netmap::Relay,
    credentials: &Credentials<'_>,
    outgoing: &Outgoing,
) -> Result<Attached, AttachError> {
    let (stream, _) = reach(relay, outgoing).await?;
    greet(id, stream, credentials).await
}

/// A relay that was reached, without an attach.
#[derive(Debug)]
pub struct Probed {
    /// The address that answered, `host:port`.
    pub address: String,
    /// The round trip of the TCP connection, if the system reports it.
    pub round_trip: Option<Duration>,
    /// The time from the first name lookup to the end of the TLS handshake, with the addresses that
    /// did not answer.
    pub ready: Duration,
}

/// Opens TCP and TLS to `relay` by its pinned keys as [`attach`] does, and closes it again.
pub async fn probe(relay: &netmap::Relay, outgoing: &Outgoing) -> Result<Probed, AttachError> {
    let began = now();
    let (stream, address) = reach(relay, outgoing).await?;
    Ok(Probed {
        address: address.to_owned(),
        round_trip: stream.get_ref().0.round_trip(),
        ready: now().saturating_duration_since(began),
    })
}

/// Opens TCP and TLS to the first address that answers, and returns that address, too.
async fn reach<'a>(
    relay: &'a netmap::Relay,
    outgoing: &Outgoing,
) -> Result<(TlsStream<Stepwise>, &'a str), AttachError> {
    let config = tls::client_config(&ServerTrust::Pinned(relay.pins.clone()), ALPN_RELAY);
    let mut last = AttachError::NoAddress(relay.name.clone());
    for address in relay.addresses.iter().take(ADDRESSES_MAX) {
        let Ok(to) = address.parse() else {
            continue;
        };
        match connect::through(outgoing, &to, config.clone(), CONNECT_WITHIN).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

async fn greet(
    id: RelayId,
    mut stream: TlsStream<Stepwise>,
    credentials: &Credentials<'_>,
) -> Result<Attached, AttachError> {
    let exporter = tls::exporter(&stream);
    let hello = Hello::sign(
        credentials.identity,
        &exporter,
        id,
        credentials.ticket,
        credentials.attach_sequence,
    );
    let mut bytes = Vec::new();
    Frame::Hello(&hello.encode()).encode(&mut bytes);
    let asked: Instant = now();
    let exchange = async {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        read_greeting(&mut stream).await
    };
    let answer = timeout(WELCOME_WITHIN, exchange)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to HELLO within 5 s"))??;
    match answer {
        Greeting::Welcome(welcome) => {
            // The answer to HELLO includes the relay's work, so the smaller figure is better.
            let answered_in = now().saturating_duration_since(asked);
            let socket = stream.get_ref().0;
            let round_trip = socket
                .round_trip()
                .map_or(answered_in, |it| it.min(answered_in));
            if round_trip < NEAR {
                // If this fails, urgent packets wait longer after bulk data; nothing else changes.
                let _ = SockRef::from(socket.socket()).set_recv_buffer_size(NEAR_BUFFER);
            }
            Ok(Attached {
                stream,
                welcome,
                round_trip,
            })
        }
        Greeting::Reject(reject) => Err(AttachError::Rejected(reject)),
    }
}

/// The relay's answer to HELLO.
enum Greeting {
    Welcome(Welcome),
    Reject(Reject),
}

/// Reads exactly the relay's first frame, so that the frames after it are not lost.
async fn read_greeting(stream: &mut TlsStream<Stepwise>) -> io::Result<Greeting> {
    let mut bytes = vec![0; HEADER_LEN];
    stream.read_exact(&mut bytes).await?;
    let length = usize::from(bytes[1]) << 16 | usize::from(bytes[2]) << 8 | usize::from(bytes[3]);
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the first frame is neither WELCOME nor REJECT",
        )
    };
    if length > UNPROVEN_BODY_MAX {
        return Err(malformed());
    }
    bytes.resize(HEADER_LEN + length, 0);
    stream.read_exact(&mut bytes[HEADER_LEN..]).await?;
    match frame::decode(&bytes, UNPROVEN_BODY_MAX) {
        Ok(Some((Frame::Welcome(body), _))) => Welcome::decode(body)
            .map(Greeting::Welcome)
            .ok_or_else(malformed),
        Ok(Some((Frame::Reject(body), _))) => Reject::decode(body)
            .map(Greeting::Reject)
            .ok_or_else(malformed),
        _ => Err(malformed()),
    }
}

/// The number of addresses of one relay that are tried.
const ADDRESSES_MAX: usize = 8;

/// Time for TCP and TLS to one address of a relay.
const CONNECT_WITHIN: Duration = Duration::from_secs(8);

/// A relay with a shorter round trip is near: the network holds little, so bytes that wait do so in
/// a socket's buffer, where urgent packets cannot overtake them.
const NEAR: Duration = Duration::from_millis(3);

/// Bytes that may wait in the socket of a near relay: 1 Gbit/s for 2 ms. The kernel's own limit
/// grows to megabytes.
const NEAR_BUFFER: usize = 256 * 1024;

/// Time from HELLO to WELCOME.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);
