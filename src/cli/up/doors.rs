//! Where `up` lets local programs in: the SOCKS and DNS listeners. Decides which addresses are allowed; what the doors do is the
//! library's.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::Args;
use clap::builder::BoolishValueParser;
use overlan::socks::{SocksConfig, check_listen};
use tokio::net::{TcpListener, UdpSocket};

use crate::cli::exit::{Code, Failure};
use crate::cli::secret::Source;

#[derive(Debug, Args)]
pub(crate) struct DoorArgs {
    /// Where programs reach the overlay by SOCKS5: ADDRESS:PORT, or off
    #[arg(
        long,
        env = "OVERLAN_SOCKS",
        default_value = "127.0.0.1:1080",
        value_name = "ADDR"
    )]
    socks: Door,
    /// Where names of the overlay are answered by DNS, over UDP and TCP: ADDRESS:PORT, or off
    #[arg(
        long,
        env = "OVERLAN_DNS",
        default_value = "127.0.0.1:1053",
        value_name = "ADDR"
    )]
    dns: Door,
    /// User name that SOCKS clients must give
    #[arg(
        long,
        env = "OVERLAN_SOCKS_USER",
        value_name = "NAME",
        requires = "socks_password_file"
    )]
    socks_user: Option<String>,
    /// File with the password that SOCKS clients must give; - is standard input
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
        text.parse()
            .map(Self::At)
            .map_err(|_| "it is ADDRESS:PORT with a numeric address, or off".to_owned())
    }
}

/// The open doors.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) socks: Option<(TcpListener, SocksConfig)>,
    pub(super) dns: Option<(UdpSocket, TcpListener)>,
}

impl DoorArgs {
    /// Takes the ports. Nothing is answered yet.
    pub(super) async fn open(&self) -> Result<Doors, Failure> {
        let socks = match self.socks {
            Door::Off => None,
            Door::At(address) => {
                let config = self.socks_config(address)?;
                let listener = TcpListener::bind(address)
                    .await
                    .map_err(|error| taken("--socks", address, &error))?;
                Some((listener, config))
            }
        };
        let dns = match self.dns {
            Door::Off => None,
            Door::At(address) => Some(
                dns_sockets(address)
                    .await
                    .map_err(|error| taken("--dns", address, &error))?,
            ),
        };
        Ok(Doors { socks, dns })
    }

    fn socks_config(&self, address: SocketAddr) -> Result<SocksConfig, Failure> {
        let credentials = match (&self.socks_user, &self.socks_password_file) {
            (Some(user), Some(source)) => Some((user.clone(), source.read("SOCKS password")?)),
            (None, _) | (_, None) => None,
        };
        check_listen(address, credentials.is_some()).map_err(|refused| {
            Failure::new(Code::Usage, refused)
                .next("Use a loopback address, or give --socks-public, --socks-user and --socks-password-file.")
        })?;
        if !address.ip().to_canonical().is_loopback() && !self.socks_public {
            return Err(Failure::usage(format!(
                "--socks {address} is not a loopback address, so other hosts may reach it"
            ))
            .next("Say --socks-public if that is meant."));
        }
        Ok(SocksConfig {
            // Who knows the password may be another user, such as the one of a container beside this one.
            same_user: credentials.is_none(),
            credentials,
            direct: self.proxy_direct,
            ..SocksConfig::default()
        })
    }
}

/// UDP and TCP on the same port. A port that the system chooses may be free for one of them only, so that is tried again.
async fn dns_sockets(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
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

/// Chosen ports that are tried: more in a row are hardly taken by others.
const FREE_PORT_ATTEMPTS: u32 = 16;

fn taken(flag: &str, address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::new(
        Code::Other,
        format!("cannot listen on {address} for {flag}: {error}"),
    );
    match error.kind() == io::ErrorKind::AddrInUse {
        true => failure.next(format!(
            "Another program has the port, maybe another `overlan up`. Give {flag} another one, or off."
        )),
        false => failure,
    }
}

#[cfg(test)]
mod tests;
