//! Keeps what other resolvers said, for as long as they say. Decides what leaves when it is full; reads no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Source;
use super::heard::Heard;

/// Answers, by whom they were asked of and what was asked.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<Key, Entry>,
}

/// Whom, which name, which type. Another list of resolvers is another source.
type Key = (Source, String, u16);

#[derive(Debug)]
struct Entry {
    since: Instant,
    until: Instant,
    heard: Arc<Heard>,
    by: String,
}

/// An answer with where it came from.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) heard: Arc<Heard>,
    /// Seconds since it was heard.
    pub(super) age: u32,
    /// The resolver that said it.
    pub(super) by: String,
}

impl Cache {
    /// What is known, if it may still be used.
    pub(super) fn get(&mut self, now: Instant, key: &Key) -> Option<Kept> {
        let entry = self.entries.get(key)?;
        if entry.until <= now {
            self.entries.remove(key);
            return None;
        }
        let age = now.saturating_duration_since(entry.since).as_secs();
        Some(Kept {
            heard: Arc::clone(&entry.heard),
            age: u32::try_from(age).unwrap_or(u32::MAX),
            by: entry.by.clone(),
        })
    }

    /// Keeps an answer, unless it is too large or must not be kept.
    pub(super) fn put(&mut self, now: Instant, key: Key, heard: Arc<Heard>, by: String) {
        if heard.life == 0 || heard.size > ENTRY_MAX {
            return;
        }
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| entry.until > now);
        }
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            let soonest = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(key) = soonest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
        let until = now + Duration::from_secs(u64::from(heard.life));
        let entry = Entry {
            since: now,
            until,
            heard,
            by,
        };
        self.entries.insert(key, entry);
    }
}

/// Answers that are kept: what a busy machine asks for in some minutes, [`ENTRY_MAX`] bytes each at most, some 4 MiB.
const ENTRIES_MAX: usize = 1_024;

/// Longest answer that is kept, bytes as it came: longer ones are rare.
const ENTRY_MAX: usize = 4_096;

#[cfg(test)]
mod tests;
