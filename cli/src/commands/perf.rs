//! `perf`: measures the path to a peer, or lets peers measure. Decides what is asked for and how
//! the figures are shown; the running `overlan up` measures.

use std::fmt::Write;

use clap::Args;
use overlan::program::perf::{
    Bottleneck, Latency, PORT, Plan, Progress, Report, SECONDS_MAX, STREAMS_MAX, Side, Throughput,
};
use overlan::program::socket::{Request, Response, call_and_follow};
use overlan::program::status::{bytes, time};

use crate::commands::exit::Failure;
use crate::commands::running::NetworkArgs;
use crate::commands::stop::Signals;
use crate::commands::{StateArgs, duration, output, port, running};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PerfArgs {
    /// Label, full name or address of a peer where `overlan perf --serve` runs
    #[arg(required_unless_present = "serve")]
    peer: Option<String>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Let peers measure against this device until Ctrl-C
    #[arg(
        long,
        conflicts_with_all = ["peer", "time", "streams", "reverse", "both", "latency", "json"],
    )]
    serve: bool,
    /// Duration: seconds, or with a unit (2m)
    #[arg(
        short,
        long,
        default_value_t = 5,
        value_name = "TIME",
        value_parser = duration::within::<u16>(1..=u64::from(SECONDS_MAX)),
    )]
    time: u16,
    /// Streams at the same time, in each direction
    #[arg(
        short = 'P',
        long,
        default_value_t = 1,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=i64::from(STREAMS_MAX)),
    )]
    streams: u8,
    /// Let the peer send instead of this device
    #[arg(short = 'R', long, conflicts_with = "both")]
    reverse: bool,
    /// Let both send at the same time
    #[arg(long)]
    both: bool,
    /// Measure only round trips of one byte
    #[arg(long, conflicts_with_all = ["streams", "reverse", "both"])]
    latency: bool,
    /// Overlay port of the peer, or of this device with --serve
    #[arg(
        long,
        env = "OVERLAN_PERF_PORT",
        default_value_t = PORT,
        value_parser = port::within(port::ANY),
    )]
    port: u16,
    /// Print one JSON document; docs/json.md lists its fields
    #[arg(long)]
    json: bool,
    /// Show packets, retransmits and waits of both sides, too
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  On the peer, which takes no measurements otherwise:
    overlan perf --serve
  Then here:
    overlan perf web                     to web, one stream, 5 s
    overlan perf web --reverse -P 8      from web, 8 streams
    overlan perf web --both --time 30
    overlan perf web --latency --json

Ctrl-C ends it and shows what was measured until then. The last line names what limits the rate;
docs/speed.md tells what to do about it.";

/// `overlan perf …`.
pub(crate) async fn run(args: PerfArgs) -> Result<(), Failure> {
    let socket = args.state.open()?.socket_path();
    let request = match &args.peer {
        None => Request::PerfServe { port: args.port },
        Some(peer) => Request::Perf {
            peer: args.network.place(peer),
            port: args.port,
            plan: plan(&args)?,
        },
    };
    let mut signals = Signals::listen()?;
    let mut stopping = Signals::listen()?;
    let json = args.json;
    let directions = Directions::of(&args);
    let followed = call_and_follow(&socket, &request, signals.next(), move |progress| {
        if !json {
            output::note(&progress_line(&progress, directions));
        }
    });
    let answer = tokio::select! {
        answer = followed => answer?,
        // The first asks for the end; a second one does not wait for it.
        () = async { stopping.next().await; stopping.next().await } => return Ok(()),
    };
    match answer {
        Response::Measured(report) if json => output::json(&report),
        Response::Measured(report) => output::answer(&table(&report, args.verbose)),
        Response::Done => Ok(()),
        other @ (Response::Status(_)
        | Response::Version(_)
        | Response::Progress(_)
        | Response::SendSockets
        | Response::Happened(_)
        | Response::Pong(_)
        | Response::Whois(_)
        | Response::DnsAnswer(_)
        | Response::Refused(_)) => Err(running::unexpected(&other)),
    }
}

fn plan(args: &PerfArgs) -> Result<Plan, Failure> {
    let (up, down) = match (args.latency, args.both, args.reverse) {
        (true, _, _) => (0, 0),
        (_, true, _) => (args.streams, args.streams),
        (_, _, true) => (0, args.streams),
        (_, _, false) => (args.streams, 0),
    };
    Plan::new(args.time, up, down).map_err(|error| Failure::usage(error.to_string()))
}

/// Returns the directions in which data goes. The figure of the other one would be 0.
#[derive(Debug, Clone, Copy)]
struct Directions {
    up: bool,
    down: bool,
}

impl Directions {
    fn of(args: &PerfArgs) -> Self {
        Self {
            up: !args.reverse,
            down: args.reverse || args.both,
        }
    }
}

fn progress_line(progress: &Progress, directions: Directions) -> String {
    match progress {
        Progress::Listening { port } => {
            format!("peers may measure on overlay port {port}, until Ctrl-C")
        }
        Progress::Began { remote, plan } => format!(
            "{remote} measures for {} s: {} streams to here, {} from here",
            plan.seconds(),
            plan.up(),
            plan.down()
        ),
        Progress::Ended { remote } => format!("{remote} has finished"),
        Progress::Idle { latency } => format!("idle     {}", latency_text(*latency)),
        Progress::Second { second, up, down } => {
            let mut line = format!("{second:>4} s");
            for (shown, what, figure) in
                [(directions.up, "up", up), (directions.down, "down", down)]
            {
                if shown {
                    line.push_str(&format!("   {what} {:>14}", rate(*figure)));
                }
            }
            line
        }
    }
}

/// The report for people: figures, then what limits them. Ends with a line break.
fn table(report: &Report, verbose: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<9}{value}").expect("writing to a String cannot fail");
    };
    let early = if report.interrupted {
        ", interrupted"
    } else {
        ""
    };
    line(
        "peer",
        format!(
            "{} {}, {:.1} s{early}",
            report.peer, report.address, report.seconds
        ),
    );
    line("idle", latency_text(report.latency_idle));
    if report.up.is_some() || report.down.is_some() {
        line("loaded", latency_text(report.latency_loaded));
    }
    let directions = [("up", &report.up), ("down", &report.down)];
    for (what, throughput) in directions {
        if let Some(throughput) = throughput {
            line(what, throughput_text(throughput));
        }
    }
    for (what, side) in [("here", &report.here), ("there", &report.there)] {
        line(what, side_text(side));
        if verbose {
            line("", side_internals(side));
        }
    }
    let found: Vec<(&str, &Throughput)> = directions
        .into_iter()
        .filter_map(|(what, throughput)| Some((what, throughput.as_ref()?)))
        .collect();
    for (what, throughput) in &found {
        let finding = &throughput.bottleneck;
        let of = if found.len() > 1 {
            format!(" {what}")
        } else {
            String::new()
        };
        line(
            &format!("bottleneck{of}: "),
            format!("{}: {}", cause(finding.name), finding.text),
        );
    }
    text
}

fn throughput_text(throughput: &Throughput) -> String {
    let mut text = format!(
        "{}, {} in all",
        rate(throughput.bits_per_second),
        bytes(throughput.bytes)
    );
    if let [_, _, ..] = &throughput.streams[..] {
        let slowest = throughput.streams.iter().min().copied().unwrap_or_default();
        let fastest = throughput.streams.iter().max().copied().unwrap_or_default();
        text.push_str(&format!(
            "; {} streams of {} to {}, fairness {:.3}",
            throughput.streams.len(),
            rate(slowest),
            rate(fastest),
            throughput.fairness
        ));
    }
    text
}

fn side_text(side: &Side) -> String {
    let busy = match side.machine_busy {
        Some(busy) => format!(", machine {:.0} % busy", busy * 100.0),
        None => String::new(),
    };
    format!(
        "{:.2} of {} processors{busy}",
        side.processors_used, side.processors
    )
}

fn side_internals(side: &Side) -> String {
    format!(
        "in {} in {} packets, out {} in {}; {} retransmits; waited {:.0} ms for credit ({} KiB), \
         {:.0} ms for the socket, {:.2} ms for a turn",
        bytes(side.bytes_in),
        side.packets_in,
        bytes(side.bytes_out),
        side.packets_out,
        side.retransmits,
        side.credit_wait_ms,
        side.credit_window / 1_024,
        side.link_stall_ms,
        side.queue_delay_mean_ms,
    )
}

fn latency_text(latency: Option<Latency>) -> String {
    match latency {
        Some(latency) => format!(
            "p50 {}, p99 {}, max {} over {} round trips",
            time(latency.p50_us),
            time(latency.p99_us),
            time(latency.max_us),
            latency.round_trips
        ),
        None => "no round trip was taken".to_owned(),
    }
}

fn cause(bottleneck: Bottleneck) -> &'static str {
    match bottleneck {
        Bottleneck::LocalCpu => "local CPU",
        Bottleneck::FlowWindow => "flow window",
        Bottleneck::Credit => "credit",
        Bottleneck::Link => "link",
        Bottleneck::Relay => "relay",
        Bottleneck::Peer => "peer",
        Bottleneck::Unclear => "unclear",
    }
}

/// Bits per second in the unit that fits.
fn rate(bits: u64) -> String {
    match bits {
        0..1_000_000 => format!("{:.0} kbit/s", bits as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} Mbit/s", bits as f64 / 1e6),
        1_000_000_000.. => format!("{:.2} Gbit/s", bits as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests;
