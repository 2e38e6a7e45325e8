//! Reads a document's text. Decides whether it means something, and says of everything that does
//! not where it stands and what to do; puts nothing together with devices or people.

mod groups;
mod moment;
mod reader;
mod rules;

use toml::de::{DeTable, DeValue};

use crate::document::{Document, Party};
use crate::finding::{Finding, Place};
use reader::{Field, Reader};

/// Reads a document. What is wrong comes back all at once, in the order of the text; a document
/// with one finding is none.
pub fn parse(text: &str) -> Result<Document, Vec<Finding>> {
    if text.len() > DOCUMENT_MAX {
        return Err(vec![Finding {
            place: Place { line: 1, column: 1 },
            what: format!("the document has {} bytes", text.len()),
            advice: format!("{DOCUMENT_MAX} are the most; name groups in place of long lists"),
        }]);
    }
    let mut reader = Reader::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.wrong(
            at,
            error.message(),
            "write it as TOML: `name = \"text\"`, `[table]`",
        );
    }
    // What was guessed about a text that is not TOML would be found wrong once more.
    let document = match errors.is_empty() {
        true => document(&mut reader, table.get_ref()),
        false => Document::default(),
    };
    reader.end(document)
}

fn document<'t>(reader: &mut Reader<'_>, table: &'t DeTable<'t>) -> Document {
    for key in table.keys() {
        let name = key.get_ref().as_ref();
        if !PARTS.contains(&name) {
            reader.wrong(
                key.span().start,
                &format!("a document has no part `{}`", shown(name)),
                "the parts are groups, tags, services, hosts, rules and tests",
            );
        }
    }
    // Each part names only what stands in those that are read before it, wherever in the text.
    let mut document = Document::default();
    for part in PARTS {
        let Some(value) = table.get(part) else {
            continue;
        };
        match part {
            "groups" => groups::groups(reader, value, &mut document),
            "tags" => groups::tags(reader, value, &mut document),
            "services" => document.services = rules::services(reader, value),
            "hosts" => document.hosts = rules::hosts(reader, value),
            "rules" => rules::rules(reader, value, &mut document),
            _ => rules::tests(reader, value, &mut document),
        }
    }
    document
}

/// The parts in the order in which they are read.
const PARTS: [&str; 6] = ["groups", "tags", "services", "hosts", "rules", "tests"];

/// Reads a party, and holds that the name in it exists.
fn party(reader: &mut Reader<'_>, document: &Document, text: &str, at: usize) -> Option<Party> {
    let party: Party = match text.parse() {
        Ok(party) => party,
        Err(error) => {
            let advice = match text {
                name if document.groups.contains_key(name) => format!("write group:{name}"),
                name if document.tags.contains_key(name) => format!("write tag:{name}"),
                name if document.hosts.contains_key(name) => format!("write host:{name}"),
                _ => error.advice().to_owned(),
            };
            let what = format!("`{}` means nobody", shown(text));
            reader.wrong(at, &what, &advice);
            return None;
        }
    };
    let (part, name, exists) = match &party {
        Party::Group(name) => ("groups", name, document.groups.contains_key(name)),
        Party::Tag(name) => ("tags", name, document.tags.contains_key(name)),
        Party::Host(name) => ("hosts", name, document.hosts.contains_key(name)),
        Party::Any
        | Party::Members
        | Party::Own
        | Party::Person(_)
        | Party::Role(_)
        | Party::Directory(_)
        | Party::Tagged
        | Party::Device(_)
        | Party::Hosts => return Some(party),
    };
    if exists {
        return Some(party);
    }
    let what = format!("[{part}] has no `{name}`");
    let example = match part {
        "groups" => format!("add `{name} = [\"ana@example.com\"]` below [groups]"),
        "tags" => format!("add `{name} = []` below [tags]; owners and admins may set it"),
        _ => format!("add `{name} = \"10.0.0.1\"` below [hosts]"),
    };
    reader.wrong(at, &what, &example);
    None
}

/// A text of the document within a sentence.
fn shown(text: &str) -> overlan_protocol::policy::Inert<'_> {
    overlan_protocol::policy::Inert(text)
}

/// Returns the fields of a table, or says that it is none.
fn fields<'t>(
    reader: &mut Reader<'_>,
    value: &'t toml::Spanned<DeValue<'t>>,
    example: &str,
) -> Vec<Field<'t>> {
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong(value.span().start, "this is not a table", example);
        return Vec::new();
    };
    let each = table.iter().map(|(key, value)| Field {
        name: key.get_ref().as_ref(),
        at: key.span().start,
        value,
    });
    each.collect()
}

/// Bytes of a document's text: more than ten thousand rules by hand, and parsed in milliseconds.
pub(crate) const DOCUMENT_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
