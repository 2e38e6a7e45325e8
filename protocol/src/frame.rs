//! Frames between client and relay: their layout in the byte stream inside TLS. Holds no connection
//! state.
//!
//! ```text
//!  0      1              4
//! +------+--------------+-----------------------------
//! | kind | length (24)  | body, `length` bytes
//! +------+--------------+-----------------------------
//! DATA body:  key word (VNI 24 | flow id 8) · host index (32) · sealed message
//! ```
//! Integers are big-endian. A reader skips a kind it does not know by its length, so new kinds need
//! no new version.

use std::fmt;

/// A 24-bit virtual network identifier. 0..=0xFFF and 0xFFFFFF are reserved (RFC 7637, section
/// 3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The first number that a network may have.
    pub const FIRST: u32 = 0x00_1000;
    /// The last number that a network may have.
    pub const LAST: u32 = 0xFF_FFFE;

    /// Checks the bounds; `None` if the number is reserved or has more than 24 bits.
    pub const fn new(number: u32) -> Option<Self> {
        if number >= Self::FIRST && number <= Self::LAST {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vni({self})")
    }
}

impl serde::Serialize for Vni {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Vni {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        Self::new(number)
            .ok_or_else(|| serde::de::Error::custom(format_args!("{number} is not a usable VNI")))
    }
}

/// The destination or the source of a frame inside one network: the NVGRE key word and a host
/// index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The network as the *sender of the frame* names it. A relay compares it with the connection's
    /// own networks; it is never an index into anything shared.
    pub vni: u32,
    /// Flow id, for fair queueing only: frames of one inner flow carry the same number. 0 = not of
    /// a flow.
    pub flow: u8,
    /// From a client: the destination. From a relay: the source, stamped by the relay. The number
    /// as it came, which need not be that of a host.
    pub host: u32,
}

/// One frame, borrowed from the buffer it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// First frame of a client; see [`crate::hello::Hello`].
    Hello(&'a [u8]),
    /// The relay's yes; see [`crate::hello::Welcome`].
    Welcome(&'a [u8]),
    /// The relay's no, at the start or later; see [`crate::hello::Reject`]. The connection ends
    /// after it.
    Reject(&'a [u8]),
    /// Either side asks "are you there"; the token comes back in a [`Frame::Pong`].
    Ping {
        /// Chosen by the asker so that nobody can guess it.
        token: u64,
    },
    /// The answer to a [`Frame::Ping`].
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// The relay will end this connection; attach elsewhere first.
    Drain {
        /// Time left, milliseconds.
        within_ms: u32,
    },
    /// A sealed message between two devices.
    Data {
        /// Destination (from a client) or source (from a relay).
        address: Address,
        /// Sealed message, at most [`MESSAGE_MAX`] bytes. A relay cannot read it.
        message: &'a [u8],
    },
    /// Relay to client: the amount of data for a destination that has left the relay.
    Credit {
        /// The destination; its flow id is 0.
        address: Address,
        /// Bytes of DATA frames for this destination that have left the relay since this connection
        /// was welcomed.
        released: u64,
        /// Bytes that may be outstanding for this destination from now on.
        window: u32,
    },
    /// Relay to client: the destination is not attached here; frames for it were discarded and
    /// count as released.
    PeerGone {
        /// The destination; its flow id is 0.
        address: Address,
        /// The relay's reason for it.
        reason: GoneReason,
    },
    /// A kind from a later version: skip it.
    Unknown {
        /// The kind's number.
        kind: u8,
    },
}

/// The reason why a destination gets no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    /// No device with that host index is attached to this relay.
    NotHere,
    /// The relay's pair check refuses it.
    NotAllowed,
    /// A number from a later version.
    Other(u8),
}

impl GoneReason {
    fn code(self) -> u8 {
        match self {
            Self::NotHere => 1,
            Self::NotAllowed => 2,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::NotHere,
            2 => Self::NotAllowed,
            other => Self::Other(other),
        }
    }
}

/// A byte stream that breaks the format of frames; the connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field exceeds what this kind or this state allows.
    #[error("a frame of kind {kind:#04x} claims {length} bytes; at most {max} are allowed")]
    TooLong {
        /// Kind byte.
        kind: u8,
        /// Claimed length.
        length: usize,
        /// The limit in force.
        max: usize,
    },
    /// The body is shorter than the kind's fixed part.
    #[error("a frame of kind {kind:#04x} is shorter than its fixed part")]
    TooShort {
        /// Kind byte.
        kind: u8,
    },
}

/// Reads the first frame of `bytes`: the frame and the number of bytes it took, or `None` while it
/// is not complete.
///
/// `max_body` bounds the body before a single byte of it is kept: [`BODY_MAX`], or
/// [`UNPROVEN_BODY_MAX`] from a client that has not yet proved its identity.
pub fn decode(bytes: &[u8], max_body: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let kind = header[0];
    let length =
        usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    if length > max_body {
        return Err(FrameError::TooLong {
            kind,
            length,
            max: max_body,
        });
    }
    let Some(body) = bytes.get(HEADER_LEN..HEADER_LEN + length) else {
        return Ok(None);
    };
    let frame = decode_body(kind, body).ok_or(FrameError::TooShort { kind })?;
    Ok(Some((frame, HEADER_LEN + length)))
}

fn decode_body(kind: u8, body: &[u8]) -> Option<Frame<'_>> {
    Some(match kind {
        kind::HELLO => Frame::Hello(body),
        kind::WELCOME => Frame::Welcome(body),
        kind::REJECT => Frame::Reject(body),
        kind::PING => Frame::Ping {
            token: u64_at(body, 0)?,
        },
        kind::PONG => Frame::Pong {
            token: u64_at(body, 0)?,
        },
        kind::DRAIN => Frame::Drain {
            within_ms: u32_at(body, 0)?,
        },
        kind::DATA => Frame::Data {
            address: address_at(body)?,
            message: &body[ADDRESS_LEN..],
        },
        kind::CREDIT => Frame::Credit {
            address: address_at(body)?,
            released: u64_at(body, ADDRESS_LEN)?,
            window: u32_at(body, ADDRESS_LEN + 8)?,
        },
        kind::PEER_GONE => Frame::PeerGone {
            address: address_at(body)?,
            reason: GoneReason::from_code(*body.get(ADDRESS_LEN)?),
        },
        kind => Frame::Unknown { kind },
    })
}

impl Frame<'_> {
    /// Appends the frame to `out`. An [`Frame::Unknown`] writes an empty body of its kind.
    ///
    /// # Panics
    /// If a body is longer than [`BODY_MAX`]: the caller built it and knows its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.kind(), 0, 0, 0]);
        match *self {
            Frame::Hello(body) | Frame::Welcome(body) | Frame::Reject(body) => {
                out.extend_from_slice(body)
            }
            Frame::Ping { token } | Frame::Pong { token } => {
                out.extend_from_slice(&token.to_be_bytes())
            }
            Frame::Drain { within_ms } => out.extend_from_slice(&within_ms.to_be_bytes()),
            Frame::Data { address, message } => {
                out.extend_from_slice(&encode_address(address));
                out.extend_from_slice(message);
            }
            Frame::Credit {
                address,
                released,
                window,
            } => {
                out.extend_from_slice(&encode_address(address));
                out.extend_from_slice(&released.to_be_bytes());
                out.extend_from_slice(&window.to_be_bytes());
            }
            Frame::PeerGone { address, reason } => {
                out.extend_from_slice(&encode_address(address));
                out.push(reason.code());
            }
            Frame::Unknown { .. } => {}
        }
        let length = out.len() - start - HEADER_LEN;
        assert!(
            length <= BODY_MAX,
            "a frame body of {length} bytes is over the limit"
        );
        out[start + 1..start + HEADER_LEN].copy_from_slice(&length_field(length));
    }

    fn kind(&self) -> u8 {
        match *self {
            Frame::Hello(_) => kind::HELLO,
            Frame::Welcome(_) => kind::WELCOME,
            Frame::Reject(_) => kind::REJECT,
            Frame::Ping { .. } => kind::PING,
            Frame::Pong { .. } => kind::PONG,
            Frame::Drain { .. } => kind::DRAIN,
            Frame::Data { .. } => kind::DATA,
            Frame::Credit { .. } => kind::CREDIT,
            Frame::PeerGone { .. } => kind::PEER_GONE,
            Frame::Unknown { kind } => kind,
        }
    }
}

/// The first [`DATA_HEADER_LEN`] bytes of a DATA frame, for a sender that builds the message in
/// place after them.
///
/// # Panics
/// If `message_len` exceeds [`MESSAGE_MAX`]: the caller built the message and knows its length.
pub fn data_header(address: Address, message_len: usize) -> [u8; DATA_HEADER_LEN] {
    assert!(
        message_len <= MESSAGE_MAX,
        "a message of {message_len} bytes is over the limit"
    );
    let mut header = [0; DATA_HEADER_LEN];
    header[0] = kind::DATA;
    header[1..HEADER_LEN].copy_from_slice(&length_field(ADDRESS_LEN + message_len));
    header[HEADER_LEN..].copy_from_slice(&encode_address(address));
    header
}

fn length_field(length: usize) -> [u8; 3] {
    let bytes = (length as u32).to_be_bytes();
    [bytes[1], bytes[2], bytes[3]]
}

fn encode_address(address: Address) -> [u8; ADDRESS_LEN] {
    let key = (address.vni & 0xFF_FFFF) << 8 | u32::from(address.flow);
    let mut bytes = [0; ADDRESS_LEN];
    bytes[..4].copy_from_slice(&key.to_be_bytes());
    bytes[4..].copy_from_slice(&address.host.to_be_bytes());
    bytes
}

fn address_at(body: &[u8]) -> Option<Address> {
    let key = u32_at(body, 0)?;
    Some(Address {
        vni: key >> 8,
        flow: key as u8,
        host: u32_at(body, 4)?,
    })
}

fn u32_at(body: &[u8], at: usize) -> Option<u32> {
    body.get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}

fn u64_at(body: &[u8], at: usize) -> Option<u64> {
    body.get(at..)?
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

/// Bytes in front of every frame's body: kind and length.
pub const HEADER_LEN: usize = 4;

/// Bytes of key word and host index.
pub const ADDRESS_LEN: usize = 8;

/// Bytes in front of the sealed message of a DATA frame.
pub const DATA_HEADER_LEN: usize = HEADER_LEN + ADDRESS_LEN;

/// Largest sealed message, bytes: a 64 KiB IP packet plus its seal.
pub const MESSAGE_MAX: usize = 65_536 + crate::SEAL_HEADER_LEN + crate::SEAL_TAG_LEN;

/// Largest frame body, bytes: a DATA frame with the largest message.
pub const BODY_MAX: usize = ADDRESS_LEN + MESSAGE_MAX;

/// Largest frame body taken from a client that has not yet proved its identity: a HELLO with the
/// largest ticket fits twice.
pub const UNPROVEN_BODY_MAX: usize = 4_096;

/// The kind bytes. 0x00 is never used; 0x01..=0x0f serve the connection, 0x10..=0x1f the data
/// plane.
pub mod kind {
    /// [`super::Frame::Hello`]
    pub const HELLO: u8 = 0x01;
    /// [`super::Frame::Welcome`]
    pub const WELCOME: u8 = 0x02;
    /// [`super::Frame::Reject`]
    pub const REJECT: u8 = 0x03;
    /// [`super::Frame::Ping`]
    pub const PING: u8 = 0x04;
    /// [`super::Frame::Pong`]
    pub const PONG: u8 = 0x05;
    /// [`super::Frame::Drain`]
    pub const DRAIN: u8 = 0x06;
    /// [`super::Frame::Data`]
    pub const DATA: u8 = 0x10;
    /// [`super::Frame::Credit`]
    pub const CREDIT: u8 = 0x11;
    /// [`super::Frame::PeerGone`]
    pub const PEER_GONE: u8 = 0x12;
}

#[cfg(test)]
mod tests;
