//! Questions to a person at a terminal. Decides what keys do while an answer is hidden; the
//! terminal is as it was before, however that ends.

use std::io::{self, BufRead, IsTerminal, Read};
use std::time::Duration;

use overlan_protocol::key::Secret;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use crate::commands::exit::{Code, Failure};
use crate::commands::output;

/// Returns true if a person can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a person for a line.
pub(crate) fn ask(what: &str) -> Result<String, Failure> {
    output::begin(&format!("{what}: "));
    let mut line = String::new();
    io::stdin().lock().take(ANSWER_MAX).read_line(&mut line)?;
    if !line.ends_with('\n') {
        output::note("");
    }
    match line.trim() {
        "" => Err(unanswered(what, line.is_empty())),
        answer => Ok(answer.to_owned()),
    }
}

/// Asks a person for a secret, without showing it.
pub(crate) fn ask_hidden(what: &str) -> Result<Secret, Failure> {
    // Before the question is printed: a person who sees it may type at once.
    let hidden = Hidden::begin()?;
    output::begin(&format!("{what}: "));
    let mut answer = Zeroizing::new(Vec::with_capacity(ANSWER_MAX as usize));
    let pressed = read(&mut answer);
    drop(hidden);
    output::note("");
    match pressed? {
        Pressed::Signal(signal) => {
            // As the terminal would have done it: the parent process sees that a signal ended it.
            kill_process(getpid(), signal).map_err(io::Error::from)?;
            // Any thread may be given the signal, and this one would go on meanwhile. Where it is
            // ignored, nothing ends and the answer is an error.
            std::thread::park_timeout(SIGNAL_WITHIN);
            Err(Failure::new(Code::Other, "interrupted"))
        }
        Pressed::End => Err(unanswered(what, true)),
        Pressed::Enter | Pressed::Key if answer.is_empty() => Err(unanswered(what, false)),
        Pressed::Enter | Pressed::Key => {
            let text = std::str::from_utf8(&answer)
                .map_err(|_| Failure::usage(format!("the {} is not valid UTF-8", lower(what))))?;
            Ok(Secret::new(text))
        }
    }
}

fn unanswered(what: &str, ended: bool) -> Failure {
    let what = lower(what);
    Failure::usage(match ended {
        true => format!("the input ended before there was an answer: the {what} is missing"),
        false => format!("the {what} is missing: the answer was empty"),
    })
}

fn lower(what: &str) -> String {
    what.to_ascii_lowercase()
}

/// The time in which a signal to this process ends it, unless it is ignored.
const SIGNAL_WITHIN: Duration = Duration::from_secs(2);

/// A terminal that shows no keys and makes no signals of them. Dropping it brings back what was
/// before.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        let of_lines = LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON;
        hidden
            .local_modes
            .remove(of_lines | LocalModes::ISIG | LocalModes::IEXTEN);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed ahead or pasted stays.
        tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // It fails if the terminal is gone.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Reads keys until one ends the answer.
fn read(answer: &mut Vec<u8>) -> Result<Pressed, Failure> {
    loop {
        let mut key = [0];
        // Not by the standard library's buffer, which nobody clears.
        match rustix::io::read(io::stdin(), &mut key) {
            Ok(0) => return Ok(Pressed::End),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(io::Error::from(error).into()),
        }
        match press(answer, key[0]) {
            Pressed::Key if answer.len() as u64 >= ANSWER_MAX => {
                return Err(Failure::usage(format!(
                    "the answer is longer than {ANSWER_MAX} bytes"
                )));
            }
            Pressed::Key => {}
            last @ (Pressed::Enter | Pressed::End | Pressed::Signal(_)) => return Ok(last),
        }
    }
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pressed {
    /// It changes the answer.
    Key,
    /// The answer is complete.
    Enter,
    /// There is none.
    End,
    /// The program is to end.
    Signal(Signal),
}

fn press(answer: &mut Vec<u8>, key: u8) -> Pressed {
    match key {
        b'\n' | b'\r' => return Pressed::Enter,
        // Ctrl-C, Ctrl-\, Ctrl-D.
        3 => return Pressed::Signal(Signal::INT),
        28 => return Pressed::Signal(Signal::QUIT),
        4 if answer.is_empty() => return Pressed::End,
        4 => return Pressed::Enter,
        // Backspace: a whole character of UTF-8.
        8 | 127 => while answer.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {},
        // Ctrl-U.
        21 => answer.clear(),
        // Other control keys mean nothing here.
        0..32 => {}
        _ => answer.push(key),
    }
    Pressed::Key
}

/// Longest answer, bytes: the longest password with room for UTF-8.
const ANSWER_MAX: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> (Vec<u8>, Pressed) {
        let mut answer = Vec::new();
        let mut last = Pressed::Key;
        for key in keys {
            last = press(&mut answer, *key);
            if last != Pressed::Key {
                break;
            }
        }
        (answer, last)
    }

    #[test]
    fn keys_write_correct_and_end_an_answer() {
        assert_eq!(typed(b"abc\n"), (b"abc".to_vec(), Pressed::Enter));
        assert_eq!(typed(b"abc\r"), (b"abc".to_vec(), Pressed::Enter));
        assert_eq!(typed(b"abx\x7fc\x08c\n").0, b"abc");
        assert_eq!(typed("aö\x7fb\n".as_bytes()).0, b"ab");
        assert_eq!(typed(b"\x7f\x7fa\n").0, b"a");
        assert_eq!(typed(b"wrong\x15right\n").0, b"right");
        assert_eq!(typed(b"a\x1bb\x1ac\n").0, b"abc");
        assert_eq!(typed(b"ab\x04"), (b"ab".to_vec(), Pressed::Enter));
        assert_eq!(typed(b"\x04").1, Pressed::End);
        assert_eq!(typed(b"ab\x03").1, Pressed::Signal(Signal::INT));
        assert_eq!(typed(b"ab\x1c").1, Pressed::Signal(Signal::QUIT));
    }
}
