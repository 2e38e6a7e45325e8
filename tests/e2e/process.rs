//! Child processes that cannot outlive their test: how they are started, watched, ended and shown
//! when a test fails.

#![expect(
    clippy::disallowed_methods,
    reason = "these are real processes, so their deadlines are real time"
)]

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A command with nothing of this machine's settings: no proxies, no `OVERLAN_…`, no home.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command.env("PATH", path());
    command.env("LC_ALL", "C.UTF-8");
    command.env("HOME", "/nonexistent");
    command
}

/// A file or directory of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"));
    program.parent().unwrap().join(path)
}

/// The built binary.
pub(crate) fn overlan() -> Command {
    command(env!("CARGO_BIN_EXE_overlan"))
}

/// The output of a command that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The command, for messages.
    pub(crate) line: String,
    /// Exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// All that it wrote to standard output.
    pub(crate) stdout: String,
    /// All that it wrote to standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Its standard output without the last line break.
    ///
    /// # Panics
    /// If it did not end with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}: {self:#?}", self.line);
        self.stdout.trim_end().to_owned()
    }

    /// That it ended with `code`, as an error of ours that a person reads and that holds `texts`;
    /// never as a panic.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}: {self:#?}", self.line);
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "{}: not {text:?} in {self:#?}",
                self.line
            );
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        assert_eq!(self.stdout, "", "{}", self.line);
    }
}

/// Runs `command` to its end, with `stdin` as its standard input.
///
/// # Panics
/// If it cannot be started, or has not ended after [`LONGEST`].
#[track_caller]
pub(crate) fn run(command: &mut Command, stdin: &str) -> Outcome {
    run_within(LONGEST, command, stdin)
}

/// The same with another longest time: for what waits for things itself.
#[track_caller]
pub(crate) fn run_within(within: Duration, command: &mut Command, stdin: &str) -> Outcome {
    let line = format!("{command:?}");
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(stdin.as_bytes()).unwrap();
    input.rewind().unwrap();
    // Files instead of pipes: nothing blocks when a grandchild keeps one open.
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let child = command
        .stdin(input)
        .stdout(out.try_clone().unwrap())
        .stderr(err.try_clone().unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut child = Owned(child);
    let status = child.ended_within(within, &line);
    Outcome {
        line,
        code: status.code(),
        stdout: content(&mut out),
        stderr: content(&mut err),
    }
}

/// A program that runs in the background. Dropping it kills it and waits for it, and shows its
/// output if the test is failing.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Owned,
    log: PathBuf,
    /// The offset of this process's part of the log, bytes.
    begin: usize,
}

impl Program {
    /// Starts `command` with `stdin` as its standard input; what it writes is appended to
    /// `directory/name.log`.
    #[track_caller]
    pub(crate) fn start(name: &str, directory: &Path, command: &mut Command, stdin: &str) -> Self {
        let log = directory.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let begin = usize::try_from(output.metadata().unwrap().len()).unwrap();
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(stdin.as_bytes()).unwrap();
        input.rewind().unwrap();
        let child = command
            .stdin(input)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            name: name.to_owned(),
            child: Owned(child),
            log,
            begin,
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// All that it wrote to both outputs.
    pub(crate) fn output(&self) -> String {
        // Gone with its directory if an owner drops both in the wrong order: no reason to panic
        // twice.
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.begin..).unwrap_or_default()).into_owned()
    }

    /// Waits for a whole line with `start` at its beginning; returns what follows in that line, of
    /// the newest one.
    ///
    /// # Panics
    /// If the program ends before, or after [`LONGEST`].
    #[track_caller]
    pub(crate) fn line(&mut self, start: &str) -> String {
        until(format!("{start:?} of {}", self.name), LONGEST, || {
            // Asked first: what an ended program wrote is there.
            let ended = self.child.0.try_wait().unwrap();
            let output = self.output();
            let (whole, _) = output.rsplit_once('\n').unwrap_or_default();
            let found = whole
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix(start));
            assert!(
                found.is_some() || ended.is_none(),
                "{} ended ({ended:?}) without {start:?}:\n{output}",
                self.name
            );
            found.map(str::to_owned)
        })
    }

    /// Sends `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("process ids are positive"), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.ended(&self.name)
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// SIGKILL, as a crash would, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.end();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.end();
        if thread::panicking() {
            eprintln!("---- output of {}\n{}", self.name, self.output());
        }
    }
}

/// Asks `condition` again and again until it has an answer.
///
/// # Panics
/// If it has none after `within`; the message names `what`.
#[track_caller]
pub(crate) fn until<T>(
    what: impl Display,
    within: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s in vain for {what}",
            within.as_secs()
        );
        thread::park_timeout(POLL);
    }
}

/// The directories in which programs are looked for: PATH, then where a system keeps its daemons,
/// which is not in everybody's PATH.
pub(crate) fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// The path of `program`, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Returns true if every one of `programs` is installed, and prints the missing ones.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find(program).is_none());
    if let Some(program) = missing {
        skipped(&format!("{program} not installed"));
    }
    missing.is_none()
}

/// A Python that has a module: the first one in the path may be one without Debian's packages.
pub(crate) fn python_with(module: &str) -> Option<String> {
    let found = ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let mut asked = Command::new(python);
        let import = format!("import {module}");
        let asked = asked.args(["-c", &import]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        skipped(&format!("Python with the module {module} is not installed"));
    }
    found.map(str::to_owned)
}

/// Says that a test does nothing and why, past the capture of the test harness: the person who runs
/// the tests must see it.
pub(crate) fn skipped(why: &str) {
    // It must start a line, and the harness may be in the middle of one.
    let line = format!("\nskipped: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The longest that anything here may take. Generous, because a busy machine is no failure.
pub(crate) const LONGEST: Duration = Duration::from_secs(40);

/// Between two questions of [`until`].
const POLL: Duration = Duration::from_millis(5);

/// A child that is killed and waited for with its owner.
#[derive(Debug)]
pub(crate) struct Owned(Child);

impl Owned {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// Waits until it has ended by itself; `name` is for messages.
    #[track_caller]
    pub(crate) fn ended(&mut self, name: &str) -> ExitStatus {
        self.ended_within(LONGEST, name)
    }

    #[track_caller]
    fn ended_within(&mut self, within: Duration, name: &str) -> ExitStatus {
        until(format_args!("the end of {name}"), within, || {
            self.0.try_wait().unwrap()
        })
    }

    fn end(&mut self) {
        // Both fail only for a child that has ended and been waited for.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.end();
    }
}

fn content(file: &mut File) -> String {
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
