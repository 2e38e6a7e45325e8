//! The flags of `serve`, and its help. Decides how a service is named on the command line; the
//! parent module carries it out.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use overlan::program::service::{Serve, ServeKind, Target};
use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};

use super::words::{parse_http_target, parse_path, parse_target, parse_udp_target, same_port};
use crate::commands::admin::parse_label;
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, duration, port};

pub(crate) const EXAMPLES: &str = "\
Examples:
  overlan serve 3000                     port 3000 of this host
  overlan serve tcp 80 8080              port 80 in the overlay is 127.0.0.1:8080
  overlan serve http 443 8080 --tls      HTTPS, by a certificate for this device
  overlan serve route 10.1.0.0/16        hosts that this one reaches
  overlan serve list
  overlan serve remove 3000";

#[derive(Debug, Subcommand)]
pub(crate) enum ServeCommand {
    /// Serve a TCP port of this host, or of another host that it reaches, now and at every start
    Tcp(TcpArgs),
    /// Serve a Unix socket as a TCP port, now and at every start
    Unix(UnixArgs),
    /// Serve an HTTP port and name the asking peer in each request, now and at every start
    Http(HttpArgs),
    /// Serve a UDP port of this host, or of another host that it reaches, now and at every start
    Udp(UdpArgs),
    /// Offer to be the gateway to hosts without Overlan; an admin approves it
    Route(RouteArgs),
    /// Offer to be the gateway to one host, with a name in the network; an admin approves it
    Host(HostArgs),
    /// List services and offered routes
    #[command(after_help = LIST_EXAMPLES)]
    List(ServeListArgs),
    /// Stop serving a port, or withdraw a route
    #[command(after_help = REMOVE_EXAMPLES, alias = "delete")]
    Remove(ServeRemoveArgs),
}

#[derive(Debug, Args)]
#[command(after_help = TCP_EXAMPLES)]
pub(crate) struct TcpArgs {
    #[command(flatten)]
    port: StreamPort,
    /// The service: ADDRESS:PORT, HOST:PORT, or a port of 127.0.0.1
    /// [default: the same port of 127.0.0.1]
    #[arg(value_parser = parse_target)]
    target: Option<Target>,
    #[command(flatten)]
    header: HeaderArgs,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    scope: ScopeArgs,
}

impl TcpArgs {
    pub(super) fn service(self) -> (StateArgs, Serve) {
        let target = self.target.unwrap_or_else(|| same_port(self.port.port));
        let serve = self.header.on(Serve::tcp(self.port.port, target));
        self.scope.of(self.stream.on(serve))
    }
}

#[derive(Debug, Args)]
#[command(after_help = UNIX_EXAMPLES)]
pub(crate) struct UnixArgs {
    #[command(flatten)]
    port: StreamPort,
    /// Absolute path of the socket
    #[arg(value_parser = parse_path)]
    path: Target,
    #[command(flatten)]
    header: HeaderArgs,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    scope: ScopeArgs,
}

impl UnixArgs {
    pub(super) fn service(self) -> (StateArgs, Serve) {
        let serve = self.header.on(Serve::tcp(self.port.port, self.path));
        self.scope.of(self.stream.on(serve))
    }
}

#[derive(Debug, Args)]
#[command(after_help = ROUTE_EXAMPLES)]
pub(crate) struct RouteArgs {
    /// ADDRESS, ADDRESS/BITS, NAME or *.NAME, each with or without :PORT; names are looked up on
    /// this host
    pub(super) route: GatewayRoute,
    #[command(flatten)]
    pub(super) state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = HOST_EXAMPLES, override_usage = "overlan serve host HOST[:PORT] as NAME")]
pub(crate) struct HostArgs {
    /// ADDRESS or NAME, with or without :PORT; a name is looked up on this host
    #[arg(value_name = "HOST[:PORT]")]
    pub(super) route: GatewayRoute,
    /// The word `as`, and the name in the network
    #[arg(value_name = "as NAME", num_args = 0..=2)]
    pub(super) words: Vec<String>,
    /// Name of the host in the network: NAME.network.domain
    #[arg(long = "as", value_name = "NAME", conflicts_with = "words")]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) state: StateArgs,
}

impl HostArgs {
    pub(super) fn offer(&self) -> Result<OfferedRoute, Failure> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let name = match (self.name.as_deref(), &words[..]) {
            (Some(name), []) => name,
            (None, &["as", name]) => name,
            _ => {
                return Err(Failure::usage("the host needs a name in the network")
                    .next("Write `overlan serve host db.internal:5432 as db`."));
            }
        };
        OfferedRoute::named(self.route.clone(), &name.to_ascii_lowercase())
            .map_err(|error| Failure::usage(error.to_string()))
    }
}

const HOST_EXAMPLES: &str = "\
Examples:
  overlan serve host db.internal:5432 as db
  overlan serve host 10.1.2.3 --as printer

Then an admin lets the members of a network use it, which also gives it the name:
  overlan admin route approve gateway db.internal:5432

and each of them reaches it as db.home.overlan.internal, by its proxy, `nc` and `forward`:
  psql -h 127.0.0.1 -p 5432          while `overlan forward 5432:db:5432` runs";

const ROUTE_EXAMPLES: &str = "\
Examples:
  overlan serve route 10.1.0.0/16
  overlan serve route db.internal:5432
  overlan serve route '*.corp.internal'

Then an admin lets the members of a network use it:
  overlan admin route approve gateway 10.1.0.0/16

and each of them reaches the hosts through its own proxy, by their own addresses and names:
  curl -x socks5h://127.0.0.1:1080 http://10.1.2.3/
  psql -h 127.0.0.1 -p 5432          while `overlan forward 5432:db.internal:5432` runs";

#[derive(Debug, Args)]
#[command(after_help = HTTP_EXAMPLES)]
pub(crate) struct HttpArgs {
    #[command(flatten)]
    port: StreamPort,
    /// The service: ADDRESS:PORT, HOST:PORT, a port of 127.0.0.1, or unix:PATH
    /// [default: the same port of 127.0.0.1]
    #[arg(value_parser = parse_http_target)]
    target: Option<Target>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    scope: ScopeArgs,
}

impl HttpArgs {
    pub(super) fn service(self) -> (StateArgs, Serve) {
        let target = self.target.unwrap_or_else(|| same_port(self.port.port));
        let serve = Serve {
            kind: ServeKind::Http,
            tls: self.tls.tls,
            ..Serve::tcp(self.port.port, target)
        };
        self.scope.of(self.stream.on(serve))
    }
}

#[derive(Debug, Args)]
#[command(after_help = UDP_EXAMPLES)]
pub(crate) struct UdpArgs {
    /// Port on this device's overlay address; the same number may be served for TCP, too
    #[arg(value_parser = port::within(port::ANY))]
    port: u16,
    /// The service: ADDRESS:PORT, HOST:PORT, or a port of 127.0.0.1
    /// [default: the same port of 127.0.0.1]
    #[arg(value_parser = parse_udp_target)]
    target: Option<Target>,
    #[command(flatten)]
    scope: ScopeArgs,
}

impl UdpArgs {
    pub(super) fn service(self) -> (StateArgs, Serve) {
        let target = self.target.unwrap_or_else(|| same_port(self.port));
        self.scope.of(Serve::udp(self.port, target))
    }
}

const UDP_EXAMPLES: &str = "\
Examples:
  overlan serve udp 53                    port 53 in the overlay is 127.0.0.1:53 here
  overlan serve udp 5060 pbx.internal:5060 another host, by a name that is looked up here
  overlan serve remove udp 53             the TCP service with this number stays

Each address and port of a peer gets a port of this host until both were silent for two minutes.
There are 512 at once; beyond that the one that was silent for longest is closed.";

/// The overlay port of a service over TCP.
#[derive(Debug, Args)]
struct StreamPort {
    /// Port on this device's overlay address
    #[arg(value_parser = port::within(port::SERVED))]
    port: u16,
}

#[derive(Debug, Args)]
struct TlsArgs {
    /// Terminate TLS here, with a certificate for this device's name; `overlan ca` prints the CA
    /// that peers trust
    #[arg(long)]
    tls: bool,
}

/// The flags of every service over TCP.
#[derive(Debug, Args)]
struct StreamArgs {
    /// End connections on which no byte moved for this time: seconds, or with a unit (10m)
    /// [default: never]
    #[arg(
        long,
        env = "OVERLAN_SERVE_IDLE_TIMEOUT",
        value_name = "TIME",
        value_parser = duration::within::<u64>(duration::SOME)
    )]
    idle_timeout: Option<u64>,
}

impl StreamArgs {
    fn on(self, serve: Serve) -> Serve {
        Serve {
            idle_timeout: self.idle_timeout,
            ..serve
        }
    }
}

/// The networks in which a service is served, and the device that serves it.
#[derive(Debug, Args)]
struct ScopeArgs {
    /// Serve it in this network only; repeat it for several [default: every network of this device]
    #[arg(
        long = "network",
        env = "OVERLAN_SERVE_NETWORK",
        value_name = "NETWORK",
        value_delimiter = ',',
        value_parser = parse_label
    )]
    networks: Vec<String>,
    #[command(flatten)]
    state: StateArgs,
}

impl ScopeArgs {
    /// Returns the service with its networks in alphabetical order, each once, so that equal
    /// requests are equal.
    fn of(self, serve: Serve) -> (StateArgs, Serve) {
        let networks: BTreeSet<String> = self.networks.into_iter().collect();
        let networks = networks.into_iter().collect();
        (self.state, Serve { networks, ..serve })
    }
}

const HTTP_EXAMPLES: &str = "\
Examples:
  overlan serve http 80 8080              port 80 in the overlay is 127.0.0.1:8080 here
  overlan serve http 443 8080 --tls       for https://, to peers that trust `overlan ca`
  overlan serve http 80 unix:/run/app/http.sock

Each request has the fields X-Overlan-Name, -Label, -Network, -Device and -Address of the peer
that sent it, -User if a person enrolled it, and X-Forwarded-For. Such fields that a peer sends
itself are removed. The service trusts them, so let it listen where only this host reaches it.";

#[derive(Debug, Args)]
struct HeaderArgs {
    /// Send the peer's overlay address first on each connection, for services that know this
    /// protocol
    #[arg(long, value_name = "VERSION", value_parser = ["v2"])]
    proxy_protocol: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
}

impl HeaderArgs {
    fn on(self, serve: Serve) -> Serve {
        Serve {
            proxy_protocol: self.proxy_protocol.is_some(),
            tls: self.tls.tls,
            ..serve
        }
    }
}

const UNIX_EXAMPLES: &str = "\
Examples:
  overlan serve unix 80 /run/app/http.sock
  overlan serve unix 443 /run/haproxy.sock --proxy-protocol v2";

const TCP_EXAMPLES: &str = "\
Examples:
  overlan serve 3000                      port 3000 in the overlay is 127.0.0.1:3000 here
  overlan serve tcp 80 8080               port 80 in the overlay is 127.0.0.1:8080 here
  overlan serve tcp 5432 '[::1]:5432'
  overlan serve tcp 22 192.168.1.7:22     another host, reached from this one
  overlan serve tcp 5432 db.internal:5432 another host, by a name that is looked up here
  overlan serve tcp 443 8443 --proxy-protocol v2
  overlan serve tcp 8025 --idle-timeout 10m

Every member of the network reaches the service as if it ran on this device.";

const LIST_EXAMPLES: &str = "\
Examples:
  overlan serve list
  overlan serve list --json | jq -r '.serves[].port'";

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan serve remove 3000
  overlan serve remove udp 53             the TCP service with this number stays
  overlan serve remove 10.1.0.0/16        a route";

#[derive(Debug, Args)]
pub(crate) struct ServeListArgs {
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeRemoveArgs {
    /// Port on this device's overlay address; tcp PORT or udp PORT for one protocol only; or a
    /// route
    #[arg(value_name = "PORT|ROUTE", required = true, num_args = 1..=2)]
    pub(super) what: Vec<String>,
    #[command(flatten)]
    pub(super) state: StateArgs,
}
