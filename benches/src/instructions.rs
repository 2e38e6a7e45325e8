//! Counts the instructions of each pure hot path under callgrind and compares them with the limits
//! in `instructions.txt`; holds no workload.
//!
//! Instructions do not depend on what else the machine does, so a change of a few per cent is
//! visible where a clock shows noise.

mod forwarding;
mod paths;
mod records;
mod stacks;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use self::paths::PATHS;
use crate::options::{Instructions, Measured};
use crate::process;
use crate::trouble::{During, Result, Trouble};

/// Measures every path, prints the table, and fails where one is above its limit.
pub(crate) fn run(options: &Instructions) -> Result<()> {
    let valgrind = match valgrind() {
        Ok(valgrind) => valgrind,
        Err(Trouble::Absent(why)) => return say(&format!("skipped: {why}")),
        Err(trouble) => return Err(trouble),
    };
    let file = options.limits.clone().unwrap_or_else(default_limits);
    let text = std::fs::read_to_string(&file).during(file.display())?;
    let limits = parse(&text)?;
    let mut worse = Vec::new();
    for path in PATHS {
        let cost = cost(&valgrind, path.name, path.count)?;
        let limit = limits.get(path.name).copied();
        let change = Change::of(cost, limit);
        say(&format!("{:18} {cost:9}  {change}", path.name))?;
        if matches!(change, Change::Above(_) | Change::Unknown) {
            worse.push(path.name);
        }
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(Trouble::failed(format!(
        "these paths take more instructions than {} allows, or are not recorded there: {}",
        file.display(),
        worse.join(", ")
    )))
}

/// Runs one path as often as asked. This is the process that callgrind counts.
pub(crate) fn measured(measured: &Measured) -> Result<()> {
    let path = PATHS
        .iter()
        .find(|path| path.name == measured.path)
        .ok_or_else(|| Trouble::failed(format!("there is no path {}", measured.path)))?;
    (path.run)(measured.count)
}

/// The cost of a path beside the recorded one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    /// Within the margins; per cent above the record.
    Kept(f64),
    /// Better by so much that the record should follow.
    Below(f64),
    /// A regression.
    Above(f64),
    /// There is no record.
    Unknown,
}

impl Change {
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

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kept(percent) => write!(f, "{percent:+5.1} %"),
            Self::Below(percent) => write!(f, "{percent:+5.1} %  better: record the new value"),
            Self::Above(percent) => write!(f, "{percent:+5.1} %  REGRESSION"),
            Self::Unknown => f.write_str("NOT RECORDED: add it to instructions.txt"),
        }
    }
}

/// Instructions of one unit of the path: setting up costs the same in both runs, so it is not in
/// their difference.
fn cost(valgrind: &Path, path: &str, count: u64) -> Result<u64> {
    // Side by side: one core each, and they do not disturb each other's count.
    let (once, twice) = (
        start(valgrind, path, count)?,
        start(valgrind, path, count * 2)?,
    );
    let once = collected(once, path);
    let twice = collected(twice, path)?;
    Ok(twice.saturating_sub(once?) / count)
}

fn start(valgrind: &Path, path: &str, count: u64) -> Result<Child> {
    let program = std::env::current_exe().during("this program's own file")?;
    process::clean(valgrind)
        .envs(SAME_PATHS)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["measured", path, &count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .during("valgrind")
}

/// C libraries choose their loops by what the processor can do. These keep them to what every
/// x86-64 server has, so that machines agree. Without `ERMS` a copy is a loop of vector moves:
/// callgrind counts `rep movsb` as an instruction per byte, in which everything else would drown.
const SAME_PATHS: [(&str, &str); 2] = [
    (
        "GLIBC_TUNABLES",
        "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-SSSE3,-ERMS,-FSRM\
         :glibc.cpu.x86_non_temporal_threshold=0x10000000",
    ),
    // For aws-lc: everything of CPUID leaf 7 off (AVX2, BMI, AVX-512, VAES); AES, carry-less
    // multiplication and AVX stay.
    ("OPENSSL_ia32cap", "~0x0:~0xffffffffffffffff"),
];

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

/// Finds valgrind; absent on machines for which the recorded numbers mean nothing.
fn valgrind() -> Result<PathBuf> {
    if !cfg!(all(
        target_arch = "x86_64",
        target_os = "linux",
        target_env = "gnu"
    )) {
        return Err(Trouble::Absent(
            "instructions are recorded for x86-64 Linux with glibc, which this is not".to_owned(),
        ));
    }
    process::find("valgrind")
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

/// Per cent that a path may cost more than recorded: compilers and C libraries of one Debian
/// release differ by less.
const ALLOWED_PERCENT: f64 = 8.0;

#[cfg(test)]
mod tests;
