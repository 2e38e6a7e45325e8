//! Reads the policies of `examples/policies`: each means something, and its tests hold.

use std::fs;
use std::path::Path;

use overlan_policy::{Compiled, World, parse, run_tests};
use overlan_protocol::UnixTime;

/// A day of 2030: the only rule that ends does so later.
const NOW: UnixTime = UnixTime::from_secs(1_900_000_000);

#[test]
fn the_tests_of_every_example_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policies");
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 10);
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let document = parse(&text).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
        let matrix = Compiled::new(&document, &World::default(), NOW);
        assert_eq!(run_tests(&document, &matrix), [], "{name}");
        let ids = document.rules.iter().map(|rule| rule.id.as_str());
        assert!(
            ids.into_iter().all(|id| !id.starts_with("rule-")),
            "{name}: a rule without an id"
        );
        // Each of its tests can fail: without rules, or with a rule for everybody.
        let mut nothing = document.clone();
        nothing.rules.clear();
        let mut everything = parse(overlan_policy::STARTER).unwrap();
        everything.tests.clone_from(&document.tests);
        everything.hosts.clone_from(&document.hosts);
        let failed = [nothing, everything].map(|other| {
            let matrix = Compiled::new(&other, &World::default(), NOW);
            let failures = run_tests(&other, &matrix);
            failures
                .into_iter()
                .map(|failure| failure.place)
                .collect::<Vec<_>>()
        });
        let failed = failed.concat();
        for test in &document.tests {
            assert!(failed.contains(&test.place), "{name}: {:?}", test.place);
        }
    }
}
