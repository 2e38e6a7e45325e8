//! The bottleneck of a direction. Decides it from the counters of both ends; holds no state.
//!
//! Causes are tried in the order in which one hides another: a busy processor makes everything else
//! look slow, a stuck socket uses up credit, and a flow without credit fills its window.

use serde::{Deserialize, Serialize};

use super::figures::rate;
use super::sample::Sample;

/// The limit of a direction. The names are part of the report's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// This machine's processors.
    LocalCpu,
    /// The window of the flows over the round trip of the whole way.
    FlowWindow,
    /// The credit window over the round trip to the relay.
    Credit,
    /// This client's connection to the relay: its socket takes nothing.
    Link,
    /// The relay, or the receiver's connection to it: frames wait there.
    Relay,
    /// The other end: its processors or its connection to the relay.
    Peer,
    /// No counter stands out.
    Unclear,
}

/// A bottleneck with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The limit.
    pub name: Bottleneck,
    /// One sentence with the figures that speak for it.
    pub text: String,
}

/// The facts about one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectionFacts {
    /// True if this end sends.
    pub(super) local_sends: bool,
    /// The counters of the sending end meanwhile.
    pub(super) sender: Sample,
    /// The counters of the receiving end meanwhile.
    pub(super) receiver: Sample,
    /// The duration, microseconds.
    pub(super) elapsed_us: u64,
    /// Bytes that arrived.
    pub(super) bytes: u64,
    /// Bytes of the fastest stream.
    pub(super) fastest: u64,
    /// Median round trip before the streams, microseconds; 0 if not known.
    pub(super) idle_us: u64,
    /// Median round trip while the streams ran, microseconds; 0 if not known.
    pub(super) loaded_us: u64,
}

/// Finds the first cause that explains the rate.
pub(super) fn find(facts: &DirectionFacts) -> Finding {
    processors(facts)
        .or_else(|| link(facts))
        .or_else(|| credit(facts))
        .or_else(|| flow_window(facts))
        .unwrap_or_else(|| {
            finding(
                Bottleneck::Unclear,
                "no counter stands out as the cause; a longer run or more --streams may show more"
                    .to_owned(),
            )
        })
}

fn processors(facts: &DirectionFacts) -> Option<Finding> {
    let (local, remote) = match facts.local_sends {
        true => (&facts.sender, &facts.receiver),
        false => (&facts.receiver, &facts.sender),
    };
    // If both ends are on one machine they report the same, and the cause is this machine.
    for (name, whose, sample) in [
        (Bottleneck::LocalCpu, "this machine's", local),
        (Bottleneck::Peer, "the peer's", remote),
    ] {
        let used = share(sample.cpu_us, facts.elapsed_us);
        let processors = sample.processors.max(1);
        if used >= CPU_FULL * processors as f64 {
            let text = format!(
                "{whose} client uses {used:.1} of its {processors} processors; more or faster \
                 ones would help"
            );
            return Some(finding(name, text));
        }
        if let Some(busy) = sample.machine_busy().filter(|busy| *busy >= CPU_FULL) {
            let text = format!(
                "{whose} processors are {:.0} % busy, with {used:.1} of {processors} used by the \
                 client",
                busy * 100.0
            );
            return Some(finding(name, text));
        }
        let busiest = share(sample.busiest_us, facts.elapsed_us);
        if busiest >= THREAD_FULL {
            let text = format!(
                "one of {whose} {processors} processors is {:.0} % busy with the client; one link \
                 runs on one processor",
                busiest * 100.0
            );
            return Some(finding(name, text));
        }
    }
    None
}

fn link(facts: &DirectionFacts) -> Option<Finding> {
    let stalled = share(facts.sender.link_stall_us, facts.elapsed_us);
    (stalled >= WAITS).then(|| {
        let percent = stalled.min(1.0) * 100.0;
        match facts.local_sends {
            true => finding(
                Bottleneck::Link,
                format!("the connection to the relay took no byte for {percent:.0} % of the time"),
            ),
            false => finding(
                Bottleneck::Peer,
                format!(
                    "the peer's connection to the relay took no byte for {percent:.0} % of the time"
                ),
            ),
        }
    })
}

fn credit(facts: &DirectionFacts) -> Option<Finding> {
    let waited = share(facts.sender.credit_wait_us, facts.elapsed_us);
    if waited < WAITS {
        return None;
    }
    let percent = waited.min(1.0) * 100.0;
    let window = facts.sender.credit_window;
    // The time in which a window is sent at this rate: about one round trip if the window limits,
    // longer if frames wait at the relay.
    let takes_us = window as f64 / facts.bytes.max(1) as f64 * facts.elapsed_us as f64;
    if facts.idle_us > 0 && takes_us > ROUND_TRIPS * facts.idle_us as f64 {
        let text = format!(
            "the sender waited for credit {percent:.0} % of the time, and its data stays {:.1} ms \
             at the relay: the relay, or the receiver's connection to it, is slower than the \
             sender",
            takes_us / 1e3
        );
        return Some(finding(Bottleneck::Relay, text));
    }
    let text = format!(
        "the sender waited for credit {percent:.0} % of the time: the relay lets it send {} KiB \
         per round trip",
        window / 1_024
    );
    Some(finding(Bottleneck::Credit, text))
}

fn flow_window(facts: &DirectionFacts) -> Option<Finding> {
    // Half of a flow's ring memory is for sending, half for receiving.
    let ring = |sample: &Sample| sample.ring_bytes.checked_div(2 * sample.flows);
    let ring = ring(&facts.sender)?.min(ring(&facts.receiver)?);
    let under_way = rate(facts.fastest, facts.elapsed_us) as f64 / 8e6 * facts.loaded_us as f64;
    (ring > 0 && under_way >= WINDOW_FULL * ring as f64).then(|| {
        let text = format!(
            "one stream fills its window of {} KiB in every round trip of {:.1} ms; more \
             --streams, or a shorter way, would help",
            ring / 1_024,
            facts.loaded_us as f64 / 1e3
        );
        finding(Bottleneck::FlowWindow, text)
    })
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

fn finding(name: Bottleneck, text: String) -> Finding {
    Finding { name, text }
}

/// Part of the processors' time above which they are the limit; the rest is lost to waking up.
const CPU_FULL: f64 = 0.9;

/// Part of one processor's time above which one thread is the limit; it wakes less often.
const THREAD_FULL: f64 = 0.95;

/// Part of the time that a sender must have waited for the wait to count as the cause.
const WAITS: f64 = 0.25;

/// Part of a window that is under way when the window limits; the rest comes back as
/// acknowledgements.
const WINDOW_FULL: f64 = 0.6;

/// The time for credit to come back promptly, in round trips of the whole way, which is longer than
/// that to the relay.
const ROUND_TRIPS: f64 = 2.0;

#[cfg(test)]
mod tests;
