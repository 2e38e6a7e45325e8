//! The key that signs tickets, and the tickets that it signs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use overlan_protocol::api::TicketResponse;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{IdentitySecret, Secret, random_bytes};
use overlan_protocol::ticket::{CLOCK_SKEW_SECS, KeyId, TICKET_LIFE_SECS, Ticket, TicketKeys};
use serde::{Deserialize, Serialize};

use crate::secret_file;
use crate::store::devices::Device;

/// Signs tickets.
#[derive(Debug)]
pub(crate) struct TicketSigner {
    id: KeyId,
    key: IdentitySecret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: KeyId,
    /// Ed25519 seed, base64url.
    seed: Secret,
}

impl TicketSigner {
    /// Loads the key from `dir`, making it if there is none.
    pub(crate) fn load_or_make(dir: &Path) -> io::Result<Self> {
        let file = dir.join(FILE);
        let stored = match secret_file::read::<Stored>(&file)? {
            Some(stored) => stored,
            None => {
                let key = IdentitySecret::generate();
                let made = Stored {
                    id: KeyId(HEXLOWER.encode(&random_bytes::<KEY_ID_LEN>())),
                    seed: Secret::new(&BASE64URL_NOPAD.encode(key.seed())),
                };
                secret_file::write(&file, &made)?;
                made
            }
        };
        let seed = BASE64URL_NOPAD.decode(stored.seed.reveal().as_bytes());
        let seed = seed.ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        let seed = seed.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the ticket key is damaged")
        })?;
        Ok(Self {
            id: stored.id,
            key: IdentitySecret::from_seed(seed),
        })
    }

    /// Names the key.
    pub(crate) fn id(&self) -> &KeyId {
        &self.id
    }

    /// The keys that relays must know.
    pub(crate) fn keys(&self) -> TicketKeys {
        BTreeMap::from([(self.id.clone(), self.key.public())])
    }

    /// A ticket for `device` in its networks, from `now` on.
    pub(crate) fn issue(&self, device: &Device, now: u64) -> TicketResponse {
        let mut networks: Vec<(Vni, u32)> = device
            .places
            .iter()
            .map(|place| (place.vni, place.host))
            .collect();
        networks.sort();
        let ticket = Ticket {
            device: device.id,
            identity: device.identity,
            networks,
            epoch: device.epoch,
            not_before: now.saturating_sub(CLOCK_SKEW_SECS),
            expires: now + TICKET_LIFE_SECS,
        };
        TicketResponse {
            ticket: ticket.sign(&self.id, &self.key),
            expires: ticket.expires,
            networks: ticket.networks.into_iter().map(|(vni, _)| vni).collect(),
        }
    }
}

const FILE: &str = "ticket-key.json";

/// Bytes of a key id.
const KEY_ID_LEN: usize = 4;
