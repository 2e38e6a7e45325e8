//! `admin policy`: the policy of a network, from the file to the devices. Decides how answers are
//! shown; the controller and the crate `overlan-policy` decide what a document means. `lines` are
//! its answers for people.

mod lines;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use overlan::program::status::{age, columns};
use overlan_policy::{Compiled, Failure as TestFailure, Finding, World, parse, run_tests};
use overlan_protocol::api::{
    ExplainRequest, Explanation, NetworkSummary, POLICY_MAX, PolicyDocument, PolicyPreview,
    PolicyRequest, PolicyRevision, PolicyRollback, PolicySet, PolicyText, ReachAmong, ReachChange,
    path,
};
use overlan_transport::clock::wall;
use overlan_transport::https::Connection;
use serde::Serialize;
use serde_json::json;

use super::network::parse_label;
use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the policy that counts, as it was written
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowPolicyArgs),
    /// Check a file, and run its tests
    #[command(after_help = CHECK_EXAMPLES)]
    Check(FileArgs),
    /// Run the tests of a file
    #[command(after_help = CHECK_EXAMPLES)]
    Test(FileArgs),
    /// Compare a file with the policy that counts, line by line
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(CompareArgs),
    /// Show who would gain and who would lose by a file
    #[command(after_help = DIFF_EXAMPLES)]
    Preview(CompareArgs),
    /// Set the policy; connections that lose their right end at once
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
    /// List the policies that counted
    #[command(after_help = HISTORY_EXAMPLES)]
    History(PolicyListArgs),
    /// Let an earlier policy count again
    #[command(after_help = HISTORY_EXAMPLES)]
    Rollback(RollbackArgs),
    /// Say whether a connection is allowed, and by which rule
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
}

/// The network whose policy is meant.
#[derive(Debug, Args)]
pub(crate) struct PolicyOfArgs {
    /// Its network [default: the organisation's default network]
    #[arg(long, value_parser = parse_label, value_name = "NAME")]
    network: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowPolicyArgs {
    /// An earlier one, by its number in `overlan admin policy history`
    #[arg(long)]
    number: Option<u64>,
    #[command(flatten)]
    of: PolicyOfArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file; - reads standard input
    file: PathBuf,
    /// Ask no controller: tests know only the words of the file, and no device
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    of: PolicyOfArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The file; - reads standard input
    file: PathBuf,
    #[command(flatten)]
    of: PolicyOfArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The file; - reads standard input
    file: PathBuf,
    /// Set it only if the policy with this number counts now
    #[arg(long, value_name = "NUMBER")]
    if_match: Option<u64>,
    #[command(flatten)]
    of: PolicyOfArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyListArgs {
    #[command(flatten)]
    of: PolicyOfArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Its number in `overlan admin policy history`; 0 is the one that networks start with
    number: u64,
    /// Go back only if the policy with this number counts now
    #[arg(long, value_name = "NUMBER")]
    if_match: Option<u64>,
    #[command(flatten)]
    of: PolicyOfArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The device that dials
    from: String,
    /// The device, or the address or whole name of a gateway host, that is dialled
    to: String,
    /// The service: tcp/PORT, udp/PORT or icmp
    service: String,
    #[command(flatten)]
    of: PolicyOfArgs,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  overlan admin policy show > policy.toml
  overlan admin policy show --network acme --number 3";

const CHECK_EXAMPLES: &str = "\
Examples:
  overlan admin policy check policy.toml
  Without a controller, as in a pull request:
    overlan admin policy test policy.toml --offline";

const DIFF_EXAMPLES: &str = "\
Examples:
  overlan admin policy diff policy.toml
  overlan admin policy preview policy.toml
  overlan admin policy preview policy.toml --json | jq '.preview.lost'";

const SET_EXAMPLES: &str = "\
Examples:
  overlan admin policy set policy.toml
  Not over somebody else's change:
    overlan admin policy set policy.toml --if-match 3";

const HISTORY_EXAMPLES: &str = "\
Examples:
  overlan admin policy history
  overlan admin policy rollback 3";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  overlan admin policy explain laptop db tcp/5432
  overlan admin policy explain laptop 10.1.0.7 tcp/443 --json";

/// `overlan admin policy …`.
pub(super) async fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Show(args) => show(&args).await,
        PolicyCommand::Check(args) | PolicyCommand::Test(args) => check(&args).await,
        PolicyCommand::Diff(args) => compare(&args).await,
        PolicyCommand::Preview(args) => preview(&args).await,
        PolicyCommand::Set(args) => set(&args).await,
        PolicyCommand::History(args) => history(&args.of).await,
        PolicyCommand::Rollback(args) => rollback(&args).await,
        PolicyCommand::Explain(args) => explain(args).await,
    }
}

async fn show(args: &ShowPolicyArgs) -> Result<(), Failure> {
    let mut asked = Asked::open(&args.of).await?;
    let document = match args.number {
        None => asked.get("").await?,
        Some(number) => asked.get(&format!("/history/{number}")).await?,
    };
    let document: PolicyDocument = document;
    if args.of.json {
        return output::json(&json!({ "schema_version": 1, "policy": document }));
    }
    output::note(&match (&document.author, document.at) {
        (Some(author), Some(at)) => format!(
            "Policy {} of network {}, set by {author} {} ago.",
            document.number,
            document.network,
            age(wall().since(at).as_secs())
        ),
        _ => format!(
            "Policy 0 of network {}, with which every network starts.",
            document.network
        ),
    });
    output::answer(&document.text)
}

async fn check(args: &FileArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let (tests, notes) = if args.offline {
        check_offline(&args.file, &text)?
    } else {
        let mut asked = Asked::open(&args.of).await?;
        let preview: PolicyPreview = asked.post("/preview", &PolicyText { text }).await?;
        (preview.tests, preview.notes)
    };
    if args.of.json {
        let checked = json!({ "tests": tests, "notes": notes });
        return output::json(&json!({ "schema_version": 1, "checked": checked }));
    }
    print_notes(&notes);
    output::answer(&format!(
        "{} is understood, and {} hold{}.",
        args.file.display(),
        counted(u64::from(tests), "test"),
        if tests == 1 { "s" } else { "" }
    ))
}

/// Checks a file without a controller; returns the number of its tests, and remarks.
fn check_offline(file: &Path, text: &str) -> Result<(u32, Vec<String>), Failure> {
    let document = parse(text).map_err(|findings| {
        let lines = findings.iter().map(Finding::to_string);
        wrong(file, "is not understood", lines)
    })?;
    let compiled = Compiled::new(&document, &World::default(), wall());
    let failures = run_tests(&document, &compiled);
    if !failures.is_empty() {
        let lines = failures.iter().map(TestFailure::to_string);
        return Err(wrong(file, "has tests that do not hold", lines));
    }
    let tests = u32::try_from(document.tests.len()).unwrap_or(u32::MAX);
    Ok((tests, Vec::new()))
}

fn wrong(file: &Path, what: &str, lines: impl Iterator<Item = String>) -> Failure {
    let lines: Vec<String> = lines.collect();
    let text = format!("{} {what}:\n{}", file.display(), lines.join("\n"));
    Failure::new(Code::Other, text)
}

async fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let mut asked = Asked::open(&args.of).await?;
    let current: PolicyDocument = asked.get("").await?;
    let changes = lines::changes(&current.text, &text);
    if args.of.json {
        let diff = json!({ "number": current.number, "lines": changes });
        return output::json(&json!({ "schema_version": 1, "diff": diff }));
    }
    if changes.is_empty() {
        let number = current.number;
        output::note(&format!("The file is policy {number}, which counts."));
        return Ok(());
    }
    output::answer(&changes.join("\n"))
}

async fn preview(args: &CompareArgs) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let mut asked = Asked::open(&args.of).await?;
    let preview: PolicyPreview = asked.post("/preview", &PolicyText { text }).await?;
    if args.of.json {
        return output::json(&json!({ "schema_version": 1, "preview": preview }));
    }
    print_notes(&preview.notes);
    if preview.gained.is_empty() && preview.lost.is_empty() {
        output::note("Everybody reaches what they reach now.");
        return Ok(());
    }
    let mut rows = vec![["", "FROM", "TO", "SERVICE", "RULE"].map(str::to_owned)];
    rows.extend(preview.gained.iter().map(|change| row("gains", change)));
    rows.extend(preview.lost.iter().map(|change| row("loses", change)));
    output::answer(&columns(&rows))?;
    if preview.more {
        output::note("There are more changes than these.");
    }
    if !preview.lost.is_empty() {
        output::note("Connections that use what is lost end within 2 s of `policy set`.");
    }
    Ok(())
}

fn row(word: &str, change: &ReachChange) -> [String; 5] {
    let among = match change.among {
        ReachAmong::All => "",
        ReachAmong::OnePerson => " (of the same person)",
        ReachAmong::Others => " (of other people)",
    };
    [
        word.to_owned(),
        shortened(&change.from),
        format!("{}{among}", shortened(&change.to)),
        change.service.clone(),
        change.rule.to_string(),
    ]
}

/// Joins names to a list that fits into a line.
fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).cloned();
    let shown: Vec<String> = shown.collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(","),
        more => format!("{} +{more}", shown.join(",")),
    }
}

async fn set(args: &SetArgs) -> Result<(), Failure> {
    let request = PolicyRequest {
        text: read(&args.file)?,
        if_number: args.if_match,
    };
    let mut asked = Asked::open(&args.of).await?;
    let set: PolicySet = asked.post("", &request).await?;
    print_set(&args.of, &set)
}

async fn rollback(args: &RollbackArgs) -> Result<(), Failure> {
    let request = PolicyRollback {
        to: args.number,
        if_number: args.if_match,
    };
    let mut asked = Asked::open(&args.of).await?;
    let set: PolicySet = asked.post("/rollback", &request).await?;
    print_set(&args.of, &set)
}

fn print_set(of: &PolicyOfArgs, set: &PolicySet) -> Result<(), Failure> {
    if of.json {
        return output::json(&json!({ "schema_version": 1, "set": set }));
    }
    let number = set.number;
    if !set.changed {
        output::note(&format!("This is policy {number}, which counts already."));
        return Ok(());
    }
    let tests = counted(u64::from(set.tests), "test");
    output::note(&match &set.applied {
        Some(applied) => format!("Policy {number} counts ({tests} held): {applied}."),
        None => format!(
            "Policy {number} counts ({tests} held). Too many changes are under way to say where \
             it has arrived."
        ),
    });
    Ok(())
}

async fn history(of: &PolicyOfArgs) -> Result<(), Failure> {
    let mut asked = Asked::open(of).await?;
    let revisions: Vec<PolicyRevision> = asked.get("/history").await?;
    if of.json {
        return output::json(&json!({ "schema_version": 1, "history": revisions }));
    }
    if revisions.is_empty() {
        output::note("Nobody has set a policy yet: the one that networks start with counts.");
        return Ok(());
    }
    let now = wall();
    let mut rows = vec![["NUMBER", "SET", "BY", "CHARACTERS", "TEXT OF"].map(str::to_owned)];
    rows.extend(revisions.iter().map(|revision| {
        [
            revision.number.to_string(),
            format!("{} ago", age(now.since(revision.at).as_secs())),
            revision.author.clone(),
            revision.characters.to_string(),
            revision
                .goes_back
                .map_or_else(|| "-".to_owned(), |number| number.to_string()),
        ]
    }));
    output::answer(&columns(&rows))
}

async fn explain(args: ExplainArgs) -> Result<(), Failure> {
    let mut asked = Asked::open(&args.of).await?;
    let request = ExplainRequest {
        from: args.from,
        to: args.to,
        service: args.service,
    };
    let explained: Explanation = asked.post("/explain", &request).await?;
    if args.of.json {
        return output::json(&json!({ "schema_version": 1, "explanation": explained }));
    }
    output::answer(&format!("{}.", explained.sentence))?;
    if let Some(line) = explained.line {
        let comment = explained.comment.map(|comment| format!(": {comment}"));
        let comment = comment.unwrap_or_default();
        output::note(&format!("The rule begins in line {line}{comment}"));
    }
    if !explained.visible {
        output::note(
            "No rule lets one of the two reach the other, so neither is in the other's `overlan \
             status`: programs hear that there is no such name.",
        );
    }
    Ok(())
}

/// A conversation about one network's policy.
struct Asked {
    connection: Connection,
    path: String,
}

impl Asked {
    async fn open(of: &PolicyOfArgs) -> Result<Self, Failure> {
        let mut connection = api::open_as_person(&of.state.open()?).await?;
        let label = match &of.network {
            Some(label) => label.clone(),
            None => {
                let networks = connection.get(path::NETWORKS, api::WITHIN).await;
                let networks: Vec<NetworkSummary> = networks.map_err(api::as_person)?;
                let default = networks.into_iter().find(|network| network.default);
                let default = default.ok_or_else(|| Failure::usage("give --network"))?;
                default.name
            }
        };
        let path = format!("{}/{label}/policy", path::NETWORKS);
        Ok(Self { connection, path })
    }

    async fn get<A: serde::de::DeserializeOwned>(&mut self, below: &str) -> Result<A, Failure> {
        let path = format!("{}{below}", self.path);
        let answer = self.connection.get(&path, api::WITHIN).await;
        answer.map_err(api::as_person)
    }

    async fn post<Q: Serialize + Sync, A: serde::de::DeserializeOwned>(
        &mut self,
        below: &str,
        request: &Q,
    ) -> Result<A, Failure> {
        let path = format!("{}{below}", self.path);
        let answer = self.connection.post(&path, request, api::WITHIN).await;
        answer.map_err(api::as_person)
    }
}

/// Reads a document, at most as long as one may be.
fn read(file: &Path) -> Result<String, Failure> {
    let most = u64::try_from(POLICY_MAX).unwrap_or(u64::MAX) + 1;
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(most).read_to_string(&mut text),
        _ => {
            std::fs::File::open(file).and_then(|opened| opened.take(most).read_to_string(&mut text))
        }
    };
    read.map_err(|error| {
        let text = format!("cannot read {}: {error}", file.display());
        Failure::new(Code::Other, text)
    })?;
    if text.len() > POLICY_MAX {
        let text = format!("{} has more than {POLICY_MAX} bytes", file.display());
        return Err(Failure::new(Code::Other, text));
    }
    Ok(text)
}

fn print_notes(notes: &[String]) {
    for note in notes {
        output::note(&format!("Note: {note}."));
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Names of one cell of a table.
const NAMES_SHOWN: usize = 3;
