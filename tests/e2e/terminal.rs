//! A terminal that a person sits at: what stands on its screen, how what is typed there is taken,
//! and how it is left.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::{LONGEST, Owned, command, installed};

/// The acts of a person at the terminal, in order.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Waits until this stands on the screen, after what was waited for before.
    Sees(&'a str),
    /// Types these keys.
    Types(&'a str),
}

/// The screen that was seen.
#[derive(Debug)]
pub(crate) struct Session {
    /// Everything that was written to the terminal.
    pub(crate) screen: String,
    /// Exit code; a signal as minus its number.
    pub(crate) code: i64,
    /// Returns true if the terminal shows typed text afterwards.
    pub(crate) echoes: bool,
}

/// Returns true if this machine can have a terminal.
pub(crate) fn exists() -> bool {
    installed(&["python3"])
}

/// Runs `program` as the foreground of a new terminal of 80 columns, with all three ends there.
#[track_caller]
pub(crate) fn session(program: &Command, steps: &[Step<'_>]) -> Session {
    session_of(80, program, steps)
}

/// The same with another width.
#[track_caller]
pub(crate) fn session_of(columns: u16, program: &Command, steps: &[Step<'_>]) -> Session {
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| match step {
            Step::Sees(text) => serde_json::json!(["sees", text]),
            Step::Types(keys) => serde_json::json!(["types", keys]),
        })
        .collect();
    let mut python = command("python3");
    python.arg("-c").arg(PTY);
    python.arg(LONGEST.as_secs().to_string());
    python.arg(columns.to_string());
    python.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            python.env(name, value);
        }
    }
    let mut child = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::json!(steps)).unwrap();
    drop(input);
    let output = child.stdout.take().unwrap();
    let told: Value = serde_json::from_reader(output).unwrap();
    assert!(Owned::new(child).ended("python3").success());
    let session = Session {
        screen: told["screen"].as_str().unwrap().to_owned(),
        code: told["code"].as_i64().unwrap(),
        echoes: told["echoes"].as_bool().unwrap(),
    };
    assert!(told["missed"].is_null(), "{}: {session:#?}", told["missed"]);
    session
}

/// A terminal needs a call between fork and exec, which safe Rust has not.
const PTY: &str = r#"
import fcntl, json, os, pty, select, signal, struct, subprocess, sys, termios, time
steps = json.loads(sys.stdin.readline())
end = time.monotonic() + float(sys.argv[1])
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[2]), 0, 0))
def foreground():
    # A shell that started the tests in the background has taught them to ignore these.
    for ignored in signal.SIGINT, signal.SIGQUIT: signal.signal(ignored, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
child = subprocess.Popen(
    sys.argv[3:], stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=foreground)
screen, at, missed = b"", 0, None
def more():
    global screen
    if select.select([ours], [], [], 0.05)[0]:
        screen += os.read(ours, 65536)
        return True
    return False
for what, value in steps:
    if what == "sees":
        text = value.encode()
        while text not in screen[at:] and time.monotonic() < end:
            if not more() and child.poll() is not None and not more():
                break
        if text not in screen[at:]:
            missed = value
            break
        at = screen.index(text, at) + len(text)
    else:
        os.write(ours, value.encode())
while missed is None and child.poll() is None and time.monotonic() < end:
    more()
if child.poll() is None:
    missed = missed or "its end"
    child.kill()
child.wait()
while more():
    pass
echoes = bool(termios.tcgetattr(theirs)[3] & termios.ECHO)
print(json.dumps({"screen": screen.decode("utf-8", "replace"), "code": child.returncode,
    "echoes": echoes, "missed": missed}))
"#;
