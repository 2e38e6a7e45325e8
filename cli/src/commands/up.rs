//! `up`: brings this device into its networks and keeps it there until somebody stops it. Decides
//! the order of ports, device and readiness; the daemon runs the device. Its rooms: `steps` (what
//! is done first), `listeners` and their `reload`, `ready`, `stay` until the end, `background` and
//! `notify` (the service manager).

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use overlan::program::enrol::{EnrolOptions, enrol, forget, renew, system_hostname};
use overlan::program::notify::Announcer;
use overlan::program::right::{self, EnrolFacts, EnrolRight};
use overlan::program::state::{Device, Login, StateDir};
use overlan_protocol::api::Credential;
use overlan_transport::clock::wall;
use rustix::process::{Resource, getrlimit};

use crate::commands::enrol::EnrolArgs;
use crate::commands::exit::Failure;
use crate::commands::memory::MemoryArgs;
use crate::commands::stop::Signals;
use crate::commands::{StateArgs, api, duration, login, output, prompt, upstream, waiting};

pub(crate) use background::log_file;
use listeners::ListenerArgs;
use notify::NotifyArgs;
pub(crate) use stay::APPROVE;
use stay::{UpEnd, UpRun};
use steps::Steps;

mod background;

mod listeners;

mod notify;

mod ready;

mod reload;

mod stay;

mod steps;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    enrol: EnrolArgs,
    /// Network of overlay addresses that are given without one, for a device in several networks,
    /// which all use the same addresses
    #[arg(long, env = "OVERLAN_ADDRESS_NETWORK", value_name = "NAME")]
    address_network: Option<String>,
    /// Give up if it is not ready after this time: seconds, or with a unit (2m); 0 = never
    /// [default: 60, or never on a terminal]
    #[arg(
        long,
        env = "OVERLAN_TIMEOUT",
        value_name = "TIME",
        value_parser = duration::within::<u64>(duration::ANY),
    )]
    timeout: Option<u64>,
    /// Time that open connections have to end when it stops, before they are reset: seconds, or
    /// with a unit (1m)
    #[arg(
        long,
        env = "OVERLAN_DRAIN",
        value_name = "TIME",
        default_value = "2",
        value_parser = duration::within::<u64>(0..=3_600),
    )]
    drain: u64,
    /// Time that connections wait for a peer that does not answer, such as a laptop that sleeps:
    /// seconds, or with a unit (1h)
    #[arg(
        long,
        env = "OVERLAN_PEER_TIMEOUT",
        value_name = "TIME",
        default_value = "15m",
        value_parser = duration::within::<u64>(30..=2_592_000),
    )]
    peer_timeout: u64,
    /// Threads that move data; one is enough for several Gbit/s
    #[arg(long, env = "OVERLAN_THREADS", value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
    /// Return once peers can reach this device, and continue in the background; `overlan down`
    /// stops it
    #[arg(long, env = "OVERLAN_BACKGROUND", value_parser = BoolishValueParser::new())]
    background: bool,
    /// Set in the process that runs in the background
    #[arg(long, hide = true, env = "OVERLAN_DETACHED", value_parser = BoolishValueParser::new())]
    detached: bool,
    /// Print the ready line as one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    notify: NotifyArgs,
    #[command(flatten)]
    listeners: ListenerArgs,
    #[command(flatten)]
    state: StateArgs,
}

impl UpArgs {
    pub(crate) fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// Returns its log file if it is the process in the background.
    pub(crate) fn log_file(&self) -> Option<PathBuf> {
        self.detached
            .then(|| self.state.open().ok())
            .flatten()
            .map(|state| background::log_path(&state))
    }
}

const EXAMPLES: &str = "\
Examples:
  First start of a server, with an auth key:
    overlan up --server 'https://controller.example:8443#sha256:…' --auth-key-file key.txt
  A CI job, by its own token:
    overlan up --background --oidc --server \"$JOIN\"
  Every later start needs nothing:
    overlan up
  A device that leaves no trace: its keys are in memory, and it is removed when it ends:
    overlan up --state-dir mem: --server \"$JOIN\" --auth-key-file key.txt
  Then, in another terminal:
    curl --proxy socks5h://127.0.0.1:1080 http://web.home.overlan.internal/
    ssh -o 'ProxyCommand nc -X 5 -x 127.0.0.1:1080 %h %p' web.home.overlan.internal
    dig @127.0.0.1 -p 1053 web.home.overlan.internal

It runs in the foreground until Ctrl-C, SIGTERM or `overlan down`, and prints one line when peers
can reach it. With --background it returns then; it logs to up.log in the state directory.";

/// `overlan up`.
pub(crate) async fn up(args: UpArgs) -> Result<(), Failure> {
    // A limit that cannot be kept must not cost a one-off key.
    args.memory.budget()?;
    if args.background {
        let state = args.state.create_or_in_memory()?;
        return background::start(&state, args.enrol.reads_stdin()).await;
    }
    let announcer = args.notify.take_over()?;
    let state = Arc::new(args.state.create_or_in_memory()?);
    if args.detached {
        background::detach();
    }
    let ended = up_in(&args, &state, &announcer).await;
    if state.is_in_memory() {
        // No other process has its keys, so none could remove it later.
        ended.and(
            forget(&state, &upstream::outgoing(), api::WITHIN)
                .await
                .map_err(Failure::from),
        )
    } else {
        ended
    }
}

async fn up_in(args: &UpArgs, state: &Arc<StateDir>, announcer: &Announcer) -> Result<(), Failure> {
    warn_of_few_files();
    // Before the lock, so that it is dropped after it: when `overlan down` returns, another `up`
    // can start.
    let mut askers = None;
    let lock = state.lock()?;
    // The ports come first: a taken one must not cost a one-off key.
    let listeners = args.listeners.open(None).await?;
    upstream::leave_out(&listeners.proxy.addresses());
    let was_aside = state.is_device_aside();
    let (device, is_new) = device(args, state).await?;
    let mut run = UpRun {
        args,
        state,
        lock: &lock,
        announcer,
        // Not before: until here Ctrl-C must end a prompt, and nothing has to be put in order.
        signals: &mut Signals::listen()?,
    };
    match run.device(device, listeners, &mut askers).await {
        // A removed device is enrolled again if there is a key: most often it is an ephemeral one
        // that was away for too long. So is a device that the controller does not know, by a person
        // who heard of that before and starts it again.
        Err(UpEnd::Removed(failure)) if !is_new => {
            let given = args.enrol.given().await?;
            let has_right = given.auth_key.is_some() || given.workload.is_some();
            if !(has_right || was_aside && prompt::can_ask()) {
                return Err(failure);
            }
            output::note(
                "The controller does not know this device any more; it is enrolled as a new one.",
            );
            let device = tokio::select! {
                device = enrol_device(args, state, given) => device?,
                () = run.signals.next() => return Ok(()),
            };
            let listeners = args.listeners.open(None).await?;
            Ok(run.device(device, listeners, &mut askers).await?)
        }
        // The same device goes on, if there is a right that it can prove.
        Err(UpEnd::Expired(failure)) => {
            let Some(device) = state.load_device()? else {
                return Err(failure);
            };
            let given = args.enrol.given().await?;
            let has_right = given.auth_key.is_some() || given.workload.is_some();
            if !(has_right || is_logged_in(state, &device)? || prompt::can_ask()) {
                return Err(failure);
            }
            output::note("The right of this device has expired; it is proved again.");
            tokio::select! {
                renewed = renew_device(args, state, &device, given) => renewed?,
                () = run.signals.next() => return Ok(()),
            }
            let listeners = args.listeners.open(None).await?;
            Ok(run.device(device, listeners, &mut askers).await?)
        }
        other => Ok(other?),
    }
}

/// Returns the stored device, or a new one, and true if it is new.
async fn device(args: &UpArgs, state: &StateDir) -> Result<(Device, bool), Failure> {
    match state.load_device()? {
        Some(device) => Ok((
            right::accept_stored(device, args.enrol.server.as_ref())?,
            false,
        )),
        None => {
            let device = enrol_device(args, state, args.enrol.given().await?).await?;
            Steps::of(args).enrolled(&device);
            Ok((device, true))
        }
    }
}

async fn enrol_device(
    args: &UpArgs,
    state: &StateDir,
    given: EnrolFacts,
) -> Result<Device, Failure> {
    let options = enrol_options(args, state, given).await?;
    let enrolled = waiting::saying("the controller", enrol(options, state)).await;
    enrolled.map_err(Failure::from)
}

/// Chooses the right for an enrolment, asking a person for it if there is no other.
async fn enrol_options(
    args: &UpArgs,
    state: &StateDir,
    given: EnrolFacts,
) -> Result<EnrolOptions, Failure> {
    let right = right::choose(EnrolFacts {
        session: state.load_login()?,
        can_ask: prompt::can_ask(),
        now: wall(),
        ..given
    })?;
    let (join, credential) = match right {
        EnrolRight::Credential { join, credential } => (join, credential),
        EnrolRight::Person { join } => {
            let login =
                login::log_in_asking(state, join.clone(), login::Who::default(), false).await?;
            (join, Credential::Session(login.session))
        }
    };
    Ok(EnrolOptions {
        join,
        credential,
        hostname: args.enrol.hostname.clone().unwrap_or_else(system_hostname),
        networks: args.enrol.networks.clone(),
        outgoing: upstream::outgoing(),
        deadline: within(args).map_or(ENROL_WITHIN, |within| within.min(ENROL_WITHIN)),
    })
}

/// Returns true if there is a login by which `device` can prove its right again.
fn is_logged_in(state: &StateDir, device: &Device) -> Result<bool, Failure> {
    let login = state.load_login()?;
    let fits = |login: Login| device.join.is_known_as(&login.join) && login.login.expires > wall();
    Ok(login.is_some_and(fits))
}

async fn renew_device(
    args: &UpArgs,
    state: &StateDir,
    device: &Device,
    given: EnrolFacts,
) -> Result<(), Failure> {
    let given = EnrolFacts {
        server: Some(device.join.clone()),
        ..given
    };
    let options = enrol_options(args, state, given).await?;
    let renewed = waiting::saying("the controller", renew(&options, device, state)).await;
    renewed.map_err(Failure::from)
}

/// Returns the time within which it must be ready; `None` = no limit.
fn within(args: &UpArgs) -> Option<Duration> {
    wait_for(args.timeout, io::stdout().is_terminal())
}

fn wait_for(asked: Option<u64>, has_terminal: bool) -> Option<Duration> {
    match asked {
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None if has_terminal => None,
        None => Some(READY_WITHIN),
    }
}

/// Warns of a low limit: with few files there is room for few connections, and others wait without
/// a word later.
fn warn_of_few_files() {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files < FILES_WANTED {
        tracing::warn!(
            "this process may open {files} files, so few connections are open at once and others \
             wait; raise the limit (`ulimit -n`, LimitNOFILE= of systemd)"
        );
    }
}

/// Files with which a device has room for some hundred connections.
const FILES_WANTED: u64 = 512;

/// Time for an unattended start, after which it fails so that somebody hears of it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Time for the controller to enrol the device.
const ENROL_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
