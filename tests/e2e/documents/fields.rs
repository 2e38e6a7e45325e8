//! The fields that a page of docs/json.md lists, and the comparison of a document with them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The lists of docs/json.md, by the words after their fence.
pub(super) fn lists() -> BTreeMap<String, Fields> {
    let mut lists = BTreeMap::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```json-fields ") else {
            continue;
        };
        let mut fields = Fields::default();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let mut words = line.split_whitespace();
            let (path, kind) = (words.next().unwrap(), words.next().unwrap());
            fields.add(path, kind);
        }
        let before = lists.insert(name.to_owned(), fields);
        assert!(before.is_none(), "two lists are called {name}");
    }
    lists
}

/// The fields of a document, and those that were seen.
#[derive(Debug, Default)]
pub(super) struct Fields {
    top: Node,
    /// Paths of leaves, as the page writes them.
    listed: BTreeSet<String>,
    seen: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Node {
    /// By name; `[]` stands for the items of a list and `*` for any name.
    children: BTreeMap<String, Node>,
    optional: bool,
    kind: String,
    path: String,
}

impl Fields {
    fn add(&mut self, path: &str, kind: &str) {
        let mut node = &mut self.top;
        for part in path.split('.') {
            let is_list = part.ends_with("[]");
            let name = part.trim_end_matches("[]");
            let optional = name.ends_with('?');
            node = node
                .children
                .entry(name.trim_end_matches('?').to_owned())
                .or_default();
            node.optional |= optional;
            if is_list {
                node = node.children.entry(ITEMS.to_owned()).or_default();
            }
        }
        assert!(["number", "text", "truth", "any"].contains(&kind), "{kind}");
        node.kind = kind.to_owned();
        node.path = path.to_owned();
        assert!(self.listed.insert(path.to_owned()), "{path} twice");
    }

    /// Compares a document with the list; what is wrong with it.
    pub(super) fn judge(&mut self, document: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        judge(&self.top, document, "", &mut self.seen, &mut wrong);
        wrong
    }

    /// Fields that no document had.
    pub(super) fn unseen(&self) -> Vec<&String> {
        self.listed.difference(&self.seen).collect()
    }
}

fn judge(
    node: &Node,
    value: &Value,
    place: &str,
    seen: &mut BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    let is_so = match node.kind.as_str() {
        "number" => value.is_number(),
        "text" => value.is_string(),
        "truth" => value.is_boolean(),
        "any" => true,
        _ => {
            inner(node, value, place, seen, wrong);
            return;
        }
    };
    match is_so {
        true => drop(seen.insert(node.path.clone())),
        false => wrong.push(format!("{place} is no {}: {value}", node.kind)),
    }
}

fn inner(
    node: &Node,
    value: &Value,
    place: &str,
    seen: &mut BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    match value {
        Value::Array(items) => match node.children.get(ITEMS) {
            Some(of_items) => {
                for item in items {
                    judge(of_items, item, &format!("{place}[]"), seen, wrong);
                }
            }
            None => wrong.push(format!("{place} is a list")),
        },
        Value::Object(fields) => {
            for (name, value) in fields {
                let place = format!("{place}.{name}");
                let known = node.children.get(name).or_else(|| node.children.get("*"));
                match known {
                    Some(known) if known.optional && value.is_null() => {}
                    Some(known) => judge(known, value, &place, seen, wrong),
                    None => wrong.push(format!("{place} is not on the page")),
                }
            }
            for (name, known) in &node.children {
                let may_lack = known.optional || name == "*" || fields.contains_key(name);
                if !may_lack {
                    wrong.push(format!("{place}.{name} is missing"));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            wrong.push(format!("{place} has fields on the page, and is {value}"));
        }
    }
}

const PAGE: &str = include_str!("../../../docs/json.md");

/// The name of a list's items among the children of the list.
const ITEMS: &str = "[]";
