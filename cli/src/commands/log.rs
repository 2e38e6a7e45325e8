//! The log of this process, on standard error. Decides which filters are understood. `bounded`
//! keeps what waits for a slow reader small.

mod bounded;

use std::io;
// The subscriber writes through a lock of the standard library only.
use std::sync::{Mutex, OnceLock};

use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::commands::exit::Failure;
use crate::commands::{Cli, LogFormat};

use self::bounded::BoundedLog;

/// The filter that counts, for [`change`].
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts it. Standard output belongs to the command's answer.
pub(crate) fn start(cli: &Cli) -> Result<(), Failure> {
    let (filter, handle) = reload::Layer::new(parse(&cli.log)?);
    let filtered = tracing_subscriber::registry().with(filter);
    let writer = match cli.log_file() {
        Some(path) => BoxMakeWriter::new(Mutex::new(BoundedLog::new(path))),
        None => BoxMakeWriter::new(io::stderr),
    };
    let layer = fmt::layer().with_writer(writer);
    match cli.log_format {
        LogFormat::Text => filtered.with(layer.with_ansi(false)).init(),
        LogFormat::Json => filtered.with(layer.json()).init(),
    }
    // It starts once.
    let _ = FILTER.set(handle);
    Ok(())
}

/// Takes another filter from now on.
pub(crate) fn change(filter: &str) -> Result<(), Failure> {
    let filter = parse(filter)?;
    match FILTER.get() {
        Some(handle) => handle
            .reload(filter)
            .map_err(|error| Failure::usage(error.to_string())),
        None => Ok(()),
    }
}

fn parse(filter: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!(
            "--log {filter:?} is not understood: {error}; it is a level (error, warn, info, \
             debug, trace) or a list such as warn,overlan=debug"
        ))
    })
}
