//! Decides where each field of a tunnel message lies. It holds no key and no state.
//!
//! Integers are big-endian, and three zero bytes follow every type, so that the words after them
//! are aligned:
//!
//! ```text
//!   1 handshake init   type, 0 0 0, u32 sender index, Noise message 1
//!   2 handshake resp   type, 0 0 0, u32 sender index, u32 receiver index, Noise message 2
//!   4 transport        type, 0 0 0, u32 receiver index, u64 counter, ciphertext, 16-byte tag
//! ```

/// Bytes in front of the ciphertext of a transport message.
pub const TRANSPORT_HEADER_LEN: usize = 16;
/// Bytes of the AES-GCM tag after the ciphertext.
pub const TAG_LEN: usize = 16;
/// The largest packet one message carries, in bytes: Noise limits ciphertext and tag together to
/// 65,535.
pub const MAX_PACKET_LEN: usize = 65_535 - TAG_LEN;

/// A message whose shape is right; nothing in it is proved yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'m> {
    Init {
        sender: u32,
        noise: &'m [u8; NOISE_1_LEN],
    },
    Response {
        sender: u32,
        receiver: u32,
        noise: &'m [u8; NOISE_2_LEN],
    },
    Transport {
        receiver: u32,
        counter: u64,
    },
}

/// Returns `None` for anything that is not exactly one message of a known type.
pub(super) fn parse(message: &[u8]) -> Option<Message<'_>> {
    let (kind, rest) = message.split_first_chunk::<4>()?;
    match *kind {
        [TYPE_INIT, 0, 0, 0] => {
            let (sender, noise) = rest.split_first_chunk()?;
            Some(Message::Init {
                sender: u32::from_be_bytes(*sender),
                noise: noise.try_into().ok()?,
            })
        }
        [TYPE_RESPONSE, 0, 0, 0] => {
            let (sender, rest) = rest.split_first_chunk()?;
            let (receiver, noise) = rest.split_first_chunk()?;
            Some(Message::Response {
                sender: u32::from_be_bytes(*sender),
                receiver: u32::from_be_bytes(*receiver),
                noise: noise.try_into().ok()?,
            })
        }
        [TYPE_TRANSPORT, 0, 0, 0] => {
            let (receiver, rest) = rest.split_first_chunk()?;
            let (counter, sealed) = rest.split_first_chunk()?;
            if !(TAG_LEN..=TAG_LEN + MAX_PACKET_LEN).contains(&sealed.len()) {
                return None;
            }
            Some(Message::Transport {
                receiver: u32::from_be_bytes(*receiver),
                counter: u64::from_be_bytes(*counter),
            })
        }
        _ => None,
    }
}

/// Frames Noise message 1.
pub(super) fn init(sender: u32, noise: &[u8; NOISE_1_LEN]) -> Vec<u8> {
    [&[TYPE_INIT, 0, 0, 0], &sender.to_be_bytes()[..], noise].concat()
}

/// Frames Noise message 2.
pub(super) fn response(sender: u32, receiver: u32, noise: &[u8; NOISE_2_LEN]) -> Vec<u8> {
    [
        &[TYPE_RESPONSE, 0, 0, 0],
        &sender.to_be_bytes()[..],
        &receiver.to_be_bytes(),
        noise,
    ]
    .concat()
}

/// The header of a transport message.
pub(super) fn transport_header(receiver: u32, counter: u64) -> [u8; TRANSPORT_HEADER_LEN] {
    let mut header = [0; TRANSPORT_HEADER_LEN];
    header[0] = TYPE_TRANSPORT;
    header[4..8].copy_from_slice(&receiver.to_be_bytes());
    header[8..].copy_from_slice(&counter.to_be_bytes());
    header
}

/// Ephemeral key, sealed static key, sealed instance.
pub(super) const NOISE_1_LEN: usize = 32 + (32 + TAG_LEN) + (INSTANCE_LEN + TAG_LEN);
/// Ephemeral key, sealed instance.
pub(super) const NOISE_2_LEN: usize = 32 + (INSTANCE_LEN + TAG_LEN);
/// Bytes that distinguish one process of a device from an earlier one.
pub const INSTANCE_LEN: usize = 8;

/// A note from session to session, in a transport message in place of an IP packet: a byte with
/// which no IP packet begins, a kind, and the content of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// "Are you there?"
    Ask,
    /// "I am here."
    Here,
    /// "I leave now, and my connections end."
    Leaving,
    /// "The way to me broke; reach me over this relay."
    Moved([u8; 16]),
}

impl Note {
    /// Reads the text of a message, if it is a note and not a packet. `Some(None)` for a note of a
    /// later version.
    pub(super) fn parse(text: &[u8]) -> Option<Option<Self>> {
        let [NOTE, kind, rest @ ..] = text else {
            return None;
        };
        Some(match *kind {
            1 => Some(Self::Ask),
            2 => Some(Self::Here),
            3 => Some(Self::Leaving),
            4 => rest.first_chunk().copied().map(Self::Moved),
            _ => None,
        })
    }

    pub(super) fn text(self) -> Vec<u8> {
        match self {
            Self::Ask => vec![NOTE, 1],
            Self::Here => vec![NOTE, 2],
            Self::Leaving => vec![NOTE, 3],
            Self::Moved(place) => [&[NOTE, 4], &place[..]].concat(),
        }
    }
}

/// The version of an IP packet is in the upper half of its first byte, and is not 0.
const NOTE: u8 = 0;

const TYPE_INIT: u8 = 1;
const TYPE_RESPONSE: u8 = 2;
// 3 stays free: it is a cookie reply in WireGuard, which this protocol does not need, since its
// relays authenticate their clients.
const TYPE_TRANSPORT: u8 = 4;

#[cfg(test)]
mod tests;
