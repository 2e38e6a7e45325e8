use clap::error::ErrorKind;

use super::state_dir::default_dir_from;
use super::*;
use crate::commands::exit::Code;

fn parse(args: &[&str]) -> Result<Cli, ErrorKind> {
    let args = std::iter::once("overlan").chain(args.iter().copied());
    Cli::try_parse_from(args).map_err(|error| error.kind())
}

/// Help of the command at `path`, as one long text without line breaks in sentences.
fn help(path: &[&str]) -> String {
    let mut command = help::laid_out(Cli::command());
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
fn every_command_gives_its_help() {
    let mut commands = Vec::new();
    all(&Cli::command(), "", &mut commands);
    for (path, _) in commands {
        let line = path.split_whitespace().chain(["--help"]);
        let Err(NotRead::Line(error)) = Cli::read(line.map(OsString::from).collect()) else {
            panic!("{path} --help is not a question for help");
        };
        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{path}");
    }
}

/// Commands that do something, or print what is no document: a log, a script, a page, bytes of a
/// connection.
const WITHOUT_DOCUMENT: &[&str] = &[
    "admin api-token revoke",
    "admin auth-key revoke",
    "admin device approve",
    "admin device disable",
    "admin device enable",
    "admin device expire",
    "admin device remove",
    "admin device rename",
    "admin device tag",
    "admin dns add",
    "admin dns remove",
    "admin dns zone add",
    "admin dns zone remove",
    "admin identity-provider remove",
    "admin invitation revoke",
    "admin network add",
    "admin network create",
    "admin network delete",
    "admin network remove",
    "admin network rename",
    "admin organisation rename",
    "admin person set-role",
    "admin relay remove",
    "admin relay-token revoke",
    "admin route approve",
    "admin route reject",
    "admin trust-rule remove",
    // It writes a document, and nothing else.
    "bugreport",
    "completion",
    "controller backup",
    "controller init",
    // It prints a document of another form, and nothing else.
    "controller openapi",
    "controller recover",
    "controller reset-password",
    "controller restore",
    "controller rotate ticket-key",
    "controller serve",
    "demo",
    "down",
    "exec",
    "login",
    "logout",
    "man",
    "nc",
    "network join",
    "network leave",
    "relay serve",
    "serve host",
    "serve http",
    "serve remove",
    "serve route",
    "serve tcp",
    "serve udp",
    "serve unix",
    "session approve",
    "session deny",
    "session end",
    "signup",
    "wait",
];

/// Every command that does something itself, by its words below the program.
fn leaves() -> Vec<(String, clap::Command)> {
    let mut command = Cli::command();
    command.build();
    let mut commands = Vec::new();
    all(&command, "", &mut commands);
    let is_leaf = |command: &clap::Command| {
        command.get_subcommands().next().is_none() && !command.is_hide_set()
    };
    commands.retain(|(path, command)| is_leaf(command) && !path.contains(" help"));
    for (path, _) in &mut commands {
        *path = path.replacen(" overlan ", "", 1);
    }
    commands
}

#[test]
fn every_command_has_an_example_and_a_document_unless_it_only_does_something() {
    let mut wrong = Vec::new();
    for (path, command) in leaves() {
        let after = command.get_after_help().map(ToString::to_string);
        let shown = after.is_some_and(|text| {
            text.contains("Examples:") && text.contains(&format!("overlan {path}"))
        });
        if !shown {
            wrong.push(format!("{path} has no example of itself"));
        }
        let has_document = command
            .get_arguments()
            .any(|argument| argument.get_long() == Some("json"));
        if has_document == WITHOUT_DOCUMENT.contains(&path.as_str()) {
            wrong.push(format!("{path}: --json is {has_document}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_noun_lists_by_its_plural_alone() {
    let mut command = Cli::command();
    command.build();
    let mut commands = Vec::new();
    all(&command, "", &mut commands);
    let mut seen = 0;
    for (path, command) in commands {
        let words: Vec<&str> = path.split_whitespace().collect();
        let (Some(noun), Some(_)) = (words.last(), command.find_subcommand("list")) else {
            continue;
        };
        // A verb, and a word without a plural.
        if path.contains(" help") || ["serve", "dns"].contains(noun) {
            continue;
        }
        let plural = format!("{noun}s");
        let before = &words[..words.len() - 1];
        for end in [&[plural.as_str()][..], &[plural.as_str(), "list"]] {
            let line = [before, end].concat().into_iter().map(Into::into).collect();
            assert!(Cli::read(line).is_ok(), "{path}: {end:?}");
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn old_words_keep_working() {
    for line in [
        "admin devices",
        "admin devices --json",
        "admin networks",
        "admin relays",
        "admin device delete x",
        "admin auth-key remove k1",
        "status --state x",
        "status --data-dir x",
        "controller serve --state-dir x --address c:1",
        "controller serve --data-dir x --public-address c:1",
        "relay serve --server https://c.example:1 --data-dir x --public-address r:1",
        "relay serve --server https://c.example:1 --state-dir x --address r:1",
    ] {
        let words = std::iter::once("overlan").chain(line.split(' '));
        let read = Cli::read(words.map(Into::into).collect());
        assert!(read.is_ok(), "{line}");
    }
}

#[test]
fn every_length_of_time_is_written_the_same_way() {
    let mut seen = 0;
    for (path, command) in leaves() {
        for argument in command.get_arguments() {
            let names = argument.get_value_names().unwrap_or_default();
            assert!(!names.iter().any(|name| name == "SECONDS"), "{path}");
            if names.iter().any(|name| name == "TIME") {
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen}");
    for line in [
        "up --timeout 2m --hold 10s --socks-idle-timeout 1h",
        "wait --timeout 2m",
        "ping --timeout 10s web",
        "nc -w 2m web 22",
        "exec --timeout 2m -- true",
        "perf --time 10s web",
        "admin auth-key create --expires 90",
    ] {
        parse(&line.split(' ').collect::<Vec<_>>()).unwrap();
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
        "others",
        "owner",
        "person",
        "all",
        "role",
        "expires",
        "devices",
        "invitation",
        "reset-file",
        "sso",
        "no-browser",
        "device-code",
        "yes",
    ];
    let mut commands = Vec::new();
    all(&Cli::command(), "", &mut commands);
    // The thing that a command makes or changes is described to that one call.
    let things = [
        " auth-key",
        " api-token",
        " trust-rule",
        " admin device",
        " admin identity-provider",
        " admin key",
        " admin organisation",
        " admin network",
        " admin policy",
    ];
    commands.retain(|(path, _)| !things.iter().any(|thing| path.contains(thing)));
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
        "overlan serve 3000",
        "curl -x socks5h://127.0.0.1:1080",
        "Exit codes: 0 ok, 1 other, 2 usage, 3 not running, 4 needs login,",
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
        &["serve", "tcp"],
        &["serve", "tcp", "80", "http://localhost:3000/app"],
        &["serve", "tcp", "80", "db:0"],
        &["serve", "tcp", "80", "8080", "--proxy-protocol", "v1"],
        &["serve", "unix", "80", "app.sock"],
        &["dance"],
        &["login", "--server", "http://x"],
        &["ip", "-4", "-6"],
        &["admin", "auth-key", "create", "--expires", "1y"],
        &["status", "--log-format", "xml"],
        &["up", "--socks", "web:1080"],
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

#[test]
fn every_variable_is_on_the_page_of_settings_and_no_other() {
    let mut command = Cli::command();
    command.build();
    let mut commands = Vec::new();
    all(&command, "", &mut commands);
    let shown = |argument: &&clap::Arg| !argument.is_hide_set();
    let flags = commands.iter().flat_map(|(_, command)| {
        let arguments = command.get_arguments().filter(shown);
        arguments.filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned))
    });
    let secrets = secret::Variable::ALL.map(|variable| variable.name().to_owned());
    let known: std::collections::BTreeSet<String> = flags.chain(secrets).collect();
    let page = include_str!("../../../docs/configuration.md");
    let table = page
        .split("\n## ")
        .find(|part| part.starts_with("Environment variables"))
        .unwrap();
    let told: std::collections::BTreeSet<String> = table
        .split('`')
        .filter(|word| word.starts_with("OVERLAN_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(told, known);
}
