//! The view that either side has of a connection of frames: bytes in, a batch of frames out, and
//! deadlines. Decides nothing and holds no socket: the transport's pump moves the bytes, or the
//! driver of a simulation does.

use std::task::Waker;
use std::time::Instant;

/// One side of a connection of frames: the client's link, or the relay's connection. It decides
/// what the bytes are, and a pump moves them.
pub trait Exchange {
    /// The reason for which this side wants the connection to end.
    type End;

    /// Takes whole frames from the front of `bytes` and returns the number of bytes taken. Bytes
    /// may be changed in place; those that are not taken come again, followed by more.
    fn handle_bytes(&mut self, now: Instant, bytes: &mut [u8]) -> Result<usize, Self::End>;

    /// Called after all bytes of one read were handed over: what was gathered from them may go on.
    fn handle_batch_end(&mut self, now: Instant) -> Result<(), Self::End> {
        let _ = now;
        Ok(())
    }

    /// Does what is due. Early calls do nothing.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::End>;

    /// Called when the socket takes bytes again after a while without: the other end is reading.
    fn handle_relieved(&mut self, now: Instant) {
        let _ = now;
    }

    /// Returns the time at which [`Exchange::handle_timeout`] is due.
    fn poll_timeout(&mut self) -> Option<Instant>;

    /// Gives frames to `out` while it has room; everything given before has been taken by the
    /// socket. The side that has more to send later wakes `waker`.
    fn fill(&mut self, now: Instant, waker: &Waker, out: &mut Batch) -> Result<(), Self::End>;

    /// Returns whether the last words must arrive: then the connection is kept for a moment, until
    /// the other side closes it.
    fn is_last_word_needed(&self, end: &Self::End) -> bool {
        let _ = end;
        false
    }

    /// Appends last words, which the other side should read before the connection ends.
    fn last_words(&mut self, end: &Self::End, out: &mut Vec<u8>);
}

/// The frames that one [`Exchange::fill`] gives, and the buffers that come back once the socket has
/// taken them.
#[derive(Debug)]
pub struct Batch {
    packed: Vec<u8>,
    owned: Vec<Owned>,
    owned_len: usize,
    spent: Vec<Vec<u8>>,
    room: usize,
}

/// A buffer of whole frames in a [`Batch`].
#[derive(Debug)]
pub struct Owned {
    /// The position among the packed bytes at which it goes out.
    pub before: usize,
    /// The frames.
    pub bytes: Vec<u8>,
}

impl Batch {
    /// An empty batch with room for [`FILL`] bytes.
    pub fn new() -> Self {
        Self {
            packed: Vec::new(),
            owned: Vec::new(),
            owned_len: 0,
            spent: Vec::new(),
            room: FILL,
        }
    }

    /// The buffer to which whole frames are appended. They go out after everything given before and
    /// share records.
    #[inline]
    pub fn packed(&mut self) -> &mut Vec<u8> {
        &mut self.packed
    }

    /// Gives a buffer of whole frames, which goes out after everything given before. Worth it from
    /// some KiB on: it costs a record of its own, but is not copied.
    #[inline]
    pub fn push(&mut self, bytes: Vec<u8>) {
        self.owned_len += bytes.len();
        self.owned.push(Owned {
            before: self.packed.len(),
            bytes,
        });
    }

    /// The buffers of the last batch, which the socket has taken. Their contents are of no use.
    pub fn take_spent(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.spent.drain(..)
    }

    /// Bytes given so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.packed.len() + self.owned_len
    }

    /// Returns whether nothing was given.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that should still be given; 0 when there are enough. The last frame may go beyond.
    #[inline]
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.len())
    }

    /// All bytes in order, for a driver that has no TLS. Leaves the batch as the socket would.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        let mut packed = 0;
        for owned in &self.owned {
            bytes.extend_from_slice(&self.packed[packed..owned.before]);
            bytes.extend_from_slice(&owned.bytes);
            packed = owned.before;
        }
        bytes.extend_from_slice(&self.packed[packed..]);
        self.clear(self.room);
        bytes
    }

    /// The packed bytes, and the buffers in their order: for a driver that seals them in place.
    #[inline]
    pub fn parts(&self) -> (&[u8], &[Owned]) {
        (&self.packed, &self.owned)
    }

    /// [`Batch::parts`], to be changed in place.
    #[inline]
    pub fn parts_mut(&mut self) -> (&mut [u8], &mut [Owned]) {
        (&mut self.packed, &mut self.owned)
    }

    /// Empties the batch, whose bytes the socket has taken, for the next one of `room` bytes.
    pub fn clear(&mut self, room: usize) {
        self.room = room;
        self.packed.clear();
        if self.packed.capacity() > PACKED_KEEP {
            self.packed = Vec::new();
        }
        self.owned_len = 0;
        // Buffers that this side did not take back are of no use any more.
        self.spent.clear();
        self.spent
            .extend(self.owned.drain(..).map(|owned| owned.bytes));
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that one [`Exchange::fill`] should give at most: sixteen full frames, enough to make a
/// system call cheap, little enough that a frame given later never waits long.
pub const FILL: usize = 16 * 16_384;

/// A buffer that grew beyond this is given back: it came from a burst.
const PACKED_KEEP: usize = 2 * FILL;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_buffers_keep_the_order_in_which_they_were_given() {
        let mut batch = Batch::new();
        batch.packed().extend_from_slice(b"one ");
        batch.push(b"two ".to_vec());
        batch.push(b"three ".to_vec());
        batch.packed().extend_from_slice(b"four ");
        batch.packed().extend_from_slice(b"five ");
        batch.push(b"six".to_vec());
        assert_eq!(batch.len(), 27);
        assert_eq!(batch.room(), FILL - 27);
        assert_eq!(batch.take_bytes(), b"one two three four five six");
        assert!(batch.is_empty());
        let spent: Vec<_> = batch.take_spent().collect();
        assert_eq!(
            spent,
            [b"two ".to_vec(), b"three ".to_vec(), b"six".to_vec()]
        );
        assert_eq!(batch.take_spent().count(), 0);
    }
}
