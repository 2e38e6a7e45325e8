//! The `overlan` program: reads its arguments, starts logging and the runtime, runs one command, and ends with its exit code.
#![forbid(unsafe_code)]

mod cli;

#[cfg(feature = "server")]
mod demo;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::exit::{Code, Failure};
use crate::cli::output::Form;
use crate::cli::{Cli, NotRead, log, output};

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let form = output::asked_form(&line);
    let cli = match Cli::read(line) {
        Ok(cli) => cli,
        Err(NotRead::Config(failure)) => return failed(&failure, form),
        Err(NotRead::Line(wrong)) if form == Form::Json && wrong.exit_code() != 0 => {
            return failed(&Failure::wrong_line(&wrong), form);
        }
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
        Err(failure) => failed(&failure, form),
    }
}

fn failed(failure: &Failure, form: Form) -> ExitCode {
    output::failure(failure, form);
    failure.code().into()
}

fn start(cli: Cli) -> Result<ExitCode, Failure> {
    log::start(&cli)?;
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
