//! Feeds texts that are almost policies to the parser and the compiler: examples, and what fuzzing
//! kept, cut, joined and changed at random. None of them may make one panic, or take long.

use std::fs;
use std::path::Path;

use overlan_policy::fuzzing::policy;

/// Texts that are made of the examples.
const TEXTS: usize = 20_000;

#[test]
fn texts_that_are_almost_policies_break_nothing() {
    let mut paths = Vec::new();
    for folder in ["../examples/policies", "../fuzz/corpus/policy"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = fs::read_dir(folder).expect("the folder is there");
        paths.extend(files.map(|file| file.expect("it is listed").path()));
    }
    paths.sort();
    let examples = paths.iter().map(|path| fs::read(path).expect("it is read"));
    let examples: Vec<Vec<u8>> = examples.collect();
    examples.iter().for_each(|text| policy(text));
    let words: Vec<&[u8]> = examples
        .iter()
        .flat_map(|text| text.split(|byte| b" \n\"=,[]".contains(byte)))
        .filter(|word| !word.is_empty())
        .collect();
    let mut random = fastrand::Rng::with_seed(15);
    for _ in 0..TEXTS {
        let mut text = examples[random.usize(0..examples.len())].clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..text.len());
            match random.u8(0..5) {
                0 => text.truncate(at.max(1)),
                1 => text[at] = random.u8(..),
                2 => drop(text.remove(at)),
                3 => {
                    let word = words[random.usize(0..words.len())];
                    text.splice(at..at, word.iter().copied());
                }
                _ => {
                    let other = &examples[random.usize(0..examples.len())];
                    text.extend(&other[random.usize(0..other.len())..]);
                }
            }
            text.push(b'\n');
        }
        policy(&text);
    }
}
