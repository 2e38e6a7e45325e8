//! Standard output and standard error as people see them. Decides whether colours are used, and how
//! wide a line may be.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// The facts that decide about colours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ColourFacts {
    is_terminal: bool,
    /// `$NO_COLOR`, which counts unless it is empty (no-color.org).
    no_color: Option<String>,
    /// `$CLICOLOR`: 0 means none (bixense.com/clicolors).
    clicolor: Option<String>,
    /// `$CLICOLOR_FORCE`: anything but 0 means always.
    clicolor_force: Option<String>,
    term: Option<String>,
}

/// Returns true if text for people on this output has colours.
pub(crate) fn has_colours(output: &impl IsTerminal) -> bool {
    wants_colours(&ColourFacts {
        is_terminal: output.is_terminal(),
        no_color: variable("NO_COLOR"),
        clicolor: variable("CLICOLOR"),
        clicolor_force: variable("CLICOLOR_FORCE"),
        term: variable("TERM"),
    })
}

fn wants_colours(facts: &ColourFacts) -> bool {
    let forced = facts.clicolor_force.as_ref().is_some_and(|it| it != "0");
    let refused = facts.no_color.is_some() || facts.clicolor.as_deref() == Some("0");
    let able = facts.term.as_ref().is_some_and(|term| term != DUMB);
    match (facts.no_color.is_some(), forced) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => facts.is_terminal && able && !refused,
    }
}

/// Returns true if a terminal understands codes for more than text.
pub(crate) fn knows_codes() -> bool {
    variable("TERM").is_some_and(|term| term != DUMB)
}

/// The value of `$TERM` for a terminal that shows text only.
const DUMB: &str = "dumb";

/// Characters of a line of the terminal that standard output is.
pub(crate) fn columns() -> Option<usize> {
    columns_of(io::stdout())
}

fn columns_of(output: impl AsFd + IsTerminal) -> Option<usize> {
    if !output.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(output).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// One that is empty is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "these variables belong to all programs, not to a flag of ours"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_can_and_people_who_want_them() {
        let text = |it: &str| Some(it.to_owned());
        let at_terminal = ColourFacts {
            is_terminal: true,
            term: text("xterm-256color"),
            ..ColourFacts::default()
        };
        assert!(wants_colours(&at_terminal));
        for refused in [
            ColourFacts::default(),
            ColourFacts {
                is_terminal: false,
                ..at_terminal.clone()
            },
            ColourFacts {
                no_color: text("1"),
                ..at_terminal.clone()
            },
            ColourFacts {
                no_color: text("1"),
                clicolor_force: text("1"),
                ..at_terminal.clone()
            },
            ColourFacts {
                clicolor: text("0"),
                ..at_terminal.clone()
            },
            ColourFacts {
                term: text("dumb"),
                ..at_terminal.clone()
            },
            ColourFacts {
                term: None,
                ..at_terminal.clone()
            },
            ColourFacts {
                is_terminal: false,
                clicolor_force: text("0"),
                ..at_terminal.clone()
            },
        ] {
            assert!(!wants_colours(&refused), "{refused:?}");
        }
        let forced = ColourFacts {
            clicolor_force: text("1"),
            ..ColourFacts::default()
        };
        assert!(wants_colours(&forced));
    }
}
