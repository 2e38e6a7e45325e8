//! `bugreport`: one local file for the person who helps with a problem. Decides what is in it:
//! nothing that lets anybody in. It is sent to nobody.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use overlan::program::status::Status;
use overlan_protocol::UnixTime;
use overlan_transport::clock::wall;
use serde::Serialize;

use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, output, running};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BugreportArgs {
    /// File to write; - is standard output [default: overlan-bugreport-TIME.json in this directory]
    #[arg(short, long, env = "OVERLAN_BUGREPORT_OUTPUT", value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan bugreport
  overlan bugreport --output - | less

It holds versions, the status with the names and addresses of peers and relays, the names of files
in the state directory and of OVERLAN_ variables. It holds no key, token, password or content of a
file, and is sent to nobody: read it before you pass it on.";

/// The file.
#[derive(Debug, Serialize)]
struct BugreportDocument {
    schema_version: u32,
    /// Seconds since the Unix epoch.
    written: UnixTime,
    version: &'static str,
    system: System,
    /// Of the running `overlan up`.
    status: Option<Status>,
    /// The reason for which there is no status.
    status_error: Option<String>,
    state_directory: StateFiles,
    /// Names of variables that are set, without their values: one may be a key.
    variables: Vec<String>,
}

#[derive(Debug, Serialize)]
struct System {
    name: String,
    release: String,
    machine: &'static str,
    cores: Option<usize>,
}

#[derive(Debug, Serialize)]
struct StateFiles {
    path: String,
    mode: Option<String>,
    files: Vec<StateFile>,
}

/// A file without its content.
#[derive(Debug, Serialize)]
struct StateFile {
    name: String,
    bytes: u64,
    mode: String,
}

/// `overlan bugreport`.
pub(crate) async fn run(args: BugreportArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let (status, status_error) = match running::ask_status(&args.state).await {
        Ok(status) => (Some(status), None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    let report = BugreportDocument {
        schema_version: 1,
        written: wall(),
        version: env!("CARGO_PKG_VERSION"),
        system: system(),
        status,
        status_error,
        state_directory: files(state.path()),
        variables: variables(),
    };
    match args.output {
        Some(path) if path.as_os_str() == "-" => output::json(&report),
        Some(path) => write(&path, &report),
        None => {
            let name = format!("overlan-bugreport-{}.json", report.written);
            write(Path::new(&name), &report)
        }
    }
}

/// Only this user may read it, and it replaces nothing.
fn write(path: &Path, report: &BugreportDocument) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(report).map_err(io::Error::from)?;
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(&text));
    if let Err(error) = written {
        let text = format!("cannot write {}: {error}", path.display());
        return Err(Failure::new(Code::Other, text).next("Name another file by --output."));
    }
    output::note("Read it before you pass it on: it names your devices, peers and relays.");
    output::answer(&path.display().to_string())
}

fn system() -> System {
    let name = rustix::system::uname();
    System {
        name: name.sysname().to_string_lossy().into_owned(),
        release: name.release().to_string_lossy().into_owned(),
        machine: std::env::consts::ARCH,
        cores: std::thread::available_parallelism().ok().map(usize::from),
    }
}

fn files(directory: &Path) -> StateFiles {
    let mode = |metadata: &fs::Metadata| format!("{:o}", metadata.permissions().mode() & 0o7777);
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<StateFile> = entries
        .take(FILES_MAX)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok()?;
            Some(StateFile {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: metadata.len(),
                mode: mode(&metadata),
            })
        })
        .collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    StateFiles {
        path: directory.display().to_string(),
        mode: fs::metadata(directory).ok().map(|metadata| mode(&metadata)),
        files,
    }
}

/// Returns the names only.
fn variables() -> Vec<String> {
    let mut names: Vec<String> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("OVERLAN_"))
        .collect();
    names.sort();
    names
}

/// Files of the state directory that are listed: it holds about ten.
const FILES_MAX: usize = 100;
