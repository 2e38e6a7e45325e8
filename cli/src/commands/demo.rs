//! `demo`: a whole deployment on this machine, for a first look. Decides its output and its exit
//! code.

use clap::Args;

use crate::commands::exit::{Code, Failure};
use crate::commands::stop::Signals;
use crate::commands::{output, port};
use crate::demo::{CheckReport, Demo, DemoError, LaptopListeners, Options};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Port of the SOCKS5 proxy on 127.0.0.1; 0 takes a free one
    #[arg(
        long,
        env = "OVERLAN_DEMO_SOCKS_PORT",
        default_value_t = 1080,
        value_parser = port::within(port::OR_FREE),
        value_name = "PORT"
    )]
    socks_port: u16,
    /// Port of the DNS resolver on 127.0.0.1; 0 takes a free one
    #[arg(
        long,
        env = "OVERLAN_DEMO_DNS_PORT",
        default_value_t = 1053,
        value_parser = port::within(port::OR_FREE),
        value_name = "PORT"
    )]
    dns_port: u16,
    /// Try everything once, report the results, and exit with 0 if all works
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  overlan demo
  overlan demo --check --socks-port 0 --dns-port 0";

/// `overlan demo`.
pub(crate) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let options = Options {
        socks_port: args.socks_port,
        dns_port: args.dns_port,
    };
    let (mut demo, doors) = Demo::bind(options).await?;
    let outcome = tokio::select! {
        outcome = show(&mut demo, doors, args.check) => outcome,
        () = signals.next() => interrupted(args.check),
    };
    tokio::select! {
        () = demo.stop() => {}
        () = signals.next() => {}
    }
    outcome
}

/// Comes to an end only if something failed or there is nothing but a check to do.
async fn show(demo: &mut Demo, doors: LaptopListeners, is_check: bool) -> Result<(), Failure> {
    demo.start(doors).await?;
    if is_check {
        return check(demo).await;
    }
    output::greeting(&demo.lines());
    std::future::pending().await
}

/// Ctrl-C is how a demo ends. A check has not passed before its end.
fn interrupted(is_check: bool) -> Result<(), Failure> {
    match is_check {
        true => Err(Failure::new(
            Code::Other,
            "interrupted before everything was tried",
        )),
        false => Ok(()),
    }
}

async fn check(demo: &Demo) -> Result<(), Failure> {
    let mut written = Ok(());
    let passed = demo
        .check(|report| {
            if written.is_ok() {
                written = output::answer(&report_line(report));
            }
        })
        .await;
    written?;
    if passed {
        return Ok(());
    }
    Err(Failure::new(Code::Other, "the demo does not work here"))
}

fn report_line(report: &CheckReport) -> String {
    match &report.outcome {
        Ok(figure) => format!("ok      {}: {figure}", report.what),
        Err(reason) => format!("FAILED  {}: {reason}", report.what),
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Api(error) => error.into(),
            DemoError::Enrol(error) => error.into(),
            DemoError::State(error) => error.into(),
            DemoError::Node(error) => error.into(),
            DemoError::NotReady { .. } => Self::new(Code::TimedOut, error),
            DemoError::PortInUse { .. }
            | DemoError::Directory { .. }
            | DemoError::Listen(_)
            | DemoError::Controller(_)
            | DemoError::Relay(_) => Self::new(Code::Other, error),
        }
    }
}
