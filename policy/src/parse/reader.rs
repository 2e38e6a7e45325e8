//! Takes values out of TOML and collects what is wrong with them. Decides the forms of texts and
//! lists; knows no word of the policy.

use std::collections::BTreeMap;

use overlan_protocol::name::is_label;
use toml::Spanned;
use toml::de::DeValue;

use super::shown;
use crate::document::Document;
use crate::finding::{Finding, Lines, Place};

/// The findings so far, and the text that they are about.
pub(super) struct Reader<'a> {
    lines: Lines<'a>,
    findings: Vec<Finding>,
}

/// One key of a table with its value.
pub(super) struct Field<'t> {
    pub(super) name: &'t str,
    pub(super) at: usize,
    pub(super) value: &'t Spanned<DeValue<'t>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            lines: Lines::new(text),
            findings: Vec::new(),
        }
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        self.lines.place(offset)
    }

    /// Adds a finding. `what` and `advice` show texts of the document only through [`shown`].
    pub(super) fn wrong(&mut self, at: usize, what: &str, advice: &str) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                place: self.place(at),
                what: what.to_owned(),
                advice: advice.to_owned(),
            });
        }
    }

    /// Returns the document if nothing is wrong with it.
    pub(super) fn end(mut self, document: Document) -> Result<Document, Vec<Finding>> {
        if self.findings.is_empty() {
            return Ok(document);
        }
        self.findings.sort_by_key(|finding| finding.place);
        Err(self.findings)
    }

    /// Returns the texts of one text or of a list of texts, each with its offset.
    pub(super) fn texts<'t>(&mut self, value: &'t Spanned<DeValue<'t>>) -> Vec<(&'t str, usize)> {
        let items: Vec<&Spanned<DeValue<'t>>> = match value.get_ref().as_array() {
            Some(items) => items.iter().collect(),
            None => vec![value],
        };
        if items.len() > MEMBERS_MAX {
            let what = format!("the list has {} entries", items.len());
            let advice = format!("{MEMBERS_MAX} are the most; use a group or a tag");
            self.wrong(value.span().start, &what, &advice);
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let at = item.span().start;
            match item.get_ref().as_str() {
                Some(text) => texts.push((text, at)),
                None => self.wrong(at, "this is not a text", "write it in quotation marks"),
            }
        }
        texts
    }

    /// Returns the texts of a list that must have some.
    pub(super) fn some_texts<'t>(
        &mut self,
        value: &'t Spanned<DeValue<'t>>,
    ) -> Vec<(&'t str, usize)> {
        if matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()) {
            let advice = "name what is meant, or take the whole entry away";
            self.wrong(value.span().start, "the list is empty", advice);
        }
        self.texts(value)
    }

    /// Returns one text.
    pub(super) fn text<'t>(&mut self, value: &'t Spanned<DeValue<'t>>) -> Option<&'t str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            let at = value.span().start;
            self.wrong(
                at,
                "this is not a text",
                "write one text in quotation marks",
            );
        }
        text
    }

    /// Returns whether a part has room for its entries, and whether `name` may be the name of one.
    pub(super) fn takes_name<T>(&mut self, field: &Field<'_>, part: &BTreeMap<String, T>) -> bool {
        if part.len() == PART_NAMES_MAX {
            let what = format!("a part has more than {PART_NAMES_MAX} names");
            self.wrong(field.at, &what, "take away what no rule uses");
            return false;
        }
        let is_name = is_label(field.name);
        if !is_name && part.len() < PART_NAMES_MAX {
            self.wrong(
                field.at,
                &format!("`{}` is not a name", shown(field.name)),
                "a name has 1 to 63 lower-case letters, digits and hyphens, no hyphen at an end",
            );
        }
        is_name
    }
}

/// Findings of one document: enough to mend it at once, few enough for one screen.
const FINDINGS_MAX: usize = 50;

/// Entries of one list: every device of a large network by its name.
const MEMBERS_MAX: usize = 10_000;

/// Names of one part (groups, tags, services, hosts).
const PART_NAMES_MAX: usize = 1_000;
