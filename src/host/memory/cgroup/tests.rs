use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MOUNTS_1: &str = "\
25 30 0:23 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
36 25 0:31 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:17 - cgroup cgroup rw,memory
37 25 0:32 / /sys/fs/cgroup/cpu ro,nosuid - cgroup cgroup rw,cpu
38 25 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

const MOUNTS_2: &str =
    "30 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev - cgroup2 cgroup rw,nsdelegate\n";

fn found(cgroups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let read = |path: &Path| files.get(path.to_str()?).map(|text| (*text).to_owned());
    limit(cgroups, mounts, read)
}

#[test]
fn version_2_takes_the_least_of_all_above() {
    let cgroups = "0::/kubepods/pod1/box\n";
    let at = |folder: &str| format!("/sys/fs/cgroup{folder}");
    let (own, pod, pods) = (
        at("/kubepods/pod1/box/memory.max"),
        at("/kubepods/pod1/memory.max"),
        at("/kubepods/memory.max"),
    );
    let max = |values: [&str; 3]| {
        let files = [
            (own.as_str(), values[0]),
            (&pod, values[1]),
            (&pods, values[2]),
        ];
        found(cgroups, MOUNTS_2, &files)
    };
    assert_eq!(max(["67108864\n", "max\n", "max\n"]), Some(67_108_864));
    assert_eq!(max(["max\n", "33554432\n", "max\n"]), Some(33_554_432));
    assert_eq!(
        max(["67108864\n", "134217728\n", "50000000\n"]),
        Some(50_000_000)
    );
    assert_eq!(max(["max\n", "max\n", "max\n"]), None);
    assert_eq!(max(["what\n", "-1\n", ""]), None);
}

#[test]
fn version_2_in_a_container_is_its_own_root() {
    let files = [
        ("/sys/fs/cgroup/memory.max", "67108864\n"),
        ("/sys/fs/cgroup/memory.high", "60000000\n"),
    ];
    assert_eq!(found("0::/\n", MOUNTS_2, &files[..1]), Some(67_108_864));
    // A process that was moved there from elsewhere sees where it came from.
    assert_eq!(found("0::/../other\n", MOUNTS_2, &files), Some(60_000_000));
}

#[test]
fn version_1_is_found_below_what_the_container_sees() {
    let files = [
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"),
        (
            "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
    ];
    let cgroups = |path: &str| format!("8:pids:/\n4:memory:{path}\n0::/\n");
    assert_eq!(
        found(&cgroups("/docker/abc"), MOUNTS_1, &files),
        Some(67_108_864)
    );
    assert_eq!(
        found(&cgroups("/docker/abc/inner"), MOUNTS_1, &files),
        Some(67_108_864)
    );
    assert_eq!(found(&cgroups("/"), MOUNTS_1, &files), Some(67_108_864));
    assert_eq!(found(&cgroups("/docker/abc"), MOUNTS_1, &[]), None);
    assert_eq!(found("", MOUNTS_1, &files), None);
    assert_eq!(found(&cgroups("/docker/abc"), "", &files), None);
}

proptest! {
    #[test]
    fn no_text_stops_it(cgroups in ".{0,200}", mounts in ".{0,400}", value in ".{0,30}") {
        limit(&cgroups, &mounts, |_| Some(value.clone()));
        let known = format!("0::{cgroups}\n1:memory:{value}\n");
        limit(&known, MOUNTS_1, |_| Some(value.clone()));
    }
}
