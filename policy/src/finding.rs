//! Places in a document, and what is wrong there. Decides how a place is counted; judges nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a document's text, both counted from 1; columns are characters.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character in it.
    pub column: u32,
}

/// One thing that is wrong in a document, with the next step. Texts of the document that it shows
/// are inert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its place.
    #[serde(flatten)]
    pub place: Place,
    /// The mistake.
    pub what: String,
    /// The next step.
    pub advice: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.advice)
    }
}

/// The beginnings of a text's lines, by which an offset becomes a place.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    begins: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let begins = std::iter::once(0).chain(ends.map(|(at, _)| at + 1));
        Self {
            text,
            begins: begins.collect(),
        }
    }

    /// The place of a byte of the text; an offset that is none counts as the nearest before it.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.begins.partition_point(|begin| *begin <= offset).max(1);
        let begin = self.begins[line - 1];
        let before = self.text.as_bytes().get(begin..offset.min(self.text.len()));
        // Every byte but those that continue a character.
        let characters = before.map_or(0, |bytes| {
            bytes.iter().filter(|byte| (**byte as i8) >= -0x40).count()
        });
        Place {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(characters + 1).unwrap_or(u32::MAX),
        }
    }
}
