//! The one door to standard output and standard error. Answers go to the first, all else to the
//! second.

use std::ffi::OsString;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use crate::commands::exit::Failure;
use crate::commands::terminal;

/// Writes an answer and a line break. A reader that is gone (`overlan status | head -1`) is not a
/// failure.
pub(crate) fn answer(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| match text.ends_with('\n') {
            true => Ok(()),
            false => out.write_all(b"\n"),
        })
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints that a program that stays has begun. It goes on where the line cannot be written: a full
/// disk for the log of a service is no reason not to serve.
pub(crate) fn greeting(text: &str) {
    if let Err(failure) = answer(text) {
        note(&format!(
            "Warning: the first line was not printed: {failure}"
        ));
    }
}

/// Writes an answer for programs.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    answer(&text)
}

/// Prints a remark for people, beside the answer.
pub(crate) fn note(text: &str) {
    // Without standard error there is no reader left.
    let _written = writeln!(io::stderr(), "{text}");
}

/// Begins a line that goes on, for example with a person's answer.
pub(crate) fn begin(text: &str) {
    let mut errors = io::stderr();
    let _written = write!(errors, "{text}").and_then(|()| errors.flush());
}

/// The reader that a failure is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Returns the form of failures: with `--json` they are documents, too, even if the rest of the
/// line is wrong.
pub(crate) fn asked_form(line: &[OsString]) -> Form {
    // Words after -- are another program's.
    let mut ours = line.iter().take_while(|word| *word != "--");
    match ours.any(|word| word == "--json") {
        true => Form::Json,
        false => Form::Text,
    }
}

/// Prints a failure.
pub(crate) fn failure(failure: &Failure, form: Form) {
    match form {
        Form::Text => error(&failure.to_string()),
        // One line, to be distinct from log lines.
        Form::Json => note(&document(failure).to_string()),
    }
}

/// Prints an error so that a person notices it at once.
pub(crate) fn error(text: &str) {
    let (on, off) = match terminal::has_colours(&io::stderr()) {
        true => ("\x1b[1;31m", "\x1b[0m"),
        false => ("", ""),
    };
    note(&format!("{on}Error:{off} {text}"));
}

/// The document that `--json` prints on standard error for a failure.
fn document(failure: &Failure) -> serde_json::Value {
    json!({
        "schema_version": 1,
        "error": {
            "code": failure.code() as u8,
            "kind": failure.code().word(),
            "message": failure.message(),
            "hint": failure.hint(),
        },
    })
}

/// Reads message and hint of a failure that another run of this program printed by [`failure`] as
/// a document.
pub(crate) fn failure_in(line: &str) -> Option<(String, Option<String>)> {
    let document: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| Some(document["error"][name].as_str()?.to_owned());
    Some((text("message")?, text("hint")))
}

#[cfg(test)]
mod tests;
