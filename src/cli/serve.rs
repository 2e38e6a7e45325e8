//! `serve`: which local services the overlay may reach. Decides what the list may hold; a running `overlan up` carries it out.

mod told;
mod words;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use overlan::program::node::routes::{self, RouteError};
use overlan::program::serve_list::{self, ServeConflict};
use overlan::program::service::{Serve, ServeKind, Target};
use overlan::program::socket::{CallError, Request, Response, call};
use overlan::program::state::StateDir;
use overlan::program::status::{RouteStatus, columns};
use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};

use crate::cli::admin::parse_label;
use crate::cli::exit::{Code, Failure};
use crate::cli::{StateArgs, duration, output, running};

use self::words::{
    Published, parse_http_target, parse_path, parse_target, parse_udp_target, same_port,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  overlan serve 3000                     port 3000 of this host
  overlan serve tcp 80 8080              port 80 in the overlay is 127.0.0.1:8080
  overlan serve http 443 8080 --tls      HTTPS, by a certificate for this device
  overlan serve route 10.1.0.0/16        hosts that this one reaches
  overlan serve list
  overlan serve remove 3000";

#[derive(Debug, Subcommand)]
pub(crate) enum ServeCommand {
    /// Publish a TCP service of this host, or of another one that it reaches, now and at every start
    Tcp(TcpArgs),
    /// Publish a service that listens on a Unix socket, now and at every start
    Unix(UnixArgs),
    /// Publish an HTTP service that hears in each request who asks, now and at every start
    Http(HttpArgs),
    /// Publish a UDP service of this host, or of another one that it reaches, now and at every start
    Udp(UdpArgs),
    /// Offer to lead peers to hosts behind this one, which need no Overlan; an admin approves it
    Route(RouteArgs),
    /// Offer one host behind this one by a name of the network; an admin approves it
    Host(HostArgs),
    /// Show what is published and offered
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Stop publishing a service, or withdraw a route
    #[command(after_help = REMOVE_EXAMPLES, alias = "delete")]
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
#[command(after_help = TCP_EXAMPLES)]
pub(crate) struct TcpArgs {
    /// Port on this device's overlay address
    #[arg(value_parser = clap::value_parser!(u16).range(2..))]
    port: u16,
    /// Where connections go: ADDRESS:PORT, HOST:PORT, or a port of 127.0.0.1 [default: the same port of 127.0.0.1]
    #[arg(value_parser = parse_target)]
    target: Option<Target>,
    #[command(flatten)]
    header: HeaderArgs,
    #[command(flatten)]
    idle: IdleArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = UNIX_EXAMPLES)]
pub(crate) struct UnixArgs {
    /// Port on this device's overlay address
    #[arg(value_parser = clap::value_parser!(u16).range(2..))]
    port: u16,
    /// The socket's file, by its whole path
    #[arg(value_parser = parse_path)]
    path: Target,
    #[command(flatten)]
    header: HeaderArgs,
    #[command(flatten)]
    idle: IdleArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = ROUTE_EXAMPLES)]
pub(crate) struct RouteArgs {
    /// ADDRESS, ADDRESS/BITS, NAME or *.NAME, each with :PORT or without; names are looked up here
    route: GatewayRoute,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = HOST_EXAMPLES, override_usage = "overlan serve host HOST[:PORT] as NAME")]
pub(crate) struct HostArgs {
    /// ADDRESS or NAME, with :PORT or without; a name is looked up here
    #[arg(value_name = "HOST[:PORT]")]
    route: GatewayRoute,
    /// The word `as` and the name
    #[arg(value_name = "as NAME", num_args = 0..=2)]
    words: Vec<String>,
    /// The name that the host shall have in the network: NAME.network.domain
    #[arg(long = "as", value_name = "NAME", conflicts_with = "words")]
    name: Option<String>,
    #[command(flatten)]
    state: StateArgs,
}

impl HostArgs {
    fn offer(&self) -> Result<OfferedRoute, Failure> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let name = match (self.name.as_deref(), &words[..]) {
            (Some(name), []) => name,
            (None, &["as", name]) => name,
            _ => {
                return Err(
                    Failure::usage("the host needs a name in the network".to_owned())
                        .next("Write `overlan serve host db.internal:5432 as db`."),
                );
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

Then an admin says that members of a network may use it, which also gives it the name:
  overlan admin route approve gateway db.internal:5432

and any of them reaches it as db.home.overlan.internal, by its proxy, `nc` and `forward`:
  psql -h 127.0.0.1 -p 5432          while `overlan forward 5432:db:5432` runs";

const ROUTE_EXAMPLES: &str = "\
Examples:
  overlan serve route 10.1.0.0/16
  overlan serve route db.internal:5432
  overlan serve route '*.corp.internal'

Then an admin says that members of a network may use it:
  overlan admin route approve gateway 10.1.0.0/16

and any of them reaches the hosts through its own proxy, by the addresses and names that they have there:
  curl -x socks5h://127.0.0.1:1080 http://10.1.2.3/
  psql -h 127.0.0.1 -p 5432          while `overlan forward 5432:db.internal:5432` runs";

#[derive(Debug, Args)]
#[command(after_help = HTTP_EXAMPLES)]
pub(crate) struct HttpArgs {
    /// Port on this device's overlay address
    #[arg(value_parser = clap::value_parser!(u16).range(2..))]
    port: u16,
    /// Where requests go: ADDRESS:PORT, HOST:PORT, a port of 127.0.0.1, or unix:PATH [default: the same port of 127.0.0.1]
    #[arg(value_parser = parse_http_target)]
    target: Option<Target>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    idle: IdleArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = UDP_EXAMPLES)]
pub(crate) struct UdpArgs {
    /// Port on this device's overlay address; the same number may be published for TCP as well
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where datagrams go: ADDRESS:PORT, HOST:PORT, or a port of 127.0.0.1 [default: the same port of 127.0.0.1]
    #[arg(value_parser = parse_udp_target)]
    target: Option<Target>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    state: StateArgs,
}

const UDP_EXAMPLES: &str = "\
Examples:
  overlan serve udp 53                    port 53 in the overlay is 127.0.0.1:53 here
  overlan serve udp 5060 pbx.internal:5060 another host, by a name that is looked up here
  overlan serve remove udp 53             the TCP service with this number stays

Each address and port of a peer gets a port of this host, until both were silent for two minutes; 512 at once, then the
one that was silent for longest leaves.";

#[derive(Debug, Args)]
struct TlsArgs {
    /// End TLS here, by a certificate for this device's name; `overlan ca` prints the CA that peers trust
    #[arg(long)]
    tls: bool,
}

#[derive(Debug, Args)]
struct IdleArgs {
    /// End connections on which no byte has moved for so long: seconds, or with a unit (10m) [default: never]
    #[arg(
        long,
        env = "OVERLAN_SERVE_IDLE_TIMEOUT",
        value_name = "TIME",
        value_parser = duration::within::<u64>(duration::SOME)
    )]
    idle_timeout: Option<u64>,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// Publish it in this network only; may be repeated. Without it, in every network of this device
    #[arg(
        long = "network",
        env = "OVERLAN_SERVE_NETWORK",
        value_name = "NETWORK",
        value_delimiter = ',',
        value_parser = parse_label
    )]
    networks: Vec<String>,
}

impl PlaceArgs {
    /// In alphabetical order, each once, so that equal wishes are equal.
    fn networks(self) -> Vec<String> {
        let networks: BTreeSet<String> = self.networks.into_iter().collect();
        networks.into_iter().collect()
    }
}

const HTTP_EXAMPLES: &str = "\
Examples:
  overlan serve http 80 8080              port 80 in the overlay is 127.0.0.1:8080 here
  overlan serve http 443 8080 --tls       https://web.home.overlan.internal/ for who trusts `overlan ca`
  overlan serve http 80 unix:/run/app/http.sock

Each request has X-Overlan-Name, -Label, -Network, -Device and -Address of the peer that sent it, -User if a person enrolled
it, and X-Forwarded-For. What a peer
writes into such fields itself is removed. Let the service listen where only this host reaches it: it believes them.";

#[derive(Debug, Args)]
struct HeaderArgs {
    /// Begin each connection with the peer's overlay address, for services that know this protocol
    #[arg(long, value_name = "VERSION", value_parser = ["v2"])]
    proxy_protocol: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
}

const UNIX_EXAMPLES: &str = "\
Examples:
  overlan serve unix 80 /run/app/http.sock
  overlan serve unix 443 /run/haproxy.sock --proxy-protocol v2";

const TCP_EXAMPLES: &str = "\
Examples:
  overlan serve tcp 3000                  port 3000 in the overlay is 127.0.0.1:3000 here; `serve 3000` is the same
  overlan serve tcp 80 8080               port 80 in the overlay is 127.0.0.1:8080 here
  overlan serve tcp 5432 '[::1]:5432'
  overlan serve tcp 22 192.168.1.7:22     another host, reached from this one
  overlan serve tcp 5432 db.internal:5432 another host, by a name that is looked up here
  overlan serve tcp 443 8443 --proxy-protocol v2
  overlan serve tcp 8025 --idle-timeout 10m

Every member of the network reaches what is published, as if it were this host.";

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
pub(crate) struct ListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Port on this device's overlay address, for TCP and UDP; tcp PORT or udp PORT for one of them; or a route
    #[arg(value_name = "PORT|ROUTE", required = true, num_args = 1..=2)]
    what: Vec<String>,
    #[command(flatten)]
    state: StateArgs,
}

/// `overlan serve …`.
pub(crate) async fn run(command: ServeCommand) -> Result<(), Failure> {
    match command {
        ServeCommand::Tcp(args) => {
            let state = args.state.create()?;
            let target = args.target.unwrap_or_else(|| same_port(args.port));
            publish(
                &state,
                Serve {
                    idle_timeout: args.idle.idle_timeout,
                    ..Serve::tcp(args.port, target)
                },
                &args.header,
                args.place,
            )
            .await
        }
        ServeCommand::Unix(args) => {
            let state = args.state.create()?;
            publish(
                &state,
                Serve {
                    idle_timeout: args.idle.idle_timeout,
                    ..Serve::tcp(args.port, args.path)
                },
                &args.header,
                args.place,
            )
            .await
        }
        ServeCommand::Http(args) => {
            let state = args.state.create()?;
            let target = args.target.unwrap_or_else(|| same_port(args.port));
            let serve = Serve {
                kind: ServeKind::Http,
                tls: args.tls.tls,
                idle_timeout: args.idle.idle_timeout,
                ..Serve::tcp(args.port, target)
            };
            publish_in(&state, serve, args.place).await
        }
        ServeCommand::Udp(args) => {
            let state = args.state.create()?;
            let target = args.target.unwrap_or_else(|| same_port(args.port));
            publish_in(&state, Serve::udp(args.port, target), args.place).await
        }
        ServeCommand::Route(args) => offer(&args.state.create()?, args.route.into()).await,
        ServeCommand::Host(args) => {
            let wished = args.offer()?;
            offer(&args.state.create()?, wished).await
        }
        ServeCommand::Remove(args) => {
            let what = Published::from_words(&args.what).map_err(Failure::usage)?;
            let state = args.state.open()?;
            match what {
                Published::Port(port, transport) => {
                    let request = Request::ServeRemove { port, transport };
                    change(&state, &request, |serves| {
                        serve_list::remove(serves, port, transport).map(drop)
                    })
                    .await
                }
                Published::Route(route) => {
                    let request = Request::RouteRemove(route.clone());
                    change_routes(&state, &request, |routes| routes::remove(routes, &route)).await
                }
            }
        }
        ServeCommand::List(args) => list(&args).await,
    }
}

async fn offer(state: &StateDir, offer: OfferedRoute) -> Result<(), Failure> {
    let route = offer.route().clone();
    let request = Request::RouteAdd(offer.clone());
    change_routes(state, &request, |routes| routes::add(routes, offer)).await?;
    let label = state.load_device()?.map(|device| device.label);
    let label = label.unwrap_or_else(|| "DEVICE".to_owned());
    output::note(&format!(
        "{route} is offered. An admin approves it: overlan admin route approve {label} {route}"
    ));
    Ok(())
}

async fn publish(
    state: &StateDir,
    mut serve: Serve,
    header: &HeaderArgs,
    place: PlaceArgs,
) -> Result<(), Failure> {
    serve.proxy_protocol = header.proxy_protocol.is_some();
    serve.tls = header.tls.tls;
    publish_in(state, serve, place).await
}

async fn publish_in(state: &StateDir, mut serve: Serve, place: PlaceArgs) -> Result<(), Failure> {
    serve.networks = place.networks();
    let places = match call(&state.socket_path(), &Request::Status).await {
        Ok(Response::Status(status)) => told::places(&status),
        // Whatever is wrong there is told by the change.
        Ok(_) | Err(_) => Vec::new(),
    };
    if let Some(unknown) = told::unknown_networks(&serve.networks, &places) {
        return Err(Failure::usage(unknown).next(
            "`overlan network list` shows which it may join; `overlan network join` brings it in.",
        ));
    }
    let request = Request::ServeAdd(serve.clone());
    change(state, &request, |serves| serve_list::add(serves, &serve)).await?;
    if let Some(warning) = told::dead_target(&serve) {
        output::note(&warning);
    }
    let reached = told::reached(&serve, &places);
    if reached.is_empty() {
        return Ok(());
    }
    output::note("Published; peers reach it as:");
    output::answer(&reached.join("\n"))
}

/// Lets the running client change the list of services, or changes the stored one if none runs.
async fn change(
    state: &StateDir,
    request: &Request,
    change: impl FnOnce(&mut Vec<Serve>) -> Result<(), ServeConflict>,
) -> Result<(), Failure> {
    let stored = || {
        let mut serves = state.load_serves()?;
        change(&mut serves).map_err(|conflict| Failure::new(Code::Other, conflict))?;
        Ok(state.save_serves(&serves)?)
    };
    change_here_or_there(state, request, stored).await
}

/// The same for the list of routes.
async fn change_routes(
    state: &StateDir,
    request: &Request,
    change: impl FnOnce(&mut Vec<OfferedRoute>) -> Result<(), RouteError>,
) -> Result<(), Failure> {
    let stored = || {
        let mut routes = state.load_routes()?.unwrap_or_default();
        change(&mut routes).map_err(|error| Failure::new(Code::Other, error))?;
        Ok(state.save_routes(&routes)?)
    };
    change_here_or_there(state, request, stored).await
}

async fn change_here_or_there(
    state: &StateDir,
    request: &Request,
    stored: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    match call(&state.socket_path(), request).await {
        Ok(_) => Ok(()),
        Err(CallError::NotRunning(_)) => {
            // Nobody may start in between and miss the change.
            let _lock = state.exists().then(|| state.lock()).transpose()?;
            stored()?;
            output::note("No `overlan up` runs; the next one does it.");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let (serves, routes) = match call(&state.socket_path(), &Request::Status).await {
        Ok(Response::Status(status)) => (status.serves, status.routes),
        Ok(other) => return Err(running::unexpected(&other)),
        Err(CallError::NotRunning(_)) => {
            let routes = state.load_routes()?.unwrap_or_default().into_iter();
            let unknown = |offer: OfferedRoute| RouteStatus {
                route: offer.route().clone(),
                name: offer.name().map(str::to_owned),
                approved_in: Vec::new(),
            };
            (state.load_serves()?, routes.map(unknown).collect())
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        let document =
            serde_json::json!({ "schema_version": 1, "serves": serves, "routes": routes });
        return output::json(&document);
    }
    if serves.is_empty() && routes.is_empty() {
        output::note(
            "Nothing is published yet. `overlan serve 3000` publishes port 3000 of this host.",
        );
        return Ok(());
    }
    let mut rows: Vec<[String; 3]> = serves
        .iter()
        .map(|serve| {
            [
                serve.kind.to_string(),
                serve.port.to_string(),
                format!("{}{}", serve.target, serve.remarks()),
            ]
        })
        .collect();
    rows.extend(
        routes
            .iter()
            .map(|offered| ["route".to_owned(), offered.offer(), offered.state()]),
    );
    output::answer(&columns(&rows))
}

#[cfg(test)]
mod tests;
