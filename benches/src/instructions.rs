//! Counts the instructions of each pure hot path under callgrind and compares them with the limits in `instructions.txt`; holds
//! no workload.
//!
//! Instructions do not depend on what else the machine does, so a change of a few per cent is visible where a clock shows noise.

mod forwarding;
mod paths;
mod stacks;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use self::paths::PATHS;
use crate::options::{Instructions, Measured};
use crate::trouble::{During, Result, Trouble};

/// Measures every path, prints the table, and fails where one is above its limit.
pub(crate) fn run(options: &Instructions) -> Result<()> {
    if !can_count()? {
        return say(
            "skipped: instructions are counted with valgrind on x86-64, and it is not installed here",
        );
    }
    let file = options.limits.clone().unwrap_or_else(default_limits);
    let text = std::fs::read_to_string(&file).during(file.display())?;
    let limits = parse(&text)?;
    let mut worse = Vec::new();
    for path in PATHS {
        let cost = cost(path.name, path.count)?;
        let limit = limits.get(path.name).copied();
        let verdict = Verdict::of(cost, limit);
        say(&format!("{:18} {cost:9}  {verdict}", path.name))?;
        if matches!(verdict, Verdict::Above(_) | Verdict::Unknown) {
            worse.push(path.name);
        }
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(Trouble::failed(format!(
        "more instructions than {} allows: {}",
        file.display(),
        worse.join(", ")
    )))
}

/// Does one path as often as asked: what runs under callgrind.
pub(crate) fn measured(measured: &Measured) -> Result<()> {
    let path = PATHS
        .iter()
        .find(|path| path.name == measured.path)
        .ok_or_else(|| Trouble::failed(format!("there is no path {}", measured.path)))?;
    (path.run)(measured.count)
}

/// How a path's cost stands to what was recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// Within the margins; per cent above what was recorded.
    Kept(f64),
    /// Better by so much that the record should follow.
    Below(f64),
    /// A regression.
    Above(f64),
    /// Nothing was recorded.
    Unknown,
}

impl Verdict {
    fn of(cost: u64, recorded: Option<u64>) -> Self {
        let Some(recorded) = recorded else {
            return Self::Unknown;
        };
        let percent = (cost as f64 / recorded as f64 - 1.0) * 100.0;
        if percent > ALLOWED_PERCENT {
            Self::Above(percent)
        } else if percent < -ALLOWED_PERCENT {
            Self::Below(percent)
        } else {
            Self::Kept(percent)
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kept(percent) => write!(f, "{percent:+5.1} %"),
            Self::Below(percent) => write!(f, "{percent:+5.1} %  better: record the new value"),
            Self::Above(percent) => write!(f, "{percent:+5.1} %  REGRESSION"),
            Self::Unknown => f.write_str("not recorded: add it"),
        }
    }
}

/// Instructions of one unit of the path: setting up costs the same in both runs, so it is not in their difference.
fn cost(path: &str, count: u64) -> Result<u64> {
    // Side by side: one core each, and they do not disturb each other's count.
    let (once, twice) = (start(path, count)?, start(path, count * 2)?);
    let once = collected(once, path);
    let twice = collected(twice, path)?;
    Ok(twice.saturating_sub(once?) / count)
}

fn start(path: &str, count: u64) -> Result<Child> {
    let program = std::env::current_exe().during("this program's own file")?;
    Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["measured", path, &count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .during("valgrind")
}

fn collected(child: Child, path: &str) -> Result<u64> {
    let output = child.wait_with_output().during("valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text
        .lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match count {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(Trouble::failed(format!("{path} under valgrind: {text}"))),
    }
}

fn can_count() -> Result<bool> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Ok(false);
    }
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).during("valgrind"),
    }
}

fn default_limits() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt"))
}

/// Lines of a name and a number; `#` begins a comment.
fn parse(text: &str) -> Result<BTreeMap<&str, u64>> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next();
            let number = words.next().and_then(|word| word.parse().ok());
            match (name, number) {
                (Some(name), Some(number)) if number > 0 => Ok((name, number)),
                _ => Err(Trouble::failed(format!("not a name and a number: {line}"))),
            }
        })
        .collect()
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").during("standard output")
}

/// What a path may cost more than recorded: compilers and C libraries of one Debian release differ by less.
const ALLOWED_PERCENT: f64 = 8.0;

#[cfg(test)]
mod tests;
