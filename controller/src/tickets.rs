//! The keys that sign tickets, and the tickets that they sign. Decides which key signs when.

use std::time::Duration;

use std::path::Path;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use overlan_protocol::HostIndex;
use overlan_protocol::UnixTime;
use overlan_protocol::api::TicketResponse;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{IdentitySecret, Secret, random_bytes};
use overlan_protocol::ticket::{CLOCK_SKEW_SECS, KeyId, TICKET_LIFE_SECS, Ticket, TicketKeys};
use serde::{Deserialize, Serialize};

use crate::key_file::{self, FileError};
use crate::store::devices::Device;

/// Signs tickets. For a day after a rotation there are two keys: relays learn the new one before
/// tickets of it come, and tickets of the old one count while they live.
#[derive(Debug)]
pub(crate) struct TicketSigner {
    newest: TicketKey,
    /// The time at which it was made; 0 for one that was never rotated.
    made: UnixTime,
    previous: Option<TicketKey>,
}

#[derive(Debug)]
struct TicketKey {
    id: KeyId,
    secret: IdentitySecret,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKeys {
    id: KeyId,
    /// The Ed25519 seed in base64url.
    seed: Secret,
    /// The time of the rotation, seconds since the Unix epoch.
    #[serde(default)]
    made: UnixTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<StoredKey>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: KeyId,
    seed: Secret,
}

impl TicketSigner {
    /// Loads the keys from `dir`, making one if there is none.
    pub(crate) fn load_or_make(dir: &Path) -> Result<Self, FileError> {
        let file = dir.join(FILE);
        let stored = match key_file::read::<StoredKeys>(&file)? {
            Some(stored) => stored,
            None => {
                let StoredKey { id, seed } = make();
                let made = StoredKeys {
                    id,
                    seed,
                    made: UnixTime::EPOCH,
                    previous: None,
                };
                key_file::write(&file, &made)?;
                made
            }
        };
        let previous = stored.previous.map(|key| read(&file, key.id, &key.seed));
        Ok(Self {
            newest: read(&file, stored.id, &stored.seed)?,
            made: stored.made,
            previous: previous.transpose()?,
        })
    }

    /// Replaces the newest key, which stays valid for as long as its tickets live.
    pub(crate) fn rotate(dir: &Path, now: UnixTime) -> Result<(), RotateError> {
        let file = dir.join(FILE);
        let missing = || FileError::new(&file, "it is missing");
        let stored = key_file::read::<StoredKeys>(&file)?.ok_or_else(missing)?;
        if stored.previous.is_some() && now < stored.made + PREVIOUS_LIVES {
            return Err(RotateError::TooSoon {
                hours: (stored.made + PREVIOUS_LIVES)
                    .since(now)
                    .as_secs()
                    .div_ceil(3_600),
            });
        }
        let StoredKey { id, seed } = make();
        let rotated = StoredKeys {
            id,
            seed,
            made: now,
            previous: Some(StoredKey {
                id: stored.id,
                seed: stored.seed,
            }),
        };
        Ok(key_file::write(&file, &rotated)?)
    }

    /// Returns the keys that relays must know at `now`.
    pub(crate) fn keys(&self, now: UnixTime) -> TicketKeys {
        let previous = self.previous.iter();
        let previous = previous.filter(|_| now < self.made + PREVIOUS_LIVES);
        let keys = previous.chain([&self.newest]);
        keys.map(|key| (key.id.clone(), key.secret.public()))
            .collect()
    }

    /// Returns the id of the newest key.
    pub(crate) fn newest(&self) -> &KeyId {
        &self.newest.id
    }

    /// Returns the time of the last rotation; 0 if there was none.
    pub(crate) fn made(&self) -> UnixTime {
        self.made
    }

    /// Returns the key before and its end, while it counts.
    pub(crate) fn previous(&self, now: UnixTime) -> Option<(&KeyId, UnixTime)> {
        let ends = self.made + PREVIOUS_LIVES;
        let previous = self.previous.as_ref().filter(|_| now < ends);
        previous.map(|previous| (&previous.id, ends))
    }

    /// Returns the key that signs at `now`: not the newest one before relays had time to learn it.
    fn signing(&self, now: UnixTime) -> &TicketKey {
        match &self.previous {
            Some(previous) if now < self.made + ANNOUNCED => previous,
            Some(_) | None => &self.newest,
        }
    }

    /// Issues a ticket for `device` in its networks, from `now` on.
    pub(crate) fn issue(&self, device: &Device, now: UnixTime) -> TicketResponse {
        let mut networks: Vec<(Vni, HostIndex)> = device
            .places
            .iter()
            .map(|place| (place.vni, place.host))
            .collect();
        networks.sort();
        let key = self.signing(now);
        let ticket = Ticket {
            device: device.id,
            identity: device.identity,
            networks,
            epoch: device.epoch,
            not_before: now - Duration::from_secs(CLOCK_SKEW_SECS),
            expires: now + Duration::from_secs(TICKET_LIFE_SECS),
        };
        TicketResponse {
            ticket: ticket.sign(&key.id, &key.secret),
            expires: ticket.expires,
            networks: ticket.networks.into_iter().map(|(vni, _)| vni).collect(),
        }
    }
}

/// The reason why the ticket key is not rotated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Tickets of the key before the last one are still valid.
    #[error("the key was rotated less than a ticket's life ago; rotate it again in {hours} h")]
    TooSoon {
        /// Hours until it can be rotated.
        hours: u64,
    },
}

fn make() -> StoredKey {
    let key = IdentitySecret::generate();
    StoredKey {
        id: KeyId(HEXLOWER.encode(&random_bytes::<KEY_ID_LEN>())),
        seed: Secret::new(&BASE64URL_NOPAD.encode(key.seed())),
    }
}

fn read(file: &Path, id: KeyId, seed: &Secret) -> Result<TicketKey, FileError> {
    let seed = BASE64URL_NOPAD.decode(seed.reveal().as_bytes());
    let seed = seed.ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
    let seed =
        seed.ok_or_else(|| FileError::new(file, "it is damaged: the key is not readable"))?;
    Ok(TicketKey {
        id,
        secret: IdentitySecret::from_seed(seed),
    })
}

pub(crate) const FILE: &str = "ticket-key.json";

/// The time after a rotation for which the key before it signs on, seconds: connected relays learn
/// the new one within seconds.
const ANNOUNCED: Duration = Duration::from_secs(120);

/// The time after a rotation for which tickets of the key before it may live, seconds.
const PREVIOUS_LIVES: Duration =
    Duration::from_secs(ANNOUNCED.as_secs() + TICKET_LIFE_SECS + CLOCK_SKEW_SECS);

/// Bytes of a key id.
const KEY_ID_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rotated_key_is_announced_first_and_the_old_one_ends_with_its_tickets() {
        let dir = tempfile::tempdir().unwrap();
        let before = TicketSigner::load_or_make(dir.path()).unwrap();
        let old = before.newest.id.clone();
        assert_eq!(before.keys(NOW).len(), 1);
        TicketSigner::rotate(dir.path(), NOW).unwrap();
        let signer = TicketSigner::load_or_make(dir.path()).unwrap();
        let new = signer.newest.id.clone();
        assert_ne!(new, old);
        for (at, signs, known) in [
            (NOW, &old, 2),
            (NOW + ANNOUNCED - SECOND, &old, 2),
            (NOW + ANNOUNCED, &new, 2),
            (NOW + PREVIOUS_LIVES - SECOND, &new, 2),
            (NOW + PREVIOUS_LIVES, &new, 1),
        ] {
            assert_eq!(&signer.signing(at).id, signs, "{}", at.since(NOW).as_secs());
            let keys = signer.keys(at);
            assert_eq!(keys.len(), known, "{}", at.since(NOW).as_secs());
            assert!(keys.contains_key(signs));
        }
        let again = TicketSigner::rotate(dir.path(), NOW + SECOND * 60).unwrap_err();
        assert!(again.to_string().contains("in 25 h"), "{again}");
        TicketSigner::rotate(dir.path(), NOW + PREVIOUS_LIVES).unwrap();
    }

    #[test]
    fn the_file_of_a_key_that_was_never_rotated_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let seed = BASE64URL_NOPAD.encode(&[7; 32]);
        let old = format!("{{\"id\": \"k1\", \"seed\": \"{seed}\"}}");
        std::fs::write(dir.path().join(FILE), old).unwrap();
        let signer = TicketSigner::load_or_make(dir.path()).unwrap();
        assert_eq!(signer.newest.id, KeyId("k1".to_owned()));
    }
}
