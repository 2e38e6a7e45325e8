//! `forward`: ports and sockets of this host that lead to peers, written as ssh writes them.
//! Decides where this host listens and who may come in; the running `overlan up` carries what comes
//! in.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::BoolishValueParser;
use overlan::program::carry::{Carry, Door, Forward, Happened, SOCKETS_MAX};
use overlan::program::socket::{CallError, RefusalKind, Request, Response, call_with_sockets};
use overlan_protocol::HostPort;
use rustix::fs::Mode;
use rustix::process::umask;
use serde::Serialize;

use crate::commands::exit::{Code, Failure};
use crate::commands::stop::Signals;
use crate::commands::{StateArgs, output, port, running};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ForwardArgs {
    /// Local address and its destination: [BIND:]PORT:HOST:PORT or /PATH:HOST:PORT; port 0 takes a
    /// free one
    #[arg(value_name = "FORWARD", required_unless_present = "local")]
    forwards: Vec<Spec>,
    /// The same, in the form of ssh
    #[arg(
        short = 'L',
        long = "local",
        env = "OVERLAN_FORWARD_LOCAL",
        value_delimiter = ',',
        value_name = "FORWARD"
    )]
    local: Vec<Spec>,
    /// Forward UDP instead of TCP
    #[arg(long)]
    udp: bool,
    /// Accept other hosts, too, at a BIND address that they reach
    #[arg(short, long)]
    gateway: bool,
    /// Accept programs of other users of this host, too; by default, on Linux, only those of this
    /// user and of root
    #[arg(long, env = "OVERLAN_FORWARD_ALL_USERS", value_parser = BoolishValueParser::new())]
    all_users: bool,
    /// Print the local addresses as one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  A database of a peer, as if it were here:
    overlan forward 5432:db:5432             then: psql -h 127.0.0.1
  Several, and a free port that it prints:
    overlan forward -L 8080:web:80 -L 0:git:22
  A Unix socket here, an IPv6 address of ours, a resolver of a peer:
    overlan forward /run/user/1000/web.sock:web:80
    overlan forward [::1]:8080:web:80
    overlan forward --udp 5353:dns:53

It runs until Ctrl-C, or until `overlan up` ends. On Linux your programs and those of root can use
it, with --all-users those of every user of this host; a Unix socket only you can.
Exit codes: 0 ended by Ctrl-C, 1 cannot listen or no such peer, 2 usage, 3 no `overlan up` runs,
or it ended.";

/// One forward as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    listen: Listen,
    destination: HostPort,
}

/// The local address of a forward.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listen {
    Port(SocketAddr),
    Path(PathBuf),
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = split(text).ok_or(FORM)?;
        let (listen, peer, port) = match &parts[..] {
            [path, peer, port] if path.starts_with(['/', '.']) => {
                (Listen::Path(PathBuf::from(path)), peer, port)
            }
            [here, peer, port] => (listen_at(Ipv4Addr::LOCALHOST.into(), here)?, peer, port),
            [bind, here, peer, port] => (listen_at(address(bind)?, here)?, peer, port),
            _ => return Err(FORM.to_owned()),
        };
        let port = port::number(port, &port::ANY)
            .map_err(|_| port::wrong("the port of the peer", &port::ANY))?;
        let destination = HostPort::new(peer, port).map_err(|error| format!("{error}; {FORM}"))?;
        Ok(Self {
            listen,
            destination,
        })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.listen, self.destination)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

const FORM: &str = "it is [BIND:]PORT:HOST:PORT or /PATH:HOST:PORT, IPv6 addresses in brackets";

/// Parts between colons; what is in brackets is one part, without them.
fn split(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        parts.push(part);
        if after.is_empty() {
            return Some(parts);
        }
        rest = after.strip_prefix(':')?;
    }
}

fn listen_at(address: IpAddr, port: &str) -> Result<Listen, String> {
    let port = port::number(port, &port::OR_FREE)
        .map_err(|_| port::wrong("the port to listen on", &port::OR_FREE))?;
    Ok(Listen::Port(SocketAddr::new(address, port)))
}

fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        "*" | "" => Ok(Ipv6Addr::UNSPECIFIED.into()),
        _ => text
            .parse()
            .map_err(|_| format!("{text:?} is not an address of this host; {FORM}")),
    }
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct ForwardReport {
    schema_version: u32,
    forwards: Vec<Listening>,
}

#[derive(Debug, Serialize)]
struct Listening {
    listen: String,
    peer: String,
    port: u16,
    protocol: &'static str,
}

/// `overlan forward`.
pub(crate) async fn run(args: ForwardArgs) -> Result<(), Failure> {
    let control = args.state.open()?.socket_path();
    let mut specs = args.forwards;
    specs.extend(args.local);
    let AllOpened {
        doors,
        sockets,
        forwards,
    } = open_all(
        specs,
        ForwardOptions {
            udp: args.udp,
            gateway: args.gateway,
            all_users: args.all_users,
        },
    )?;
    let request = Request::Carry(Carry::Forward(forwards));
    let mut signals = Signals::listen()?;
    let mut is_stopped = false;
    let stop = async {
        signals.next().await;
        is_stopped = true;
    };
    let (mut announced, udp, json) = (Ok(()), args.udp, args.json);
    let answer = call_with_sockets(
        &control,
        &request,
        sockets,
        stop,
        |happened| match happened {
            Happened::Listening => announced = announce(&doors, udp, json),
            Happened::Failed { forward, reason } => match doors.get(forward) {
                Some(Opened(spec)) => output::note(&format!("{spec}: {reason}")),
                None => tracing::debug!(forward, reason, "a forward that nobody asked for"),
            },
            Happened::Connected { .. } | Happened::Foreign { .. } => {}
        },
    )
    .await;
    announced?;
    match answer {
        Ok(Response::Done) => Ok(()),
        Err(CallError::Refused(refusal)) if is_stopped && refusal.kind == RefusalKind::Stopping => {
            Ok(())
        }
        Ok(other) => Err(running::unexpected(&other)),
        Err(error) => Err(error.into()),
    }
}

/// The forwards of one command, with their sockets in the same order.
pub(crate) struct AllOpened {
    pub(crate) doors: Vec<Opened>,
    pub(crate) sockets: Vec<OwnedFd>,
    pub(crate) forwards: Vec<Forward>,
}

/// The protocol of the forwards, and the programs that may use them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ForwardOptions {
    /// Datagrams instead of streams.
    pub(crate) udp: bool,
    /// Programs of other hosts.
    pub(crate) gateway: bool,
    /// Programs of every user of this host.
    pub(crate) all_users: bool,
}

/// Takes the ports and paths of all of them.
pub(crate) fn open_all(specs: Vec<Spec>, options: ForwardOptions) -> Result<AllOpened, Failure> {
    if specs.len() > SOCKETS_MAX {
        let text = format!("at most {SOCKETS_MAX} forwards in one command; start another one");
        return Err(Failure::usage(text));
    }
    let mut all = AllOpened {
        doors: Vec::new(),
        sockets: Vec::new(),
        forwards: Vec::new(),
    };
    for spec in specs {
        check(&spec, options.udp, options.gateway)?;
        let (socket, from, listen) = open(&spec.listen, options.udp)?;
        all.sockets.push(socket);
        all.forwards.push(Forward {
            from,
            peer: spec.destination.host().to_owned(),
            port: spec.destination.port(),
            everybody: options.all_users || is_public(&spec.listen),
        });
        all.doors.push(Opened(Spec { listen, ..spec }));
    }
    Ok(all)
}

/// Prints where it listens, once something that connects is served.
fn announce(doors: &[Opened], udp: bool, json: bool) -> Result<(), Failure> {
    if json {
        let listening = doors.iter().map(|Opened(spec)| Listening {
            listen: spec.listen.to_string(),
            peer: spec.destination.host().to_owned(),
            port: spec.destination.port(),
            protocol: if udp { "udp" } else { "tcp" },
        });
        return output::json(&ForwardReport {
            schema_version: 1,
            forwards: listening.collect(),
        });
    }
    let lines: Vec<String> = doors.iter().map(|Opened(spec)| spec.to_string()).collect();
    output::greeting(&lines.join("\n"));
    Ok(())
}

/// Checks what the parser of one forward cannot see.
fn check(spec: &Spec, udp: bool, gateway: bool) -> Result<(), Failure> {
    match &spec.listen {
        Listen::Path(_) if udp => Err(Failure::usage(
            "a Unix socket cannot be forwarded with --udp; give a port",
        )),
        Listen::Path(_) => Ok(()),
        Listen::Port(_) if !is_public(&spec.listen) => Ok(()),
        Listen::Port(address) if !gateway => Err(Failure::usage(format!(
            "other hosts can connect to {address}, and would reach the network in your name; give \
             --gateway if you want that"
        ))),
        Listen::Port(address) => {
            output::note(&format!(
                "Warning: every host that can connect to {address} reaches {} in your name.",
                spec.destination.host()
            ));
            Ok(())
        }
    }
}

/// Returns true if other hosts may reach it.
fn is_public(listen: &Listen) -> bool {
    match listen {
        Listen::Port(address) => !address.ip().to_canonical().is_loopback(),
        Listen::Path(_) => false,
    }
}

fn open(listen: &Listen, udp: bool) -> Result<(OwnedFd, Door, Listen), Failure> {
    let cannot = |error: io::Error| {
        let failure = Failure::new(Code::Other, format!("cannot listen on {listen}: {error}"));
        match (error.kind() == io::ErrorKind::AddrInUse, listen) {
            (true, Listen::Port(_)) => {
                failure.next("Another program listens there; port 0 chooses a free one.")
            }
            (true, Listen::Path(_)) => {
                failure.next("Something has that name; remove it if no program uses it.")
            }
            (false, _) => failure,
        }
    };
    let opened = || -> io::Result<(OwnedFd, Door, Listen)> {
        Ok(match listen {
            Listen::Port(address) if udp => {
                let socket = UdpSocket::bind(address)?;
                let address = socket.local_addr()?;
                (socket.into(), Door::Udp, Listen::Port(address))
            }
            Listen::Port(address) => {
                let listener = TcpListener::bind(address)?;
                let address = listener.local_addr()?;
                (listener.into(), Door::Tcp, Listen::Port(address))
            }
            Listen::Path(path) => {
                // There is no moment at which somebody else could connect.
                let before = umask(Mode::RWXG | Mode::RWXO);
                let listener = UnixListener::bind(path);
                umask(before);
                (listener?.into(), Door::Unix, Listen::Path(path.clone()))
            }
        })
    };
    opened().map_err(cannot)
}

/// A forward whose socket is open. Dropping it removes the socket's file.
pub(crate) struct Opened(Spec);

impl Opened {
    /// Returns where programs come in: an address, or a path.
    pub(crate) fn place(&self) -> String {
        self.0.listen.to_string()
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Listen::Path(path) = &self.0.listen
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, "the socket's file stays");
        }
    }
}

#[cfg(test)]
mod tests;
