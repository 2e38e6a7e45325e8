//! The configuration of a controller. Decides nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::oidc::IssuerAddresses;

/// The configuration that a controller is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on; port 0 is any free one.
    pub listen: SocketAddr,
    /// Directory of the database and the keys; made if missing, for its owner only. One controller
    /// at a time.
    pub data_dir: PathBuf,
    /// `host:port` or `host` under which others reach it: goes into join string and certificate.
    /// `None` is the address that it listens on.
    pub public_address: Option<String>,
    /// Domain of all overlay names, in lower case.
    pub domain: String,
    /// Further names and addresses for the certificate.
    pub names: Vec<String>,
    /// Loopback address that serves `/metrics`, `/healthz` and `/readyz` without authentication.
    /// `None` is nowhere.
    pub metrics: Option<SocketAddr>,
    /// Addresses that are not public, at which the hosts of issuers may be.
    pub issuer_addresses: Vec<IssuerAddresses>,
    /// Strangers may make organisations of their own.
    pub sign_up: bool,
    /// Most devices of one organisation; `None` is no limit.
    pub devices_per_organisation: Option<u32>,
    /// Most devices that one person enrols; `None` is no limit.
    pub devices_per_person: Option<u32>,
    /// Times that tests shorten.
    pub timings: Timings,
}

impl Config {
    /// Returns the defaults for everything but the two settings that have none.
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            listen,
            data_dir,
            public_address: None,
            domain: "overlan.internal".to_owned(),
            names: Vec::new(),
            metrics: None,
            issuer_addresses: Vec::new(),
            sign_up: false,
            devices_per_organisation: None,
            devices_per_person: None,
            timings: Timings::default(),
        }
    }
}

/// Times of the controller. The defaults are right for every deployment.
#[derive(Debug, Clone)]
pub struct Timings {
    /// The time for which a device stays online after its last netmap stream, so that a reconnect
    /// is not seen. After a start of the controller the devices that were online before have six
    /// times as long.
    pub presence_grace: Duration,
    /// The silence after which a relay is offline: two missed heartbeats of 5 s, and 2 s on the
    /// way.
    pub relay_lost_after: Duration,
    /// The longest time for which a heartbeat that waits for orders is held.
    pub heartbeat_hold: Duration,
    /// The time after which an ephemeral device that is offline is removed.
    pub ephemeral_after: Duration,
    /// The time after which an idle netmap stream says that it is alive.
    pub alive_every: Duration,
    /// The longest time between two looks at the change log.
    pub poll_every: Duration,
    /// The time within which a connection must prove who holds it.
    pub stranger_within: Duration,
    /// The longest wait of a person for a change to arrive at the devices that are online: one that
    /// is awake has applied it in a fraction of that.
    pub arrive_within: Duration,
    /// The time between two questions to an identity provider about one person: a lost group is
    /// felt within 60 s, of which 5 s are one answer and the rest is room for many people.
    pub groups_every: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            presence_grace: Duration::from_secs(5),
            relay_lost_after: Duration::from_secs(12),
            heartbeat_hold: Duration::from_secs(overlan_protocol::api::RELAY_HEARTBEAT_SECS),
            ephemeral_after: Duration::from_secs(600),
            alive_every: Duration::from_secs(15),
            poll_every: Duration::from_millis(500),
            stranger_within: Duration::from_secs(10),
            arrive_within: Duration::from_secs(5),
            groups_every: Duration::from_secs(30),
        }
    }
}
