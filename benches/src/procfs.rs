//! Reads CPU time, memory and the number of sleeps of processes from /proc. The parsers are pure;
//! the readers around them are short.

use std::fs;

use crate::trouble::{During, Result, Trouble};

/// User and system time that the process and all of its threads have used, seconds. Children are
/// not counted.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).during(&path)?;
    let ticks = parse_cpu_ticks(&text)
        .ok_or_else(|| Trouble::failed(format!("{path} is not understood: {text}")))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The process and all that descend from it, it first. Processes that end meanwhile are left out.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let child = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
            Some((child, parse_parent(&stat)?))
        })
        .collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        family.extend(children.map(|(child, _)| *child));
        at += 1;
    }
    family
}

/// Memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident now, KiB.
    pub(crate) now_kib: u64,
    /// The most that was ever resident, KiB.
    pub(crate) peak_kib: u64,
}

/// The resident memory of a process, now and at its highest.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).during(&path)?;
    parse_memory(&text).ok_or_else(|| Trouble::failed(format!("{path} has no VmRSS or VmHWM")))
}

/// The times that the threads of a process gave up their core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Switches {
    /// A thread had nothing to do and slept, and had to be woken.
    pub(crate) slept: u64,
    /// Another thread took the core.
    pub(crate) displaced: u64,
}

/// Returns the sum over all threads that these processes have at this time; ended threads are not
/// counted.
pub(crate) fn switches(pids: impl IntoIterator<Item = u32>) -> Result<Switches> {
    let mut sum = Switches::default();
    for pid in pids {
        let path = format!("/proc/{pid}/task");
        for thread in fs::read_dir(&path).during(&path)? {
            let status = thread.during(&path)?.path().join("status");
            // A thread may end between the two.
            let Ok(text) = fs::read_to_string(&status) else {
                continue;
            };
            let one = parse_switches(&text)
                .ok_or_else(|| Trouble::failed(format!("{} has no switches", status.display())))?;
            sum.slept += one.slept;
            sum.displaced += one.displaced;
        }
    }
    Ok(sum)
}

/// The processor's name.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    field(&text, "model name").unwrap_or("unknown").to_owned()
}

/// `utime + stime` of `/proc/PID/stat`, clock ticks.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets and may hold spaces and brackets itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // utime is field 14 of the line, so the 12th after the name.
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The parent of `/proc/PID/stat`.
fn parse_parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn parse_memory(status: &str) -> Option<Memory> {
    let kib = |name| {
        field(status, name)?
            .strip_suffix(" kB")?
            .trim()
            .parse()
            .ok()
    };
    Some(Memory {
        now_kib: kib("VmRSS")?,
        peak_kib: kib("VmHWM")?,
    })
}

fn parse_switches(status: &str) -> Option<Switches> {
    let count = |name| field(status, name)?.parse().ok();
    Some(Switches {
        slept: count("voluntary_ctxt_switches")?,
        displaced: count("nonvoluntary_ctxt_switches")?,
    })
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "71 (a) b (c) S 1 71 71 0 -1 4194560 1 2 3 4 250 31 7 8 20 0 5 0 99 1 2";
        assert_eq!(parse_cpu_ticks(stat), Some(281));
        assert_eq!(parse_cpu_ticks("71 (x) S 1 2"), None);
        assert_eq!(parse_cpu_ticks(""), None);
    }

    #[test]
    fn the_parent_stands_behind_the_state() {
        assert_eq!(parse_parent("71 (a) b (c) S 12 71 71 0"), Some(12));
        assert_eq!(parse_parent("71 (x) S"), None);
    }

    #[test]
    fn a_child_belongs_to_the_family() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let own = std::process::id();
        let family = family(own);
        assert_eq!(family[0], own);
        assert!(family.contains(&child.id()), "{family:?}");
        // The end of its input ends it.
        child.wait().unwrap();
    }

    #[test]
    fn memory_needs_both_lines() {
        let status = "Name:\tx\nVmHWM:\t   14100 kB\nVmRSS:\t   12000 kB\nThreads:\t3\n";
        let expected = Memory {
            now_kib: 12_000,
            peak_kib: 14_100,
        };
        assert_eq!(parse_memory(status), Some(expected));
        assert_eq!(parse_memory("VmRSS:\t 12 kB\n"), None);
        assert_eq!(parse_memory("VmRSS:\t x kB\nVmHWM:\t 1 kB\n"), None);
    }

    #[test]
    fn switches_need_both_lines() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t15\nnonvoluntary_ctxt_switches:\t7\n";
        let expected = Switches {
            slept: 15,
            displaced: 7,
        };
        assert_eq!(parse_switches(status), Some(expected));
        assert_eq!(parse_switches("voluntary_ctxt_switches:\t15\n"), None);
    }

    #[test]
    fn a_thread_that_sleeps_is_seen() {
        let own = std::process::id();
        let before = switches([own]).unwrap();
        // It sleeps until the thread below, which outlives the second look, has started.
        let (start, started) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            start.send(()).unwrap();
            ended.recv().unwrap_err();
        });
        started.recv().unwrap();
        // The wait for the message may have been short enough to need no sleep, this wait is not.
        while switches([own]).unwrap().slept <= before.slept {
            std::thread::yield_now();
        }
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn this_process_can_be_read() {
        let own = std::process::id();
        assert!(memory(own).unwrap().peak_kib > 0);
        assert!(cpu_seconds(own).unwrap() >= 0.0);
    }
}
