//! Decides which doors of this device have had no place for too long, and names the limit that is
//! short. It opens and closes nothing, and reads no clock.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::full_door::{FullDoor, Lack};
use crate::host::memory::Budget;
use crate::host::sockets;

/// The doors of one device that report whether they have places. All clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Vacancies(Arc<Mutex<Vec<Weak<Vacancy>>>>);

impl Vacancies {
    /// Adds a door for `max` connections at once, which is watched until the result is dropped.
    /// People read of it as `door`.
    pub(crate) fn open(&self, door: String, max: usize, memory: Option<Budget>) -> Arc<Vacancy> {
        let lack = match memory {
            Some(budget) if max == budget.connections() => Lack::Memory,
            Some(_) | None if max >= sockets::CONNECTIONS_MAX => Lack::Connections,
            Some(_) | None => Lack::Files,
        };
        let vacancy = Arc::new(Vacancy {
            door,
            max,
            lack,
            since: Mutex::default(),
        });
        let mut all = self.0.lock();
        all.retain(|door| door.strong_count() > 0);
        all.push(Arc::downgrade(&vacancy));
        vacancy
    }

    /// Returns the doors that have had no place for [`FULL_AFTER`] at `now`.
    pub(crate) fn full(&self, now: Instant) -> Vec<FullDoor> {
        let all = self.0.lock().clone();
        let doors = all.iter().filter_map(Weak::upgrade);
        doors.filter_map(|door| door.full(now)).collect()
    }
}

/// The places of one door.
#[derive(Debug)]
pub(crate) struct Vacancy {
    door: String,
    max: usize,
    /// The limit from which its number of places comes.
    lack: Lack,
    since: Mutex<Since>,
}

#[derive(Debug, Default)]
struct Since {
    /// The moment when the last place was taken.
    full: Option<Instant>,
    /// The moment when the system first had no descriptor for a client.
    no_files: Option<Instant>,
}

impl Vacancy {
    /// Connections at once.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Notes at `now` whether the next client finds a place.
    pub(crate) fn handle_places(&self, now: Instant, free: bool) {
        note(&mut self.since.lock().full, now, !free);
    }

    /// Notes at `now` whether the system had a descriptor for a client.
    pub(crate) fn handle_files(&self, now: Instant, free: bool) {
        note(&mut self.since.lock().no_files, now, !free);
    }

    fn full(&self, now: Instant) -> Option<FullDoor> {
        let Since { full, no_files } = *self.since.lock();
        let for_long = |since: Option<Instant>| {
            let lasted = now.saturating_duration_since(since?);
            (lasted >= FULL_AFTER).then_some(lasted)
        };
        let files = || Some((Lack::Files, for_long(no_files)?));
        let places = || Some((self.lack, for_long(full)?));
        let (lack, lasted) = files().or_else(places)?;
        Some(FullDoor {
            door: self.door.clone(),
            connections: self.max as u64,
            lack,
            seconds: lasted.as_secs(),
        })
    }
}

fn note(since: &mut Option<Instant>, now: Instant, lacks: bool) {
    match lacks {
        true => _ = since.get_or_insert(now),
        false => *since = None,
    }
}

/// Time that a door may be without a place. A rush passes within it, and a door that is held shut
/// soon shows in the answer to "is the device ready?".
pub(crate) const FULL_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_door_is_full_when_it_had_no_place_for_long_and_not_once_one_returns() {
        let begin = Instant::now();
        let at = |seconds: u32| begin + seconds * SECOND;
        let doors = Vacancies::default();
        let door = doors.open("a door".to_owned(), 448, None);
        let other = doors.open("another".to_owned(), 448, None);
        assert_eq!(doors.full(at(100)), []);
        door.handle_places(at(100), false);
        other.handle_places(at(100), true);
        assert_eq!(doors.full(at(109)), [], "a rush");
        // Each client that wants in reports it again.
        door.handle_places(at(108), false);
        let full = doors.full(at(112));
        let expected = FullDoor {
            door: "a door".to_owned(),
            connections: 448,
            lack: Lack::Files,
            seconds: 12,
        };
        assert_eq!(full, [expected]);
        door.handle_places(at(113), true);
        assert_eq!(doors.full(at(113)), []);
        door.handle_places(at(114), false);
        assert_eq!(doors.full(at(120)), [], "it begins again");
        drop(door);
        assert_eq!(doors.full(at(200)), [], "a door that was closed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_short_is_named() {
        let now = Instant::now();
        let doors = Vacancies::default();
        let memory = Budget::new(64 << 20, crate::host::memory::Origin::Given).unwrap();
        let lack = |max: usize, no_files: bool| {
            let door = doors.open(String::new(), max, Some(memory));
            door.handle_places(now, false);
            if no_files {
                door.handle_files(now, false);
            }
            let full = doors.full(now + FULL_AFTER);
            door.handle_files(now, true);
            full.first().map(|full| full.lack)
        };
        assert_eq!(lack(memory.connections(), false), Some(Lack::Memory));
        assert_eq!(lack(448, false), Some(Lack::Files));
        assert_eq!(
            lack(sockets::CONNECTIONS_MAX, false),
            Some(Lack::Connections)
        );
        assert_eq!(lack(memory.connections(), true), Some(Lack::Files));
    }
}
