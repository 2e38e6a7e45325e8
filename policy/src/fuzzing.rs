//! Feeds any text to the parser, and what passes to the compiler: what `fuzz/` runs with texts that
//! it makes up, and a test with those that it kept. Panics where one of them breaks its word.

use overlan_protocol::api::Role;
use overlan_protocol::policy::Protocol;
use overlan_protocol::{HostIndex, UnixTime};

use crate::{Compiled, Destination, World, WorldDevice, WorldPerson, diff, parse, run_tests};

/// Reads `data` as a document. One that means something is compiled for a few devices, and each
/// answer of the matrix is compared with the rules that devices get.
pub fn policy(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let document = match parse(text) {
        Ok(document) => document,
        Err(findings) => {
            assert!(!findings.is_empty());
            let lines = text.split('\n').count();
            for finding in findings {
                let line = finding.place.line as usize;
                assert!((1..=lines).contains(&line), "{finding}");
                assert!(
                    !finding.to_string().contains(char::is_control),
                    "{finding:?}"
                );
            }
            return;
        }
    };
    let world = world();
    let now = UnixTime::from_secs(1_800_000_000);
    let matrix = Compiled::new(&document, &world, now);
    for failure in run_tests(&document, &matrix) {
        assert!(
            !failure.to_string().contains(char::is_control),
            "{failure:?}"
        );
    }
    assert!(diff(&matrix, &matrix).is_empty());
    assert!(matrix.affected(&matrix).is_empty());
    for from in &world.devices {
        let filter = matrix.filter_of(from.host);
        for to in world.devices.iter().filter(|to| to.host != from.host) {
            let inbound = matrix.filter_of(to.host);
            for (protocol, port) in [
                (Protocol::Tcp, 22),
                (Protocol::Udp, 53),
                (Protocol::Icmp, 0),
            ] {
                let destination = Destination::Device(to.host);
                let verdict = matrix.judge(from.host, destination, protocol, port);
                let allowed = verdict.is_allowed();
                let out = filter.judge_outbound(to.host, protocol, port);
                let into = inbound.judge_inbound(from.host, protocol, port);
                assert_eq!(out.is_allowed(), allowed, "{out}");
                assert_eq!(into.is_allowed(), allowed, "{into}");
                assert!(!allowed || matrix.sees(to.host, from.host));
            }
        }
    }
}

fn world() -> World {
    let device = |number: u32, tag: Option<&str>, owner: Option<&str>| WorldDevice {
        host: HostIndex::new(number).expect("it is small and not zero"),
        label: format!("d{number}"),
        tags: tag.map(str::to_owned).into_iter().collect(),
        owner: owner.map(str::to_owned),
        routes: Vec::new(),
    };
    let person = |email: &str, role, group: &str| WorldPerson {
        email: email.to_owned(),
        role,
        groups: vec![group.to_owned()],
    };
    World {
        devices: vec![
            device(2, None, Some("a@x")),
            device(3, None, Some("a@x")),
            device(4, None, Some("b@x")),
            device(5, Some("t"), Some("b@x")),
            device(6, None, None),
        ],
        people: vec![
            person("a@x", Role::Owner, "g"),
            person("b@x", Role::Member, "h"),
        ],
    }
}
