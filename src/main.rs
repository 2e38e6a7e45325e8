//! The `overlan` program: reads its arguments, starts logging and the runtime, runs one command, and ends with its exit code.
#![forbid(unsafe_code)]

mod cli;

#[cfg(feature = "server")]
mod demo;

use std::io;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::error::ErrorKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::cli::exit::{Code, Failure};
use crate::cli::log::BoundedLog;
use crate::cli::{Cli, LogFormat, NotRead, output};

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(NotRead::Config(failure)) => return failed(&failure),
        Err(NotRead::Line(asked_or_wrong)) => {
            let printed = asked_or_wrong.print();
            let code = match (asked_or_wrong.kind(), printed) {
                (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, Ok(())) => Code::Ok,
                _ => Code::Usage,
            };
            return code.into();
        }
    };
    match start(cli) {
        Ok(code) => code,
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> ExitCode {
    output::failure(failure);
    failure.code().into()
}

fn start(cli: Cli) -> Result<ExitCode, Failure> {
    start_log(&cli)?;
    raise_file_limit();
    let threads = cli.threads();
    // One thread is fastest as long as it has time: a packet then never waits for another core to wake up.
    let mut runtime = if threads.get() == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads.get());
        builder
    };
    runtime.enable_all().build()?.block_on(cli::run(cli))
}

/// Every connection is a file descriptor, and the usual soft limit of 1,024 is there only for programs that call `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Logs go to standard error: standard output belongs to the command's answer.
fn start_log(cli: &Cli) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&cli.log).map_err(|error| {
        Failure::usage(format!(
            "--log {:?} is not understood: {error}; it is a level (error, warn, info, debug, trace) or a list such as warn,overlan=debug",
            cli.log
        ))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    let writer = match cli.log_file() {
        Some(path) => BoxMakeWriter::new(Mutex::new(BoundedLog::new(path))),
        None => BoxMakeWriter::new(io::stderr),
    };
    let log = log.with_writer(writer);
    match cli.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
