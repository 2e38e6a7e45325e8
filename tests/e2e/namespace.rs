//! Tests that need addresses, low ports or files of the host: each runs itself again in namespaces
//! of its own, where all of these are its own.

use std::env;
use std::path::Path;
use std::time::Duration;

use crate::process::{LONGEST, command, installed, run, run_within, skipped};

/// Returns true inside of the namespaces, where the test does its work. Outside it runs `test` in
/// there, prepared by the shell commands `enter`, and checks that it passed.
///
/// # Panics
/// If the test failed inside.
#[track_caller]
pub(crate) fn is_inside(test: &str, enter: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if !installed(&["unshare", "ip"]) {
        return false;
    }
    let namespaces = ["--user", "--map-root-user", "--net", "--mount"];
    if run(command("unshare").args(namespaces).arg("true"), "").code != Some(0) {
        skipped("unshare --user --net --mount not allowed");
        return false;
    }
    let script = format!("ip link set lo up; {enter}; exec \"$@\"");
    let mut again = command("unshare");
    again
        .args(namespaces)
        .args(["--", "sh", "-euc", &script, "sh"]);
    again.arg(env::current_exe().unwrap());
    again.args(["--exact", "--nocapture", test]);
    let outcome = run_within(WITHIN, again.env(INSIDE, "1"), "");
    assert_eq!(
        outcome.code,
        Some(0),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
    assert!(outcome.stdout.contains("1 passed"), "{}", outcome.stdout);
    // What the inside skipped is skipped.
    for line in outcome.stderr.lines() {
        if let Some(why) = line.strip_prefix("skipped: ") {
            skipped(why);
        }
    }
    false
}

/// Puts `file` in the place of `path`, in these namespaces only.
#[track_caller]
pub(crate) fn replace(path: &str, file: &Path) {
    run(command("mount").arg("--bind").arg(file).arg(path), "").ok();
}

/// The inside waits for single things up to [`LONGEST`], and says better than we what it waited for
/// in vain.
const WITHIN: Duration = Duration::from_secs(3 * LONGEST.as_secs());

/// Set inside.
const INSIDE: &str = "OVERLAN_TEST_INSIDE";
