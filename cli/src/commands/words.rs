//! Lines in fewer or older words than commands have. Decides what such a line means in full; the
//! parser then reads that.

use std::ffi::OsString;

use clap::Command;

use crate::commands::config::takes_next;

/// The line in full: `admin devices` lists devices, and `serve 3000` serves a TCP port. `root` is
/// what will parse it, built.
pub(crate) fn in_full(root: &Command, line: Vec<OsString>) -> Vec<OsString> {
    match missing(root, &line) {
        Some((at, word)) => {
            let mut whole = line;
            whole.insert(at, word.into());
            whole
        }
        None => line,
    }
}

/// The word that is missing, and where.
fn missing(root: &Command, line: &[OsString]) -> Option<(usize, &'static str)> {
    let mut command = root;
    let mut index = 1;
    // The last word that named a command, and whether it is another one than the command's own
    // name.
    let (mut at, mut is_other) = (0, false);
    let mut next = None;
    while let Some(word) = line.get(index) {
        let word = word.to_string_lossy();
        if word == "--" || word == "-h" || word == "--help" {
            return None;
        }
        if word.starts_with('-') && word.len() > 1 {
            index += 1 + usize::from(takes_value(command, &word));
            continue;
        }
        let Some(below) = command.find_subcommand(word.as_ref()) else {
            next = Some(word);
            break;
        };
        (at, is_other) = (index, below.get_name() != word);
        command = below;
        index += 1;
    }
    let has = |name| command.find_subcommand(name).is_some();
    match next {
        None if is_other && has("list") => Some((at + 1, "list")),
        Some(word)
            if has("tcp") && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Some((at + 1, "tcp"))
        }
        None | Some(_) => None,
    }
}

/// Returns true if the value of this flag is the next word, by the command or by a subcommand that
/// is not named yet.
fn takes_value(command: &Command, word: &str) -> bool {
    let below = || command.get_subcommands().any(|it| takes_value(it, word));
    takes_next(command, word) || below()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::commands::Cli;

    fn full(line: &str) -> String {
        let mut command = Cli::command();
        command.build();
        let line = line.split(' ').map(OsString::from).collect();
        let whole = in_full(&command, line);
        let words: Vec<_> = whole.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn a_noun_of_many_lists_them() {
        for (said, meant) in [
            ("overlan admin devices", "overlan admin devices list"),
            (
                "overlan admin devices --json",
                "overlan admin devices list --json",
            ),
            (
                "overlan --log info admin devices --state-dir x",
                "overlan --log info admin devices list --state-dir x",
            ),
        ] {
            assert_eq!(full(said), meant);
        }
        for whole in [
            "overlan admin devices list",
            "overlan admin devices remove x",
            "overlan admin devices --help",
            "overlan admin device",
            "overlan admin devices lsit",
            "overlan exec -- admin devices",
            "overlan",
        ] {
            assert_eq!(full(whole), whole);
        }
    }

    #[test]
    fn a_port_alone_is_served_by_tcp() {
        assert_eq!(full("overlan serve 3000"), "overlan serve tcp 3000");
        assert_eq!(
            full("overlan serve --network home 80 8080"),
            "overlan serve tcp --network home 80 8080"
        );
        for whole in [
            "overlan serve tcp 3000",
            "overlan serve list",
            "overlan serve remove 3000",
            "overlan serve --help",
        ] {
            assert_eq!(full(whole), whole);
        }
    }
}
