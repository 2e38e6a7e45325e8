//! The sequence numbers of one connection: decides which of the remote's data reaches the engine,
//! and remembers how far each side has come.

use crate::packet::Tcp;

/// The data that the remote may send. The engine's own check
/// (<https://github.com/smoltcp-rs/smoltcp/pull/1079>) is one that a hostile remote can get past.
#[derive(Debug)]
pub(super) struct Window {
    /// The remote's first sequence number, once it is known.
    pub(super) start: Option<u32>,
    /// Bytes the program has read, modulo 2^32.
    pub(super) read: u32,
    /// One past the furthest byte let in, once there was one.
    pub(super) reach: Option<u32>,
    pub(super) capacity: usize,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Window {
        Window {
            start: None,
            read: 0,
            reach: None,
            capacity,
        }
    }

    pub(super) fn admits(&self, tcp: &Tcp) -> bool {
        self.end_of(tcp) <= self.capacity as i64
    }

    /// Takes note of data that is let in.
    pub(super) fn note(&mut self, tcp: &Tcp) {
        if tcp.payload_len == 0 || self.start.is_none() {
            return;
        }
        let end = tcp
            .seq
            .wrapping_add(u32::from(tcp.syn))
            .wrapping_add(tcp.payload_len as u32);
        if self
            .reach
            .is_none_or(|reach| (end.wrapping_sub(reach) as i32) > 0)
        {
            self.reach = Some(end);
        }
    }

    /// The furthest that the data of a segment may reach into the ring, in bytes after the first
    /// unread one.
    pub(super) fn extent(&self, tcp: &Tcp) -> usize {
        match (tcp.payload_len, self.start) {
            (0, _) => 0,
            (len, None) => len,
            // A SYN among the data moves it by one.
            (_, Some(_)) => usize::try_from(self.end_of(tcp) + 1).unwrap_or(0),
        }
    }

    /// Returns whether no byte is in the ring, not even one that waits for those before it.
    pub(super) fn is_empty(&self) -> bool {
        match (self.reach, self.start) {
            (Some(reach), Some(_)) => reach == self.first_free(),
            _ => true,
        }
    }

    /// The end of a segment's data, in bytes after the first unread one.
    fn end_of(&self, tcp: &Tcp) -> i64 {
        if self.start.is_none() {
            return 0;
        }
        let offset = i64::from(tcp.seq.wrapping_sub(self.first_free()) as i32);
        offset + tcp.payload_len as i64
    }

    /// The sequence number of the first byte the program has not read.
    fn first_free(&self) -> u32 {
        let start = self.start.unwrap_or(0);
        start.wrapping_add(1).wrapping_add(self.read)
    }
}

/// The progress of our own data: as far as it was sent, and as far as the remote has acknowledged
/// it.
#[derive(Debug, Default)]
pub(super) struct SentRecord {
    /// One past the highest sequence number sent.
    pub(super) sent_to: Option<u32>,
    /// The latest acknowledgement, and how often it has come again in vain.
    acknowledged: Option<u32>,
    repeated: u8,
    /// The remote had no room for more when the engine last took notice.
    pub(super) remote_full: bool,
    /// Sequence and acknowledgement number of the acknowledgement sent in TIME-WAIT.
    pub(super) final_ack: Option<(u32, u32)>,
}

impl SentRecord {
    /// Takes note of a segment that was sent. Returns whether it was sent before.
    pub(super) fn note_sent(&mut self, tcp: &Tcp) -> bool {
        let occupied = tcp.occupied();
        let end = tcp.seq.wrapping_add(occupied);
        let is_old = |sent: u32| (end.wrapping_sub(sent) as i32) <= 0;
        let retransmission = occupied > 0 && self.sent_to.is_some_and(is_old);
        if !retransmission && occupied > 0 {
            self.sent_to = Some(end);
        }
        retransmission
    }

    /// Takes note of what a segment of the remote acknowledges.
    pub(super) fn note_acknowledged(&mut self, tcp: &Tcp) {
        if tcp.ack != self.acknowledged {
            (self.acknowledged, self.repeated) = (tcp.ack, 0);
        } else if tcp.payload_len == 0 {
            self.repeated = self.repeated.saturating_add(1);
        }
    }

    /// Returns whether the engine may be about to send its first segment again.
    pub(super) fn may_repeat_first(&self) -> bool {
        self.repeated >= REPEATED_ACKS
    }
}

/// Repeated acknowledgements after which the engine sends its first segment again (RFC 5681).
const REPEATED_ACKS: u8 = 3;
