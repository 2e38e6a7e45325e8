//! Tags of devices: decides which texts are tags. Does not know what a policy makes of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name;

/// A word that people give to devices, by which lists, policies and keys mean all of them: a label,
/// such as `ci` or `web-prod`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is not a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag is 1 to 63 lower-case letters, digits and hyphens, with no hyphen at an end")]
pub struct ParseTagError;

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        match name::is_label(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(ParseTagError),
        }
    }
}

impl TryFrom<String> for Tag {
    type Error = ParseTagError;

    fn try_from(text: String) -> Result<Self, ParseTagError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Most tags of one device, and of one auth key: more than anybody reads in a list, and few enough
/// that every member of a network may carry them.
pub const TAGS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_are_tags_also_in_json() {
        for good in ["ci", "web-prod", "7"] {
            let tag: Tag = good.parse().unwrap();
            let text = serde_json::to_string(&tag).unwrap();
            assert_eq!(text, format!("{good:?}"));
            assert_eq!(serde_json::from_str::<Tag>(&text).unwrap(), tag);
        }
        for bad in ["", "CI", "tag:ci", "a b", "-a", "a,b", "\u{202e}ci"] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?}");
            let text = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Tag>(&text).is_err(), "{bad:?}");
        }
    }
}
