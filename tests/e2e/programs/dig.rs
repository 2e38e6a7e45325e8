//! dig against a device's resolver: every kind of answer that it gives, over UDP and TCP.

use crate::lab::{DOMAIN, Device, Lab};
use crate::process::{command, installed, run};

#[test]
fn dig_gets_each_kind_of_answer_over_udp_and_tcp() {
    if !installed(&["dig"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let name = format!("web.home.{DOMAIN}");
    let v6 = web.run(&["ip", "-6"]).ok();
    for transport in ["+notcp", "+tcp"] {
        let ask = |args: &[&str]| Answer::of(&laptop, transport, args);

        let a = ask(&[&name, "A"]);
        assert_eq!(a.status, "NOERROR", "{a:?}");
        assert!(a.authoritative, "{a:?}");
        assert_eq!(a.answers, [format!("{name}. 5 IN A {}", web.address)]);
        assert_eq!(
            ask(&[&name, "AAAA"]).answers,
            [format!("{name}. 5 IN AAAA {v6}")]
        );
        for address in [&web.address, &v6] {
            let pointer = ask(&["-x", address]);
            assert!(
                matches!(&pointer.answers[..], [one] if one.ends_with(&format!(" IN PTR {name}."))),
                "{pointer:?}"
            );
        }
        let zone = format!("home.{DOMAIN}");
        let soa = ask(&[&zone, "SOA"]);
        let start = format!("{zone}. 5 IN SOA {zone}. hostmaster.{zone}. ");
        assert!(
            matches!(&soa.answers[..], [one] if one.starts_with(&start)),
            "{soa:?}"
        );

        let mixed = format!("wEb.HoMe.{}", DOMAIN.to_uppercase());
        assert_eq!(
            ask(&[&mixed, "A"]).answers,
            [format!("{mixed}. 5 IN A {}", web.address)],
            "the case of the question"
        );

        let missing = ask(&[&format!("nobody.home.{DOMAIN}"), "A"]);
        assert_eq!(
            (missing.status.as_str(), missing.answers.len()),
            ("NXDOMAIN", 0),
            "{missing:?}"
        );
        assert!(
            missing
                .authorities
                .iter()
                .any(|line| line.contains(" IN SOA ")),
            "{missing:?}"
        );
        let other_type = ask(&[&name, "MX"]);
        assert_eq!(
            (other_type.status.as_str(), other_type.answers.len()),
            ("NOERROR", 0),
            "{other_type:?}"
        );

        for foreign in ["example.com", "1.1.1.1.in-addr.arpa"] {
            let refused = ask(&[foreign, "A"]);
            assert_eq!(
                (refused.status.as_str(), refused.answers.len()),
                ("REFUSED", 0),
                "{refused:?}"
            );
        }
    }
}

/// One answer as dig shows it. Records have single spaces.
#[derive(Debug)]
struct Answer {
    status: String,
    authoritative: bool,
    answers: Vec<String>,
    authorities: Vec<String>,
}

impl Answer {
    #[track_caller]
    fn of(device: &Device, transport: &str, args: &[&str]) -> Self {
        let (server, port) = (
            format!("@{}", device.dns.ip()),
            device.dns.port().to_string(),
        );
        let settings = ["-r", "+tries=1", "+time=10", "+norecurse", transport];
        let text = run(
            command("dig")
                .arg(server)
                .args(["-p", &port])
                .args(settings)
                .args(args),
            "",
        )
        .ok();
        let header = |start: &str, end: char| {
            let (_, rest) = text
                .split_once(start)
                .unwrap_or_else(|| panic!("no {start:?} in {text}"));
            rest.split(end).next().unwrap_or_default().to_owned()
        };
        let section = |title: &str| {
            let lines = text.lines().skip_while(|line| *line != title).skip(1);
            let records = lines.take_while(|line| !line.is_empty());
            records
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect()
        };
        Self {
            status: header("status: ", ','),
            authoritative: header("flags: ", ';').split(' ').any(|flag| flag == "aa"),
            answers: section(";; ANSWER SECTION:"),
            authorities: section(";; AUTHORITY SECTION:"),
        }
    }
}
