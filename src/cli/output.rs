//! The one door to standard output and standard error. Answers go to the first, all else to the second.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::exit::Failure;

/// Writes an answer with a line break behind it. Nobody listening any more (`overlan status | head -1`) is no failure.
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

/// Writes an answer for programs.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    answer(&text)
}

/// Tells people something beside the answer.
pub(crate) fn note(text: &str) {
    // Standard error is gone: there is nobody left to tell.
    let _written = writeln!(io::stderr(), "{text}");
}

/// Says why the program fails.
pub(crate) fn failure(failure: &Failure) {
    note(&format!("Error: {failure}"));
}
