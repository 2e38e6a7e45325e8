//! Turns single runs into the table and the JSON file: medians, ratios, and a verdict on each bar.
//! It measures nothing.

mod rows;

use std::fmt::Write as _;

use serde_json::{Value, json};

use self::rows::{Row, Verdict, rows};

use crate::chain::Kind;
use crate::load::Values;
use crate::stats::{median, ratios};

/// One run of one test through one chain.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Name of the test.
    pub(crate) test: String,
    /// The chain.
    pub(crate) chain: Kind,
    /// From 1; equal numbers of different chains ran one after the other.
    pub(crate) run: u32,
    /// Its values, or the reason why it has none.
    pub(crate) outcome: Outcome,
}

/// The end of a run.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Measured.
    Measured(Values),
    /// This machine cannot run it.
    Absent(String),
    /// It failed.
    Failed(String),
}

/// All samples of a suite.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// In the order in which they were taken.
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// Prints the table in Markdown, with the absent and the failed runs below it.
    pub(crate) fn table(&self, chains: &[Kind]) -> String {
        let mut table = String::from("| figure |");
        for chain in chains {
            write!(table, " {} |", chain.name()).ok();
        }
        table.push_str(" overlan / yardstick | bar | |\n|---|");
        table.push_str(&"---|".repeat(chains.len() + 3));
        table.push('\n');
        for (test, row) in rows().filter(|(test, _)| self.has(test)) {
            write!(table, "| {test}, {} |", row.label).ok();
            for chain in chains {
                write!(table, " {} |", spread(&self.values(test, row, *chain))).ok();
            }
            let (ours, ratio) = (self.ours(test, row), self.ratio(test, row));
            let ratio_text = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let verdict = match row.bar.verdict(ours, ratio) {
                Some(Verdict::Met) => "met",
                Some(Verdict::Missed) => "**missed**",
                None => "",
            };
            writeln!(table, " {ratio_text} | {} | {verdict} |", row.bar).ok();
        }
        for sample in &self.samples {
            let (what, why) = match &sample.outcome {
                Outcome::Measured(_) => continue,
                Outcome::Absent(why) => ("absent", why),
                Outcome::Failed(why) => ("FAILED", why),
            };
            let (test, chain, run) = (&sample.test, sample.chain.name(), sample.run);
            write!(table, "\n{what}: {test} through {chain}, run {run}: {why}").ok();
        }
        table
    }

    /// Returns every run and every verdict as JSON, with `machine` as it is.
    pub(crate) fn json(&self, machine: Value) -> Value {
        let runs: Vec<Value> = self.samples.iter().map(Sample::json).collect();
        let rows: Vec<Value> = rows()
            .filter(|(test, _)| self.has(test))
            .map(|(test, row)| {
                let (ours, ratio) = (self.ours(test, row), self.ratio(test, row));
                json!({
                    "test": test,
                    "value": row.value,
                    "overlan_median": ours,
                    "ratio_to_yardstick": ratio,
                    "bar": row.bar.to_string(),
                    "met": row.bar.verdict(ours, ratio).map(|verdict| verdict == Verdict::Met),
                })
            })
            .collect();
        json!({ "schema_version": 1, "machine": machine, "rows": rows, "runs": runs })
    }

    fn has(&self, test: &str) -> bool {
        self.samples.iter().any(|sample| sample.test == test)
    }

    /// Run number and value of each run that measured this row.
    fn values(&self, test: &str, row: &Row, chain: Kind) -> Vec<(u32, f64)> {
        self.samples
            .iter()
            .filter(|sample| sample.test == test && sample.chain == chain)
            .filter_map(|sample| match &sample.outcome {
                Outcome::Measured(values) => Some((sample.run, *values.get(row.value)?)),
                Outcome::Absent(_) | Outcome::Failed(_) => None,
            })
            .collect()
    }

    fn ours(&self, test: &str, row: &Row) -> Option<f64> {
        median(&numbers(&self.values(test, row, Kind::Overlan)))
    }

    fn ratio(&self, test: &str, row: &Row) -> Option<f64> {
        let (ours, theirs) = (
            self.values(test, row, Kind::Overlan),
            self.values(test, row, Kind::Yardstick),
        );
        median(&ratios(&ours, &theirs))
    }
}

impl Sample {
    fn json(&self) -> Value {
        let (values, absent, failed) = match &self.outcome {
            Outcome::Measured(values) => (Some(values), None, None),
            Outcome::Absent(why) => (None, Some(why), None),
            Outcome::Failed(why) => (None, None, Some(why)),
        };
        json!({
            "test": self.test,
            "chain": self.chain.name(),
            "run": self.run,
            "values": values,
            "absent": absent,
            "failed": failed,
        })
    }
}

fn numbers(values: &[(u32, f64)]) -> Vec<f64> {
    values.iter().map(|(_, value)| *value).collect()
}

/// `median (lowest-highest)`.
fn spread(values: &[(u32, f64)]) -> String {
    let values = numbers(values);
    let Some(middle) = median(&values) else {
        return "-".to_owned();
    };
    if values.len() == 1 {
        return number(middle);
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}-{})", number(middle), number(low), number(high))
}

/// Prints three significant digits, and no more after the point than a reader can use.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests;
