//! Where `up` lets local programs in: the listeners of the proxy and of DNS. Decides which addresses are allowed; what the doors do is the
//! library's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use overlan::program::node::DNS_FORWARDS_MAX;
use overlan::program::proxy::{ProxyConfig, ProxyCredentials, UnixDoor, check_listen};
use overlan::program::splice::Patience;
use tokio::net::{TcpListener, UdpSocket};

use crate::cli::exit::{Code, Failure};
use crate::cli::secret::Source;
use crate::cli::{duration, output};

#[derive(Debug, Args)]
pub(crate) struct DoorArgs {
    /// Where programs reach the overlay by SOCKS5 or as an HTTP proxy: ADDRESS:PORT, unix:PATH, or off; may be repeated
    #[arg(
        long,
        env = "OVERLAN_SOCKS",
        default_value = "127.0.0.1:1080",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    socks: Vec<Place>,
    /// Permissions of the file of --socks unix:PATH, octal: who may write it may connect
    #[arg(long, env = "OVERLAN_SOCKS_UNIX_MODE", value_name = "MODE", default_value = "0600", value_parser = mode)]
    socks_unix_mode: u32,
    /// Where names of the overlay are answered by DNS, over UDP and TCP: ADDRESS:PORT, or off
    #[arg(
        long,
        env = "OVERLAN_DNS",
        default_value = "127.0.0.1:1053",
        value_name = "ADDR"
    )]
    dns: Door,
    /// Resolver of this host's network that names outside the overlay are handed on to: ADDRESS[:PORT], or off; may be repeated
    #[arg(
        long,
        env = "OVERLAN_DNS_FORWARD",
        default_value = "off",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    dns_forward: Vec<Forward>,
    /// User name that proxy clients must give
    #[arg(
        long,
        env = "OVERLAN_SOCKS_USER",
        value_name = "NAME",
        requires = "socks_password_file"
    )]
    socks_user: Option<String>,
    /// File with the password that proxy clients must give; - is standard input
    #[arg(
        long,
        env = "OVERLAN_SOCKS_PASSWORD_FILE",
        value_name = "PATH",
        requires = "socks_user"
    )]
    socks_password_file: Option<Source>,
    /// Let --socks be an address that other hosts reach; needs --socks-user
    #[arg(long, env = "OVERLAN_SOCKS_PUBLIC", value_parser = BoolishValueParser::new(), requires = "socks_user")]
    socks_public: bool,
    /// End connections through the proxy on which no byte moves for this time: seconds, or with a unit (15m) [default: never]
    #[arg(long, env = "OVERLAN_SOCKS_IDLE_TIMEOUT", value_name = "TIME", value_parser = duration::within::<u64>(duration::SOME))]
    socks_idle_timeout: Option<u64>,
    /// End connections of which one side has closed and on which no byte moves for this time, also those of forwards and published ports:
    /// seconds, or with a unit (5m); 0 = never
    #[arg(
        long,
        env = "OVERLAN_HALF_CLOSED_TIMEOUT",
        value_parser = duration::within::<u64>(duration::ANY),
        value_name = "TIME",
        default_value = "300"
    )]
    half_closed_timeout: u64,
    /// How long a request may wait for a device that is not ready: seconds, or with a unit (1m); 0 = refuse at once
    #[arg(
        long,
        env = "OVERLAN_HOLD",
        value_parser = duration::within::<u64>(duration::ANY),
        value_name = "TIME",
        default_value = "10"
    )]
    hold: u64,
    /// Connect to destinations outside the overlay from this host instead of refusing them
    #[arg(long, env = "OVERLAN_PROXY_DIRECT", value_parser = BoolishValueParser::new())]
    proxy_direct: bool,
}

/// Where a door is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Off,
    At(SocketAddr),
}

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::At((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::At).map_err(|_| {
            "it is ADDRESS:PORT with a numeric address, a port of 127.0.0.1, or off".to_owned()
        })
    }
}

/// Where foreign names are handed on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forward {
    Off,
    To(SocketAddr),
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let address = match bare.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, DNS_PORT),
            Err(_) => text
                .parse()
                .map_err(|_| "it is ADDRESS or ADDRESS:PORT, numeric, or off".to_owned())?,
        };
        match address.port() {
            0 => Err("nobody answers on port 0".to_owned()),
            _ => Ok(Self::To(address)),
        }
    }
}

/// Where the proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Off,
    At(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: is followed by a path".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        match text.parse() {
            Ok(Door::Off) => Ok(Self::Off),
            Ok(Door::At(address)) => Ok(Self::At(address)),
            Err(_) => Err(
                "it is ADDRESS:PORT with a numeric address, a port of 127.0.0.1, unix:PATH, or off"
                    .to_owned(),
            ),
        }
    }
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        Ok(_) | Err(_) => Err("it is octal permissions such as 0600 or 0660".to_owned()),
    }
}

/// The open doors.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) proxy: Proxies,
    pub(super) dns: Resolver,
    /// Where it hands foreign names on to.
    pub(super) dns_forwards: Vec<SocketAddr>,
}

/// The places of the proxy, and how it behaves there.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    pub(super) config: ProxyConfig,
    open: Vec<(Place, Socket)>,
    unix_mode: u32,
}

/// Where the proxy listens. While settings are read again, the tasks of both have it.
#[derive(Debug, Clone)]
pub(super) enum Socket {
    Tcp(Arc<TcpListener>),
    Unix(Arc<UnixDoor>),
}

impl Proxies {
    /// Where it listens.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.open.iter().map(|(_, socket)| socket)
    }

    /// Lets those open the Unix sockets who may do so by now: sockets that were open before have the permissions of then.
    pub(super) fn set_modes(&self) {
        for socket in self.sockets() {
            if let Socket::Unix(door) = socket
                && let Err(error) = door.set_mode(self.unix_mode)
            {
                let path = door.path().display();
                output::note(&format!("Who may open {path} stays as it was: {error}"));
            }
        }
    }

    /// The places that are addresses.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let address = |socket: &Socket| match socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        };
        self.sockets().filter_map(address).collect()
    }

    /// All places, as people write them.
    pub(super) fn places(&self) -> Vec<String> {
        let path = |socket: &Socket| match socket {
            Socket::Tcp(_) => None,
            Socket::Unix(door) => Some(format!("unix:{}", door.path().display())),
        };
        let tcp = self.addresses().into_iter();
        tcp.map(|address| address.to_string())
            .chain(self.sockets().filter_map(path))
            .collect()
    }
}

/// Where names are answered.
#[derive(Debug)]
pub(super) struct Resolver {
    door: Door,
    /// Where that is, if it is anywhere.
    pub(super) address: Option<SocketAddr>,
    /// `None` if there is nothing to open: it is off, or open already.
    pub(super) sockets: Option<(UdpSocket, TcpListener)>,
}

impl DoorArgs {
    /// Takes the ports. Nothing is answered yet. What `before` has open already stays open, with its port.
    pub(super) async fn open(&self, before: Option<&Doors>) -> Result<Doors, Failure> {
        if let Door::At(dns) = self.dns
            && dns.port() > 0
            && self.socks.contains(&Place::At(dns))
        {
            return Err(Failure::usage(format!("--socks and --dns are both {dns}"))
                .next("Give one of them another port, or off."));
        }
        let dns = self.open_resolver(before).await?;
        let mut dns_forwards = self.forwards(dns.address)?;
        if let Some(before) = before {
            // Those count until the next start.
            dns_forwards.clone_from(&before.dns_forwards);
            apart(&dns_forwards, dns.address)?;
        }
        let config = self.proxy_config(dns.address, before.map(|before| &before.proxy.config))?;
        let mut open = Vec::new();
        for place in self.places()? {
            let known = before.iter().flat_map(|before| &before.proxy.open);
            let known = known
                .map(|(at, socket)| (at == place, socket))
                .find(|(same, _)| *same);
            let socket = match (place, known) {
                (Place::Off, _) => continue,
                (Place::At(address), known) => {
                    // What is allowed there may have changed.
                    self.check(*address)?;
                    match known {
                        Some((_, socket)) => socket.clone(),
                        None => Socket::Tcp(Arc::new(
                            TcpListener::bind(address)
                                .await
                                .map_err(|error| taken("--socks", *address, &error, before))?,
                        )),
                    }
                }
                (Place::Unix(_), Some((_, Socket::Unix(door)))) => Socket::Unix(Arc::clone(door)),
                (Place::Unix(path), _) => {
                    let door = UnixDoor::bind(path, self.socks_unix_mode).map_err(|error| {
                        Failure::new(Code::Other, error)
                            .next("Give --socks another path, or stop the program that has it.")
                    })?;
                    Socket::Unix(Arc::new(door))
                }
            };
            open.push((place.clone(), socket));
        }
        let proxy = Proxies {
            config,
            open,
            unix_mode: self.socks_unix_mode,
        };
        Ok(Doors {
            proxy,
            dns,
            dns_forwards,
        })
    }

    async fn open_resolver(&self, before: Option<&Doors>) -> Result<Resolver, Failure> {
        let door = self.dns;
        let known = before.map(|before| &before.dns);
        let known = known.filter(|known| known.door == door);
        let (address, sockets) = match (door, known) {
            (Door::Off, _) => (None, None),
            (Door::At(_), Some(known)) => (known.address, None),
            (Door::At(address), None) => {
                let sockets = dns_sockets(address).await;
                let sockets = sockets.map_err(|error| taken("--dns", address, &error, before))?;
                (sockets.0.local_addr().ok(), Some(sockets))
            }
        };
        Ok(Resolver {
            door,
            address,
            sockets,
        })
    }

    fn half_closed_timeout(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.half_closed_timeout)).filter(|timeout| !timeout.is_zero())
    }

    /// How long connections of forwards and published ports may go without a byte.
    pub(super) fn patience(&self) -> Patience {
        Patience {
            half_closed: self.half_closed_timeout(),
            ..Patience::default()
        }
    }

    fn places(&self) -> Result<&[Place], Failure> {
        match self.socks.len() > 1 && self.socks.contains(&Place::Off) {
            true => Err(Failure::usage(
                "--socks off is given together with other places".to_owned(),
            )),
            false => Ok(&self.socks),
        }
    }

    /// Where foreign names go, when names are answered at `door`.
    fn forwards(&self, door: Option<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        let mut forwards = Vec::new();
        for forward in &self.dns_forward {
            let Forward::To(address) = forward else {
                if self.dns_forward.len() > 1 {
                    return Err(Failure::usage(
                        "--dns-forward off is given together with resolvers".to_owned(),
                    ));
                }
                continue;
            };
            let usage = |why: &str| Failure::usage(format!("--dns-forward {address} {why}"));
            let Some(door) = door else {
                return Err(usage("has nothing to hand on: --dns is off")
                    .next("Give --dns an address, or leave --dns-forward out."));
            };
            if address.ip().is_unspecified() {
                return Err(usage("is not an address of a resolver"));
            }
            if overlan::program::in_overlay(address.ip().to_canonical()) {
                return Err(usage("is an address of the overlay")
                    .next("A zone has resolvers there: `overlan admin dns zone add NAME --resolver ADDRESS`."));
            }
            if is_door(*address, door) {
                return Err(usage("is where this device answers names itself").next(
                    "Name the resolver of this host's network; /etc/resolv.conf often does.",
                ));
            }
            if !door.ip().to_canonical().is_loopback() {
                let why = format!(
                    "would look up any name for every host that reaches --dns {door}: an open resolver"
                );
                return Err(usage(&why).next(
                    "Give --dns a loopback address such as 127.0.0.1:1053, or leave --dns-forward out.",
                ));
            }
            forwards.push(*address);
        }
        if forwards.len() > DNS_FORWARDS_MAX {
            return Err(Failure::usage(format!(
                "--dns-forward names {} resolvers; {DNS_FORWARDS_MAX} are the most",
                forwards.len()
            )));
        }
        Ok(forwards)
    }

    fn check(&self, address: SocketAddr) -> Result<(), Failure> {
        check_listen(address, self.socks_user.is_some()).map_err(|refused| {
            Failure::new(Code::Usage, refused)
                .next("Use a loopback address, or give --socks-public, --socks-user and --socks-password-file.")
        })?;
        if !address.ip().to_canonical().is_loopback() && !self.socks_public {
            return Err(Failure::usage(format!(
                "--socks {address} is not a loopback address, so other hosts may reach it"
            ))
            .next("Say --socks-public if that is meant."));
        }
        Ok(())
    }

    fn proxy_config(
        &self,
        dns: Option<SocketAddr>,
        before: Option<&ProxyConfig>,
    ) -> Result<ProxyConfig, Failure> {
        let credentials = match (&self.socks_user, &self.socks_password_file, before) {
            // It cannot be read twice.
            (Some(_), Some(Source::Stdin), Some(before)) => before.credentials.clone(),
            (Some(user), Some(source), _) => {
                let password = source.read("SOCKS password")?;
                let credentials = ProxyCredentials::new(user.clone(), password);
                Some(credentials.map_err(|error| Failure::new(Code::Usage, error))?)
            }
            (None, ..) | (_, None, _) => None,
        };
        Ok(ProxyConfig {
            // Who knows the password may be another user, such as the one of a container beside this one.
            same_user: credentials.is_none(),
            credentials,
            direct: self.proxy_direct,
            dns,
            room: before.map(|before| before.room.clone()).unwrap_or_default(),
            hold: Duration::from_secs(self.hold),
            idle_timeout: self.socks_idle_timeout.map(Duration::from_secs),
            half_closed_timeout: self.half_closed_timeout(),
            ..ProxyConfig::default()
        })
    }
}

/// The settings that [`DoorArgs::open`] brings in while it runs.
pub(super) const SETTINGS: &[&str] = &[
    "socks",
    "socks-unix-mode",
    "dns",
    "socks-user",
    "socks-password-file",
    "socks-public",
    "socks-idle-timeout",
    "hold",
    "proxy-direct",
];

/// UDP and TCP on the same port. A port that the system chooses may be free for one of them only, so that is tried again.
pub(crate) async fn dns_sockets(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
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

/// That names may be answered at `door` while others are handed on to `forwards`, which count until the next start: it is none of
/// them, and for this host only.
fn apart(forwards: &[SocketAddr], door: Option<SocketAddr>) -> Result<(), Failure> {
    let (Some(door), Some(first)) = (door, forwards.first()) else {
        return Ok(());
    };
    let next = "Another --dns-forward, or none, counts after a restart.";
    if let Some(circle) = forwards.iter().find(|address| is_door(**address, door)) {
        let text = format!("--dns {door} is {circle}, where other names are handed on to");
        return Err(Failure::usage(text).next(next));
    }
    if !door.ip().to_canonical().is_loopback() {
        let text = format!(
            "--dns {door} would be an open resolver: other names are handed on to {first} still"
        );
        return Err(Failure::usage(text).next(next));
    }
    Ok(())
}

/// Whether what is sent to `address` arrives at `door`.
fn is_door(address: SocketAddr, door: SocketAddr) -> bool {
    let (to, own) = (address.ip().to_canonical(), door.ip().to_canonical());
    // A port of its own can be opened on an address of this host only.
    let is_own = || std::net::UdpSocket::bind((to, 0)).is_ok();
    address.port() == door.port() && (to == own || own.is_unspecified() && is_own())
}

/// Where resolvers listen when nobody says otherwise.
const DNS_PORT: u16 = 53;

/// Chosen ports that are tried: more in a row are hardly taken by others.
const FREE_PORT_ATTEMPTS: u32 = 16;

/// `before` is what this process has open already.
fn taken(flag: &str, address: SocketAddr, error: &io::Error, before: Option<&Doors>) -> Failure {
    let failure = Failure::new(
        Code::Other,
        format!("cannot listen on {address} for {flag}: {error}"),
    );
    let is_ours = before.is_some_and(|before| {
        let proxies = before.proxy.addresses().into_iter();
        let mut ours = proxies.chain(before.dns.address);
        ours.any(|ours| ours.port() == address.port())
    });
    match (error.kind() == io::ErrorKind::AddrInUse, is_ours) {
        (true, true) => failure.next(
            "It has that port itself, at another address; one port moves to another address by a restart.",
        ),
        (true, false) => failure.next(format!(
            "Another program has the port, maybe another `overlan up`. Give {flag} another one, or off."
        )),
        (false, _) => failure,
    }
}

#[cfg(test)]
mod tests;
