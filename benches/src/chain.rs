//! A chain: programs that carry a connection from their entry to the target. Each kind is set up in
//! a module here. A started chain offers the same whatever its kind: a way to open connections, and
//! the CPU time and memory of its processes.

mod direct;
mod ocproxy;
mod onetun;
mod overlan;
mod ssh;
mod yardstick;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use overlan_protocol::HostPort;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{self, Process};
use crate::procfs::{self, Switches};
use crate::socks;
use crate::trouble::{During, Result, Trouble};
use crate::wire::Request;

/// A kind of chain, by the programs that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// No program: the client connects straight to the target. Shows the limits of the machine and
    /// of the suite's own ends.
    Direct,
    /// The TLS relay chain of `hop`.
    Yardstick,
    /// Two devices and a relay.
    Overlan,
    /// `ssh -D` to an sshd of its own.
    Ssh,
    /// openconnect without a TUN, by ocproxy, to an ocserv of its own.
    Ocproxy,
    /// onetun to a wireguard-go of its own.
    Onetun,
}

impl Kind {
    /// All kinds, in the order of the table.
    pub(crate) const ALL: [Self; 6] = [
        Self::Direct,
        Self::Yardstick,
        Self::Overlan,
        Self::Ssh,
        Self::Ocproxy,
        Self::Onetun,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Yardstick => "yardstick",
            Self::Overlan => "overlan",
            Self::Ssh => "ssh",
            Self::Ocproxy => "ocproxy",
            Self::Onetun => "onetun",
        }
    }

    /// Returns whether it is another project's VPN, measured only for rates, latency and memory.
    /// Both break down with thousands of connections and with half-closed ones, and would hold up
    /// the suite until its time limits.
    pub(crate) fn foreign_vpn(self) -> bool {
        matches!(self, Self::Ocproxy | Self::Onetun)
    }
}

/// The settings of every chain.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Directory in which chains make their own.
    pub(crate) directory: PathBuf,
    /// The binary under test.
    pub(crate) overlan: PathBuf,
    /// Address of the target.
    pub(crate) target: SocketAddr,
    /// Keep directories of chains that did not fail, too.
    pub(crate) keep: bool,
}

/// A started chain. Its processes end with it.
#[derive(Debug)]
pub(crate) struct Chain {
    entry: Entry,
    target: SocketAddr,
    /// Near end first. Payload passes through each of them.
    carriers: Vec<Process>,
    /// Processes that carry no payload: a controller, a delaying link.
    apart: Vec<Process>,
    // After the processes, so that they end before their directory is removed.
    directory: TempDir,
}

impl Chain {
    /// Starts a chain and waits until a connection through it reaches the target. `round_trip` adds
    /// a delay between its ends, half of it on either side of the relay.
    pub(crate) fn start(
        kind: Kind,
        setting: &Setting,
        round_trip: Option<Duration>,
    ) -> Result<Self> {
        let mut directory = tempfile::Builder::new()
            .prefix(kind.name())
            .tempdir_in(&setting.directory)
            .during("directory of the chain")?;
        directory.disable_cleanup(true);
        let place = Place {
            setting,
            directory: directory.path(),
            round_trip,
        };
        let parts = match kind {
            Kind::Direct => direct::start(&place),
            Kind::Yardstick => yardstick::start(&place),
            Kind::Overlan => overlan::start(&place),
            Kind::Ssh => ssh::start(&place),
            Kind::Ocproxy => ocproxy::start(&place),
            Kind::Onetun => onetun::start(&place),
        }
        .map_err(|trouble| match trouble {
            Trouble::Failed(what) => {
                Trouble::Failed(format!("{what} (logs: {})", directory.path().display()))
            }
            Trouble::Absent(_) => trouble,
        })?;
        let mut chain = Self {
            entry: parts.entry,
            target: setting.target,
            carriers: parts.carriers,
            apart: parts.apart,
            directory,
        };
        chain.wait_ready()?;
        chain.directory.disable_cleanup(setting.keep);
        Ok(chain)
    }

    /// Keeps the directory with the logs, and returns it.
    pub(crate) fn keep_logs(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    /// Opens a connection to the target and tells it `request`.
    pub(crate) async fn open(&self, request: Request) -> Result<TcpStream> {
        self.way().open(request).await
    }

    /// Returns a way to open connections on another thread.
    pub(crate) fn way(&self) -> Way {
        Way {
            entry: self.entry.clone(),
            target: self.target,
        }
    }

    /// CPU time of all processes that carry payload, seconds since their start.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.pids().into_iter().map(procfs::cpu_seconds).sum()
    }

    /// Resident memory of all processes that carry payload, KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.memory(|memory| memory.now_kib)
    }

    /// The sum of the highest resident memory of each of these processes, KiB.
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        self.memory(|memory| memory.peak_kib)
    }

    /// Resident memory of the processes apart, KiB.
    pub(crate) fn apart_kib(&self) -> Result<u64> {
        self.apart
            .iter()
            .map(|process| Ok(procfs::memory(process.pid())?.now_kib))
            .sum()
    }

    /// CPU seconds and resident KiB of the process that programs speak to.
    pub(crate) fn near(&self) -> Result<(f64, u64)> {
        let near = self
            .carriers
            .first()
            .ok_or_else(|| Trouble::Absent("this chain has no processes".to_owned()))?;
        let memory = procfs::memory(near.pid())?;
        Ok((procfs::cpu_seconds(near.pid())?, memory.now_kib))
    }

    /// Counts the sleeps and displacements of all threads of the processes that carry payload,
    /// since their start.
    pub(crate) fn switches(&self) -> Result<Switches> {
        procfs::switches(self.pids())
    }

    /// The processes that carry payload, by their position, each with its children.
    pub(crate) fn positions(&self) -> Vec<(Position, Vec<u32>)> {
        let last = self.carriers.len().saturating_sub(1);
        let carriers = self.carriers.iter().enumerate();
        carriers
            .map(|(at, process)| {
                let position = match at {
                    0 => Position::Near,
                    at if at == last => Position::Far,
                    _ => Position::Relay,
                };
                (position, procfs::family(process.pid()))
            })
            .collect()
    }

    /// All processes that carry payload; their children, too, as sshd works in one.
    fn pids(&self) -> Vec<u32> {
        let carriers = self.carriers.iter();
        carriers
            .flat_map(|process| procfs::family(process.pid()))
            .collect()
    }

    fn memory(&self, of: impl Fn(procfs::Memory) -> u64) -> Result<u64> {
        self.pids()
            .into_iter()
            .map(|pid| Ok(of(procfs::memory(pid)?)))
            .sum()
    }

    /// Echoes one byte, again and again until it works: an entry may answer before the rest of the
    /// chain is up.
    fn wait_ready(&self) -> Result<()> {
        let runtime = runtime()?;
        let mut last = None;
        let ready = process::until("a first echo through the chain", READY, || {
            let attempt = runtime.block_on(async {
                tokio::time::timeout(ATTEMPT, async {
                    let mut stream = self.open(Request::Echo).await?;
                    stream.write_all(b"x").await.during("echo")?;
                    stream.read_u8().await.during("echo")
                })
                .await
                .during("an echo")?
            });
            match attempt {
                Ok(_) => Ok(Some(())),
                Err(trouble) => {
                    last = Some(trouble);
                    Ok(None)
                }
            }
        });
        ready.map_err(|trouble| {
            let last = last.map_or_else(String::new, |last| format!("; last: {last}"));
            Trouble::failed(format!(
                "{trouble}{last} (logs: {})",
                self.directory.path().display()
            ))
        })
    }
}

/// The position of a process in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Programs speak to it.
    Near,
    /// Between the ends.
    Relay,
    /// It speaks to the target.
    Far,
}

/// A way to open connections through a chain.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    entry: Entry,
    target: SocketAddr,
}

impl Way {
    /// Opens a connection to the target and tells it `request`.
    pub(crate) async fn open(&self, request: Request) -> Result<TcpStream> {
        let stream = match &self.entry {
            Entry::Direct => connect(self.target).await?,
            Entry::Forward(port) => connect(*port).await?,
            Entry::Socks(proxy, destination) => socks::open(*proxy, destination).await?,
        };
        tell(stream, request).await
    }

    /// Opens a connection to the target past the chain, for questions about what it has seen.
    pub(crate) async fn ask(&self, request: Request) -> Result<TcpStream> {
        tell(connect(self.target).await?, request).await
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to)
        .await
        .during(format_args!("connect to {to}"))?;
    stream.set_nodelay(true).during("TCP_NODELAY")?;
    Ok(stream)
}

async fn tell(mut stream: TcpStream, request: Request) -> Result<TcpStream> {
    stream
        .write_all(&request.encode())
        .await
        .during("request")?;
    Ok(stream)
}

/// A runtime on the calling thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("runtime")
}

/// The longest until a started chain carries a byte.
const READY: Duration = Duration::from_secs(30);

/// The longest for one attempt of it.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The surroundings in which a chain is set up.
#[derive(Debug)]
struct Place<'a> {
    setting: &'a Setting,
    directory: &'a Path,
    round_trip: Option<Duration>,
}

impl Place<'_> {
    /// The target as a proxy on this machine reaches it.
    fn target(&self) -> Result<HostPort> {
        self.setting
            .target
            .try_into()
            .during("address of the target")
    }

    /// Starts a link to `to` which takes a quarter of the round trip in each direction, as client,
    /// relay, client are two links. Returns its address, or `to` itself without a delay.
    fn link(&self, to: SocketAddr, apart: &mut Vec<Process>) -> Result<SocketAddr> {
        let Some(round_trip) = self.round_trip else {
            return Ok(to);
        };
        let one_way = (round_trip / 4).as_micros();
        let mut command = process::own("delay")?;
        command
            .args(["--to", &to.to_string()])
            .args(["--one-way-us", &one_way.to_string()]);
        let name = format!("delay-{}", apart.len());
        let mut link = Process::start(&name, self.directory, &mut command)?;
        let address = link.line(LISTENS)?.parse().during("address of the link")?;
        apart.push(link);
        Ok(address)
    }
}

/// Text that helpers of the suite print before their address.
pub(crate) const LISTENS: &str = "listens on ";

/// The entry of a chain for programs.
#[derive(Debug, Clone)]
enum Entry {
    /// There is no chain.
    Direct,
    /// A port that stands for the target.
    Forward(SocketAddr),
    /// A SOCKS5 proxy, and the name of the target there.
    Socks(SocketAddr, HostPort),
}

/// The processes and the entry that a kind of chain has set up.
#[derive(Debug)]
struct Parts {
    entry: Entry,
    carriers: Vec<Process>,
    apart: Vec<Process>,
}

/// Finds a free port. No other program takes ports in the suite's namespace.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("find a free port")?;
    listener.local_addr().during("find a free port")
}
