//! The listeners of a running `up`, for the proxy and for DNS. Decides which addresses are allowed,
//! and which sockets stay open when settings are read again; the wing `doors` serves programs
//! there.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};

use crate::doors::proxy::{ProxyConfig, UnixDoor, check_listen};

pub use place::{DnsPlace, ForwardPlace, ProxyPlace, UnknownPlace};
pub use refused::{ForwardRefused, ListenersError};
pub(super) use tasks::{ListenerPlaces, ListenerTasks};

mod forwards;

mod place;

mod refused;

mod tasks;

/// The settings of all listeners, as a person gave them.
#[derive(Debug)]
pub struct ListenerSettings {
    /// The places of the proxy.
    pub proxy: Vec<ProxyPlace>,
    /// Permissions of the Unix sockets among them.
    pub unix_mode: u32,
    /// True if other hosts may reach the proxy.
    pub is_public: bool,
    /// The settings of the proxy. The address of the resolver and the number of connections are
    /// filled in later.
    pub config: ProxyConfig,
    /// The place of the DNS server.
    pub dns: DnsPlace,
    /// The resolvers to which it forwards foreign names.
    pub dns_forwards: Vec<ForwardPlace>,
}

/// The open listeners.
#[derive(Debug)]
pub struct Listeners {
    /// Those of the proxy.
    pub proxy: ProxyListeners,
    /// Those of the resolver.
    pub dns: DnsListeners,
    /// The resolvers to which it forwards foreign names.
    pub dns_forwards: Vec<SocketAddr>,
}

/// The listeners of the proxy, and its settings.
#[derive(Debug, Default)]
pub struct ProxyListeners {
    /// Its settings.
    pub config: ProxyConfig,
    open: Vec<(ProxyPlace, ProxySocket)>,
    unix_mode: u32,
}

/// One listener of the proxy. While settings are read again, the old and the new tasks share it.
#[derive(Debug, Clone)]
pub enum ProxySocket {
    /// At an address.
    Tcp(Arc<TcpListener>),
    /// At a path.
    Unix(Arc<UnixDoor>),
}

/// The listeners of the resolver.
#[derive(Debug)]
pub struct DnsListeners {
    place: DnsPlace,
    /// Its address, if it is on.
    pub address: Option<SocketAddr>,
    /// The sockets that are to be served; `None` if DNS is off, or its sockets were open before.
    pub sockets: Option<(UdpSocket, TcpListener)>,
}

impl ProxyListeners {
    /// Returns the sockets.
    pub fn sockets(&self) -> impl Iterator<Item = &ProxySocket> {
        self.open.iter().map(|(_, socket)| socket)
    }

    /// Sets the permissions of the Unix sockets, which may have been opened under an earlier
    /// setting. Returns the sockets that keep their old permissions.
    pub fn set_modes(&self) -> Vec<ModeNotSet> {
        let mut failed = Vec::new();
        for socket in self.sockets() {
            if let ProxySocket::Unix(door) = socket
                && let Err(source) = door.set_mode(self.unix_mode)
            {
                let path = door.path().display().to_string();
                failed.push(ModeNotSet { path, source });
            }
        }
        failed
    }

    /// Returns the addresses among its places.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |socket: &ProxySocket| match socket {
            ProxySocket::Tcp(listener) => listener.local_addr().ok(),
            ProxySocket::Unix(_) => None,
        };
        self.sockets().filter_map(address).collect()
    }

    /// Lists all places, as people write them.
    pub fn places(&self) -> Vec<String> {
        let path = |socket: &ProxySocket| match socket {
            ProxySocket::Tcp(_) => None,
            ProxySocket::Unix(door) => Some(format!("unix:{}", door.path().display())),
        };
        let tcp = self.addresses().into_iter();
        tcp.map(|address| address.to_string())
            .chain(self.sockets().filter_map(path))
            .collect()
    }
}

/// A Unix socket that keeps its permissions.
#[derive(Debug, thiserror::Error)]
#[error("the permissions of {path} stay as they were: {source}")]
pub struct ModeNotSet {
    path: String,
    source: io::Error,
}

impl Listeners {
    /// Binds the ports, without serving any connection yet. Sockets that are open in `before` stay
    /// open, with their ports.
    ///
    /// # Errors
    /// See [`ListenersError`].
    pub async fn open(
        settings: ListenerSettings,
        before: Option<&Self>,
    ) -> Result<Self, ListenersError> {
        if let DnsPlace::At(dns) = settings.dns
            && dns.port() > 0
            && settings.proxy.contains(&ProxyPlace::At(dns))
        {
            return Err(ListenersError::SameAddress(dns));
        }
        let dns = DnsListeners::open(settings.dns, before).await?;
        let mut dns_forwards = forwards::allowed(&settings.dns_forwards, dns.address)?;
        if let Some(before) = before {
            // The forwards change at the next start only.
            dns_forwards.clone_from(&before.dns_forwards);
            forwards::check_apart(&dns_forwards, dns.address)?;
        }
        let proxy = ProxyListeners::open(settings, dns.address, before).await?;
        Ok(Self {
            proxy,
            dns,
            dns_forwards,
        })
    }

    /// Returns true if `address` cannot be bound because a socket of this process has its port.
    fn has_port_of(&self, address: SocketAddr) -> bool {
        let proxies = self.proxy.addresses().into_iter();
        let mut ours = proxies.chain(self.dns.address);
        ours.any(|ours| ours.port() == address.port())
    }
}

impl ProxyListeners {
    async fn open(
        settings: ListenerSettings,
        dns: Option<SocketAddr>,
        before: Option<&Listeners>,
    ) -> Result<Self, ListenersError> {
        if settings.proxy.len() > 1 && settings.proxy.contains(&ProxyPlace::Off) {
            let (flag, others) = ("--socks", "other places");
            return Err(ListenersError::OffAndOthers { flag, others });
        }
        let mut open = Vec::new();
        for place in &settings.proxy {
            let known = before.into_iter().flat_map(|before| &before.proxy.open);
            let mut known = known.filter(|(at, _)| at == place);
            let known = known.next().map(|(_, socket)| socket.clone());
            let socket = match (place, known) {
                (ProxyPlace::Off, _) => continue,
                (ProxyPlace::At(address), known) => {
                    // The settings that allowed it may have changed.
                    settings.check(*address)?;
                    match known {
                        Some(socket) => socket,
                        None => ProxySocket::Tcp(bind(*address, before).await?),
                    }
                }
                (ProxyPlace::Unix(_), Some(socket)) => socket,
                (ProxyPlace::Unix(path), None) => bind_unix(path, settings.unix_mode)?,
            };
            open.push((place.clone(), socket));
        }
        let config = ProxyConfig {
            dns,
            room: before
                .map(|before| before.proxy.config.room.clone())
                .unwrap_or_default(),
            ..settings.config
        };
        Ok(Self {
            config,
            open,
            unix_mode: settings.unix_mode,
        })
    }
}

async fn bind(
    address: SocketAddr,
    before: Option<&Listeners>,
) -> Result<Arc<TcpListener>, ListenersError> {
    let bound = TcpListener::bind(address).await;
    bound
        .map(Arc::new)
        .map_err(|source| not_bound("--socks", address, source, before))
}

fn bind_unix(path: &Path, mode: u32) -> Result<ProxySocket, ListenersError> {
    Ok(ProxySocket::Unix(Arc::new(UnixDoor::bind(path, mode)?)))
}

impl ListenerSettings {
    /// Checks that the proxy may listen at `address`.
    ///
    /// # Errors
    /// [`ListenersError`] if other hosts reach it without a password, or without --socks-public.
    pub fn check(&self, address: SocketAddr) -> Result<(), ListenersError> {
        check_listen(address, self.config.credentials.is_some())?;
        match address.ip().to_canonical().is_loopback() || self.is_public {
            true => Ok(()),
            false => Err(ListenersError::Public(address)),
        }
    }
}

impl DnsListeners {
    async fn open(place: DnsPlace, before: Option<&Listeners>) -> Result<Self, ListenersError> {
        let known = before.map(|before| &before.dns);
        let known = known.filter(|known| known.place == place);
        let (address, sockets) = match (place, known) {
            (DnsPlace::Off, _) => (None, None),
            (DnsPlace::At(_), Some(known)) => (known.address, None),
            (DnsPlace::At(address), None) => {
                let sockets = dns_sockets(address).await;
                let sockets =
                    sockets.map_err(|source| not_bound("--dns", address, source, before))?;
                (sockets.0.local_addr().ok(), Some(sockets))
            }
        };
        Ok(Self {
            place,
            address,
            sockets,
        })
    }
}

/// Binds UDP and TCP on the same port. A port that the system chooses may be free for one of them
/// only, and then another is tried.
pub async fn dns_sockets(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = match address.port() {
        0 => FREE_PORT_ATTEMPTS,
        _ => 1,
    };
    loop {
        let udp = UdpSocket::bind(address).await?;
        attempts -= 1;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if attempts == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

/// The number of chosen ports that are tried: the chance that all are taken is negligible.
const FREE_PORT_ATTEMPTS: u32 = 16;

/// Explains that `address` was not bound, perhaps because of the sockets that are open in `before`.
fn not_bound(
    flag: &'static str,
    address: SocketAddr,
    source: io::Error,
    before: Option<&Listeners>,
) -> ListenersError {
    ListenersError::Bind {
        flag,
        address,
        is_ours: before.is_some_and(|before| before.has_port_of(address)),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dns_has_one_port_for_both_transports() {
        let (udp, tcp) = dns_sockets("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_eq!(udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    }
}
