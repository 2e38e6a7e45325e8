use clap::error::ErrorKind;

use super::*;
use crate::cli::exit::Code;

fn parse(args: &[&str]) -> Result<Cli, ErrorKind> {
    let args = std::iter::once("overlan").chain(args.iter().copied());
    Cli::try_parse_from(args).map_err(|error| error.kind())
}

/// Help of the command at `path`, as one long text without line breaks in sentences.
fn help(path: &[&str]) -> String {
    let mut command = Cli::command();
    command.build();
    let mut at = &mut command;
    for name in path {
        at = at.find_subcommand_mut(name).unwrap();
    }
    let text = at.render_long_help().to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every command with its words.
fn all(command: &clap::Command, path: &str, into: &mut Vec<(String, clap::Command)>) {
    let path = format!("{path} {}", command.get_name());
    for below in command.get_subcommands() {
        all(below, &path, into);
    }
    into.push((path, command.clone()));
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_argument_explains_itself() {
    let mut command = Cli::command();
    command.build();
    let mut commands = Vec::new();
    all(&command, "", &mut commands);
    assert!(commands.len() > 15);
    for (path, command) in commands {
        if path.contains(" help") {
            continue;
        }
        assert!(command.get_about().is_some(), "{path}");
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(argument.get_help().is_some(), "{path} {id}");
        }
    }
}

#[test]
fn every_setting_comes_from_the_environment_too_under_one_prefix() {
    // What one call asks for is no setting.
    let of_one_call = [
        "json",
        "password-stdin",
        "check",
        "help",
        "version",
        "serve",
        "time",
        "streams",
        "reverse",
        "both",
        "latency",
        "listen",
        "udp",
        "verbose",
        "count",
        "until-answer",
        "for",
        "watch",
        "gateway",
        "ephemeral",
        "approval",
        "proxy-protocol",
        "tls",
        "as",
        "force",
        "resolver",
    ];
    let mut commands = Vec::new();
    all(&Cli::command(), "", &mut commands);
    commands.retain(|(path, _)| !path.contains(" auth-key"));
    let mut seen = 0;
    for (path, command) in commands {
        for argument in command.get_arguments() {
            let long = argument.get_long().unwrap_or("json");
            if of_one_call.contains(&long) {
                continue;
            }
            let variable = argument.get_env().and_then(|name| name.to_str());
            let variable = variable.unwrap_or_default();
            assert!(variable.starts_with("OVERLAN_"), "{path} --{long}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn no_secret_can_be_an_argument() {
    let mut commands = Vec::new();
    all(&Cli::command(), "", &mut commands);
    for (path, command) in commands {
        for argument in command.get_arguments() {
            let long = argument.get_long().unwrap_or_default();
            let names_secret = ["password", "token", "auth-key", "secret"]
                .iter()
                .any(|word| long.contains(word));
            let safe = long.ends_with("-file") || long.ends_with("-stdin");
            assert!(!names_secret || safe, "{path} --{long}");
        }
    }
}

#[test]
fn help_teaches_by_examples() {
    let top = help(&[]);
    for line in [
        "overlan serve tcp 80 127.0.0.1:8080",
        "curl -x socks5h://127.0.0.1:1080",
        "Exit codes: 0 ok, 1 other, 2 usage, 3 not running, 4 needs login",
    ] {
        assert!(top.contains(line), "{line}\n{top}");
    }
    let up = help(&["up"]);
    for line in [
        "Every later start needs nothing: overlan up",
        "ProxyCommand nc -X 5 -x 127.0.0.1:1080 %h %p",
        "[default: 127.0.0.1:1080]",
        "[default: 127.0.0.1:1053]",
        "OVERLAN_AUTH_KEY",
    ] {
        assert!(up.contains(line), "{line}\n{up}");
    }
    assert!(help(&["perf"]).contains("overlan perf --serve"));
    assert!(help(&["serve", "tcp"]).contains("overlan serve tcp 80 8080"));
    assert!(help(&["login"]).contains("--password-stdin"));
    assert!(help(&["admin", "auth-key", "create"]).contains("take-over-offline"));
    assert!(help(&["status"]).contains("OVERLAN_STATE_DIR"));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for args in [
        &["serve", "tcp", "0", "8080"][..],
        &["serve", "tcp", "80"],
        &["serve", "tcp", "80", "db:0"],
        &["serve", "tcp", "80", "8080", "--proxy-protocol", "v1"],
        &["serve", "unix", "80", "app.sock"],
        &["dance"],
        &["login", "--server", "http://x"],
        &["ip", "-4", "-6"],
        &["admin", "auth-key", "create", "--expires", "1y"],
        &["status", "--log-format", "xml"],
        &["up", "--socks", "1080"],
        &["up", "--auth-key", "ovk_1"],
        &["up", "--socks-public"],
    ] {
        let kind = parse(args).unwrap_err();
        assert!(
            !matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion),
            "{args:?}"
        );
    }
    parse(&["status", "--json", "--log", "debug"]).unwrap();
    assert_eq!(
        parse(&["--version"]).unwrap_err(),
        ErrorKind::DisplayVersion
    );
}

#[test]
fn the_state_lies_where_the_desktop_rules_say() {
    let dir = |state: Option<&str>, home: Option<&str>| {
        default_dir_from(
            state.map(Into::into),
            home.map(Into::into),
            "overlan",
            "--state-dir",
        )
    };
    assert_eq!(
        dir(Some("/xdg"), Some("/home/a")).unwrap(),
        PathBuf::from("/xdg/overlan")
    );
    assert_eq!(
        dir(None, Some("/home/a")).unwrap(),
        PathBuf::from("/home/a/.local/state/overlan")
    );
    let failure = dir(None, None).unwrap_err();
    assert_eq!(failure.code(), Code::Usage);
    assert!(
        failure.to_string().contains("give --state-dir DIR"),
        "{failure}"
    );
}

#[test]
fn lengths_of_time_have_a_unit() {
    assert_eq!(parse_duration("90s"), Ok(90));
    assert_eq!(parse_duration("15m"), Ok(900));
    assert_eq!(parse_duration("12h"), Ok(43_200));
    assert_eq!(parse_duration("7d"), Ok(604_800));
    for wrong in [
        "",
        "d",
        "7",
        "-1d",
        "1.5h",
        "7 d",
        "1y",
        "0s",
        "99999999999999999999d",
        "7д",
    ] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn completion_scripts_know_the_commands() {
    let mut script = Vec::new();
    clap_complete::generate(
        clap_complete::Shell::Bash,
        &mut Cli::command(),
        "overlan",
        &mut script,
    );
    let script = String::from_utf8(script).unwrap();
    assert!(script.contains("auth-key") && script.contains("--reverse"));
}
