use std::collections::BTreeSet;

use super::rows::Bar;
use super::*;
use crate::suite::Test;

fn sample(chain: Kind, run: u32, per_s: f64) -> Sample {
    Sample {
        test: "crr".to_owned(),
        chain,
        run,
        outcome: Outcome::Measured(Values::from([("per_s", per_s)])),
    }
}

#[test]
fn bars_are_met_at_their_number() {
    let met = Some(Verdict::Met);
    let missed = Some(Verdict::Missed);
    assert_eq!(Bar::AtLeast(8.0).verdict(Some(8.0), None), met);
    assert_eq!(Bar::AtLeast(8.0).verdict(Some(7.9), None), missed);
    assert_eq!(Bar::AtMost(0.0).verdict(Some(0.0), None), met);
    assert_eq!(Bar::AtMost(0.0).verdict(Some(1.0), None), missed);
    assert_eq!(Bar::TimesAtLeast(0.9).verdict(Some(1.0), Some(0.9)), met);
    assert_eq!(Bar::TimesAtLeast(0.9).verdict(Some(9.0), Some(0.8)), missed);
    assert_eq!(Bar::TimesAtMost(1.25).verdict(Some(9.0), Some(1.2)), met);
    assert_eq!(Bar::TimesAtMost(1.25).verdict(Some(1.0), Some(1.3)), missed);
}

#[test]
fn what_was_not_measured_has_no_verdict() {
    assert_eq!(Bar::Shown.verdict(Some(1.0), Some(1.0)), None);
    assert_eq!(Bar::AtLeast(1.0).verdict(None, Some(1.0)), None);
    assert_eq!(Bar::TimesAtLeast(1.0).verdict(Some(1.0), None), None);
}

#[test]
fn the_table_shows_median_spread_ratio_and_verdict() {
    let mut report = Report::default();
    for (run, (theirs, ours)) in [(2000.0, 9000.0), (2400.0, 7000.0), (1000.0, 8500.0)]
        .into_iter()
        .enumerate()
    {
        let run = u32::try_from(run).unwrap();
        report.samples.push(sample(Kind::Yardstick, run, theirs));
        report.samples.push(sample(Kind::Overlan, run, ours));
    }
    report.samples.push(Sample {
        outcome: Outcome::Absent("no direct".to_owned()),
        ..sample(Kind::Direct, 0, 0.0)
    });
    let table = report.table(&[Kind::Yardstick, Kind::Overlan]);
    let line = "| crr, 1/s | 2000 (1000-2400) | 8500 (7000-9000) | 4.50 | ≥ 8000 | met |";
    assert!(table.contains(line), "{table}");
    assert!(
        table.contains("absent: crr through direct, run 0: no direct"),
        "{table}"
    );
    assert!(!table.contains("bulk"), "{table}");
}

#[test]
fn the_json_has_every_run() {
    let mut report = Report::default();
    report.samples.push(sample(Kind::Overlan, 1, 7000.0));
    report.samples.push(Sample {
        outcome: Outcome::Failed("why".to_owned()),
        ..sample(Kind::Overlan, 2, 0.0)
    });
    let json = report.json(json!({ "cores": 2 }));
    assert_eq!(json["machine"]["cores"], 2);
    assert_eq!(json["runs"][0]["values"]["per_s"], 7000.0);
    assert_eq!(json["runs"][1]["failed"], "why");
    let row = &json["rows"][0];
    assert_eq!(
        (&row["value"], &row["met"]),
        (&json!("per_s"), &json!(false))
    );
}

#[test]
fn numbers_have_three_digits() {
    for (value, text) in [
        (8123.4, "8123"),
        (93.14, "93.1"),
        (1.256, "1.26"),
        (0.0, "0.00"),
        (0.9721, "0.972"),
    ] {
        assert_eq!(number(value), text);
    }
}

#[test]
fn every_test_has_rows_and_every_row_a_test() {
    let named: BTreeSet<String> = Test::all(1).iter().map(Test::name).collect();
    let shown: BTreeSet<String> = rows().map(|(test, _)| test.to_owned()).collect();
    assert_eq!(named, shown);
}
