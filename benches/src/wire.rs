//! The words between a load and the target: one request at the start of each connection, and the
//! pseudo-random bytes of `verify`.

/// The purpose of a connection to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// The target writes without end.
    Source,
    /// The target reads until the end and counts the bytes in `slot`.
    Sink {
        /// Below [`SLOTS`].
        slot: u64,
    },
    /// The target sends back every byte.
    Echo,
    /// One answer of [`ANSWER`] bytes; the client closes.
    Once,
    /// The target answers with all its slots; asked without a chain between.
    Slots,
    /// Both send `size` bytes and end their side as `order` says.
    Verify {
        /// Names the connection, and seeds its bytes.
        token: u64,
        /// Bytes each way.
        size: u64,
        /// The side that ends first.
        order: Order,
    },
    /// The target answers with the [`Digests`] of the `Verify` connection `token`; asked without a
    /// chain between.
    Digests {
        /// As in `Verify`.
        token: u64,
    },
}

/// The side that ends its sending side first in `verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The target sends only when it has seen the client's end.
    ClientFirst,
    /// The client sends only when it has seen the target's end.
    TargetFirst,
    /// Both send and end at once.
    Both,
}

/// Digests of the bytes that the target sent and got on a `Verify` connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    /// SHA-256 of the bytes that it sent.
    pub(crate) sent: [u8; 32],
    /// SHA-256 of the bytes that it got.
    pub(crate) got: [u8; 32],
}

/// Bytes of a request.
pub(crate) const REQUEST: usize = 18;

/// Bytes of the answer to [`Request::Once`].
pub(crate) const ANSWER: usize = 64;

/// Counters of the target; one for each upload stream.
pub(crate) const SLOTS: usize = 128;

impl Request {
    /// kind, two numbers, order.
    pub(crate) fn encode(self) -> [u8; REQUEST] {
        let (kind, first, second, order) = match self {
            Self::Source => (b'D', 0, 0, 0),
            Self::Sink { slot } => (b'U', slot, 0, 0),
            Self::Echo => (b'E', 0, 0, 0),
            Self::Once => (b'O', 0, 0, 0),
            Self::Slots => (b'C', 0, 0, 0),
            Self::Verify { token, size, order } => (b'V', token, size, order as u8),
            Self::Digests { token } => (b'Q', token, 0, 0),
        };
        let mut bytes = [0; REQUEST];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&u64::to_be_bytes(first));
        bytes[9..17].copy_from_slice(&u64::to_be_bytes(second));
        bytes[17] = order;
        bytes
    }

    /// Reads a request; `None` for bytes that no load sends.
    pub(crate) fn decode(bytes: &[u8; REQUEST]) -> Option<Self> {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(number)
        };
        Some(match bytes[0] {
            b'D' => Self::Source,
            b'U' => Self::Sink { slot: number(1) },
            b'E' => Self::Echo,
            b'O' => Self::Once,
            b'C' => Self::Slots,
            b'V' => Self::Verify {
                token: number(1),
                size: number(9),
                order: *[Order::ClientFirst, Order::TargetFirst, Order::Both]
                    .get(usize::from(bytes[17]))?,
            },
            b'Q' => Self::Digests { token: number(1) },
            _ => return None,
        })
    }
}

/// Pseudo-random bytes from a seed; the same at both ends and for every way of cutting them into
/// multiples of eight.
#[derive(Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    /// Every seed has its own bytes.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Fills `buffer`. Only the last call of a stream may ask for a length that is not a multiple
    /// of eight.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            // SplitMix64: one addition, two multiplications, no table.
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_as_they_went() {
        let verify = Request::Verify {
            token: 7,
            size: 1 << 40,
            order: Order::Both,
        };
        for request in [
            Request::Source,
            Request::Sink { slot: 99 },
            Request::Echo,
            Request::Once,
            Request::Slots,
            verify,
            Request::Digests { token: u64::MAX },
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn unknown_requests_are_refused() {
        assert_eq!(Request::decode(&[b'x'; REQUEST]), None);
        let mut bytes = Request::Verify {
            token: 0,
            size: 0,
            order: Order::Both,
        }
        .encode();
        bytes[17] = 3;
        assert_eq!(Request::decode(&bytes), None);
    }

    #[test]
    fn noise_does_not_depend_on_how_it_is_cut() {
        let (mut whole, mut parts) = ([0; 64], [0; 64]);
        Noise::new(5).fill(&mut whole);
        let mut noise = Noise::new(5);
        noise.fill(&mut parts[..24]);
        noise.fill(&mut parts[24..61]);
        assert_eq!(whole[..61], parts[..61]);
        let mut other = [0; 64];
        Noise::new(6).fill(&mut other);
        assert_ne!(whole, other);
    }
}
