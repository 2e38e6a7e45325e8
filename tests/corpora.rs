//! Feeds what fuzzing kept to the places where a stranger's bytes come in: none of it may make one
//! panic.

use std::fs;
use std::path::Path;
use std::time::Instant;

use overlan_plane::fuzzing as plane;

/// The folder in `fuzz/corpus`, and the place that is fed with it.
const TARGETS: [(&str, Target); 6] = [
    ("frames", |_, data| overlan_protocol::fuzzing::frames(data)),
    ("messages", plane::messages),
    ("proxy", |_, data| overlan::fuzzing::proxy(data)),
    ("dns", |_, data| overlan::fuzzing::dns(data)),
    ("session", plane::session),
    ("policy", |_, data| overlan_policy::fuzzing::policy(data)),
];

type Target = fn(Instant, &[u8]);

#[test]
fn kept_bytes_break_nothing() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let now = tokio::time::Instant::now().into_std();
    let mut bytes = 0;
    for (name, target) in TARGETS {
        let files = fs::read_dir(corpora.join(name)).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 5, "{name} has {} files", files.len());
        for file in files {
            let data = fs::read(&file).unwrap();
            bytes += data.len();
            if std::panic::catch_unwind(|| target(now, &data)).is_err() {
                panic!("{name} breaks on {}", file.display());
            }
        }
    }
    assert!(bytes <= SIZE_MAX, "{bytes} bytes are too many");
}

/// Bytes of all corpora together: they lie in every clone of the repository.
const SIZE_MAX: usize = 300 * 1024;
