//! Reads groups and tags. Decides which words can be members, and that no group contains itself.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::DeValue;

use super::{Field, Reader, fields, party, shown};
use crate::document::{Document, Party};

/// Reads all groups. Members may name groups that stand further down.
pub(super) fn groups<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
    document: &mut Document,
) {
    let example = "write `[groups]` and below it `dev = [\"ana@example.com\"]`";
    let fields = fields(reader, value, example);
    for field in &fields {
        if reader.takes_name(field, &document.groups) {
            document.groups.insert(field.name.to_owned(), Vec::new());
        }
    }
    let mut groups = BTreeMap::new();
    for field in &fields {
        if document.groups.contains_key(field.name) {
            let members = people(reader, field, document);
            groups.insert(field.name.to_owned(), members);
        }
    }
    document.groups = groups;
    if let Some(name) = beyond_nesting(&document.groups) {
        let at = fields.iter().find(|field| field.name == name);
        reader.wrong(
            at.map_or(0, |field| field.at),
            &format!("group:{name} contains itself, or groups more than {NESTING_MAX} deep"),
            "name the people in it",
        );
    }
}

/// Reads all tags with their owners.
pub(super) fn tags<'t>(
    reader: &mut Reader<'_>,
    value: &'t Spanned<DeValue<'t>>,
    document: &mut Document,
) {
    let example = "write `[tags]` and below it `db = []`, or the people who may set it";
    for field in fields(reader, value, example) {
        if reader.takes_name(&field, &document.tags) {
            let owners = people(reader, &field, document);
            document.tags.insert(field.name.to_owned(), owners);
        }
    }
}

fn people(reader: &mut Reader<'_>, field: &Field<'_>, document: &Document) -> Vec<Party> {
    let mut people = Vec::new();
    for (text, at) in reader.texts(field.value) {
        if text.parse().is_ok_and(|party: Party| !party.is_people()) {
            let what = format!("`{}` does not mean people", shown(text));
            reader.wrong(at, &what, "write emails, group:NAME, idp:NAME or role:NAME");
        } else {
            people.extend(party(reader, document, text, at));
        }
    }
    people
}

/// Returns a group on a circle, or one that lies too deep. Takes groups away whose members are all
/// gone, level by level, so that no depth of the text becomes a depth of calls.
fn beyond_nesting(groups: &BTreeMap<String, Vec<Party>>) -> Option<&str> {
    let mut left: Vec<&str> = groups.keys().map(String::as_str).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..NESTING_MAX {
        let is_done = |name: &&str| {
            let inner = |member: &Party| match member.group() {
                Some(name) => done.contains(name),
                None => true,
            };
            groups[*name].iter().all(inner)
        };
        let (now, later): (Vec<&str>, Vec<&str>) = left.into_iter().partition(is_done);
        done.extend(now);
        left = later;
    }
    left.first().copied()
}

/// Levels of groups in groups, the outermost included.
const NESTING_MAX: usize = 8;
