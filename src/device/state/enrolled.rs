//! The identities that a state directory keeps: the enrolled device, an unfinished enrolment, a
//! person's login. Decides their form on disk; holds no file.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::api::{FormerCas, JoinString, LoginResponse};
use overlan_protocol::key::{DeviceId, IdentitySecret, KEY_LEN, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The enrolled device with its secret keys: a copy of it can act as this device.
#[derive(Clone)]
pub struct Device {
    /// The controller that enrolled it.
    pub join: JoinString,
    /// Its id.
    pub device: DeviceId,
    /// Its identity key.
    pub identity: Arc<IdentitySecret>,
    /// Secret half of its X25519 tunnel key.
    pub tunnel_secret: Zeroizing<[u8; KEY_LEN]>,
    /// Its host label.
    pub label: String,
    /// Label of the first network that it joined; the netmap lists all.
    pub network: String,
    /// The deployment's domain.
    pub domain: String,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("join", &self.join.to_string())
            .field("device", &self.device)
            .field("label", &self.label)
            .field("network", &self.network)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// The secret keys of an unfinished enrolment. Once the controller has answered, a copy of them can
/// act as that device.
#[derive(Clone)]
pub struct Enrolling {
    /// The controller that was asked.
    pub join: JoinString,
    /// The device's identity key.
    pub identity: Arc<IdentitySecret>,
    /// Secret half of its X25519 tunnel key.
    pub tunnel_secret: Zeroizing<[u8; KEY_LEN]>,
}

impl fmt::Debug for Enrolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolling")
            .field("join", &self.join.to_string())
            .finish_non_exhaustive()
    }
}

/// A person's login at a controller, from `overlan login`.
#[derive(Debug, Clone)]
pub struct Login {
    /// The controller.
    pub join: JoinString,
    /// The controller's answer.
    pub login: LoginResponse,
}

/// The form of [`Device`] on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredDevice {
    server: String,
    #[serde(flatten)]
    former: FormerCas,
    device: DeviceId,
    identity_secret: Secret,
    tunnel_secret: Secret,
    label: String,
    network: String,
    domain: String,
}

/// The form of [`Enrolling`] on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredEnrolling {
    server: String,
    identity_secret: Secret,
    tunnel_secret: Secret,
}

impl From<&Enrolling> for StoredEnrolling {
    fn from(keys: &Enrolling) -> Self {
        Self {
            server: keys.join.to_string(),
            identity_secret: Secret::new(&BASE64URL_NOPAD.encode(keys.identity.seed())),
            tunnel_secret: Secret::new(&BASE64URL_NOPAD.encode(&*keys.tunnel_secret)),
        }
    }
}

impl TryFrom<StoredEnrolling> for Enrolling {
    type Error = String;

    fn try_from(stored: StoredEnrolling) -> Result<Self, String> {
        let join = stored.server.parse();
        let seed = secret(&stored.identity_secret, "identity_secret")?;
        Ok(Self {
            join: join.map_err(|error| format!("server: {error}"))?,
            identity: Arc::new(IdentitySecret::from_seed(*seed)),
            tunnel_secret: secret(&stored.tunnel_secret, "tunnel_secret")?,
        })
    }
}

impl From<&Device> for StoredDevice {
    fn from(device: &Device) -> Self {
        Self {
            server: device.join.to_string(),
            former: device.join.former.clone(),
            device: device.device,
            identity_secret: Secret::new(&BASE64URL_NOPAD.encode(device.identity.seed())),
            tunnel_secret: Secret::new(&BASE64URL_NOPAD.encode(&*device.tunnel_secret)),
            label: device.label.clone(),
            network: device.network.clone(),
            domain: device.domain.clone(),
        }
    }
}

impl TryFrom<StoredDevice> for Device {
    type Error = String;

    fn try_from(stored: StoredDevice) -> Result<Self, String> {
        Ok(Self {
            join: join(&stored.server, stored.former)?,
            device: stored.device,
            identity: Arc::new(IdentitySecret::from_seed(*secret(
                &stored.identity_secret,
                "identity_secret",
            )?)),
            tunnel_secret: secret(&stored.tunnel_secret, "tunnel_secret")?,
            label: stored.label,
            network: stored.network,
            domain: stored.domain,
        })
    }
}

fn join(server: &str, former: FormerCas) -> Result<JoinString, String> {
    let join: Result<JoinString, _> = server.parse();
    let join = join.map_err(|error| format!("server: {error}"))?;
    Ok(JoinString { former, ..join })
}

fn secret(text: &Secret, what: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
    let bytes = BASE64URL_NOPAD
        .decode(text.reveal().as_bytes())
        .map(Zeroizing::new);
    bytes
        .ok()
        .and_then(|bytes| <[u8; KEY_LEN]>::try_from(bytes.as_slice()).ok())
        .map(Zeroizing::new)
        .ok_or_else(|| format!("{what} is not a key"))
}

/// The form of [`Login`] on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredLogin {
    server: String,
    #[serde(flatten)]
    former: FormerCas,
    login: LoginResponse,
}

impl From<&Login> for StoredLogin {
    fn from(login: &Login) -> Self {
        Self {
            server: login.join.to_string(),
            former: login.join.former.clone(),
            login: login.login.clone(),
        }
    }
}

impl TryFrom<StoredLogin> for Login {
    type Error = String;

    fn try_from(stored: StoredLogin) -> Result<Self, String> {
        Ok(Self {
            join: join(&stored.server, stored.former)?,
            login: stored.login,
        })
    }
}
