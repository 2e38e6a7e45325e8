use clap::{CommandFactory, Parser};

use super::*;
use crate::commands::Cli;
use crate::commands::exit::Code;

fn file(text: &str) -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("overlan.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (root, path)
}

fn whole(path: &str, line: &[&str]) -> Result<Vec<String>, Failure> {
    let mut words = vec!["overlan", "--config", path];
    words.extend(line);
    let words = words.into_iter().map(OsString::from).collect();
    let whole = with_file(&mut Cli::command(), words)?;
    // What comes out is a command line.
    let parsed = Cli::try_parse_from(&whole);
    assert!(parsed.is_ok(), "{whole:?}: {}", parsed.unwrap_err());
    let words = whole.into_iter().map(|word| word.into_string().unwrap());
    Ok(words.skip(3).collect())
}

const FILE: &str = "\
state-dir = '/var/lib/x'
[up]
hostname = 'web'
socks = ['127.0.0.1:1081', '127.0.0.1:1082']
hold = 3
proxy-direct = true
[status]
state-dir = '/elsewhere'
";

#[test]
fn a_command_gets_its_own_settings_and_those_for_all() {
    let (_root, path) = file(FILE);
    let mut up = whole(&path, &["up"]).unwrap();
    assert_eq!(up.remove(0), "up");
    up.sort();
    assert_eq!(
        up,
        [
            "--hold=3",
            "--hostname=web",
            "--proxy-direct",
            "--socks=127.0.0.1:1081",
            "--socks=127.0.0.1:1082",
            "--state-dir=/var/lib/x",
        ]
    );
    assert_eq!(
        whole(&path, &["status"]).unwrap(),
        ["status", "--state-dir=/elsewhere"]
    );
    let nested = whole(&path, &["serve", "tcp", "80", "8080"]).unwrap();
    assert_eq!(
        nested,
        ["serve", "tcp", "--state-dir=/var/lib/x", "80", "8080"]
    );
    // A program's own words are not ours.
    let program = whole(&path, &["exec", "--", "status", "--hostname", "x"]).unwrap();
    assert_eq!(program[..2], ["exec", "--state-dir=/var/lib/x"]);
    assert_eq!(program[2..], ["--", "status", "--hostname", "x"]);
}

#[test]
fn what_the_line_says_stands_whatever_the_file_says() {
    let (_root, path) = file(FILE);
    for line in [
        &[
            "up",
            "--hostname",
            "db",
            "--socks",
            "off",
            "--state",
            "/mine",
        ][..],
        &[
            "--log",
            "debug",
            "up",
            "--hostname=db",
            "--socks=off",
            "--state-dir=/mine",
        ],
    ] {
        let up = whole(&path, line).unwrap();
        assert!(
            !up.iter()
                .any(|word| word.contains("web") || word.contains("1081")),
            "{up:?}"
        );
        assert!(!up.iter().any(|word| word.contains("/var/lib")), "{up:?}");
        assert!(up.contains(&"--hold=3".to_owned()), "{up:?}");
    }
    let none = whole("none", &["up"]).unwrap();
    assert_eq!(none, ["up"]);
}

#[test]
fn a_wrong_file_stops_the_program_with_the_place_of_the_mistake() {
    for (text, what) in [
        (
            "hostnam = 'web'",
            "\"hostnam\" is not a setting of any command",
        ),
        ("[up]\nport = 1", "\"port\" is not a setting of [up]"),
        ("[upp]\n", "[upp] is not a command"),
        ("[relay.servee]\n", "[relay.servee] is not a command"),
        ("[up]\nconfig = 'x'", "is not a setting"),
        ("[up]\nhostname = 1.5", "must be a text"),
        ("[up]\nhostname = [['x']]", "must be a text"),
        ("[up", "cannot use the configuration file"),
    ] {
        let (_root, path) = file(text);
        let failure = whole(&path, &["up"]).unwrap_err();
        assert_eq!(failure.code(), Code::Usage, "{text}");
        let told = failure.to_string();
        assert!(told.contains(what) && told.contains(&path), "{told}");
    }
    let missing = whole("/nonexistent/overlan.toml", &["up"]).unwrap_err();
    assert!(missing.to_string().contains("No such file"), "{missing}");
    let (_root, path) = file(FILE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let open = whole(&path, &["up"]).unwrap_err();
    assert!(open.to_string().contains("chmod go-w"), "{open}");
}

#[test]
fn each_setting_tells_where_it_comes_from() {
    let (_root, path) = file(FILE);
    let mut command = Cli::command();
    command.build();
    let line: Vec<OsString> = ["overlan", "--config", &path, "up", "--hostname", "db"]
        .map(OsString::from)
        .into();
    let given = first_look(&command, &line);
    let config = Config::load(&command, &given).unwrap();
    let leaf = Leaf::find(&command, &given, &line).unwrap();
    let settings = config.settings(&leaf);
    let row = |key: &str| {
        let found = settings.iter().find(|setting| setting.key == key);
        found.unwrap().row()
    };
    assert_eq!(row("hostname"), ["hostname", "db", "flag"]);
    assert_eq!(row("hold"), ["hold", "3", &path]);
    assert_eq!(row("dns"), ["dns", "127.0.0.1:1053", "default"]);
    assert_eq!(row("server"), ["server", "-", "not set"]);
    for no_setting in ["json", "config", "detached"] {
        assert!(settings.iter().all(|setting| setting.key != no_setting));
    }
}
