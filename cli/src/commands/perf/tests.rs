use clap::Parser;
use overlan::program::perf::Finding;

use super::*;

#[derive(Debug, Parser)]
struct PerfLine {
    #[command(flatten)]
    perf: PerfArgs,
}

fn parse(args: &[&str]) -> Result<PerfArgs, clap::Error> {
    let args = std::iter::once("perf").chain(args.iter().copied());
    PerfLine::try_parse_from(args).map(|line| line.perf)
}

#[test]
fn flags_become_a_plan() {
    let planned = |args: &[&str]| plan(&parse(args).unwrap()).unwrap();
    assert_eq!(planned(&["web"]), Plan::new(5, 1, 0).unwrap());
    assert_eq!(
        planned(&["web", "-R", "-P", "8", "-t", "3600"]),
        Plan::new(3_600, 0, 8).unwrap()
    );
    assert_eq!(
        planned(&["web", "--both", "--streams", "128"]),
        Plan::new(5, 128, 128).unwrap()
    );
    assert_eq!(planned(&["web", "--latency"]), Plan::new(5, 0, 0).unwrap());
    assert!(parse(&["--serve"]).unwrap().serve);
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for args in [
        &[][..],
        &["web", "--serve"],
        &["--serve", "--json"],
        &["web", "--both", "--reverse"],
        &["web", "--latency", "-P", "2"],
        &["web", "--time", "0"],
        &["web", "--time", "3601"],
        &["web", "--streams", "129"],
        &["web", "--port", "0"],
    ] {
        assert!(parse(args).is_err(), "{args:?}");
    }
}

fn side() -> Side {
    Side {
        bytes_in: 1 << 20,
        bytes_out: 3 << 30,
        packets_in: 1_000,
        packets_out: 200_000,
        retransmits: 2,
        credit_waits: 9,
        credit_wait_ms: 1_500.0,
        credit_window: 524_288,
        link_stalls: 1,
        link_stall_ms: 12.0,
        queue_delay_mean_ms: 0.25,
        processors_used: 1.5,
        processors: 2,
        machine_busy: Some(0.97),
    }
}

#[test]
fn the_table_shows_the_figures_and_names_what_limits_them() {
    let latency = |p50_us| {
        Some(Latency {
            round_trips: 400,
            p50_us,
            p99_us: 4 * p50_us,
            max_us: 150_000,
        })
    };
    let mut report = Report {
        schema_version: 1,
        peer: "web.home.overlan.internal".to_owned(),
        address: "100.64.0.2".parse().unwrap(),
        seconds: 5.0,
        interrupted: false,
        latency_idle: latency(100),
        latency_loaded: latency(900),
        up: None,
        down: Some(Throughput {
            bytes: 1 << 30,
            bits_per_second: 1_717_986_918,
            streams: vec![858_000_000, 859_986_918],
            fairness: 0.99999,
            bottleneck: Finding {
                name: Bottleneck::LocalCpu,
                text: "all are busy".to_owned(),
            },
        }),
        here: side(),
        there: Side {
            machine_busy: None,
            ..side()
        },
    };
    let expected = "\
peer     web.home.overlan.internal 100.64.0.2, 5.0 s
idle     p50 0.10 ms, p99 0.40 ms, max 150 ms over 400 round trips
loaded   p50 0.90 ms, p99 3.60 ms, max 150 ms over 400 round trips
down     1.72 Gbit/s, 1.0 GiB in all; 2 streams of 858.0 Mbit/s to 860.0 Mbit/s, fairness 1.000
here     1.50 of 2 processors, machine 97 % busy
         in 1.0 MiB in 1000 packets, out 3.0 GiB in 200000; 2 retransmits; waited 1500 ms for \
         credit (512 KiB), 12 ms for the socket, 0.25 ms for a turn
there    1.50 of 2 processors
         in 1.0 MiB in 1000 packets, out 3.0 GiB in 200000; 2 retransmits; waited 1500 ms for \
         credit (512 KiB), 12 ms for the socket, 0.25 ms for a turn
bottleneck: local CPU: all are busy
";
    assert_eq!(table(&report, true), expected);

    report.up = report.down.clone();
    report.interrupted = true;
    let short = table(&report, false);
    assert!(!short.contains("retransmits"), "{short}");
    let widest = short.lines().map(|line| line.chars().count()).max();
    assert!(widest < Some(120), "{short}");
    let both = table(&report, true);
    assert!(both.contains("5.0 s, interrupted"), "{both}");
    assert!(both.contains("\nbottleneck up: local CPU"), "{both}");
    assert!(both.contains("\nbottleneck down: local CPU"), "{both}");

    (report.up, report.down) = (None, None);
    let latency = table(&report, true);
    assert!(
        !latency.contains("loaded") && !latency.contains("bottleneck"),
        "{latency}"
    );
}

#[test]
fn progress_is_one_line_each() {
    let second = Progress::Second {
        second: 3,
        up: 2_500_000,
        down: 0,
    };
    assert_eq!(
        progress_line(&second, BOTH),
        "   3 s   up     2.5 Mbit/s   down       0 kbit/s"
    );
    let idle = Progress::Idle { latency: None };
    // A direction without a stream has no figure.
    let up = Directions {
        up: true,
        down: false,
    };
    assert!(!progress_line(&second, up).contains("down"));
    assert_eq!(
        progress_line(&idle, BOTH),
        "idle     no round trip was taken"
    );
}

const BOTH: Directions = Directions {
    up: true,
    down: true,
};
