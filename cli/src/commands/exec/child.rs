//! The program that `exec` runs: how it is started, which signals it gets, and how its end is
//! passed on. Makes sure that it does not outlive `exec`, and that its orphans do not stay zombies
//! where `exec` is process 1.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus};

use clap::Args;
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::exit::{Code, Failure};
use crate::commands::output;

/// The program, not started yet.
pub(super) struct ChildProgram {
    command: Command,
}

impl ChildProgram {
    /// Takes the program and its arguments.
    pub(super) fn new(words: Vec<OsString>) -> Result<Self, Failure> {
        let Some(program) = words.first() else {
            return Err(Failure::usage("name a program"));
        };
        let program = program.to_string_lossy();
        if program.starts_with('-') {
            // Whatever follows the program is its own, so a mistyped flag of ours is read as one.
            let text = format!("`exec` has no option {program}, and no program is called that");
            return Err(Failure::usage(text).next("`overlan exec --help` shows the options."));
        }
        let mut command = Command::new(own_program()?);
        command
            .arg(START)
            .arg(getpid().as_raw_nonzero().to_string());
        command.arg("--").args(words);
        Ok(Self { command })
    }

    /// Sets a variable for it.
    pub(super) fn with(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.command.env(name, value);
    }

    /// Removes a variable for it.
    pub(super) fn without(&mut self, name: &str) {
        self.command.env_remove(name);
    }
}

/// The command line of the process that becomes the program.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The process that must not be gone
    parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program, after asking the kernel to end it with the process that started it.
///
/// This is a process of its own because only a process can ask that for itself, and a closure
/// between fork and exec is unsafe.
pub(crate) fn start(args: &StartArgs) -> ExitCode {
    end_with_parent();
    if getppid().map(Pid::as_raw_pid) != Some(args.parent) {
        // It was gone before the kernel was asked.
        return killed_by(Signal::TERM);
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return Code::Usage.into();
    };
    let error = Command::new(program).args(arguments).exec();
    let program = program.to_string_lossy();
    output::error(&format!("cannot start {program}: {error}"));
    exit_code(match error.kind() == io::ErrorKind::NotFound {
        true => NOT_FOUND,
        false => NOT_EXECUTABLE,
    })
}

/// This program's own file, also where it was replaced or removed meanwhile.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems have to look")]
fn own_program() -> io::Result<std::path::PathBuf> {
    Ok("/proc/self/exe".into())
}

#[cfg(not(target_os = "linux"))]
fn own_program() -> io::Result<std::path::PathBuf> {
    std::env::current_exe()
}

#[cfg(target_os = "linux")]
fn end_with_parent() {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        tracing::debug!(%error, "the program may outlive this one");
    }
}

/// Other systems have no such request.
#[cfg(not(target_os = "linux"))]
fn end_with_parent() {}

/// The exit code of what `signal` ended.
pub(super) fn killed_by(signal: Signal) -> ExitCode {
    exit_code(KILLED.saturating_add(signal.as_raw()))
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

/// Signals that the program gets when this one does, and the one that says that a child ended.
pub(super) struct Forwarded {
    asked: Vec<(Signal, tokio::signal::unix::Signal)>,
    ended: tokio::signal::unix::Signal,
}

impl Forwarded {
    pub(super) fn listen() -> io::Result<Self> {
        let asked = PASSED_ON.iter().map(|(passed, _)| {
            let kind = SignalKind::from_raw(passed.as_raw());
            Ok((*passed, signal(kind)?))
        });
        Ok(Self {
            asked: asked.collect::<io::Result<_>>()?,
            ended: signal(SignalKind::child())?,
        })
    }

    /// The next signal to pass on. Cancel safe.
    pub(super) async fn asked(&mut self) -> Signal {
        next(&mut self.asked).await
    }

    /// Runs the program to its end.
    pub(super) async fn run(&mut self, mut program: ChildProgram) -> Result<ExitCode, Failure> {
        let child = program.command.spawn().map_err(|error| {
            Failure::new(
                Code::Other,
                format!("cannot start another process: {error}"),
            )
        })?;
        let child = Pid::from_child(&child);
        // A terminal tells every program in its foreground itself.
        let from_terminal = io::stdin().is_terminal();
        loop {
            if let Some(status) = reap(child)? {
                return Ok(passed_on(status));
            }
            let signal = tokio::select! {
                _ = self.ended.recv() => continue,
                signal = next(&mut self.asked) => signal,
            };
            let by_terminal = PASSED_ON.contains(&(signal, Sender::Terminal));
            // It is not reaped elsewhere, so its id stays its own until here.
            if !(from_terminal && by_terminal)
                && let Err(error) = kill_process(child, signal)
            {
                tracing::debug!(%error, ?signal, "a signal is not passed on");
            }
        }
    }
}

async fn next(signals: &mut [(Signal, tokio::signal::unix::Signal)]) -> Signal {
    std::future::poll_fn(|cx| {
        let heard = signals
            .iter_mut()
            .find_map(|(signal, stream)| stream.poll_recv(cx).is_ready().then_some(*signal));
        heard.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

/// Reaps all children that have ended: `child`, and orphans that process 1 inherits. Returns the
/// end of `child`, if it has ended.
fn reap(child: Pid) -> io::Result<Option<ExitStatus>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended == child => {
                return Ok(Some(ExitStatus::from_raw(status.as_raw())));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The usual sender of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A terminal sends it to all programs in its foreground.
    Terminal,
    /// A program sends it to one process.
    Program,
}

/// Signals that ask a program for something, and that it gets when this one does.
const PASSED_ON: [(Signal, Sender); 6] = [
    (Signal::INT, Sender::Terminal),
    (Signal::QUIT, Sender::Terminal),
    (Signal::HUP, Sender::Terminal),
    (Signal::TERM, Sender::Program),
    (Signal::USR1, Sender::Program),
    (Signal::USR2, Sender::Program),
];

/// The hidden command that becomes a program.
const START: &str = "exec-program";

/// Exit code of shells for a program that does not exist.
const NOT_FOUND: i32 = 127;

/// Exit code of shells for a program that cannot be started.
const NOT_EXECUTABLE: i32 = 126;

/// The sum that shells add to the number of the signal that killed a program.
const KILLED: i32 = 128;
