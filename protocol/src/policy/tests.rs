use super::*;
use crate::UnixTime;

fn host(number: u32) -> HostIndex {
    HostIndex::new(number).unwrap()
}

#[test]
fn an_empty_filter_lets_nothing_pass() {
    let filter = Filter::default();
    assert!(!filter.allows_inbound(host(1), Protocol::Tcp, 80));
    assert!(!filter.allows_outbound(host(1), Protocol::Icmp, 0));
}

#[test]
fn the_starter_lets_members_reach_members() {
    let filter = Filter::starter();
    assert!(filter.allows_inbound(host(7), Protocol::Tcp, 22));
    assert!(filter.allows_outbound(host(7), Protocol::Udp, 53));
    assert!(filter.allows_inbound(host(7), Protocol::Icmp, 0));
}

#[test]
fn rules_name_peers_protocols_and_ports() {
    let web = Service {
        protocol: Some(Protocol::Tcp),
        ports: Some((80, 89)),
    };
    let filter = Filter {
        inbound: vec![Rule {
            id: RuleId::new("web").unwrap(),
            peers: Peers::Hosts(vec![host(4), host(9)]),
            services: vec![web],
        }],
        ..Filter::default()
    };
    assert!(filter.allows_inbound(host(9), Protocol::Tcp, 80));
    assert!(filter.allows_inbound(host(9), Protocol::Tcp, 89));
    assert!(
        !filter.allows_inbound(host(9), Protocol::Tcp, 90),
        "another port"
    );
    assert!(
        !filter.allows_inbound(host(9), Protocol::Udp, 80),
        "another protocol"
    );
    assert!(
        !filter.allows_inbound(host(5), Protocol::Tcp, 80),
        "another peer"
    );
    assert!(
        !filter.allows_inbound(host(9), Protocol::Icmp, 80),
        "a port range is not about ICMP"
    );
}

#[test]
fn services_are_written_as_they_are_read() {
    for text in [
        "any",
        "tcp",
        "udp",
        "icmp",
        "tcp/443",
        "udp/4000-4099",
        "tcp/1-65535",
    ] {
        assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
    }
    for (text, error) in [
        ("", ServiceTextError::Form),
        ("TCP/80", ServiceTextError::Form),
        ("any/80", ServiceTextError::Form),
        ("80", ServiceTextError::Form),
        ("tcp/", ServiceTextError::Port),
        ("tcp/0", ServiceTextError::Port),
        ("tcp/+80", ServiceTextError::Port),
        ("tcp/65536", ServiceTextError::Port),
        ("tcp/80-", ServiceTextError::Port),
        ("tcp/80-79", ServiceTextError::Range),
        ("icmp/8", ServiceTextError::NoPorts),
    ] {
        assert_eq!(text.parse::<Service>(), Err(error), "{text}");
    }
}

fn rule(id: &str, peers: Peers, services: &[&str]) -> Rule {
    let services = services.iter().map(|text| text.parse().unwrap());
    Rule {
        id: RuleId::new(id).unwrap(),
        peers,
        services: services.collect(),
    }
}

#[test]
fn a_verdict_names_the_rule_or_what_is_allowed_instead() {
    let filter = Filter {
        outbound: vec![
            rule("web", Peers::Any, &["tcp/80", "tcp/443"]),
            rule("admin", Peers::Hosts(vec![host(4)]), &["any"]),
        ],
        ..Filter::default()
    };
    let say = |peer, protocol, port| {
        let verdict = filter.judge_outbound(host(peer), protocol, port);
        assert_eq!(
            verdict.is_allowed(),
            filter.allows_outbound(host(peer), protocol, port)
        );
        let (from, to) = ("laptop", "db");
        let verdict = &verdict;
        let sentence = Sentence {
            from,
            to,
            protocol,
            port,
            verdict,
        };
        sentence.to_string()
    };
    assert_eq!(
        say(4, Protocol::Tcp, 80),
        "laptop may reach db on tcp/80: rule web allows it"
    );
    assert_eq!(
        say(4, Protocol::Icmp, 0),
        "laptop may reach db on icmp: rule admin allows it"
    );
    assert_eq!(
        say(5, Protocol::Tcp, 22),
        "laptop may not reach db on tcp/22: the network's policy allows only tcp/80 (rule web), \
         tcp/443 (rule web)"
    );
    let nothing = Filter::default().judge_inbound(host(4), Protocol::Tcp, 22);
    assert_eq!(nothing, Verdict::Denied(Denial::NoRule));
}

#[test]
fn an_ended_rule_says_its_end() {
    let ended = Verdict::Denied(Denial::Ended {
        rule: RuleId::new("audit").unwrap(),
        until: UnixTime::from_secs(1_767_225_600),
    });
    assert_eq!(
        ended.to_string(),
        "rule audit allowed it until 2026-01-01T00:00:00Z"
    );
}

#[test]
fn names_in_a_sentence_are_inert() {
    let (from, to) = ("a\n\u{1b}[2J\u{202e}b", "x".repeat(1_000));
    let sentence = Sentence {
        from,
        to: &to,
        protocol: Protocol::Tcp,
        port: 1,
        verdict: &Verdict::Denied(Denial::NoRule),
    };
    let text = sentence.to_string();
    assert!(
        text.starts_with("a\\n\\u{1b}[2J\\u{202e}b may not"),
        "{text}"
    );
    assert!(text.chars().count() < 400);
}

#[test]
fn gateway_hosts_have_rules_of_their_own() {
    let filter = Filter {
        hosts_in: Some(vec![HostRule {
            id: RuleId::new("printer").unwrap(),
            peers: Peers::Hosts(vec![host(4)]),
            hosts: Hosts::Only(vec!["10.1.0.0/24".parse().unwrap()]),
            services: vec!["tcp/9100".parse().unwrap()],
        }]),
        ..Filter::default()
    };
    let printer = Host::Address("10.1.0.9".parse().unwrap());
    let other = Host::Address("10.2.0.9".parse().unwrap());
    assert!(filter.judge_host_in(host(4), printer, 9_100).is_allowed());
    assert!(!filter.judge_host_in(host(4), printer, 22).is_allowed());
    assert!(!filter.judge_host_in(host(4), other, 9_100).is_allowed());
    assert!(!filter.judge_host_in(host(5), printer, 9_100).is_allowed());
    // The gateway's own port is open to those alone that may ask for a host.
    assert!(filter.allows_inbound(host(4), Protocol::Tcp, gateway::PORT));
    assert!(!filter.allows_inbound(host(5), Protocol::Tcp, gateway::PORT));
    assert!(!filter.allows_inbound(host(4), Protocol::Udp, gateway::PORT));
    assert!(!filter.allows_inbound(host(4), Protocol::Tcp, 22));
}

/// Maps of controllers that have no such rules stay usable.
#[test]
fn without_rules_about_hosts_the_routes_decide() {
    let old = r#"{"inbound": [{"peers": "any", "services": [{}]}], "outbound": []}"#;
    let filter: Filter = serde_json::from_str(old).unwrap();
    let verdict = filter.judge_host_in(host(4), Host::Name("wiki.corp"), 443);
    assert_eq!(verdict, Verdict::Allowed(RuleId::default()));
    let closed = Filter {
        hosts_in: Some(Vec::new()),
        ..filter
    };
    let verdict = closed.judge_host_in(host(4), Host::Name("wiki.corp"), 443);
    assert_eq!(verdict, Verdict::Denied(Denial::NoRule));
}
