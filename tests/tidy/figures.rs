//! The drawn figures of the tree: what is counted, how, and the ceiling that each may not exceed.
//!
//! `cargo test -p overlan --test tidy figures -- --nocapture` prints them. `OVERLAN_TIDY_ROOT`
//! makes it count another tree, such as an older commit, and `OVERLAN_TIDY_LIST` lists what was
//! counted.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{RustFile, environment, is_test, rust_files};
use crate::words::replaced_words;

/// One figure: its name, the counter that finds each place, and the ceiling, which only falls.
struct Figure {
    name: &'static str,
    places: fn(&[RustFile]) -> Vec<String>,
    ceiling: usize,
}

const FIGURES: &[Figure] = &[
    Figure {
        name: "rooms in the root of src/",
        places: rooms,
        ceiling: 6,
    },
    Figure {
        name: "arrows between those rooms",
        places: arrows,
        ceiling: 11,
    },
    Figure {
        name: "rooms of src/ on a circle",
        places: circles,
        ceiling: 0,
    },
    Figure {
        name: "public items that src/lib.rs leads to",
        places: public_items,
        ceiling: 33,
    },
    Figure {
        name: "type names used more than once in a crate",
        places: |files| repeated_types(files, 2),
        ceiling: 0,
    },
    Figure {
        name: "type names used more than twice in a crate",
        places: |files| repeated_types(files, 3),
        ceiling: 0,
    },
    Figure {
        name: "source files over 500 lines",
        places: long_files,
        ceiling: 0,
    },
    Figure {
        name: "functions over 70 lines",
        places: long_functions,
        ceiling: 0,
    },
    Figure {
        name: "source lines over 100 columns",
        places: |files| long_lines(files, false),
        ceiling: 0,
    },
    Figure {
        name: "test lines over 100 columns",
        places: |files| long_lines(files, true),
        ceiling: 3,
    },
    Figure {
        name: "doc comments that open with a question word, sources",
        places: |files| questions(files, false),
        ceiling: 0,
    },
    Figure {
        name: "doc comments that open with a question word, tests",
        places: |files| questions(files, true),
        ceiling: 0,
    },
    Figure {
        name: "source lines with words that the glossary replaced",
        places: replaced_words,
        ceiling: 0,
    },
    Figure {
        name: "places that split host:port",
        places: host_port_parsers,
        ceiling: 3,
    },
];

/// A source file longer than this is a reason to talk.
const FILE_LINES: usize = 500;
/// A function longer than this does more than one job.
const FUNCTION_LINES: usize = 70;
const COLUMNS: usize = 100;
/// First words of a doc comment that ask where the sentence should say.
const QUESTION_WORDS: &[&str] = &[
    "What", "Whether", "Why", "How", "Where", "Who", "Whose", "Which", "When",
];
/// Splits at a colon that make a parser of host and port, if one of `HOST_PORT_WORDS` stands near.
const COLON_SPLITS: &[&str] = &["split_once(':')", "find(':')"];
const HOST_PORT_WORDS: &[&str] = &["port", "authority"];
/// Lines before and after a split that are searched for those words.
const NEAR: usize = 3;

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the figures are what the test is run for"
)]
fn figures_stay_below_their_ceilings() {
    let files = rust_files();
    let list = environment("OVERLAN_TIDY_LIST").is_some();
    let mut broken = Vec::new();
    for figure in FIGURES {
        let places = (figure.places)(&files);
        println!(
            "{:5} (at most {}) {}",
            places.len(),
            figure.ceiling,
            figure.name
        );
        if list {
            println!("      {}", places.join("\n      "));
        }
        if places.len() > figure.ceiling {
            broken.push(format!(
                "{} {}, {} are the limit; the newest is among\n  {}",
                places.len(),
                figure.name,
                figure.ceiling,
                places.join("\n  ")
            ));
        }
    }
    // Another tree is counted, not judged.
    let judged = environment("OVERLAN_TIDY_ROOT").is_none();
    assert!(broken.is_empty() || !judged, "{}", broken.join("\n"));
}

/// The room of `src/` that a file belongs to: `engine` for `src/engine.rs` and
/// `src/engine/peer.rs`.
fn room(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    Some(below.split(['/', '.']).next().unwrap_or(below))
}

fn rooms(files: &[RustFile]) -> Vec<String> {
    let rooms: BTreeSet<&str> = files.iter().filter_map(|file| room(&file.path)).collect();
    rooms.into_iter().map(str::to_owned).collect()
}

/// Each room with the rooms that its code names by `crate::`.
fn imports(files: &[RustFile]) -> BTreeMap<String, BTreeSet<String>> {
    let known: BTreeSet<String> = rooms(files).into_iter().collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(files) {
        let Some(from) = room(&file.path).filter(|room| *room != "lib") else {
            continue;
        };
        let into = imports.entry(from.to_owned()).or_default();
        for (_, line) in file.code_lines() {
            for rest in line.split("crate::").skip(1) {
                let names = rest.strip_prefix('{').map_or(vec![rest], |group| {
                    group.split(',').map(str::trim).collect()
                });
                let named = names.into_iter().map(|name| {
                    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .next()
                        .unwrap_or_default()
                });
                into.extend(
                    named
                        .filter(|name| *name != from && known.contains(*name))
                        .map(str::to_owned),
                );
            }
        }
    }
    imports
}

fn arrows(files: &[RustFile]) -> Vec<String> {
    let imports = imports(files);
    let each = |(from, to): (&String, &BTreeSet<String>)| {
        let line = |to: &String| format!("{from} -> {to}");
        to.iter().map(line).collect::<Vec<_>>()
    };
    imports.iter().flat_map(each).collect()
}

/// Rooms from which a walk along the arrows comes back.
fn circles(files: &[RustFile]) -> Vec<String> {
    let imports = imports(files);
    let comes_back = |start: &&String| {
        let mut seen = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(room) = open.pop() {
            for next in imports.get(room).into_iter().flatten() {
                if next == *start {
                    return true;
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    };
    imports.keys().filter(comes_back).cloned().collect()
}

/// Names that a user of the library can write: what `src/lib.rs` exports, and what its public
/// modules export.
fn public_items(files: &[RustFile]) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(lib) = files.iter().find(|file| file.path == "src/lib.rs") {
        public_in(lib, "src/", "", files, &mut found);
    }
    found
}

fn public_in(
    file: &RustFile,
    folder: &str,
    path: &str,
    files: &[RustFile],
    found: &mut Vec<String>,
) {
    let mut hidden = false;
    let mut inside = false;
    let mut lines = file.code_lines().map(|(_, line)| line);
    while let Some(line) = lines.next() {
        // A module that is written here exports what stands in it.
        inside = match line {
            "}" => false,
            _ => inside || !hidden && line.starts_with("pub mod ") && line.ends_with('{'),
        };
        let line = if inside { line.trim_start() } else { line };
        hidden = match line {
            "" => hidden,
            _ if line.starts_with("#[doc(hidden)]") => true,
            _ if line.starts_with("#[") => hidden,
            _ if hidden => false,
            _ => {
                if let Some(exported) = line.strip_prefix("pub use ") {
                    let mut exported = exported.to_owned();
                    while !exported.ends_with(';') {
                        exported.push_str(lines.next().unwrap_or(";").trim());
                    }
                    let names = exported.trim_end_matches(['}', ';']);
                    let names = names.split_once('{').map_or(names, |(_, group)| group);
                    let names = names.split(',').map(str::trim).filter(|it| !it.is_empty());
                    found.extend(names.map(|name| format!("{path}{name}")));
                } else if let Some(name) = public_item(line) {
                    found.push(format!("{path}{name}"));
                    if line.starts_with("pub mod ") {
                        let inner = format!("{folder}{name}");
                        let inside = format!("{inner}.rs");
                        if let Some(file) = files.iter().find(|file| file.path == inside) {
                            let path = format!("{path}{name}::");
                            public_in(file, &format!("{inner}/"), &path, files, found);
                        }
                    }
                }
                false
            }
        };
    }
}

/// The name that a line in a module's own column declares as public.
fn public_item(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ")?;
    let rest = rest.strip_prefix("async ").unwrap_or(rest);
    let rest = rest.strip_prefix("const fn ").unwrap_or(rest);
    let kinds = [
        "fn ", "struct ", "enum ", "trait ", "const ", "type ", "static ", "mod ",
    ];
    let name = kinds
        .iter()
        .find_map(|kind| rest.strip_prefix(kind))
        .unwrap_or(rest);
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .next()
}

/// Names that one crate gives to `times` types or more.
fn repeated_types(files: &[RustFile], times: usize) -> Vec<String> {
    let mut places: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for file in sources(files) {
        let crate_name = file.path.split('/').next().unwrap_or_default();
        for (number, line) in file.code_lines() {
            if let Some(name) = type_name(line) {
                let places = places.entry((crate_name, name)).or_default();
                places.push(format!("{}:{number}", file.path));
            }
        }
    }
    let often = places.into_iter().filter(|(_, it)| it.len() >= times);
    often
        .map(|((_, name), places)| format!("{name}: {}", places.join(" ")))
        .collect()
}

/// The type that a line defines. An alias counts in a module's own column only: elsewhere it is an
/// associated type.
fn type_name(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    let rest = match trimmed.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => trimmed,
    };
    let named = ["struct ", "enum ", "trait "]
        .iter()
        .find_map(|kind| rest.strip_prefix(kind));
    let alias = || {
        rest.strip_prefix("type ")
            .filter(|_| trimmed.len() == line.len())
    };
    named
        .or_else(alias)?
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .next()
        // A macro's argument stands in its place.
        .filter(|name| !name.is_empty())
}

fn long_files(files: &[RustFile]) -> Vec<String> {
    let lines = |file: &RustFile| {
        let all = file.text.lines();
        all.take_while(|line| !line.starts_with("#[cfg(test)]"))
            .count()
    };
    sources(files)
        .map(|file| (lines(file), file))
        .filter(|(lines, _)| *lines > FILE_LINES)
        .map(|(lines, file)| format!("{}: {lines}", file.path))
        .collect()
}

/// Functions counted from the line with `fn` to the brace that ends them, as rustfmt sets it.
fn long_functions(files: &[RustFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources(files) {
        let lines: Vec<_> = file.code_lines().collect();
        for (at, (number, line)) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else {
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let opens = |line: &str| line.ends_with(['{', '}', ';']);
            let Some(head) = lines[at..]
                .iter()
                .position(|(_, line)| opens(line.trim_end()))
            else {
                continue;
            };
            if !lines[at + head].1.trim_end().ends_with('{') {
                continue;
            }
            let end = format!("{:indent$}}}", "");
            let length = lines[at..]
                .iter()
                .position(|(_, line)| line.trim_end() == end);
            let length = length.map_or(0, |last| last + 1);
            if length > FUNCTION_LINES {
                found.push(format!("{}:{number}: {name} has {length}", file.path));
            }
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "async",
        "const",
        "unsafe",
    ];
    if !before
        .split_whitespace()
        .all(|word| words.contains(&word) || word.starts_with("pub(in"))
    {
        return None;
    }
    after.split(['(', '<']).next()
}

fn long_lines(files: &[RustFile], tests: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (file, number, line) in lines(files, tests) {
        let columns = line.chars().count();
        if columns > COLUMNS {
            found.push(format!("{}:{number}: {columns}", file.path));
        }
    }
    found
}

fn questions(files: &[RustFile], tests: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = "";
    for (file, number, line) in lines(files, tests) {
        let text = ["///", "//!"]
            .iter()
            .find_map(|mark| Some((*mark, line.trim_start().strip_prefix(mark)?)));
        if let Some((mark, text)) = text {
            let opens = number == 1 || !before.trim_start().starts_with(mark);
            let word = text.trim_start().split(|c: char| !c.is_alphabetic()).next();
            if opens && word.is_some_and(|word| QUESTION_WORDS.contains(&word)) {
                found.push(format!("{}:{number}:{text}", file.path));
            }
        }
        before = line;
    }
    found
}

fn host_port_parsers(files: &[RustFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources(files) {
        let lines: Vec<_> = file.code_lines().collect();
        for (at, (number, line)) in lines.iter().enumerate() {
            if !COLON_SPLITS.iter().any(|split| line.contains(split)) {
                continue;
            }
            let near = &lines[at.saturating_sub(NEAR)..lines.len().min(at + NEAR + 1)];
            let is_host_port = |line: &str| HOST_PORT_WORDS.iter().any(|word| line.contains(word));
            if near.iter().any(|(_, line)| is_host_port(line)) {
                found.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    found
}

/// Files that are not tests.
fn sources(files: &[RustFile]) -> impl Iterator<Item = &RustFile> {
    files.iter().filter(|file| !is_test(&file.path))
}

/// Lines of test files, or of all others, numbered from 1.
fn lines(files: &[RustFile], tests: bool) -> impl Iterator<Item = (&RustFile, usize, &str)> {
    let chosen = files
        .iter()
        .filter(move |file| is_test(&file.path) == tests);
    chosen.flat_map(|file| {
        let lines = file.text.lines().enumerate();
        lines.map(move |(number, line)| (file, number + 1, line))
    })
}
