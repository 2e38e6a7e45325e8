//! Decides how the frames that an [`Exchange`](overlan_protocol::exchange::Exchange) gives become
//! TLS records, and which records the socket gets next. Holds no socket.
//!
//! The exchange either appends bytes, which are packed together into records, or hands over a
//! buffer, which becomes a record of its own and is sealed in place. Both kinds keep the order in
//! which they were given.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use overlan_protocol::exchange::{Batch, FILL};
use overlan_protocol::frame;
use tokio::io::AsyncWrite;

use crate::record::{self, RecordError, Sealer};

/// A batch on its way to the socket, sealed where it was built.
#[derive(Default)]
pub(super) struct Outbound {
    pub(super) batch: Batch,
    records: Vec<Record>,
    /// The record that is being written.
    current: usize,
    /// Bytes of it that the socket has taken.
    taken: usize,
    pace: Pace,
}

/// One sealed record, in three parts.
struct Record {
    header: [u8; record::HEADER_LEN],
    body: Body,
    trailer: [u8; record::TRAILER_LEN],
}

/// The place of a record's body.
enum Body {
    Packed(Range<usize>),
    /// A part of the owned buffer with this number.
    Owned(usize, Range<usize>),
}

impl Body {
    fn range(&self) -> &Range<usize> {
        match self {
            Body::Packed(range) | Body::Owned(_, range) => range,
        }
    }

    fn bytes<'a>(&self, batch: &'a Batch) -> &'a [u8] {
        match self {
            Body::Packed(range) => &batch.parts().0[range.clone()],
            Body::Owned(index, range) => &batch.parts().1[*index].bytes[range.clone()],
        }
    }
}

impl Record {
    fn len(&self) -> usize {
        record::HEADER_LEN + self.body.range().len() + record::TRAILER_LEN
    }
}

impl Outbound {
    /// Returns whether the socket has taken everything.
    pub(super) fn is_empty(&self) -> bool {
        self.current == self.records.len()
    }

    /// Makes room for the next batch: the quicker the socket, the larger the room.
    pub(super) fn clear(&mut self, now: Instant) {
        self.batch.clear(self.pace.next(now));
        self.records.clear();
        (self.current, self.taken) = (0, 0);
    }

    /// Seals the whole batch in place. A record holds as many whole packed frames as fit, so that
    /// its reader can use them in place.
    pub(super) fn seal(&mut self, now: Instant, sealer: &mut Sealer) -> Result<(), RecordError> {
        let (packed, owned) = self.batch.parts_mut();
        let mut done = 0;
        for (index, owned) in owned.iter_mut().enumerate() {
            let segment = done..owned.before;
            seal_packed(packed, segment, sealer, &mut self.records)?;
            done = owned.before;
            let mut start = 0;
            while start < owned.bytes.len() {
                let end = owned.bytes.len().min(start + record::BODY_MAX);
                let (header, trailer) = sealer.seal(&mut owned.bytes[start..end])?;
                let body = Body::Owned(index, start..end);
                self.records.push(Record {
                    header,
                    body,
                    trailer,
                });
                start = end;
            }
        }
        let rest = done..packed.len();
        seal_packed(packed, rest, sealer, &mut self.records)?;
        self.pace.start(now, self.batch.len());
        Ok(())
    }

    /// Gives the socket as many records as it takes at once.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let mut count = 0;
        let mut skip = self.taken;
        for record in &self.records[self.current..] {
            if count + 3 > PARTS_MAX {
                break;
            }
            let body = record.body.bytes(&self.batch);
            for part in [&record.header[..], body, &record.trailer] {
                // The socket can have taken a part of the first record only.
                let (taken, rest) = part.split_at(skip.min(part.len()));
                skip -= taken.len();
                if !rest.is_empty() {
                    parts[count] = IoSlice::new(rest);
                    count += 1;
                }
            }
        }
        let written = ready!(Pin::new(socket).poll_write_vectored(cx, &parts[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.taken += written;
        while let Some(record) = self.records.get(self.current)
            && self.taken >= record.len()
        {
            self.taken -= record.len();
            self.current += 1;
        }
        Poll::Ready(Ok(()))
    }
}

fn seal_packed(
    packed: &mut [u8],
    segment: Range<usize>,
    sealer: &mut Sealer,
    records: &mut Vec<Record>,
) -> Result<(), RecordError> {
    let Range {
        mut start,
        end: limit,
    } = segment;
    let mut whole = start;
    while start < limit {
        if whole == start {
            whole = whole_frames_end(&packed[..limit], start);
        }
        // Only a frame that is larger than a record goes over several.
        let end = whole.min(start + record::BODY_MAX);
        let (header, trailer) = sealer.seal(&mut packed[start..end])?;
        records.push(Record {
            header,
            body: Body::Packed(start..end),
            trailer,
        });
        start = end;
    }
    Ok(())
}

/// Returns the end of the last whole frame that fits into one record beginning at `start`; the end
/// of the first frame if none fits.
fn whole_frames_end(frames: &[u8], start: usize) -> usize {
    let mut end = start;
    while let Some(header) = frames[end..].first_chunk::<{ frame::HEADER_LEN }>() {
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let next = (end + frame::HEADER_LEN + length).min(frames.len());
        if next - start > record::BODY_MAX && end > start {
            break;
        }
        end = next;
    }
    if end == start { frames.len() } else { end }
}

/// Decides the size of the next batch: frames in a batch cannot be overtaken any more, so a slow
/// socket gets little at once.
#[derive(Debug)]
struct Pace {
    room: usize,
    /// The time at which the batch under way was sealed, and its bytes.
    started: Option<(Instant, usize)>,
}

impl Pace {
    fn start(&mut self, now: Instant, bytes: usize) {
        self.started = (bytes > 0).then_some((now, bytes));
    }

    fn next(&mut self, now: Instant) -> usize {
        if let Some((started, bytes)) = self.started.take() {
            let took = now.saturating_duration_since(started);
            if took > BATCH_TIME {
                self.room = (bytes / 2).clamp(ROOM_MIN, FILL);
            } else if took < BATCH_TIME / 4 && bytes >= self.room {
                self.room = FILL.min(2 * self.room);
            }
        }
        self.room
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            room: FILL,
            started: None,
        }
    }
}

/// Time in which the socket should take one batch, since a later frame waits for it.
const BATCH_TIME: Duration = Duration::from_millis(2);

/// Fewest bytes of a batch: on a link slow enough to get here, one full frame is worth a system
/// call.
const ROOM_MIN: usize = 16_384;

/// Parts of one write: three per record, and more records than one fill gives.
pub(super) const PARTS_MAX: usize = 96;

#[cfg(test)]
mod tests;
