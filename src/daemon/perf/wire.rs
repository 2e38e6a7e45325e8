//! The messages between the two ends of a measurement. Decides which bytes are a message; reads and
//! writes no stream.
//!
//! A message is its kind, one byte; the length of its body, two bytes, big endian; and the body, at
//! most [`BODY_MAX`] bytes. Numbers are big endian.

use super::Plan;
use super::sample::{FIELDS, Sample};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Opens a session of this plan, first on the control connection. The answer is `Ready` or
    /// `Refused`.
    Open { session: SessionId, plan: Plan },
    /// Joins a session, first on each other connection. The answer is `Ready` or `Refused`.
    Join { session: SessionId, role: Role },
    /// Begins the streams. The answer is `Counts`.
    Start,
    /// Asks for `Counts`.
    Ask,
    /// Agrees to a session or connection.
    Ready,
    /// Refuses a session or connection.
    Refused(Refused),
    /// The counters of the answering end.
    Counts(Counts),
}

/// The secret name of a session, which only its two ends know.
pub(super) type SessionId = [u8; 16];

/// The purpose of a connection of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The joining end sends, the other receives. The number is below the plan's.
    Up(u8),
    /// The joining end receives, the other sends.
    Down(u8),
    /// The other end sends every byte back.
    Echo,
}

/// The reason for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are too many sessions.
    Busy,
    /// The session does not exist, or does not wait for this connection.
    Unknown,
}

/// One end's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    /// Microseconds since START by that end's clock.
    pub(super) elapsed_us: u64,
    /// The counters of that end.
    pub(super) sample: Sample,
    /// Bytes that it has received of each up stream.
    pub(super) received: Vec<u64>,
}

/// Bytes that are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this protocol")]
pub(super) struct Garbled;

/// Length of a header, bytes: kind and length of the body.
pub(super) const HEADER_LEN: usize = 3;

/// Longest body, bytes: the counts of all streams of the largest plan fit.
pub(super) const BODY_MAX: usize = 8 * (1 + FIELDS + super::STREAMS_MAX as usize);

impl Message {
    /// Appends the message to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.kind(), 0, 0]);
        match self {
            Self::Open { session, plan } => {
                out.push(VERSION);
                out.extend_from_slice(session);
                out.extend_from_slice(&plan.seconds().to_be_bytes());
                out.extend_from_slice(&[plan.up(), plan.down()]);
            }
            Self::Join { session, role } => {
                out.extend_from_slice(session);
                out.extend_from_slice(&match role {
                    Role::Up(index) => [1, *index],
                    Role::Down(index) => [2, *index],
                    Role::Echo => [3, 0],
                });
            }
            Self::Start | Self::Ask | Self::Ready => {}
            Self::Refused(Refused::Busy) => out.push(1),
            Self::Refused(Refused::Unknown) => out.push(2),
            Self::Counts(counts) => {
                let fields = counts.sample.fields();
                let numbers = [counts.elapsed_us];
                for number in numbers.iter().chain(&fields).chain(&counts.received) {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
        let body = u16::try_from(out.len() - start - HEADER_LEN)
            .expect("a plan has so few streams that their counts fit");
        out[start + 1..start + HEADER_LEN].copy_from_slice(&body.to_be_bytes());
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => kind::OPEN,
            Self::Join { .. } => kind::JOIN,
            Self::Start => kind::START,
            Self::Ask => kind::ASK,
            Self::Ready => kind::READY,
            Self::Refused(_) => kind::REFUSED,
            Self::Counts(_) => kind::COUNTS,
        }
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// The bytes are not a message, or of another version.
    pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Self, Garbled> {
        match (kind, body) {
            (kind::OPEN, [VERSION, rest @ ..]) => {
                let (session, rest) = rest.split_first_chunk().ok_or(Garbled)?;
                let &[high, low, up, down] = rest else {
                    return Err(Garbled);
                };
                let seconds = u16::from_be_bytes([high, low]);
                let plan = Plan::new(seconds, up, down).map_err(|_| Garbled)?;
                Ok(Self::Open {
                    session: *session,
                    plan,
                })
            }
            (kind::JOIN, rest) => {
                let (session, rest) = rest.split_first_chunk().ok_or(Garbled)?;
                let role = match *rest {
                    [1, index] => Role::Up(index),
                    [2, index] => Role::Down(index),
                    [3, 0] => Role::Echo,
                    _ => return Err(Garbled),
                };
                Ok(Self::Join {
                    session: *session,
                    role,
                })
            }
            (kind::START, []) => Ok(Self::Start),
            (kind::ASK, []) => Ok(Self::Ask),
            (kind::READY, []) => Ok(Self::Ready),
            (kind::REFUSED, [1]) => Ok(Self::Refused(Refused::Busy)),
            (kind::REFUSED, [2]) => Ok(Self::Refused(Refused::Unknown)),
            (kind::COUNTS, body) => {
                let (numbers, []) = body.as_chunks() else {
                    return Err(Garbled);
                };
                let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
                let elapsed_us = numbers.next().ok_or(Garbled)?;
                let mut fields = [0; FIELDS];
                for field in &mut fields {
                    *field = numbers.next().ok_or(Garbled)?;
                }
                let received: Vec<u64> = numbers.collect();
                if received.len() > usize::from(super::STREAMS_MAX) {
                    return Err(Garbled);
                }
                Ok(Self::Counts(Counts {
                    elapsed_us,
                    sample: Sample::from_fields(fields),
                    received,
                }))
            }
            _ => Err(Garbled),
        }
    }
}

mod kind {
    pub(super) const OPEN: u8 = 1;
    pub(super) const JOIN: u8 = 2;
    pub(super) const START: u8 = 3;
    pub(super) const ASK: u8 = 4;
    pub(super) const READY: u8 = 5;
    pub(super) const REFUSED: u8 = 6;
    pub(super) const COUNTS: u8 = 7;
}

/// The version of the protocol; both ends must have the same.
const VERSION: u8 = 1;

const _: () = assert!(BODY_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests;
