//! The configuration of a controller. Decides nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a controller is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 = any free one.
    pub listen: SocketAddr,
    /// Directory of the database and the keys; made if missing, for its owner only. One controller
    /// at a time.
    pub data_dir: PathBuf,
    /// `host:port` or `host` under which others reach it: goes into join string and certificate.
    /// `None` = where it listens.
    pub public_address: Option<String>,
    /// Domain of all overlay names, lower case.
    pub domain: String,
    /// Further names and addresses for the certificate.
    pub names: Vec<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, without any authentication: a
    /// loopback address. `None` = nowhere.
    pub metrics: Option<SocketAddr>,
    /// Times that tests shorten.
    pub timings: Timings,
}

impl Config {
    /// The defaults for everything but the two that have none.
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            listen,
            data_dir,
            public_address: None,
            domain: "overlan.internal".to_owned(),
            names: Vec::new(),
            metrics: None,
            timings: Timings::default(),
        }
    }
}

/// How long things take. The defaults are right for every deployment.
#[derive(Debug, Clone)]
pub struct Timings {
    /// A device stays online this long behind its last netmap stream, so that a reconnect shows
    /// nothing. After a start of the controller the devices that were online before have six times
    /// as long.
    pub presence_grace: Duration,
    /// A relay silent for this long is offline: two missed heartbeats of 5 s, and 2 s on the way.
    pub relay_lost_after: Duration,
    /// How long a heartbeat that waits for orders is held.
    pub heartbeat_hold: Duration,
    /// An ephemeral device is removed this long after it went offline.
    pub ephemeral_after: Duration,
    /// A netmap stream with nothing to say says so this often.
    pub alive_every: Duration,
    /// The change log is looked at this often even if nobody hints.
    pub poll_every: Duration,
    /// Who connects must prove who it is within this time.
    pub stranger_within: Duration,
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
        }
    }
}
