//! Reads services, hosts, rules and tests. Decides what each must have, and the id of a rule that
//! gives none.

use std::collections::BTreeMap;

use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{RuleId, Service};
use toml::Spanned;
use toml::de::DeValue;

use super::moment::moment;
use super::{Field, Reader, fields, party, shown};
use crate::document::{Document, Expectation, Party, Rule};
use crate::finding::Place;

/// Reads the names of services.
pub(super) fn services<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
) -> BTreeMap<String, Vec<Service>> {
    let example = "write `[services]` and below it `web = [\"tcp/80\", \"tcp/443\"]`";
    let mut named = BTreeMap::new();
    for field in fields(reader, value, example) {
        if !reader.takes_name(&field, &named) {
            continue;
        }
        if field.name.parse::<Service>().is_ok() {
            let what = format!("`{}` is a service already", field.name);
            reader.wrong(field.at, &what, "choose another name");
        }
        let services = of_services(reader, field.value, &BTreeMap::new());
        named.insert(field.name.to_owned(), services);
    }
    named
}

/// Reads the names of gateway hosts.
pub(super) fn hosts<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
) -> BTreeMap<String, Vec<GatewayRoute>> {
    let example = "write `[hosts]` and below it `printer = \"10.1.0.9\"`";
    let mut named = BTreeMap::new();
    for field in fields(reader, value, example) {
        if !reader.takes_name(&field, &named) {
            continue;
        }
        let mut routes = Vec::new();
        for (text, at) in reader.some_texts(field.value) {
            match text.parse::<GatewayRoute>() {
                Ok(route) if route.port().is_none() => routes.push(route),
                Ok(_) => reader.wrong(
                    at,
                    &format!("`{}` has a port", shown(text)),
                    "name the host alone; the rule's services say the ports",
                ),
                Err(error) => reader.wrong(
                    at,
                    &format!("`{}` is not a host: {error}", shown(text)),
                    "write ADDRESS, ADDRESS/BITS, NAME or *.NAME",
                ),
            }
        }
        named.insert(field.name.to_owned(), routes);
    }
    named
}

/// Reads a list of services and names of services.
fn of_services<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
    named: &BTreeMap<String, Vec<Service>>,
) -> Vec<Service> {
    let mut services = Vec::new();
    for (text, at) in reader.some_texts(value) {
        match (named.get(text), text.parse::<Service>()) {
            (Some(all), _) => services.extend(all),
            (None, Ok(service)) => services.push(service),
            (None, Err(error)) => {
                let what = format!("`{}` is not a service: {error}", shown(text));
                reader.wrong(at, &what, "or add a name with its ports below [services]");
            }
        }
    }
    services.sort_unstable();
    services.dedup();
    if services.len() > SERVICES_MAX {
        let what = format!("these are {} services", services.len());
        let advice = format!("{SERVICES_MAX} are the most; join them to ranges");
        reader.wrong(value.span().start, &what, &advice);
        services.clear();
    }
    services
}

/// Reads all rules.
pub(super) fn rules<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
    document: &mut Document,
) {
    let items = tables(reader, value, "[[rules]]", RULES_MAX);
    let mut seen: BTreeMap<RuleId, Place> = BTreeMap::new();
    for item in items {
        let Some(rule) = rule(reader, item, document) else {
            continue;
        };
        if let Some(first) = seen.insert(rule.id.clone(), rule.place) {
            reader.wrong(
                item.span().start,
                &format!("rule {} stands on line {} already", rule.id, first.line),
                "take one of them away, or give it another `id`",
            );
        }
        document.rules.push(rule);
    }
}

/// Reads all tests.
pub(super) fn tests<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
    document: &mut Document,
) {
    for item in tables(reader, value, "[[tests]]", TESTS_MAX) {
        if let Some(test) = test(reader, item, document) {
            document.tests.push(test);
        }
    }
}

fn tables<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
    head: &str,
    most: usize,
) -> Vec<&'t Spanned<DeValue<'t>>> {
    let at = value.span().start;
    let DeValue::Array(items) = value.get_ref() else {
        let advice = format!("begin each one with {head}");
        reader.wrong(at, "this is not a list of tables", &advice);
        return Vec::new();
    };
    if items.len() > most {
        let what = format!("there are {} of {head}", items.len());
        reader.wrong(at, &what, &format!("{most} are the most"));
        return Vec::new();
    }
    items.iter().collect()
}

fn rule<'t>(
    reader: &mut Reader<'_>,
    item: &'t Spanned<DeValue<'t>>,
    document: &Document,
) -> Option<Rule> {
    let at = item.span().start;
    let mut id = None;
    let (mut from, mut to, mut services) = (None, None, None);
    let (mut until, mut comment) = (None, None);
    for field in fields(reader, item, "begin each rule with [[rules]]") {
        match field.name {
            "id" => id = given_id(reader, &field),
            "from" => from = Some(parties(reader, &field, document)),
            "to" => to = Some(parties(reader, &field, document)),
            "services" => services = Some(of_services(reader, field.value, &document.services)),
            "until" => until = end(reader, &field),
            "comment" => comment = remark(reader, &field),
            _ => unknown(reader, &field, "id, from, to, services, until and comment"),
        }
    }
    let from = required(
        reader,
        at,
        from,
        "from",
        "who may dial, such as \"group:dev\"",
    )?;
    let to = required(
        reader,
        at,
        to,
        "to",
        "what may be dialled, such as \"tag:db\"",
    )?;
    let example = "what may be opened, such as \"tcp/5432\", or \"any\"";
    let services = required(reader, at, services, "services", example)?;
    for party in from.iter().filter(|party| party.is_destination_only()) {
        let what = format!("`{party}` cannot dial");
        reader.wrong(
            at,
            &what,
            "write it after `to`; from there, nothing comes into the overlay",
        );
    }
    let id = id.unwrap_or_else(|| derived_id(&from, &to, &services));
    let place = reader.place(at);
    Some(Rule {
        id,
        from,
        to,
        services,
        until,
        comment,
        place,
    })
}

fn test<'t>(
    reader: &mut Reader<'_>,
    item: &'t Spanned<DeValue<'t>>,
    document: &Document,
) -> Option<Expectation> {
    let at = item.span().start;
    let (mut from, mut to) = (None, None);
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for field in fields(reader, item, "begin each test with [[tests]]") {
        match field.name {
            "from" => from = one_party(reader, &field, document),
            "to" => to = one_party(reader, &field, document),
            "allow" => allow = of_services(reader, field.value, &document.services),
            "deny" => deny = of_services(reader, field.value, &document.services),
            _ => unknown(reader, &field, "from, to, allow and deny"),
        }
    }
    let from = required(reader, at, from, "from", "who dials, such as \"group:dev\"")?;
    let to = required(reader, at, to, "to", "what is dialled, such as \"tag:db\"")?;
    if from.is_destination_only() {
        let what = format!("`{from}` cannot dial");
        reader.wrong(at, &what, "write it after `to`");
    }
    if allow.is_empty() && deny.is_empty() {
        reader.wrong(
            at,
            "this test expects nothing",
            "add `allow` or `deny` with services",
        );
    }
    let place = reader.place(at);
    Some(Expectation {
        from,
        to,
        allow,
        deny,
        place,
    })
}

fn required<T>(
    reader: &mut Reader<'_>,
    at: usize,
    value: Option<T>,
    field: &str,
    example: &str,
) -> Option<T> {
    if value.is_none() {
        let what = format!("`{field}` is missing or not understood");
        reader.wrong(at, &what, &format!("add it: {example}"));
    }
    value
}

fn unknown(reader: &mut Reader<'_>, field: &Field<'_>, known: &str) {
    let what = format!("there is no field `{}` here", shown(field.name));
    reader.wrong(field.at, &what, &format!("the fields are {known}"));
}

fn parties(reader: &mut Reader<'_>, field: &Field<'_>, document: &Document) -> Vec<Party> {
    let texts = reader.some_texts(field.value);
    let each = texts.into_iter();
    let mut parties: Vec<Party> = each
        .filter_map(|(text, at)| party(reader, document, text, at))
        .collect();
    parties.sort_unstable();
    parties.dedup();
    parties
}

fn one_party(reader: &mut Reader<'_>, field: &Field<'_>, document: &Document) -> Option<Party> {
    let text = reader.text(field.value)?;
    party(reader, document, text, field.value.span().start)
}

fn given_id(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<RuleId> {
    let text = reader.text(field.value)?;
    let id = RuleId::new(text);
    if id.is_none() {
        let what = format!("`{}` is not an id", shown(text));
        let advice = "an id has 1 to 63 lower-case letters, digits and hyphens";
        reader.wrong(field.value.span().start, &what, advice);
    }
    id
}

fn end(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<overlan_protocol::UnixTime> {
    let end = field.value.get_ref().as_datetime().and_then(moment);
    if end.is_none() {
        reader.wrong(
            field.value.span().start,
            "this is not one moment",
            "write date, time and zone without quotation marks: 2026-12-31T18:00:00Z",
        );
    }
    end
}

fn remark(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<String> {
    let text = reader.text(field.value)?;
    if text.len() > COMMENT_MAX {
        let what = format!("the comment has {} bytes", text.len());
        let advice = format!("{COMMENT_MAX} are the most; a `#` may be followed by more");
        reader.wrong(field.value.span().start, &what, &advice);
    }
    Some(text.to_owned())
}

/// Makes an id of what the rule says, so that it stays when rules move or their end changes.
fn derived_id(from: &[Party], to: &[Party], services: &[Service]) -> RuleId {
    let mut text = String::new();
    let mut add = |mark: char, word: &dyn std::fmt::Display| {
        text.push(mark);
        text.push_str(&word.to_string());
        // No word has it, so that no two rules make one text.
        text.push('\n');
    };
    from.iter().for_each(|party| add('<', party));
    to.iter().for_each(|party| add('>', party));
    services.iter().for_each(|service| add('=', service));
    let digest = text.bytes().fold(FNV_BASIS, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    });
    let short = (digest >> 40) ^ (digest & 0xff_ffff_ffff);
    RuleId::new(&format!("rule-{short:010x}")).expect("a word and digits are a label")
}

/// FNV-1a of 64 bits: it need not resist anybody, only tell apart the rules of one document.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// Rules of a document.
const RULES_MAX: usize = 10_000;

/// Tests of a document.
const TESTS_MAX: usize = 1_000;

/// Services of one rule, test or name, after names are resolved.
const SERVICES_MAX: usize = 64;

/// Bytes of a comment: a sentence and a link.
const COMMENT_MAX: usize = 512;
