//! Gathers the frames of one client into runs, so that credit, switch and receiver are asked once
//! per batch and not once per frame. Decides which frames may be joined; switch and ledger decide
//! whether a frame is forwarded.

use std::collections::VecDeque;
use std::sync::Arc;

use overlan_protocol::HostIndex;
use overlan_protocol::frame::{Address, DATA_HEADER_LEN, data_header};

use crate::client::Client;
use crate::egress::Run;
use crate::pool::{BUFFER, Pool};
use crate::switch::Place;

/// Frames of one client for one destination that came together and were not handed on yet.
pub(crate) struct Gathering {
    pub(crate) to: Place,
    /// The receiver, and the sender's own host index in this network. `None` = no device has the
    /// place; its frames are counted and not kept.
    pub(crate) receiver: Option<(Arc<Client>, HostIndex)>,
    /// Bytes that the sender may still start a frame within.
    allowance: u64,
    /// Number of frames that were taken.
    pub(crate) frames: u64,
    /// Their bytes.
    pub(crate) bytes: usize,
    pub(crate) runs: VecDeque<Run>,
}

/// The sender has used up its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overrun;

impl Gathering {
    /// Starts without frames. `runs` is empty; it is given for its memory.
    pub(crate) fn new(
        to: Place,
        receiver: Option<(Arc<Client>, HostIndex)>,
        allowance: u64,
        runs: VecDeque<Run>,
    ) -> Self {
        Self {
            to,
            receiver,
            allowance,
            frames: 0,
            bytes: 0,
            runs,
        }
    }

    /// Adds a DATA frame of this destination.
    pub(crate) fn add(&mut self, pool: &Pool, flow: u8, message: &[u8]) -> Result<(), Overrun> {
        if self.allowance == 0 {
            return Err(Overrun);
        }
        let length = DATA_HEADER_LEN + message.len();
        self.allowance = self.allowance.saturating_sub(length as u64);
        self.frames += 1;
        self.bytes += length;
        let Some(source) = self.receiver.as_ref().map(|(_, source)| source.get()) else {
            return Ok(());
        };
        let joins = |run: &Run| run.flow == flow && run.bytes.len() + length <= BUFFER;
        if !self.runs.back().is_some_and(joins) {
            self.trim_last(pool);
            let bytes = if length > BUFFER {
                Vec::with_capacity(length)
            } else {
                pool.take()
            };
            self.runs.push_back(Run {
                flow,
                frames: 0,
                bytes,
            });
        }
        if let Some(run) = self.runs.back_mut() {
            let stamp = Address {
                vni: self.to.vni,
                flow,
                host: source,
            };
            run.frames += 1;
            run.bytes
                .extend_from_slice(&data_header(stamp, message.len()));
            run.bytes.extend_from_slice(message);
        }
        Ok(())
    }

    /// Returns whether enough came together to hand it on, so that the receiver starts while the
    /// rest is opened.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= GATHERED_MAX
    }

    /// Ends the last run, so that a small one does not keep a large buffer.
    pub(crate) fn trim_last(&mut self, pool: &Pool) {
        if let Some(run) = self.runs.back_mut()
            && run.bytes.len() < LARGE
        {
            let mut exact = pool.take_for(run.bytes.len());
            exact.extend_from_slice(&run.bytes);
            let buffer = std::mem::replace(&mut run.bytes, exact);
            pool.give(std::iter::once(buffer));
        }
    }
}

/// From this size on, bytes, a run stays in the buffer it was gathered in and becomes a record of
/// its own: below, a second copy costs less than the memory and the record.
pub(crate) const LARGE: usize = BUFFER / 4;

/// Bytes that are gathered at most before they go on: four full frames.
const GATHERED_MAX: usize = 4 * BUFFER;

#[cfg(test)]
mod tests;
