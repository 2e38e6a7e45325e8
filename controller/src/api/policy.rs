//! `/api/v1/networks/{label}/policy`: people read, check, set and explain the policy of a network.
//! Nothing of a document counts before all of it is understood and all of its tests hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use overlan_policy::{
    Among, Compiled, Destination, Document, Finding, Shift, World, diff, parse, run_tests,
};
use overlan_protocol::HostIndex;
use overlan_protocol::api::{
    ExplainRequest, Explanation, PolicyDocument, PolicyPreview, PolicyRequest, PolicyRevision,
    PolicyRollback, PolicySet, PolicyText, ProblemKind, REACH_CHANGES_MAX, ReachAmong, ReachChange,
};
use overlan_protocol::gateway::Host;
use overlan_protocol::key::NetworkId;
use overlan_protocol::policy::{Inert, Protocol, Service, ServiceTextError};
use overlan_protocol::{UnixTime, dns};

use super::arrival::{Arrival, Whom};
use super::body::{Json, LongJson, readable};
use super::caller::Person;
use super::changed::Changed;
use super::networks::named_or_default;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::{Fact, OrgId};
use crate::policy::{PolicyInForce, in_force, world_of};
use crate::store::accounts::NetworkRow;
use crate::store::policies::{self, PolicyRow};
use crate::store::{Tx, accounts, changes};

type Label = Result<Path<String>, PathRejection>;

/// Shows the document that counts.
pub(super) async fn show(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Label,
) -> Result<Json<PolicyDocument>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, Some(&readable(label)?)).await?;
    let document = in_force(&mut tx, person.org, network.id).await?;
    Ok(Json(document_of(network, document)))
}

/// Shows one document of the history.
pub(super) async fn show_numbered(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    path: Result<Path<(String, u64)>, PathRejection>,
) -> Result<Json<PolicyDocument>, Refusal> {
    let (label, number) = readable(path)?;
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, Some(&label)).await?;
    let document = numbered(&mut tx, person.org, network.id, number).await?;
    Ok(Json(document_of(network, document)))
}

/// Lists the documents that counted, newest first.
pub(super) async fn history(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Label,
) -> Result<Json<Vec<PolicyRevision>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, Some(&readable(label)?)).await?;
    let revisions = policies::history(&mut tx, person.org, network.id).await?;
    Ok(Json(revisions))
}

/// Checks a document, runs its tests, and puts it beside the one that counts.
pub(super) async fn preview(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Label,
    LongJson(PolicyText { text }): LongJson<PolicyText>,
) -> Result<Changed<PolicyPreview>, Refusal> {
    count(&deployment, person)?;
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, Some(&readable(label)?)).await?;
    let current = in_force(&mut tx, person.org, network.id).await?;
    let world = world_of(&mut tx, person.org, network.id).await?;
    drop(tx);
    let now = clock::wall();
    let preview = move || {
        let draft = Draft::new(&text, &world, now)?;
        let older = parse(&current.text).map_err(|findings| not_understood(&findings))?;
        let older = Compiled::new(&older, &world, now);
        let difference = diff(&older, &draft.compiled);
        let changes = |shifts: Vec<Shift>| -> Vec<ReachChange> {
            let shown = shifts.into_iter().take(REACH_CHANGES_MAX);
            shown.map(reach_change).collect()
        };
        let count = difference.gains.len().max(difference.losses.len());
        let notes = draft.compiled.notes();
        Ok(PolicyPreview {
            number: current.number,
            tests: draft.tests(),
            more: difference.is_cut || count > REACH_CHANGES_MAX,
            gained: changes(difference.gains),
            lost: changes(difference.losses),
            notes: notes.iter().map(ToString::to_string).collect(),
        })
    };
    Ok(Changed::nothing(blocking(preview).await?))
}

/// Sets the document that counts, and waits until devices have applied it.
pub(super) async fn set(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Label,
    LongJson(request): LongJson<PolicyRequest>,
) -> Result<Changed<PolicySet>, Refusal> {
    count(&deployment, person)?;
    let wish = Wish {
        text: request.text,
        goes_back: None,
        if_number: request.if_number,
    };
    put(&deployment, person, &readable(label)?, wish).await
}

/// Lets an earlier document count again, under a new number.
pub(super) async fn rollback(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Label,
    Json(request): Json<PolicyRollback>,
) -> Result<Changed<PolicySet>, Refusal> {
    count(&deployment, person)?;
    let label = readable(label)?;
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, Some(&label)).await?;
    let earlier = numbered(&mut tx, person.org, network.id, request.to).await?;
    drop(tx);
    let wish = Wish {
        text: earlier.text,
        goes_back: Some(request.to),
        if_number: request.if_number,
    };
    put(&deployment, person, &label, wish).await
}

/// Says whether a connection is allowed, and by which rule.
pub(super) async fn explain(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    label: Label,
    Json(request): Json<ExplainRequest>,
) -> Result<Changed<Explanation>, Refusal> {
    count(&deployment, person)?;
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, Some(&readable(label)?)).await?;
    let current = in_force(&mut tx, person.org, network.id).await?;
    let world = world_of(&mut tx, person.org, network.id).await?;
    drop(tx);
    let now = clock::wall();
    let domain = deployment.domain.clone();
    let explain = move || {
        let document = parse(&current.text).map_err(|findings| not_understood(&findings))?;
        let compiled = Compiled::new(&document, &world, now);
        let ask = Ask::new(&world, &network.name, &domain);
        ask.answer(&compiled, &request)
    };
    Ok(Changed::nothing(blocking(explain).await?))
}

/// A document that a person wants to count.
struct Wish {
    text: String,
    goes_back: Option<u64>,
    if_number: Option<u64>,
}

async fn put(
    deployment: &Arc<Deployment>,
    person: Person,
    label: &str,
    wish: Wish,
) -> Result<Changed<PolicySet>, Refusal> {
    let now = clock::wall();
    let mut tx = deployment.store.read().await?;
    let network = named_or_default(&mut tx, person.org, Some(label)).await?;
    let world = world_of(&mut tx, person.org, network.id).await?;
    drop(tx);
    let text = wish.text.clone();
    let tests = blocking(move || Ok(Draft::new(&text, &world, now)?.tests())).await?;

    let mut tx = deployment.store.write().await?;
    let network = named_or_default(&mut tx, person.org, Some(label)).await?;
    let current = in_force(&mut tx, person.org, network.id).await?;
    if wish
        .if_number
        .is_some_and(|wanted| wanted != current.number)
    {
        return Err(changed_meanwhile(&network.name, &current));
    }
    if wish.text == current.text {
        return Ok(Changed::nothing(PolicySet {
            number: current.number,
            changed: false,
            tests,
            applied: None,
        }));
    }
    let org = person.org;
    changes::append(&mut tx, org, Some(network.id), &Fact::Policy, now).await?;
    let row = PolicyRow {
        number: current.number + 1,
        text: wish.text,
        author: accounts::email(&mut tx, person.account)
            .await?
            .unwrap_or_default(),
        goes_back: wish.goes_back,
        version: changes::version(&mut tx).await?,
        at: now,
    };
    policies::add(&mut tx, org, network.id, &row, HISTORY_MAX).await?;
    let networks = BTreeSet::from([network.id]);
    let whom = Whom::Members(&networks);
    let arrival = Arrival::expect(deployment, &mut tx, org, whom).await?;
    deployment.store.commit(tx).await?;
    let what = match row.goes_back {
        None => format!("set policy {} of network {}", row.number, network.name),
        Some(to) => format!(
            "set policy {} of network {}, the text of {to}",
            row.number, network.name
        ),
    };
    let set = PolicySet {
        number: row.number,
        changed: true,
        tests,
        applied: arrival.wait().await,
    };
    Ok(Changed::new(what, set))
}

/// A document that is understood, and whose tests hold.
struct Draft {
    document: Document,
    compiled: Compiled,
}

impl Draft {
    fn new(text: &str, world: &World, now: UnixTime) -> Result<Self, Refusal> {
        let document = parse(text).map_err(|findings| not_understood(&findings))?;
        let compiled = Compiled::new(&document, world, now);
        let failures = run_tests(&document, &compiled);
        if !failures.is_empty() {
            let lines = failures.iter().map(ToString::to_string);
            let title = match failures.len() {
                1 => "a test of the policy does not hold".to_owned(),
                count => format!("{count} tests of the policy do not hold"),
            };
            return Err(refused(&title, lines));
        }
        Ok(Self { document, compiled })
    }

    fn tests(&self) -> u32 {
        u32::try_from(self.document.tests.len()).unwrap_or(u32::MAX)
    }
}

/// The names by which people ask about connections in one network.
struct Ask<'a> {
    world: &'a World,
    network: &'a str,
    domain: &'a str,
}

impl<'a> Ask<'a> {
    fn new(world: &'a World, network: &'a str, domain: &'a str) -> Self {
        Self {
            world,
            network,
            domain,
        }
    }

    fn answer(
        &self,
        compiled: &Compiled,
        request: &ExplainRequest,
    ) -> Result<Explanation, Refusal> {
        let from = self.device(&request.from);
        let from = from.ok_or_else(|| self.no_device(&request.from))?;
        let (protocol, port) = one_port(&request.service)?;
        let name = dns::normal(&request.to);
        let to = match (self.device(&request.to), request.to.parse(), &name) {
            (Some(device), ..) => Destination::Device(device),
            (None, Ok(address), _) => Destination::Host(Host::Address(address)),
            (None, Err(_), Some(name)) if name.contains('.') => Destination::Host(Host::Name(name)),
            (None, Err(_), _) => return Err(self.no_device(&request.to)),
        };
        let explained = compiled.explain(from, to, protocol, port);
        let visible = match to {
            Destination::Device(to) => from == to || compiled.sees(from, to),
            Destination::Host(_) => true,
        };
        Ok(Explanation {
            allowed: explained.allowed,
            rule: explained.rule,
            line: explained.place.map(|place| place.line),
            comment: explained.comment,
            sentence: explained.sentence,
            visible,
            socks_reply: match (explained.allowed, visible) {
                (true, _) => 0,
                (false, true) => 2,
                (false, false) => 4,
            },
        })
    }

    /// Finds a device by label, `label.network` or whole name.
    fn device(&self, text: &str) -> Option<HostIndex> {
        let text = text.to_ascii_lowercase();
        let text = text
            .strip_suffix(&format!(".{}", self.domain))
            .unwrap_or(&text);
        let label = text
            .strip_suffix(&format!(".{}", self.network))
            .unwrap_or(text);
        let mut devices = self.world.devices.iter();
        let found = devices.find(|device| device.label == label);
        found.map(|device| device.host)
    }

    fn no_device(&self, text: &str) -> Refusal {
        Refusal::new(
            ProblemKind::NotFound,
            &format!(
                "no device of network {} is called {}",
                self.network,
                Inert(text)
            ),
            "`overlan admin device list` lists them; a host of a gateway is meant by its address \
             or whole name",
        )
    }
}

fn document_of(network: NetworkRow, document: PolicyInForce) -> PolicyDocument {
    PolicyDocument {
        network: network.name,
        number: document.number,
        text: document.text,
        author: document.author,
        at: document.at,
    }
}

async fn numbered(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    number: u64,
) -> Result<PolicyInForce, Refusal> {
    if number == 0 {
        return Ok(PolicyInForce::starter());
    }
    let row = policies::numbered(tx, org, network, number).await?;
    row.map(PolicyInForce::from).ok_or_else(|| {
        Refusal::new(
            ProblemKind::NotFound,
            &format!("the network has no policy {number}"),
            format!("`overlan admin policy history` lists them; the newest {HISTORY_MAX} are kept"),
        )
    })
}

fn not_understood(findings: &[Finding]) -> Refusal {
    refused(
        "the policy is not understood",
        findings.iter().map(ToString::to_string),
    )
}

/// Refuses a document, with everything that is wrong, one thing a line.
fn refused(title: &str, lines: impl ExactSizeIterator<Item = String>) -> Refusal {
    let more = lines.len().saturating_sub(FINDINGS_SHOWN);
    let mut lines: Vec<String> = lines.take(FINDINGS_SHOWN).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    Refusal::new(ProblemKind::PolicyRefused, title, lines.join("\n"))
}

fn changed_meanwhile(network: &str, current: &PolicyInForce) -> Refusal {
    let author = current.author.as_deref().unwrap_or("nobody");
    Refusal::new(
        ProblemKind::PolicyChanged,
        &format!(
            "the policy of network {network} changed meanwhile: number {}, set by {}, counts now",
            current.number,
            Inert(author)
        ),
        "`overlan admin policy show` shows it, `overlan admin policy diff FILE` compares",
    )
}

fn reach_change(shift: Shift) -> ReachChange {
    ReachChange {
        from: shift.from,
        to: shift.to,
        among: match shift.among {
            Among::All => ReachAmong::All,
            Among::OnePerson => ReachAmong::OnePerson,
            Among::Others => ReachAmong::Others,
        },
        service: shift.service.to_string(),
        rule: shift.rule,
    }
}

/// Reads a service of exactly one port.
fn one_port(text: &str) -> Result<(Protocol, u16), Refusal> {
    let service: Service = text.parse().map_err(|error: ServiceTextError| {
        Refusal::bad_request(format!("{}: {error}", Inert(text)))
    })?;
    match (service.protocol, service.ports) {
        (Some(Protocol::Icmp), _) => Ok((Protocol::Icmp, 0)),
        (Some(protocol), Some((first, last))) if first == last => Ok((protocol, first)),
        _ => Err(Refusal::bad_request(
            "name one service: tcp/PORT, udp/PORT or icmp",
        )),
    }
}

/// Counts one compilation for a person.
fn count(deployment: &Deployment, person: Person) -> Result<(), Refusal> {
    let mut budgets = deployment.budgets.lock();
    let counted = budgets.policies.count(clock::now(), person.account);
    let what = "this account asks about policies too often";
    counted.map_err(|wait| Refusal::too_often(what, wait))
}

/// Runs work that takes a processor for a while.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::internal(&error))?
}

/// Documents of a network that are kept: some years of changes.
const HISTORY_MAX: u64 = 100;

/// Findings and failed tests that a refusal shows: more than a person mends at once.
const FINDINGS_SHOWN: usize = 20;
