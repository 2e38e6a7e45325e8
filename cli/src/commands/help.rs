//! The layout of help: commands in groups, and options that every command has in one place. Decides
//! nothing about what commands do.

use clap::Command;

/// Commands by purpose, those of the first day first.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Daily use",
        &[
            "up", "status", "exec", "forward", "nc", "network", "down", "logout",
        ],
    ),
    ("Serving", &["serve", "ca"]),
    (
        "Looking",
        &[
            "ping",
            "ip",
            "whois",
            "dns",
            "perf",
            "netcheck",
            "config",
            "bugreport",
        ],
    ),
    ("Scripts", &["wait", "completion", "man"]),
    (
        "Administration",
        &["login", "signup", "password", "session", "admin"],
    ),
    ("Running servers", &["demo", "controller", "relay"]),
];

/// Returns the program's command line as help shows it. `command` is the whole, not built yet.
pub(super) fn laid_out(mut command: Command) -> Command {
    let template = template(&command);
    command.build();
    if let Some(after) = command.get_after_help().map(ToString::to_string) {
        command = command.after_help(flowing(&after));
    }
    command
        .mut_subcommands(without_global_options)
        .help_template(template)
}

/// Returns the first page, with groups instead of one long list.
fn template(command: &Command) -> String {
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (group, names) in GROUPS {
        let known = names
            .iter()
            .filter_map(|name| command.find_subcommand(name));
        let lines: Vec<String> = known
            .filter_map(|it| Some(format!("  {:<11} {}\n", it.get_name(), it.get_about()?)))
            .collect();
        if !lines.is_empty() {
            text.push_str(&format!("\n{group}:\n{}", lines.concat()));
        }
    }
    text.push_str("\nOptions:\n{options}{after-help}");
    text
}

/// Returns a command without the options that all have: they stand on the first page.
fn without_global_options(command: Command) -> Command {
    let command = command
        .mut_args(|argument| match argument.is_global_set() {
            true => argument.hide(true),
            false => argument,
        })
        .mut_subcommands(without_global_options);
    let after = match command.get_after_help() {
        Some(after) => format!("{}\n\n{ELSEWHERE}", flowing(&after.to_string())),
        None => ELSEWHERE.to_owned(),
    };
    command.after_help(after)
}

/// Returns the text with each paragraph as one line, which clap breaks where the terminal ends.
/// Indented lines are commands and stay as they are, and the end of a sentence ends its line.
fn flowing(text: &str) -> String {
    let mut flowing = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        let is_prose = !line.is_empty() && !line.starts_with(' ');
        if !flowing.is_empty() {
            flowing.push(if goes_on && is_prose { ' ' } else { '\n' });
        }
        flowing.push_str(line);
        goes_on = is_prose && !line.ends_with(['.', ':']);
    }
    flowing
}

const ELSEWHERE: &str =
    "Options for the log, the configuration file and an upstream proxy: overlan --help";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::commands::Cli;

    #[test]
    fn every_command_stands_in_one_group() {
        let mut grouped = BTreeSet::new();
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            assert!(grouped.insert((*name).to_owned()), "{name} stands twice");
        }
        let whole = Cli::command();
        for command in whole.get_subcommands().filter(|it| !it.is_hide_set()) {
            let name = command.get_name();
            assert!(grouped.contains(name), "{name} stands in no group");
        }
    }

    #[test]
    fn the_first_page_begins_with_daily_use_and_has_each_option_once() {
        let page = laid_out(Cli::command()).render_long_help().to_string();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}\n{page}"));
        assert!(at("Daily use:") < at("Serving:"));
        assert!(at("Serving:") < at("Running servers:"));
        assert!(at("  up ") < at("  bugreport "));
        for option in ["--log <", "--config <", "--upstream-proxy <"] {
            assert_eq!(page.matches(option).count(), 1, "{option}\n{page}");
        }
    }

    #[test]
    fn lines_of_examples_fit_the_widest_page() {
        fn broken(command: &Command, found: &mut Vec<String>) {
            let after = command.get_after_help().map(ToString::to_string);
            let lines = after.iter().flat_map(|text| text.lines());
            let is_broken = |line: &&str| line.starts_with(' ') && line.chars().count() > 100;
            found.extend(lines.filter(is_broken).map(str::to_owned));
            for below in command.get_subcommands() {
                broken(below, found);
            }
        }
        let mut found = Vec::new();
        broken(&Cli::command(), &mut found);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn paragraphs_flow_and_commands_keep_their_lines() {
        let text = "Examples:\n  a\n  b\n\nIt goes\non. And\non.\nCodes: 0 is\nwell.";
        let meant = "Examples:\n  a\n  b\n\nIt goes on. And on.\nCodes: 0 is well.";
        assert_eq!(flowing(text), meant);
    }

    #[test]
    fn other_pages_are_about_their_command_only() {
        let mut command = laid_out(Cli::command());
        for words in [
            &["down"][..],
            &["serve", "tcp"],
            &["admin", "device", "list"],
        ] {
            let page = words
                .iter()
                .try_fold(&mut command, |at, word| at.find_subcommand_mut(word));
            let page = page.unwrap().render_long_help().to_string();
            assert!(!page.contains("--upstream-proxy"), "{words:?}\n{page}");
            assert!(page.contains("Examples:"), "{words:?}\n{page}");
            assert!(page.contains(ELSEWHERE), "{words:?}\n{page}");
        }
    }
}
