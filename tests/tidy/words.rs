//! The laws of words: the glossary has one for each thing, and these stand in place of better ones.

use crate::sources::{RustFile, is_test, read};

/// Words and their better ones. Documents have none of them; in sources they are a figure that only
/// falls.
const REPLACED: &[(&str, &str)] = &[
    ("anew", "again"),
    ("behind", "after, below, or: a host of a gateway"),
    ("for ever", "without end"),
    ("others'", "foreign, delegated, or whose it is"),
    ("publish", "serve"),
    ("published", "served"),
    ("publishes", "serves"),
    ("publishing", "serving"),
    ("shall", "must, or will"),
    ("told", "reported, or: heard"),
    ("whoever", "the one that"),
];

#[test]
fn documents_use_the_words_of_the_glossary() {
    let mut broken = Vec::new();
    for document in crate::documents::all() {
        let text = read(&document);
        let mut is_code = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            }
            // What stands in backticks is quoted.
            let prose: String = line.split('`').step_by(2).collect();
            if let Some((word, better)) = replaced(&prose).filter(|_| !is_code) {
                broken.push(format!(
                    "{document}:{}: \"{word}\": say {better}",
                    number + 1
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Lines of sources that have one of the words, in comments, texts or names.
pub(super) fn replaced_words(files: &[RustFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !is_test(&file.path)) {
        for (number, line) in file.text.lines().enumerate() {
            if let Some((word, _)) = replaced(line) {
                found.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    found
}

/// The first word of [`REPLACED`] in a line, as a whole word in whatever case.
fn replaced(line: &str) -> Option<(&'static str, &'static str)> {
    let line = line.to_lowercase();
    let is_whole = |at: usize, word: &str| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !in_word(before) && !in_word(after)
    };
    let stands = |word: &str| {
        line.match_indices(word)
            .any(|(at, word)| is_whole(at, word))
    };
    REPLACED.iter().find(|(word, _)| stands(word)).copied()
}
