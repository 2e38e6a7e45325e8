//! Decides the order of runs: the tests and their chains, the number of runs, and the chains that
//! live at the same time.
//!
//! The runs of the chains of a comparison are interleaved (yardstick, overlan, yardstick, overlan
//! ...), because the same chain moves by a third between minutes on a shared machine.

mod tests_of;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use self::tests_of::Test;

use crate::chain::{Chain, Kind, LISTENS, Setting};
use crate::load::Pace;
use crate::namespace;
use crate::options::Run;
use crate::process::{self, Process};
use crate::procfs;
use crate::report::{Outcome, Report, Sample};
use crate::trouble::{During, Result, Trouble};

/// Runs everything that `run` asks for; prints the table and writes the JSON file.
pub(crate) fn run(run: &Run) -> Result<()> {
    let tests = Test::chosen(&run.only, run.soak_minutes)?;
    let kinds = chosen_chains(&run.chains)?;
    let mut directory = tempfile::Builder::new()
        .prefix("overlan-bench-")
        .tempdir()
        .during("directory of the suite")?;
    process::end_on_signal(directory.path())?;
    // When the suite ends, only the logs of failed chains are left in it.
    directory.disable_cleanup(true);
    let mut target = Process::start("target", directory.path(), &mut process::own("target")?)?;
    let listens: SocketAddr = target
        .line(LISTENS)?
        .parse()
        .during("address of the target")?;
    let setting = Setting {
        directory: directory.path().to_owned(),
        overlan: overlan_binary(run)?,
        target: (Ipv4Addr::LOCALHOST, listens.port()).into(),
        keep: run.keep,
    };
    let pace = Pace {
        measure: Duration::from_secs(if run.quick { 2 } else { run.seconds }),
        quick: run.quick,
    };
    let machine = machine(&setting);
    eprintln!("{machine:#}");
    let mut report = Report::default();
    for test in &tests {
        let runs = if run.quick || test.once() {
            1
        } else {
            run.runs
        };
        compare(test, &kinds, runs, pace, &setting, &mut report);
    }
    print_table(&report.table(&kinds));
    if let Some(file) = &run.json {
        let text = format!("{:#}\n", report.json(machine));
        fs::write(file, text).during(file.display())?;
    }
    drop(target);
    // The suite's own helpers log beside the chains' directories, which are left only where logs
    // are kept.
    for log in fs::read_dir(directory.path())
        .into_iter()
        .flatten()
        .flatten()
    {
        fs::remove_file(log.path()).ok();
    }
    fs::remove_dir(directory.path()).ok();
    Ok(())
}

/// All runs of one test.
fn compare(
    test: &Test,
    kinds: &[Kind],
    runs: u32,
    pace: Pace,
    setting: &Setting,
    report: &mut Report,
) {
    let mut chains: Vec<(Kind, Option<Result<Chain>>)> =
        kinds.iter().map(|kind| (*kind, None)).collect();
    for run in 1..=runs {
        for (kind, slot) in &mut chains {
            if kind.foreign_vpn() && !test.of_foreign_vpns() {
                continue;
            }
            if test.fresh() {
                *slot = None;
            }
            let chain = slot.get_or_insert_with(|| Chain::start(*kind, setting, test.round_trip()));
            let measured = match chain {
                Ok(chain) => {
                    let measured = test.run(chain, pace, &setting.directory);
                    if let Err(Trouble::Failed(_)) = &measured {
                        eprintln!("logs are kept in {}", chain.keep_logs().display());
                    }
                    measured
                }
                Err(Trouble::Absent(why)) => Err(Trouble::Absent(why.clone())),
                Err(Trouble::Failed(why)) => Err(Trouble::Failed(why.clone())),
            };
            if test.fresh() {
                *slot = None;
            }
            let outcome = match measured {
                Ok(values) => Outcome::Measured(values),
                Err(Trouble::Absent(why)) => Outcome::Absent(why),
                Err(Trouble::Failed(why)) => Outcome::Failed(why),
            };
            eprintln!(
                "{} {} {run}/{runs}: {outcome:.3?}",
                test.name(),
                kind.name()
            );
            report.samples.push(Sample {
                test: test.name(),
                chain: *kind,
                run,
                outcome,
            });
        }
    }
}

fn chosen_chains(names: &[String]) -> Result<Vec<Kind>> {
    names
        .iter()
        .map(|name| {
            Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == name)
                .ok_or_else(|| {
                    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                    Trouble::failed(format!(
                        "no chain is called {name}; there are {}",
                        known.join(", ")
                    ))
                })
        })
        .collect()
}

fn overlan_binary(run: &Run) -> Result<std::path::PathBuf> {
    let beside = std::env::current_exe()
        .during("find this program")?
        .with_file_name("overlan");
    let chosen = run.overlan.clone().unwrap_or(beside);
    std::path::absolute(chosen).during("path of the overlan binary")
}

/// Describes the machine that the numbers are from.
fn machine(setting: &Setting) -> Value {
    let said = |program: &str, args: &[&str]| {
        let output = process::output(process::clean(program).args(args), "");
        output.map_or_else(|trouble| trouble.to_string(), |text| text.trim().to_owned())
    };
    let binary = setting.overlan.to_string_lossy();
    let settings: serde_json::Map<String, Value> = namespace::settings()
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    json!({
        "processor": procfs::processor(),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "kernel": said("uname", &["-sr"]),
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "overlan": said(&binary, &["--version"]),
        "settings": settings,
    })
}

#[expect(clippy::print_stdout, reason = "the table is this program's answer")]
fn print_table(table: &str) {
    println!("{table}");
}
