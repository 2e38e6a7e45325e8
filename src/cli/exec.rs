//! `exec`: runs a program whose connections go through the overlay, by the variables that programs know. Decides what the program finds
//! there, which signals it gets and which exit code is passed on.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit::{Code, Failure};
use crate::cli::{StateArgs, duration, output, running, upstream, wait};

use ephemeral::EphemeralArgs;

mod ephemeral;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// The program and its arguments, behind --
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
    /// How long to wait until peers can be reached: seconds, or with a unit (2m); 0 = for ever
    #[arg(
        long,
        env = "OVERLAN_EXEC_TIMEOUT",
        default_value_t = 60,
        value_parser = duration::within::<u32>(duration::ANY),
        value_name = "TIME"
    )]
    timeout: u32,
    #[command(flatten)]
    own: EphemeralArgs,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan exec -- curl http://web.home.overlan.internal/
  overlan exec --timeout 120 -- git clone http://git.home.overlan.internal/repo
  overlan exec --ephemeral --server JOIN --auth-key-file key.txt -- make deploy
  overlan exec -- sh -c 'dig @$OVERLAN_DNS_HOST -p $OVERLAN_DNS_PORT web.home.overlan.internal'

The program finds ALL_PROXY, HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in both cases, and OVERLAN_DNS_HOST and OVERLAN_DNS_PORT. It gets
SIGINT, SIGTERM and SIGHUP of this one. Only programs that know these variables use the overlay.
Exit codes: the program's; 128 + N if signal N killed it; 126 and 127 as in a shell if it cannot be started;
before it starts 3 no `overlan up` runs, 4 not enrolled any more or no valid key, 8 no controller, 9 no relay.";

/// `overlan exec`.
pub(crate) async fn run(args: ExecArgs) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("name a program behind --"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // From before anything starts: no signal falls between.
    let mut signals = Forwarded::listen()?;
    // The proxy of our own is for the program, not for commands of ours in there.
    command.env("OVERLAN_UPSTREAM_PROXY", upstream::name());
    if args.own.ephemeral {
        let device = tokio::select! {
            device = args.own.up(args.timeout) => device?,
            (signal, _) = signals.asked.next() => return Ok(exit_code(KILLED.saturating_add(signal.as_raw()))),
        };
        command.envs(variables(device.socks, Some(device.dns)));
        let ended = signals.run(command).await;
        device.close().await;
        return ended;
    }
    wait::until_ready(&args.state, args.timeout).await?;
    let status = running::ask_status(&args.state).await?;
    let socks = status.socks.ok_or_else(|| {
        let text = "the running `overlan up` offers no proxy that a program could use";
        Failure::new(Code::Other, text).next("Start it with --socks 127.0.0.1:1080.")
    })?;
    command.envs(variables(socks, status.dns));
    if let Some(state) = &args.state.state_dir {
        // Commands of ours in there ask the same `overlan up`.
        command.env("OVERLAN_STATE_DIR", std::path::absolute(state)?);
    }
    signals.run(command).await
}

/// What the program finds in its environment.
fn variables(socks: SocketAddr, dns: Option<SocketAddr>) -> Vec<(&'static str, String)> {
    let mut variables: Vec<(&'static str, String)> = PROXIES
        .iter()
        .map(|(name, scheme)| (*name, format!("{scheme}://{socks}")))
        .collect();
    for name in ["NO_PROXY", "no_proxy"] {
        variables.push((name, NOT_PROXIED.to_owned()));
    }
    if let Some(dns) = dns {
        variables.push(("OVERLAN_DNS_HOST", dns.ip().to_string()));
        variables.push(("OVERLAN_DNS_PORT", dns.port().to_string()));
    }
    variables
}

fn passed_on(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => KILLED.saturating_add(signal),
        (None, None) => Code::Other as i32,
    };
    exit_code(code)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Signals that the program gets when this one does, and the one that says that it ended.
struct Forwarded {
    asked: Asked,
    ended: tokio::signal::unix::Signal,
}

/// Signals by which somebody asks for an end.
struct Asked {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Asked {
    /// The next one, and whether a terminal would have sent it to the program as well. Cancel safe.
    async fn next(&mut self) -> (Signal, bool) {
        tokio::select! {
            _ = self.interrupt.recv() => (Signal::INT, true),
            _ = self.hang_up.recv() => (Signal::HUP, true),
            _ = self.terminate.recv() => (Signal::TERM, false),
        }
    }
}

impl Forwarded {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            asked: Asked {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
            },
            ended: signal(SignalKind::child())?,
        })
    }

    /// Runs the program to its end, or says that it cannot be started.
    async fn run(&mut self, mut command: Command) -> Result<ExitCode, Failure> {
        match command.spawn() {
            Ok(child) => Ok(passed_on(self.until_ended(child).await?)),
            Err(error) => {
                let program = command.get_program().to_string_lossy();
                output::note(&format!("Error: cannot start {program}: {error}"));
                Ok(exit_code(match error.kind() == io::ErrorKind::NotFound {
                    true => NOT_FOUND,
                    false => NOT_EXECUTABLE,
                }))
            }
        }
    }

    async fn until_ended(&mut self, mut child: Child) -> io::Result<ExitStatus> {
        // A terminal tells every program in its foreground itself.
        let from_terminal = io::stdin().is_terminal();
        loop {
            // Asked again after each signal: it is not reaped elsewhere, so its id stays its own until here.
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let (signal, by_terminal) = tokio::select! {
                _ = self.ended.recv() => continue,
                asked = self.asked.next() => asked,
            };
            if !(from_terminal && by_terminal)
                && let Err(error) = kill_process(Pid::from_child(&child), signal)
            {
                tracing::debug!(%error, ?signal, "a signal is not passed on");
            }
        }
    }
}

/// Variables that name the proxy. Programs disagree about the case.
const PROXIES: [(&str, &str); 6] = [
    ("ALL_PROXY", "socks5h"),
    ("all_proxy", "socks5h"),
    ("HTTP_PROXY", "http"),
    ("http_proxy", "http"),
    ("HTTPS_PROXY", "http"),
    ("https_proxy", "http"),
];

/// What is on this host stays there.
const NOT_PROXIED: &str = "localhost,127.0.0.1,::1";

/// Exit code of shells for a program that does not exist.
const NOT_FOUND: i32 = 127;

/// Exit code of shells for a program that cannot be started.
const NOT_EXECUTABLE: i32 = 126;

/// What shells add to the number of the signal that killed a program.
const KILLED: i32 = 128;
