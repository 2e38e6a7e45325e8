//! The configuration file, which saves repeating flags, and `config show`. Decides which of its
//! keys a command line gets; the flags give them their meaning.
//!
//! A key is a flag without its dashes. Flags on the command line come first, then `OVERLAN_…`
//! variables, then the file.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, Subcommand};
use overlan::program::status::columns;
use serde::Serialize;
use toml::{Table, Value};

use crate::commands::exit::Failure;
use crate::commands::{Cli, environment, output};

#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// File with settings, or none [default: $XDG_CONFIG_HOME/overlan/overlan.toml or
    /// ~/.config/overlan/overlan.toml, if it exists]
    #[arg(
        long,
        global = true,
        env = CONFIG_VARIABLE,
        hide_short_help = true,
        value_name = "PATH"
    )]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the settings of a command and where each comes from
    #[command(after_help = EXAMPLES)]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The command
    #[arg(default_value = "up", value_name = "COMMAND")]
    command: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  overlan config show
  overlan config show relay serve

A file may look like this; a table holds the settings of one command, what stands above them is
for all that know it:
  state-dir = \"/var/lib/overlan\"
  upstream-proxy = \"http://proxy.example:3128\"
  [up]
  hostname = \"web\"
  socks = [\"127.0.0.1:1080\", \"unix:/run/overlan/proxy.sock\"]
  [relay.serve]
  listen = \"0.0.0.0:443\"";

/// The file that counts, read and checked.
#[derive(Debug, Default)]
pub(crate) struct Config {
    path: Option<PathBuf>,
    table: Table,
}

/// A setting and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    key: String,
    value: Option<String>,
    source: SettingSource,
    /// The variable or the file, where it is one.
    from: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum SettingSource {
    Flag,
    Environment,
    File,
    Default,
    NotSet,
}

/// Returns the command line with the settings of the file. `command` will parse it.
pub(crate) fn with_file(
    command: &mut Command,
    line: Vec<OsString>,
) -> Result<Vec<OsString>, Failure> {
    command.build();
    let given = first_look(command, &line);
    let config = Config::load(command, &given)?;
    let Some(leaf) = Leaf::find(command, &given, &line) else {
        return Ok(line);
    };
    let mut whole = line;
    let added = config.added(&leaf);
    let at = leaf.at + 1;
    whole.splice(at..at, added);
    Ok(whole)
}

/// The settings of the command that a line runs, and where each comes from.
pub(crate) fn settings(line: &[OsString]) -> Result<Vec<Setting>, Failure> {
    let mut command = Cli::command();
    command.build();
    let given = first_look(&command, line);
    let config = Config::load(&command, &given)?;
    let leaf = Leaf::find(&command, &given, line);
    Ok(leaf.map(|leaf| config.settings(&leaf)).unwrap_or_default())
}

/// `overlan config …`.
pub(crate) fn run(
    mut command: Command,
    file: ConfigArgs,
    asked: ConfigCommand,
) -> Result<(), Failure> {
    let ConfigCommand::Show(args) = asked;
    command.build();
    let mut line = vec![OsString::from(command.get_name())];
    if let Some(path) = file.config {
        line.extend(["--config".into(), path.into_os_string()]);
    }
    line.extend(args.command.iter().map(OsString::from));
    let given = first_look(&command, &line);
    let config = Config::load(&command, &given)?;
    let leaf =
        Leaf::find(&command, &given, &line).filter(|leaf| leaf.path.len() == args.command.len());
    let leaf = leaf.ok_or_else(|| {
        Failure::usage(format!("there is no command {:?}", args.command.join(" ")))
            .next("`overlan --help` lists them.")
    })?;
    let settings = config.settings(&leaf);
    let path = config.path.as_ref().map(|path| path.display().to_string());
    if args.json {
        return output::json(&serde_json::json!({
            "schema_version": 1,
            "command": args.command.join(" "),
            "file": path,
            "settings": settings,
        }));
    }
    output::note(&match &path {
        Some(path) => format!("Settings from {path}."),
        None => "There is no configuration file.".to_owned(),
    });
    let mut rows = vec![["SETTING", "VALUE", "FROM"].map(str::to_owned)];
    rows.extend(settings.iter().map(Setting::row));
    output::answer(&columns(&rows))
}

impl Setting {
    /// The flag without its dashes.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The value, as a flag takes it; a list with commas.
    pub(crate) fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    fn row(&self) -> [String; 3] {
        let from = match (self.source, &self.from) {
            (SettingSource::Flag, _) => "flag".to_owned(),
            (SettingSource::Environment, Some(variable)) => format!("${variable}"),
            (SettingSource::File, Some(path)) => path.clone(),
            (SettingSource::Default | SettingSource::Environment | SettingSource::File, _) => {
                "default".to_owned()
            }
            (SettingSource::NotSet, _) => "not set".to_owned(),
        };
        let value = self.value.clone().unwrap_or_else(|| "-".to_owned());
        [self.key.clone(), value, from]
    }
}

/// The arguments on the line, complete or not.
fn first_look(command: &Command, line: &[OsString]) -> ArgMatches {
    let lenient = environment::without_empty(command.clone()).ignore_errors(true);
    lenient.try_get_matches_from(line).unwrap_or_default()
}

impl Config {
    fn load(command: &Command, given: &ArgMatches) -> Result<Self, Failure> {
        let named = deepest(given)
            .try_get_one::<PathBuf>("config")
            .ok()
            .flatten();
        let path = match named {
            Some(path) if path.as_os_str() == NONE => return Ok(Self::default()),
            Some(path) => path.clone(),
            None => match default_path().filter(|path| path.exists()) {
                Some(path) => path,
                None => return Ok(Self::default()),
            },
        };
        let table = read(&path)?;
        check(command, &table, "").map_err(|what| {
            Failure::usage(format!("{}: {what}", path.display()))
                .next("`overlan config show COMMAND` lists the settings of a command.")
        })?;
        Ok(Self {
            path: Some(path),
            table,
        })
    }

    /// Returns the file's value for a setting of the leaf: in the table of its command, or above
    /// all tables.
    fn value(&self, leaf: &Leaf<'_>, key: &str) -> Option<&Value> {
        let mut table = Some(&self.table);
        for name in &leaf.path {
            table = table.and_then(|table| table.get(name)?.as_table());
        }
        let in_table = table.and_then(|table| table.get(key));
        in_table
            .or_else(|| self.table.get(key))
            .filter(|value| !value.is_table())
    }

    /// The arguments that the file adds.
    fn added(&self, leaf: &Leaf<'_>) -> Vec<OsString> {
        let mut added = Vec::new();
        for argument in leaf.command.get_arguments().filter(|it| is_setting(it)) {
            let key = argument.get_long().unwrap_or_default();
            if is_given(leaf.given, argument) {
                continue;
            }
            let Some(value) = self.value(leaf, key) else {
                continue;
            };
            for text in texts(value) {
                let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
                let word = match (is_switch, text == "true") {
                    (true, true) => format!("--{key}"),
                    (true, false) => continue,
                    (false, _) => format!("--{key}={text}"),
                };
                added.push(word.into());
            }
        }
        added
    }

    fn settings(&self, leaf: &Leaf<'_>) -> Vec<Setting> {
        let mut settings = Vec::new();
        for argument in leaf.command.get_arguments().filter(|it| is_setting(it)) {
            let key = argument.get_long().unwrap_or_default();
            let id = argument.get_id().as_str();
            let raw = leaf.given.try_get_raw(id).ok().flatten();
            let given = raw.map(|values| {
                let texts: Vec<_> = values.map(OsStr::to_string_lossy).collect();
                texts.join(",")
            });
            let variable = argument
                .get_env()
                .map(|name| name.to_string_lossy().into_owned());
            let in_file = self.value(leaf, key).map(|value| texts(value).join(","));
            let path = self.path.as_ref().map(|path| path.display().to_string());
            let (value, source, from) = match leaf.given.value_source(id) {
                Some(ValueSource::CommandLine) => (given, SettingSource::Flag, None),
                Some(ValueSource::EnvVariable) => (given, SettingSource::Environment, variable),
                _ if in_file.is_some() => (in_file, SettingSource::File, path),
                Some(_) if given.is_some() => (given, SettingSource::Default, None),
                _ => (None, SettingSource::NotSet, None),
            };
            settings.push(Setting {
                key: key.to_owned(),
                value,
                source,
                from,
            });
        }
        settings.sort_by(|one, other| one.key.cmp(&other.key));
        settings
    }
}

/// The command that a line runs.
struct Leaf<'a> {
    command: &'a Command,
    /// Its names, below the program's.
    path: Vec<String>,
    /// The position of the last of them in the line.
    at: usize,
    /// The values on the line and in the environment.
    given: &'a ArgMatches,
}

impl<'a> Leaf<'a> {
    /// `None` if the line names none.
    fn find(root: &'a Command, given: &'a ArgMatches, line: &[OsString]) -> Option<Self> {
        let (mut command, mut given) = (root, given);
        let (mut path, mut at) = (Vec::new(), 0);
        let mut index = 1;
        while let Some(word) = line.get(index) {
            let word = word.to_string_lossy();
            if word == "--" {
                break;
            }
            if word.starts_with('-') && word.len() > 1 {
                index += 1 + usize::from(takes_next(command, &word));
                continue;
            }
            let Some(below) = command.find_subcommand(word.as_ref()) else {
                break;
            };
            command = below;
            path.push(below.get_name().to_owned());
            at = index;
            index += 1;
            // A line that was not understood, or asks for help, has no matches at all:
            // `subcommand_matches` panics then.
            given = match given.subcommand() {
                Some((name, below)) if name == command.get_name() => below,
                _ => return None,
            };
        }
        (at > 0).then_some(Self {
            command,
            path,
            at,
            given,
        })
    }
}

/// Returns true if the value of this flag is the next word.
pub(crate) fn takes_next(command: &Command, word: &str) -> bool {
    let argument = match word.strip_prefix("--") {
        Some(long) if long.contains('=') => return false,
        Some(long) => command.get_arguments().find(|it| {
            it.get_long() == Some(long)
                || it
                    .get_all_aliases()
                    .is_some_and(|names| names.contains(&long))
        }),
        None => {
            let last = word.chars().last();
            command.get_arguments().find(|it| it.get_short() == last)
        }
    };
    argument.is_some_and(|it| it.get_action().takes_values())
}

/// The settings that every command has, and that a file may hold, too.
fn is_setting(argument: &Arg) -> bool {
    let is_config = argument.get_env() == Some(OsStr::new(CONFIG_VARIABLE));
    let is_shown = !argument.is_hide_set() && !is_config;
    argument.get_long().is_some() && argument.get_env().is_some() && is_shown
}

fn is_given(given: &ArgMatches, argument: &Arg) -> bool {
    matches!(
        given.value_source(argument.get_id().as_str()),
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}

fn deepest(given: &ArgMatches) -> &ArgMatches {
    match given.subcommand() {
        Some((_, below)) => deepest(below),
        None => given,
    }
}

/// A value as flags take it; a list is the flag several times.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Boolean(truth) => vec![truth.to_string()],
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => Vec::new(),
        Value::Array(values) => values.iter().flat_map(texts).collect(),
    }
}

/// Describes the error in a table of `command`.
fn check(command: &Command, table: &Table, place: &str) -> Result<(), String> {
    for (key, value) in table {
        if let Value::Table(below) = value {
            let named = command.get_subcommands().find(|it| it.get_name() == key);
            let named = named.ok_or_else(|| format!("[{place}{key}] is not a command"))?;
            check(named, below, &format!("{place}{key}."))?;
            continue;
        }
        let fits = match place.is_empty() {
            true => is_known(command, key),
            false => command
                .get_arguments()
                .any(|it| is_setting(it) && it.get_long() == Some(key)),
        };
        if !fits {
            return Err(match place.is_empty() {
                true => format!("{key:?} is not a setting of any command"),
                false => format!(
                    "{key:?} is not a setting of [{}]",
                    place.trim_end_matches('.')
                ),
            });
        }
        let is_plain = |value: &Value| {
            matches!(
                value,
                Value::String(_) | Value::Integer(_) | Value::Boolean(_)
            )
        };
        let in_list = value
            .as_array()
            .is_some_and(|values| values.iter().all(is_plain));
        if !in_list && !is_plain(value) {
            return Err(format!(
                "{place}{key} must be a text, a number, true, false, or a list of those"
            ));
        }
    }
    Ok(())
}

fn is_known(command: &Command, key: &str) -> bool {
    let here = command
        .get_arguments()
        .any(|it| is_setting(it) && it.get_long() == Some(key));
    here || command.get_subcommands().any(|below| is_known(below, key))
}

fn read(path: &Path) -> Result<Table, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "cannot use the configuration file {}: {error}",
            path.display()
        ))
    };
    let about = fs::metadata(path).map_err(|error| failed(&error))?;
    if about.len() > FILE_MAX {
        return Err(failed(&format!("it is longer than {FILE_MAX} bytes")));
    }
    // A writer of the file decides through which proxy this device reaches its controller.
    if about.is_file() && about.permissions().mode() & 0o022 != 0 {
        let next = format!("chmod go-w {}", path.display());
        return Err(failed(&"other users may write it").next(next));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    text.parse()
        .map_err(|error: toml::de::Error| failed(&error))
}

/// Finds the file by the XDG base directory rules.
#[expect(
    clippy::disallowed_methods,
    reason = "these variables belong to the desktop, not to a flag of ours"
)]
fn default_path() -> Option<PathBuf> {
    let absolute = |variable| {
        let path = PathBuf::from(std::env::var(variable).ok()?);
        path.is_absolute().then_some(path)
    };
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    Some(base?.join("overlan/overlan.toml"))
}

/// Names the file.
const CONFIG_VARIABLE: &str = "OVERLAN_CONFIG";

/// Instead of a path.
const NONE: &str = "none";

/// Longest file, bytes.
const FILE_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
