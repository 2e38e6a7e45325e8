//! The laws of documents: links lead to a file and a heading, named files and tests exist, and
//! README shows its two commands.

use std::collections::BTreeSet;
use std::path::Path;

use crate::sources::{RustFile, collect, is_test, read, root, rust_files};

#[test]
fn links_in_documents_lead_somewhere() {
    let root = root();
    for document in all() {
        let text = read(&document);
        let folder = Path::new(&document)
            .parent()
            .unwrap_or(Path::new(""))
            .to_owned();
        for target in links(&text) {
            if target.starts_with("http") || target.starts_with("mailto:") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((&target, ""));
            let linked = match file {
                "" => root.join(&document),
                _ => root.join(&folder).join(file),
            };
            assert!(
                linked.exists(),
                "{document} links to {target}, which does not exist"
            );
            if !place.is_empty() && (file.is_empty() || file.ends_with(".md")) {
                let linked = std::fs::read_to_string(linked).unwrap();
                assert!(
                    linked
                        .lines()
                        .any(|line| anchor(line) == Some(place.to_owned())),
                    "{document} links to {target}, which has no such heading"
                );
            }
        }
    }
}

/// The name by which a heading is linked to, as the hosts of repositories make it.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn files_named_in_documents_exist() {
    let root = root();
    for document in all() {
        if document == "CHANGELOG.md" {
            continue;
        }
        let text = read(&document);
        for word in text.split('`').skip(1).step_by(2) {
            let is_path =
                word.contains('/') && word.ends_with(".rs") && !word.contains([' ', '*', '<', '{']);
            assert!(
                !is_path || root.join(word).exists(),
                "{document} names `{word}`, which does not exist"
            );
        }
    }
}

#[test]
fn tests_named_as_evidence_exist() {
    let mut tests = String::new();
    for file in rust_files() {
        tests.push_str(&file.text);
    }
    let complaints = read("docs/complaints.md");
    let mut named = 0;
    for word in complaints.split('`').skip(1).step_by(2) {
        if word.matches('_').count() < 3
            || word.contains(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')
        {
            continue;
        }
        named += 1;
        assert!(
            tests.contains(&format!("fn {word}(")),
            "docs/complaints.md names the test `{word}`, which does not exist"
        );
    }
    assert!(named > 30, "docs/complaints.md names only {named} tests");
}

/// The page of the library names types that its user can write.
#[test]
fn the_library_page_names_what_the_facade_exports() {
    /// Of other crates, or of std, and parts of names.
    const OTHERS: &[&str] = &["AsyncRead", "AsyncWrite", "ConnectInfo"];
    let facade = read("src/lib.rs");
    let page = read("docs/library.md");
    for word in page.split('`').skip(1).step_by(2) {
        let mut names = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let Some(name) = names.next() else {
            continue;
        };
        let is_type = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.contains(|c: char| c.is_ascii_lowercase());
        assert!(
            !is_type || OTHERS.contains(&name) || facade.contains(name),
            "docs/library.md names `{name}`, which src/lib.rs does not export"
        );
    }
}

/// Messages of other programs, which no text of ours contains.
const MESSAGES_OF_OTHERS: &[&str] = &[
    "Could not resolve host",
    "No authentication method was acceptable",
    "unable to get local issuer certificate",
    "self-signed certificate in certificate chain",
];

/// A message that no program prints any more helps nobody. Values of the moment are left out, and
/// where a text has a place for one at its beginning, its last words count.
#[test]
fn messages_in_troubleshooting_are_printed() {
    let sources: String = rust_files().into_iter().map(|file| file.text).collect();
    let texts = sources.replace('`', "");
    let texts: Vec<&str> = texts.split_whitespace().collect();
    let texts = texts.join(" ").replace("\\ ", "");
    let page = read("docs/troubleshooting.md");
    let mut checked = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let column = line.split('|').nth(1).unwrap_or_default();
        for message in column.split('`').skip(1).step_by(2) {
            if MESSAGES_OF_OTHERS.contains(&message) {
                continue;
            }
            let is_value = |word: &&str| {
                word.contains(|c: char| c == '…' || c.is_ascii_digit() || c == ':')
                    || word.starts_with("--")
            };
            let words: Vec<&str> = message.split_whitespace().collect();
            for part in words.split(|word| is_value(word)) {
                let last = &part[part.len().saturating_sub(3)..];
                if last.len() < 3 || message.ends_with("Address already in use") {
                    continue;
                }
                checked += 1;
                assert!(
                    texts.contains(&part.join(" ")) || texts.contains(&last.join(" ")),
                    "docs/troubleshooting.md: no program of ours prints `{message}`"
                );
            }
        }
    }
    assert!(checked > 15, "only {checked} messages are understood");
}

/// Lines and columns of documents that somebody reads from the first line to the last.
const SIZES: &[(&str, usize, usize)] = &[("ARCHITECTURE.md", 200, 120), ("README.md", 250, 140)];

#[test]
fn the_first_documents_stay_short() {
    for (document, lines, columns) in SIZES {
        let text = read(document);
        assert!(
            text.lines().count() <= *lines,
            "{document} has more than {lines} lines"
        );
        for (number, line) in text.lines().enumerate() {
            assert!(
                line.chars().count() <= *columns,
                "{document}:{}: more than {columns} columns",
                number + 1
            );
        }
    }
}

/// Columns of prose in every document. Code and tables do not wrap.
const PROSE_COLUMNS: usize = 120;

#[test]
fn prose_in_documents_is_wrapped() {
    let mut broken = Vec::new();
    for document in all() {
        let mut is_code = false;
        for (number, line) in read(&document).lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            }
            let columns = line.chars().count();
            if columns > PROSE_COLUMNS && !is_code && !line.starts_with('|') {
                broken.push(format!("{document}:{}: {columns} columns", number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Roots of crates, which need no other name than the folder's.
const ROOTS: &[&str] = &["lib", "main"];

/// A source file is found by the codemap of ARCHITECTURE.md, which names it after its folder, or by
/// the text at the top of its parent. And the codemap names nothing else.
#[test]
fn the_codemap_names_every_source_file() {
    let files = rust_files();
    let mut codemap = codemap();
    let mut broken = Vec::new();
    let is_source = |file: &&RustFile| !is_test(&file.path) && !file.path.starts_with("examples/");
    for file in files.iter().filter(is_source) {
        let path = file.path.trim_end_matches(".rs");
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if ROOTS.contains(&name) || codemap.remove(&(folder.to_owned(), name.to_owned())) {
            continue;
        }
        let parents = [".rs", "/lib.rs", "/main.rs"].map(|end| format!("{folder}{end}"));
        let parent = files.iter().find(|file| parents.contains(&file.path));
        let head = parent.into_iter().flat_map(|parent| {
            let lines = parent.text.lines();
            lines.take_while(|line| line.starts_with("//!"))
        });
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut words = head.flat_map(|line| line.split(|c: char| !is_word(c)));
        if !words.any(|word| word == name) {
            broken.push(format!(
                "{}: name it in ARCHITECTURE.md's codemap after `{folder}/`",
                file.path
            ));
        }
    }
    for (folder, name) in codemap {
        broken.push(format!(
            "ARCHITECTURE.md names {folder}/{name}.rs, which does not exist"
        ));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Folders and the files after them. What stands in brackets explains, and names nothing.
fn codemap() -> BTreeSet<(String, String)> {
    let architecture = read("ARCHITECTURE.md");
    let (_, codemap) = architecture
        .split_once("## Codemap")
        .expect("it has a codemap");
    let codemap = codemap.split("```").nth(1).expect("the codemap is fenced");
    let codemap = codemap.trim_start_matches("text");
    let mut found = BTreeSet::new();
    let mut folder = "";
    let mut depth = 0;
    for word in codemap.split_whitespace() {
        depth += word.matches('(').count();
        if depth == 0 {
            match word.strip_suffix('/') {
                Some(path) => folder = path,
                None if word != "·" => _ = found.insert((folder.to_owned(), word.to_owned())),
                None => {}
            }
        }
        depth -= word.matches(')').count();
    }
    found
}

#[test]
fn readme_starts_with_the_two_commands() {
    let readme = read("README.md");
    let top: String = readme.lines().take(40).collect::<Vec<_>>().join("\n");
    for command in ["cargo run --release -- demo", "cargo test --workspace"] {
        assert!(
            top.contains(command),
            "README.md does not show `{command}` near its top"
        );
    }
    assert!(
        read(".ci/run").contains("cargo test --workspace"),
        ".ci/run must call README's test command"
    );
}

/// The documents of the repository, by their paths.
pub(super) fn all() -> Vec<String> {
    let mut paths = BTreeSet::new();
    collect(&root().join("docs"), "md", &mut paths);
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        paths.insert(name.to_owned());
    }
    paths.into_iter().collect()
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("](").skip(1) {
        if let Some(end) = part.find(')') {
            found.push(part[..end].to_owned());
        }
    }
    found
}
