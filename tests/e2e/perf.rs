//! `overlan perf` between two devices: figures of both directions, refusals that say what to do,
//! and an end at Ctrl-C on either side.

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{Device, KeyBy, Lab, state};
use crate::process::{Program, overlan};

#[test]
fn a_peer_that_allows_it_is_measured_and_the_bottleneck_named() {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    laptop.run(&["perf", "web", "--time", "1"]).refused(
        1,
        &["takes no measurements on port 5201", "overlan perf --serve"],
    );
    laptop
        .run(&["perf", "nobody"])
        .refused(1, &["network home", "is called \"nobody\""]);

    let mut server = serve(&lab, "web", &[]);
    let line = "peers may measure on overlay port ";
    assert_eq!(server.line(line), "5201, until Ctrl-C");
    web.run(&["perf", "--serve"])
        .refused(1, &["cannot listen on overlay port 5201", "--port"]);

    let args = [
        "perf",
        "web",
        "--time",
        "1",
        "--both",
        "--streams",
        "2",
        "--json",
    ];
    let report: Value = serde_json::from_str(&laptop.run(&args).ok()).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["peer"], web.name.as_str());
    assert_eq!(report["address"], web.address.as_str());
    assert_eq!(report["interrupted"], false);
    for direction in ["up", "down"] {
        let found = &report[direction];
        assert!(found["bytes"].as_u64().unwrap() > 1 << 20, "{report:#}");
        assert!(found["bits_per_second"].as_u64().unwrap() > 0, "{report:#}");
        assert_eq!(found["streams"].as_array().unwrap().len(), 2);
        assert!(found["fairness"].as_f64().unwrap() > 0.5, "{report:#}");
        assert!(found["bottleneck"]["name"].is_string(), "{report:#}");
        assert!(found["bottleneck"]["text"].is_string(), "{report:#}");
    }
    for latency in ["latency_idle", "latency_loaded"] {
        let found = &report[latency];
        assert!(found["round_trips"].as_u64().unwrap() > 0, "{report:#}");
        assert!(
            found["p50_us"].as_u64().unwrap() <= found["p99_us"].as_u64().unwrap(),
            "{report:#}"
        );
    }
    // What one end sent came in at the other; both carried the streams of both directions.
    for (side, counter) in [("here", "bytes_out"), ("there", "bytes_in")] {
        let counted = report[side][counter].as_u64().unwrap();
        assert!(
            counted >= report["up"]["bytes"].as_u64().unwrap() / 2,
            "{report:#}"
        );
    }

    let table = laptop
        .run(&["perf", &web.address, "--time", "1", "--reverse"])
        .ok();
    assert!(table.starts_with("peer     100.64."), "{table}");
    assert!(table.contains("\ndown     "), "{table}");
    assert!(table.contains("\nbottleneck: "), "{table}");
    let table = laptop
        .run(&["perf", "web", "--latency", "--time", "1"])
        .ok();
    assert!(
        table.contains("round trips") && !table.contains("bottleneck"),
        "{table}"
    );

    let counters = &laptop.status()["counters"];
    for name in [
        "bytes_in",
        "bytes_out",
        "flows_opened",
        "queue_turns",
        "credit_window",
    ] {
        assert!(counters[name].as_u64().unwrap() > 0, "{name}: {counters:#}");
    }
    for name in [
        "retransmits",
        "ring_bytes",
        "link_stalls",
        "queue_delay_max_us",
        "credit_waits",
    ] {
        assert!(counters[name].is_u64(), "{name}: {counters:#}");
    }
    assert_closed_after(&mut server, &laptop);
}

#[test]
fn ctrl_c_ends_a_measurement_with_what_it_found_and_frees_the_peer() {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let mut server = serve(&lab, "web", &["--port", "7000"]);
    server.line("peers may measure on overlay port ");

    let mut command = overlan();
    command
        .args(["perf", "web", "--port", "7000", "--time", "3600"])
        .args(state(&lab.path("laptop")));
    let mut measuring = Program::start("measuring", &lab.path("."), &mut command, "");
    measuring.line("   1 s   up ");
    measuring.signal(Signal::INT);
    assert!(measuring.ended().success());
    let output = measuring.output();
    assert!(output.contains(", interrupted"), "{output}");
    assert!(output.contains("\nbottleneck: "), "{output}");
    server.line(&format!("{} has finished", laptop.address));

    // The client that measures goes down: it does not wait for the hour.
    let mut measuring = Program::start("down", &lab.path("."), &mut command, "");
    measuring.line("   1 s   up ");
    laptop.run(&["down"]).ok();
    assert!(measuring.ended().success());
    assert!(measuring.output().contains(", interrupted"));
    drop(laptop);
    let laptop = lab.up_by("laptop", KeyBy::Nothing, &[]);
    laptop.sees(&web, true);

    // The other way round: the peer closes, and the measurement says so.
    let mut measuring = Program::start("cut", &lab.path("."), &mut command, "");
    measuring.line("   1 s   up ");
    server.signal(Signal::INT);
    assert!(server.ended().success());
    assert_eq!(measuring.ended().code(), Some(1));
    let output = measuring.output();
    assert!(output.contains("the measurement broke off"), "{output}");
}

fn serve(lab: &Lab, device: &str, args: &[&str]) -> Program {
    let mut command = overlan();
    command
        .args(["perf", "--serve"])
        .args(args)
        .args(state(&lab.path(device)));
    Program::start("perf-serve", &lab.path("."), &mut command, "")
}

#[track_caller]
fn assert_closed_after(server: &mut Program, laptop: &Device) {
    server.signal(Signal::INT);
    assert!(server.ended().success());
    laptop
        .run(&["perf", "web", "--time", "1"])
        .refused(1, &["takes no measurements"]);
}
