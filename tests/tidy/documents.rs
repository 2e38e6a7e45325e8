//! The laws of documents: links lead somewhere, named files and tests exist, and README shows its
//! two commands.

use std::collections::BTreeSet;
use std::path::Path;

use crate::sources::{collect, read, root, rust_files};

#[test]
fn links_in_documents_lead_somewhere() {
    let root = root();
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document)
            .parent()
            .unwrap_or(Path::new(""))
            .to_owned();
        for target in links(&text) {
            if target.starts_with("http")
                || target.starts_with('#')
                || target.starts_with("mailto:")
            {
                continue;
            }
            let file = target.split('#').next().unwrap_or_default();
            assert!(
                root.join(&folder).join(file).exists(),
                "{document} links to {target}, which does not exist"
            );
        }
    }
}

#[test]
fn files_named_in_documents_exist() {
    let root = root();
    for document in documents() {
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
        read("ARCHITECTURE.md").lines().count() < 200,
        "ARCHITECTURE.md must stay under 200 lines"
    );
    assert!(
        read(".ci/run").contains("cargo test --workspace"),
        ".ci/run must call README's test command"
    );
}

fn documents() -> Vec<String> {
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
