//! `up --background`: starts this program again, apart from the terminal, and waits until it says
//! that peers can reach the device. Decides what the person hears of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use overlan::program::state::StateDir;
use rustix::process::{Pid, Signal, kill_process};

use crate::commands::exit::{Code, Failure};
use crate::commands::output;
use crate::commands::stop::Signals;

/// Starts it and returns when it is ready, or when it has ended instead. `reads_stdin` if a secret
/// comes from there.
pub(super) async fn start(state: &StateDir, reads_stdin: bool) -> Result<(), Failure> {
    if state.is_in_memory() {
        return Err(Failure::usage(
            "a client with its state in memory cannot run in the background: no command could \
             stop it",
        )
        .next("Leave out --background, or --state-dir mem:."));
    }
    // Another one's log is not ours to move.
    drop(state.lock()?);
    let path = log_path(state);
    let mut signals = Signals::listen()?;
    let failed =
        |what: &str, error: io::Error| Failure::new(Code::Other, format!("cannot {what}: {error}"));
    let log = log_file(&path)
        .map_err(|error| failed(&format!("write the log {}", path.display()), error))?;
    let mut child = command(reads_stdin, log)
        .and_then(|mut command| command.spawn())
        .map_err(|error| {
            failed(
                "start this program again for the background (it needs /dev/null and /proc)",
                error,
            )
        })?;
    let said = child.stdout.take();
    let first_line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let said = said.ok_or_else(|| io::Error::other("it has no output"))?;
        BufReader::new(said).read_line(&mut line)?;
        Ok::<_, io::Error>(line)
    });
    tokio::select! {
        line = first_line => {
            let line = line.map_err(io::Error::other)??;
            if line.is_empty() {
                return Err(failure(&mut child, &path)?);
            }
            output::note(&format!("It logs to {}; `overlan down` stops it.", path.display()));
            output::answer(line.trim_end())
        }
        () = signals.next() => {
            stop(&mut child)?;
            Err(Failure::new(Code::Other, "stopped before it was ready"))
        }
    }
}

/// Called in the program that goes into the background: no terminal is its own from here on.
pub(super) fn detach() {
    // It fails for the leader of a process group, which has no terminal to lose then.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "no session of its own");
    }
}

/// The same command line but for the word that brought us here.
fn command(reads_stdin: bool, log: File) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let is_flag = |word: &OsString| word.to_str().is_some_and(|word| word == FLAG);
    command
        .args(std::env::args_os().skip(1).filter(|word| !is_flag(word)))
        .env("OVERLAN_BACKGROUND", "false")
        .env("OVERLAN_DETACHED", "true")
        .stdin(if reads_stdin {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(log);
    Ok(command)
}

/// Returns the path of its log.
pub(super) fn log_path(state: &StateDir) -> PathBuf {
    state.path().join(LOG)
}

/// A new file; the one before it is kept beside it.
pub(crate) fn log_file(path: &Path) -> io::Result<File> {
    match fs::rename(path, path.with_extension("log.old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = File::options();
    options.append(true).create_new(true).mode(0o600).open(path)
}

fn stop(child: &mut Child) -> io::Result<()> {
    if let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile.
        let _ = kill_process(id, Signal::TERM);
    }
    child.wait().map(|_| ())
}

/// Returns the reason for which it ended before it was ready, from the end of its log.
fn failure(child: &mut Child, log: &Path) -> io::Result<Failure> {
    let code = Code::from_exit(child.wait()?.code());
    let text = fs::read_to_string(log).unwrap_or_default();
    if let Some((message, hint)) = output::failure_in(text.lines().next_back().unwrap_or_default())
    {
        let failure = Failure::new(code, message);
        return Ok(match hint {
            Some(hint) => failure.next(hint),
            None => failure,
        });
    }
    let errors = text
        .rfind("Error: ")
        .map(|at| &text[at + "Error: ".len()..]);
    let silent = || format!("it ended without a message; its log is {}", log.display());
    let message = errors.map_or_else(silent, |error| error.trim_end().to_owned());
    Ok(Failure::new(code, message))
}

/// In the state directory.
const LOG: &str = "up.log";

/// The flag.
const FLAG: &str = "--background";
