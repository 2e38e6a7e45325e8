//! Starts, watches and ends the child processes of the suite, so that none outlives it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::trouble::{During, Result, Trouble};

/// A process that runs in the background. Dropping it ends it and waits for it.
#[derive(Debug)]
pub(crate) struct Process {
    /// For messages and the name of its log.
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both of its outputs go to `directory/name.log`. Its standard input stays
    /// open and empty while this value lives: helpers of the suite end when it closes, so they end
    /// with the suite however that ends.
    pub(crate) fn start(name: &str, directory: &Path, command: &mut Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).during(log.display())?;
        let errors = output.try_clone().during(log.display())?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .during(format_args!("start {name}"))?;
        RUNNING.lock().insert(child.id());
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a whole line that begins with `start`, and returns the rest of that line.
    pub(crate) fn line(&mut self, start: &str) -> Result<String> {
        let what = format!("{start:?} of {}", self.name);
        until(&what, LONGEST, || {
            let ended = self.child.try_wait().during(&what)?;
            let text = fs::read_to_string(&self.log).during(self.log.display())?;
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            match (
                whole.lines().find_map(|line| line.strip_prefix(start)),
                ended,
            ) {
                (Some(rest), _) => Ok(Some(rest.to_owned())),
                (None, None) => Ok(None),
                (None, Some(status)) => Err(Trouble::failed(format!(
                    "{} ended with {status}: {}",
                    self.name,
                    text.trim_end()
                ))),
            }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(self.pid(), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        // Both fail only for a child that has ended.
        self.child.kill().ok();
        self.child.wait().ok();
        RUNNING.lock().remove(&self.pid());
    }
}

/// Runs `command` to its end with `input` as its standard input, and returns its standard output.
pub(crate) fn output(command: &mut Command, input: &str) -> Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .during(&what)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input has closed it; its exit code shows why.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().during(&what)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(Trouble::failed(format!(
            "{command:?}: {}: {}",
            output.status,
            errors.trim_end()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns a command without any setting of this machine.
pub(crate) fn clean(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear();
    command.env("PATH", PATH);
    command.env("LC_ALL", "C.UTF-8");
    command.env("HOME", "/nonexistent");
    command
}

/// Returns a hidden command of this very program.
pub(crate) fn own(subcommand: &str) -> Result<Command> {
    let program = std::env::current_exe().during("find this program")?;
    let mut command = clean(program);
    command.arg(subcommand);
    Ok(command)
}

/// Finds the file of an installed `program`.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    PATH.split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| Trouble::Absent(format!("{program} is not installed")))
}

/// Asks `question` until it answers, fails, or `longest` is over.
pub(crate) fn until<T>(
    what: &str,
    longest: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + longest;
    loop {
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(Trouble::failed(format!("waited {longest:?} for {what}")));
        }
        thread::sleep(POLL);
    }
}

/// Runs a helper of the suite until its standard input closes, which is when the suite ends.
pub(crate) fn end_with_parent(helper: impl FnOnce() -> Result<()>) -> Result<()> {
    thread::spawn(|| {
        // No program writes there: both an end and an error mean that the parent is gone.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        std::process::exit(0);
    });
    helper()
}

/// Spins until the process is ended. Started with the idle scheduling class, it keeps a core awake
/// and gives way at once.
pub(crate) fn spin() -> Result<()> {
    loop {
        std::hint::spin_loop();
    }
}

/// On Ctrl-C or SIGTERM: ends all children, removes `directory`, and ends the suite.
pub(crate) fn end_on_signal(directory: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("signal handling")?;
    let directory = directory.to_owned();
    thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else {
                return;
            };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("overlan-bench: stopped; ending all chains");
            for pid in RUNNING.lock().iter() {
                end(*pid, Signal::KILL);
            }
            fs::remove_dir_all(&directory).ok();
            std::process::exit(130);
        });
    });
    Ok(())
}

/// Children that have not been waited for.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// The longest that a chain may take to come up.
const LONGEST: Duration = Duration::from_secs(30);

/// The time that a process has to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Directories in which programs are looked up.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn end(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails only for a process that has ended.
        kill_process(pid, signal).ok();
    }
}
