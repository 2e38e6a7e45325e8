//! `up`: brings this device into its networks and keeps it there until it is told to stop. Decides the order of things: ports,
//! device, node, doors, ready, and the same backwards.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use overlan::program::controller_session::Health;
use overlan::program::enrol::{EnrolError, EnrolOptions, enrol, forget, system_hostname};
use overlan::program::node::{CONFIRM_WITHIN, Node, NodeError, NodeOptions, NotReady};
use overlan::program::socket::{ControlSocket, Waiting};
use overlan::program::state::{Device, DirLock, StateDir};
use overlan::program::status::Status;
use overlan_protocol::api::{Credential, JoinString};
use overlan_protocol::key::Secret;
use rustix::process::{Resource, getrlimit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cli::exit::{Code, Failure};
use crate::cli::memory::MemoryArgs;
use crate::cli::secret::{self, Source};
use crate::cli::stop::Signals;
use crate::cli::{
    StateArgs, api, duration, log, login, now_unix, output, prompt, upstream, waiting,
};

use answers::Answers;
pub(crate) use background::log_file;
use carrying::Carrying;
pub(crate) use doors::dns_sockets;
use doors::{DoorArgs, Doors};
use measure::Measuring;
use notify::NotifyArgs;
use reload::{Hangup, Reload};
use serving::Serving;
use steps::Steps;
use way::{Facts, Way};

mod answers;

mod background;

mod carrying;

mod doors;

mod measure;

mod notify;

mod reload;

mod serving;

mod steps;

mod way;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    /// Join string of the controller; `overlan controller serve` prints it. Needed at the first start only
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    server: Option<JoinString>,
    /// File with an auth key, for the first start; - is standard input ($OVERLAN_AUTH_KEY works, too)
    #[arg(long, env = "OVERLAN_AUTH_KEY_FILE", value_name = "PATH")]
    auth_key_file: Option<Source>,
    /// Name of this device in the overlay, for the first start [default: the host's name]
    #[arg(long, env = "OVERLAN_HOSTNAME", value_name = "NAME")]
    hostname: Option<String>,
    /// Network to join at the first start; repeat it, or separate names by commas, for several; all = all of the key's
    /// [default: all of the key's, or the organisation's default network]
    #[arg(
        long = "network",
        env = "OVERLAN_NETWORK",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    networks: Vec<String>,
    /// Network that bare overlay addresses mean, for a device in several networks, which all use the same addresses
    #[arg(long, env = "OVERLAN_ADDRESS_NETWORK", value_name = "NAME")]
    address_network: Option<String>,
    /// Give up after this time without being ready: seconds, or with a unit (2m); 0 = never [default: 60, or never on a terminal]
    #[arg(long, env = "OVERLAN_TIMEOUT", value_name = "TIME", value_parser = duration::within::<u64>(duration::ANY))]
    timeout: Option<u64>,
    /// How long connections may go on after it was told to stop, before they are reset: seconds, or with a unit (1m)
    #[arg(long, env = "OVERLAN_DRAIN", value_name = "TIME", default_value = "2", value_parser = duration::within::<u64>(0..=3_600))]
    drain: u64,
    /// How long connections wait for a peer that does not answer, as one does that sleeps: seconds, or with a unit (1h)
    #[arg(long, env = "OVERLAN_PEER_TIMEOUT", value_name = "TIME", default_value = "15m", value_parser = duration::within::<u64>(30..=2_592_000))]
    peer_timeout: u64,
    /// Threads that move data; one is enough for several Gbit/s
    #[arg(long, env = "OVERLAN_THREADS", value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
    /// Return when peers can reach this device, and go on in the background; `overlan down` stops it
    #[arg(long, env = "OVERLAN_BACKGROUND", value_parser = BoolishValueParser::new())]
    background: bool,
    /// It is the part that went into the background
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
    doors: DoorArgs,
    #[command(flatten)]
    state: StateArgs,
}

impl UpArgs {
    pub(crate) fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// Where it logs if it is the part that went into the background.
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
  Every later start needs nothing:
    overlan up
  A device that leaves no trace: its keys are in memory, and it is removed when it ends:
    overlan up --state-dir mem: --server 'https://controller.example:8443#sha256:…' --auth-key-file key.txt
  Then, in another terminal:
    curl --proxy socks5h://127.0.0.1:1080 http://web.home.overlan.internal/
    ssh -o 'ProxyCommand nc -X 5 -x 127.0.0.1:1080 %h %p' web.home.overlan.internal
    dig @127.0.0.1 -p 1053 web.home.overlan.internal

It runs in the foreground until Ctrl-C, SIGTERM or `overlan down`, and prints one line when peers can reach it. With
--background it returns then; it logs to up.log in the state directory.";

/// `overlan up`.
pub(crate) async fn up(args: UpArgs) -> Result<(), Failure> {
    // A limit that cannot be kept must not cost a one-off key.
    args.memory.budget()?;
    if !args.background {
        args.notify.take_over()?;
    }
    let state = Arc::new(args.state.create_or_in_memory()?);
    if args.background {
        return background::start(&state, args.auth_key_file == Some(Source::Stdin)).await;
    }
    if args.detached {
        background::detach();
    }
    let ended = up_in(&args, &state).await;
    if state.is_in_memory() {
        // Nobody else has its keys, so nobody could remove it later.
        ended.and(
            forget(&state, &upstream::outgoing(), api::WITHIN)
                .await
                .map_err(Failure::from),
        )
    } else {
        ended
    }
}

async fn up_in(args: &UpArgs, state: &Arc<StateDir>) -> Result<(), Failure> {
    tell_few_files();
    // Before the lock, so that it is dropped behind it: when `overlan down` returns, another `up` can start.
    let mut waiting = None;
    let lock = state.lock()?;
    // The ports come first: a taken one must not cost a one-off key.
    let doors = args.doors.open(None).await?;
    upstream::leave_out(&doors.proxy.addresses());
    let was_aside = state.is_device_aside();
    let (device, is_new) = device(args, state).await?;
    // Not before: until here Ctrl-C must end a prompt, and there is nothing to put in order.
    let mut signals = Signals::listen()?;
    let ended = run(
        args,
        state,
        (&lock, &mut waiting),
        device,
        doors,
        &mut signals,
    )
    .await;
    match ended {
        // A removed device with a key in hand is enrolled anew: an ephemeral one that was away too long, most often. So is one that the
        // controller does not know, or by a person who heard of that before and starts it again.
        Err(Ended::Removed(failure)) if !is_new => {
            let key = auth_key(args)?;
            if key.is_none() && !(was_aside && prompt::can_ask()) {
                return Err(failure);
            }
            output::note("The controller knows this device no more; it is enrolled as a new one.");
            let device = tokio::select! {
                device = enrol_device(args, state, key) => device?,
                () = signals.next() => return Ok(()),
            };
            let doors = args.doors.open(None).await?;
            let ended = run(
                args,
                state,
                (&lock, &mut waiting),
                device,
                doors,
                &mut signals,
            )
            .await;
            ended.map_err(Failure::from)
        }
        other => other.map_err(Failure::from),
    }
}

/// Why `up` ended by itself.
#[derive(Debug)]
enum Ended {
    /// The controller knows this device no more.
    Removed(Failure),
    /// Anything else.
    Failed(Failure),
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Removed(failure) | Ended::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NotReady> for Ended {
    fn from(error: NotReady) -> Self {
        match error {
            NotReady::Removed | NotReady::Unknown => Self::Removed(error.into()),
            NotReady::Controller { .. }
            | NotReady::Approval { .. }
            | NotReady::Relay { .. }
            | NotReady::Stopped => Self::Failed(error.into()),
        }
    }
}

/// The stored device, or a new one; whether it is new.
async fn device(args: &UpArgs, state: &StateDir) -> Result<(Device, bool), Failure> {
    match state.load_device()? {
        Some(device) => Ok((way::accept_stored(device, args.server.as_ref())?, false)),
        None => {
            let device = enrol_device(args, state, auth_key(args)?).await?;
            Steps::of(args).enrolled(&device);
            Ok((device, true))
        }
    }
}

fn auth_key(args: &UpArgs) -> Result<Option<Secret>, Failure> {
    secret::auth_key(args.auth_key_file.as_ref())
}

async fn enrol_device(
    args: &UpArgs,
    state: &StateDir,
    auth_key: Option<Secret>,
) -> Result<Device, Failure> {
    let way = way::choose(Facts {
        server: args.server.clone(),
        auth_key,
        session: state.load_login()?,
        can_ask: prompt::can_ask(),
        now: now_unix(),
    })?;
    let (join, credential) = match way {
        Way::Enrol { join, credential } => (join, credential),
        Way::Ask { join } => {
            let login = login::log_in_asking(state, join.clone(), None, false).await?;
            (join, Credential::Session(login.session))
        }
    };
    let options = EnrolOptions {
        join,
        credential,
        hostname: args.hostname.clone().unwrap_or_else(system_hostname),
        networks: args.networks.clone(),
        outgoing: upstream::outgoing(),
        deadline: within(args).map_or(ENROL_WITHIN, |within| within.min(ENROL_WITHIN)),
    };
    let enrolled = waiting::saying("the controller", enrol(options, state)).await;
    enrolled.map_err(Failure::from)
}

/// How long to wait for readiness; `None` = for ever.
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

/// Runs the node and its doors until somebody stops it, or it cannot go on. Who asked for the end by the control socket hears of it
/// when `waiting` is dropped.
async fn run(
    args: &UpArgs,
    state: &Arc<StateDir>,
    (lock, waiting): (&DirLock, &mut Option<Waiting>),
    device: Device,
    doors: Doors,
    signals: &mut Signals,
) -> Result<(), Ended> {
    let socket = if state.is_in_memory() {
        None
    } else {
        Some(ControlSocket::bind(state, lock).map_err(Failure::from)?)
    };
    args.notify.begin()?;
    let mut reload = Reload::listen()?;
    let options = NodeOptions {
        address_network: args.address_network.clone(),
        patience: Duration::from_secs(args.peer_timeout),
        dns_forwards: doors.dns_forwards.clone(),
        outgoing: upstream::outgoing(),
        memory: args.memory.budget()?,
        silence: args.doors.patience(),
        ..NodeOptions::default()
    };
    let node = Node::start(Arc::clone(state), device, options).map_err(Failure::from)?;
    // Somebody asked for the end; `stop` ends what is left then.
    let down = CancellationToken::new();
    let stop = CancellationToken::new();
    let mut serving = Serving::begin(&node, doors, &stop);
    let answers = Arc::new(Answers {
        node: node.clone(),
        state: Arc::clone(state),
        places: Mutex::new(serving.places()),
        stop: down.clone(),
        changing: Mutex::new(()),
        measuring: Measuring::new(&down),
        carrying: Carrying::new(),
    });
    let control = tokio::spawn({
        let answers = Arc::clone(&answers);
        let handler = move |request| {
            let answers = Arc::clone(&answers);
            async move { answers.answer(request).await }
        };
        let stop = stop.clone();
        async move { Some(socket?.run(handler, stop).await) }
    });

    let is_ready = AtomicBool::new(false);
    let mut staying = pin!(stay(&node, &answers, args, &is_ready));
    let ended = loop {
        tokio::select! {
            ended = &mut staying => break ended,
            () = down.cancelled() => break Ok(()),
            () = signals.next() => break Ok(()),
            hangup = reload.next() => match hangup {
                Hangup::Gone => break Ok(()),
                Hangup::Asked => {
                    args.notify.reloading();
                    read_again(&mut reload, &mut serving, &answers).await;
                    let line = told_line(args, &answers);
                    if is_ready.load(Ordering::Relaxed) && let Err(failure) = args.notify.ready(&line) {
                        output::note(&format!("Error: {failure}"));
                    }
                }
            },
        }
    };
    args.notify.ending();
    // Also where a signal asked.
    down.cancel();
    let goodbye = async {
        serving.close();
        let drain = Duration::from_secs(args.drain);
        // Who is in may finish; whatever does not is reset, so that nobody takes a cut answer for a whole one.
        let _ = timeout(drain, async {
            tokio::join!(node.drain(drain), serving.ended());
            // What the last of them wrote.
            node.drain(drain).await;
        })
        .await;
        node.leave().await;
        let _ = timeout(TOLD_WITHIN, serving.ended()).await;
        stop.cancel();
        serving.ended().await;
        node.shutdown().await;
        *waiting = control.await.ok().flatten();
    };
    tokio::select! {
        () = goodbye => {}
        () = signals.next() => output::note("Stopped at once."),
    }
    ended
}

/// Reads the settings again and brings in what can change while it runs: all of it, or nothing if anything is wrong.
async fn read_again(reload: &mut Reload, serving: &mut Serving, answers: &Answers) {
    let read = async {
        let again = reload.read()?;
        let doors = again.args.doors.open(Some(serving.doors())).await?;
        log::change(&again.log)?;
        Ok::<_, Failure>((again, doors))
    };
    match read.await {
        Ok((mut again, doors)) => {
            let before = &serving.doors().proxy.config.credentials;
            if let (Some(before), Some(after)) = (before, &doors.proxy.config.credentials)
                && !before.same_as(after)
            {
                again.changed.add_now("socks-password-file");
            }
            upstream::leave_out(&doors.proxy.addresses());
            serving.change(doors);
            *answers.places() = serving.places();
            output::note(&again.changed.sentence());
            reload.keep(again);
        }
        Err(failure) => output::note(&format!(
            "Settings were read again and everything stays as it is. Error: {failure}"
        )),
    }
}

/// Waits for readiness, says so, then stays until the controller removes the device.
async fn stay(
    node: &Node,
    answers: &Answers,
    args: &UpArgs,
    is_ready: &AtomicBool,
) -> Result<(), Ended> {
    let told = async {
        node.awaits_approval().await;
        let label = &answers
            .status()
            .device
            .map(|device| device.label)
            .unwrap_or_default();
        output::note(&format!(
            "This device ({label}) waits for the approval of an admin. {APPROVE}"
        ));
        std::future::pending().await
    };
    let ready = tokio::select! {
        ready = waiting::saying("a relay", node.ready(within(args))) => ready,
        never = told => never,
    };
    match ready {
        Ok(()) => {
            let steps = Steps::of(args);
            steps.attached(&answers.status());
            let confirmed = waiting::saying("peers", node.confirm(CONFIRM_WITHIN)).await;
            steps.confirmed(confirmed);
            if confirmed.answered < confirmed.asked {
                tracing::info!(
                    ?confirmed,
                    "some peers that should be online did not answer yet"
                );
            }
            let line = told_line(args, answers);
            is_ready.store(true, Ordering::Relaxed);
            args.notify.ready(&line)?;
            output::greeting(&line);
        }
        // By a request of a person, who hears of it elsewhere.
        Err(NotReady::Stopped) => return Ok(()),
        Err(error) => return Err(Ended::from(error)),
    }
    let mut health = node.control_health();
    match health.wait_for(|health| *health == Health::Removed).await {
        Ok(_) => Err(Ended::from(NotReady::Removed)),
        Err(_) => Ok(()),
    }
}

/// What is told when peers can reach it.
fn told_line(args: &UpArgs, answers: &Answers) -> String {
    let status = answers.status();
    match args.json {
        true => ready_document(&status),
        false => ready_line(&status),
    }
}

/// One line for people and for scripts that wait for it.
fn ready_line(status: &Status) -> String {
    let mut line = "overlan is up".to_owned();
    if let Some(device) = &status.device {
        line.push_str(&format!(": {}", device.name));
        for address in device.addresses.iter().filter(|address| address.is_ipv4()) {
            line.push_str(&format!(" {address}"));
        }
    }
    if let Some(address) = status.socks {
        line.push_str(&format!(", socks5h://{address}"));
    }
    if let Some(address) = status.dns {
        line.push_str(&format!(", dns {address}"));
    }
    line
}

/// The same for programs, on one line too: more may follow some day.
fn ready_document(status: &Status) -> String {
    let document = serde_json::json!({
        "schema_version": 1,
        "state": status.state,
        "device": status.device,
        "socks": status.socks,
        "proxies": status.proxies,
        "dns": status.dns,
    });
    document.to_string()
}

impl From<EnrolError> for Failure {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Controller(error) => api::as_person(error),
            EnrolError::State(error) => error.into(),
            EnrolError::NoRandomness => Self::new(Code::Other, error),
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::State(error) => error.into(),
        }
    }
}

impl From<NotReady> for Failure {
    fn from(error: NotReady) -> Self {
        let code = match error {
            NotReady::Removed => Code::NeedsLogin,
            NotReady::Unknown => return Self::new(Code::NeedsLogin, error).next(ENROL_ANEW),
            NotReady::Controller { .. } => Code::ControllerUnreachable,
            NotReady::Approval { .. } => {
                return Self::new(Code::PendingApproval, error).next(APPROVE);
            }
            NotReady::Relay { .. } => Code::RelayUnreachable,
            NotReady::Stopped => Code::Other,
        };
        Self::new(code, error)
    }
}

/// What somebody does for a device whose controller does not come back to knowing it.
const ENROL_ANEW: &str = "Run `overlan up` again to enrol it as a new device: with an auth key (--auth-key-file), or at a terminal.";

/// What an admin does for a device that waits.
pub(super) const APPROVE: &str = "An admin runs `overlan admin device approve DEVICE`; `overlan admin device list` shows who waits.";

/// How long programs' connections may take to hear that they were reset.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// With few files there is room for few connections, and nothing tells it later: who finds no place waits without a word.
fn tell_few_files() {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files < FILES_WANTED {
        tracing::warn!(
            "this process may open {files} files, so few connections are open at once and others wait; raise the limit (`ulimit -n`, LimitNOFILE= of systemd)"
        );
    }
}

/// Files with which a device has room for some hundred connections.
const FILES_WANTED: u64 = 512;

/// How long an unattended start may take before somebody must hear of it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long the controller is waited for when the device is enrolled.
const ENROL_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
