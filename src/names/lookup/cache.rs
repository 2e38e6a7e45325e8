//! The answers of other resolvers, for as long as they may be kept. Decides which answer goes first
//! when the cache is full; reads no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Resolvers;
use super::heard::{Heard, Question};

/// Answers, by the resolvers that were asked and the question.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: BTreeMap<Key, Entry>,
    /// Bytes of all entries.
    size: usize,
}

/// The resolvers, the name and the type. Another list of resolvers makes another key.
type Key = (Resolvers, String, u16);

#[derive(Debug)]
struct Entry {
    since: Instant,
    until: Instant,
    /// The message as it came: a parsed one takes up to thirty times the room.
    wire: Box<[u8]>,
    by: String,
}

impl Entry {
    fn size(&self) -> usize {
        self.wire.len() + AROUND
    }
}

/// An answer and its origin.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) heard: Heard,
    /// Seconds since it came.
    pub(crate) age: u32,
    /// The resolver that gave it.
    pub(crate) by: String,
}

impl Cache {
    /// Returns the answer to `question`, which has this key, if it may still be used.
    pub(crate) fn get(&mut self, now: Instant, key: &Key, question: &Question) -> Option<Kept> {
        let entry = self.entries.get(key)?;
        if entry.until <= now {
            self.remove(key);
            return None;
        }
        let age = now.saturating_duration_since(entry.since).as_secs();
        Some(Kept {
            heard: question.recall(&entry.wire)?,
            age: u32::try_from(age).unwrap_or(u32::MAX),
            by: entry.by.clone(),
        })
    }

    /// Keeps an answer, unless it is too large or must not be kept.
    pub(crate) fn put(&mut self, now: Instant, key: Key, heard: &Heard, by: String) {
        if heard.life == 0 || heard.wire.len() > ENTRY_MAX {
            return;
        }
        self.remove(&key);
        let entry = Entry {
            since: now,
            until: now + Duration::from_secs(u64::from(heard.life)),
            wire: heard.wire.clone(),
            by,
        };
        if self.is_full_for(&entry) {
            self.entries.retain(|_, entry| entry.until > now);
            self.size = self.entries.values().map(Entry::size).sum();
        }
        while self.is_full_for(&entry) {
            let soonest = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            let Some(soonest) = soonest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.remove(&soonest);
        }
        self.size += entry.size();
        self.entries.insert(key, entry);
    }

    fn is_full_for(&self, entry: &Entry) -> bool {
        self.entries.len() >= ENTRIES_MAX || self.size + entry.size() > SIZE_MAX
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.size -= entry.size();
        }
    }
}

/// Bytes of all answers: as many as a busy machine collects in some minutes.
const SIZE_MAX: usize = 4 << 20;

/// The number of answers: so few that a look through all for the one that ends first costs little.
const ENTRIES_MAX: usize = 1_024;

/// Longest message that is kept, bytes: longer ones are rare.
const ENTRY_MAX: usize = 4_096;

/// Bytes that an answer takes besides its message: a name of up to 253 bytes, the zone and its
/// resolvers, and the resolver that answered.
const AROUND: usize = 1_024;

#[cfg(test)]
mod tests;
