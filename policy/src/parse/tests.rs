use overlan_protocol::UnixTime;
use overlan_protocol::policy::Service;

use super::*;

fn services(texts: &[&str]) -> Vec<Service> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The findings as `line:column what`.
fn wrong(text: &str) -> Vec<String> {
    let findings = parse(text).expect_err("something is wrong with it");
    let each = findings.iter().map(|it| {
        assert!(!it.advice.is_empty());
        format!("{}:{} {}", it.place.line, it.place.column, it.what)
    });
    each.collect()
}

#[test]
fn a_document_is_read_whole() {
    let text = r#"
        [groups]
        admins = "Ana@Example.com"
        dev = ["group:admins", "idp:Platform Ops", "role:auditor"]
        [tags]
        db = ["group:dev"]
        ci = []
        [services]
        web = ["tcp/443", "tcp/80"]
        [hosts]
        office = ["10.1.0.0/16", "*.corp.internal"]
        [[rules]]
        id = "dev-db"
        from = ["group:dev", "device:laptop"]
        to = "tag:db"
        services = ["tcp/5432", "web", "tcp/80"]
        until = 2026-12-31T18:00:00Z
        comment = "the migration"
        [[rules]]
        from = "tag:ci"
        to = ["host:office", "self", "any"]
        services = "any"
        [[tests]]
        from = "tag:ci"
        to = "host:office"
        allow = "web"
        deny = ["udp"]
    "#;
    let document = parse(text).unwrap();
    let person = |email: &str| Party::Person(email.to_owned());
    assert_eq!(document.groups["admins"], [person("ana@example.com")]);
    assert_eq!(document.groups["dev"].len(), 3);
    assert_eq!(document.tags["db"], [Party::Group("dev".into())]);
    assert_eq!(document.hosts["office"].len(), 2);
    let [first, second] = document.rules.as_slice() else {
        panic!("{:?}", document.rules);
    };
    assert_eq!(first.id.as_str(), "dev-db");
    assert_eq!(first.services, services(&["tcp/80", "tcp/443", "tcp/5432"]));
    assert_eq!(first.until, Some(UnixTime::from_secs(1_798_740_000)));
    assert_eq!(first.comment.as_deref(), Some("the migration"));
    assert_eq!((first.place.line, first.place.column), (12, 9));
    assert!(second.id.as_str().starts_with("rule-"));
    assert_eq!(document.tests[0].allow, services(&["tcp/80", "tcp/443"]));
    assert_eq!(parse("").unwrap(), Document::default());
}

/// Rules keep their made ids when they move, and when only their end or their order of words
/// changes.
#[test]
fn a_made_id_is_what_the_rule_says() {
    let rule = |from: &str, services: &str, more: &str| {
        let text = format!("[[rules]]\nfrom={from}\nto=\"any\"\nservices={services}\n{more}\n");
        parse(&text).unwrap().rules.remove(0).id
    };
    let first = rule(r#"["members", "device:a"]"#, r#"["tcp/1", "udp/2"]"#, "");
    let until = "until=2030-01-01T00:00:00Z";
    assert_eq!(
        first,
        rule(r#"["device:a", "members"]"#, r#"["udp/2", "tcp/1"]"#, until)
    );
    assert_ne!(
        first,
        rule(r#"["device:b", "members"]"#, r#"["udp/2", "tcp/1"]"#, "")
    );
    assert_ne!(
        first,
        rule(r#"["device:a", "members"]"#, r#"["udp/2", "tcp/2"]"#, "")
    );
}

#[test]
fn every_finding_has_its_place() {
    let text = r#"[groups]
dev = ["ana@example.com", "group:nobody", 7]
Ops = []
[[rules]]
from = "dev"
to = ["tag:db", "any"]
services = ["tcp/443", "postgres"]
until = "tomorrow"
[[rules]]
from = "host:*"
to = []
services = "any"
port = 3
[colour]
"#;
    assert_eq!(
        wrong(text),
        [
            "2:27 [groups] has no `nobody`",
            "2:43 this is not a text",
            "3:1 `Ops` is not a name",
            "5:8 `dev` means nobody",
            "6:7 [tags] has no `db`",
            "7:24 `postgres` is not a service: a service is any, tcp, udp, icmp, tcp/PORT, \
             tcp/FIRST-LAST, or the same with udp",
            "8:9 this is not one moment",
            "9:1 `host:*` cannot dial",
            "11:6 the list is empty",
            "13:1 there is no field `port` here",
            "14:2 a document has no part `colour`",
        ]
    );
    let findings = parse(text).unwrap_err();
    assert_eq!(findings[3].advice, "write group:dev");
    assert_eq!(
        findings[3].to_string(),
        "line 5, column 8: `dev` means nobody; write group:dev"
    );
}

#[test]
fn a_text_that_is_not_toml_says_where() {
    let text = "[[rules]]\nfrom = \"any\nto = \"any\"\n";
    let places: Vec<String> = wrong(text);
    assert!(places[0].starts_with("2:"), "{places:?}");
    assert_eq!(wrong("rules = 7"), ["1:9 this is not a list of tables"]);
    assert_eq!(wrong("groups = 7"), ["1:10 this is not a table"]);
    assert_eq!(wrong("rules = [7]")[0], "1:10 this is not a table");
    // Columns are characters, not bytes.
    assert_eq!(
        wrong("# ä\n[groups]\n\"ä\" = 1")[0],
        "3:1 `ä` is not a name"
    );
    assert_eq!(
        wrong("[groups]\na = [\"ä@b\", 1]"),
        ["2:13 this is not a text"]
    );
}

#[test]
fn parts_that_are_missing_are_named() {
    assert_eq!(
        wrong("[[rules]]\nto = \"any\"\n[[tests]]\nfrom = \"any\"\nto = \"self\"\n"),
        [
            "1:1 `from` is missing or not understood",
            "3:1 this test expects nothing"
        ]
    );
    let twice = "[[rules]]\nfrom = \"any\"\nto = \"any\"\nservices = \"tcp\"\n";
    let found = wrong(&twice.repeat(2));
    assert!(found[0].starts_with("5:1 rule rule-"), "{found:?}");
    assert!(found[0].ends_with("stands on line 1 already"), "{found:?}");
}

#[test]
fn people_are_people() {
    let text = "[groups]\na = [\"tag:x\", \"any\"]\n[tags]\nx = [\"device:b\", \"group:a\"]\n";
    assert_eq!(
        wrong(text),
        [
            "2:6 `tag:x` does not mean people",
            "2:15 `any` does not mean people",
            "4:6 `device:b` does not mean people"
        ]
    );
}

#[test]
fn groups_in_groups_end() {
    let circle =
        "[groups]\na = \"group:b\"\nb = [\"group:c\", \"x@y\"]\nc = \"group:a\"\nd = \"group:a\"\n";
    let found = wrong(circle);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("2:1 group:a contains itself"),
        "{found:?}"
    );
    let chain = |levels: usize| {
        let mut text = "[groups]\ng0 = []\n".to_owned();
        for level in 1..levels {
            text.push_str(&format!("g{level} = \"group:g{}\"\n", level - 1));
        }
        parse(&text)
    };
    assert!(chain(8).is_ok());
    assert!(chain(9).is_err());
    assert!(chain(1_000).is_err());
}

#[test]
fn hosts_are_named_without_ports() {
    let text = "[hosts]\na = \"10.0.0.1:80\"\nb = \"0.0.0.0/0\"\nc = \"127.0.0.1\"\nd = []\n";
    let found = wrong(text);
    assert_eq!(found[0], "2:5 `10.0.0.1:80` has a port");
    assert!(found[1].contains("a range has at least"), "{found:?}");
    assert!(found[2].contains("cannot cover loopback"), "{found:?}");
    assert_eq!(found[3], "5:5 the list is empty");
}

/// Whatever a document's texts are, a finding stays on its line and moves no cursor.
#[test]
fn hostile_texts_are_inert() {
    let evil = "\\u001b[2J\\u202e\\nrule ok";
    let text = format!(
        "\"{evil}\" = 1\n[groups]\n\"{evil}\" = \"{evil}\"\na = [\"{evil}@x\", \"idp:{evil}\"]\n\
         [hosts]\nh = \"{evil}\"\n[services]\ns = \"{evil}\"\n[[rules]]\nid = \"{evil}\"\n\
         from = \"group:{evil}\"\nto = \"any\"\nservices = \"any\"\n\"{evil}\" = 1\n"
    );
    let findings = parse(&text).unwrap_err();
    assert!(findings.len() >= 8, "{findings:?}");
    for finding in findings {
        let shown = finding.to_string();
        let odd = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!shown.contains(odd), "{shown:?}");
    }
}

#[test]
fn every_bound_is_a_finding() {
    let long = parse(&" ".repeat(DOCUMENT_MAX + 1)).unwrap_err();
    assert!(long[0].what.contains("bytes"), "{long:?}");
    let of = |head: &str, line: &str, count: usize| {
        let lines = (0..count).map(|at| line.replace('#', &at.to_string()));
        let found = parse(&format!("{head}{}", lines.collect::<String>()));
        found.map_or_else(|findings| findings[0].what.clone(), |_| String::new())
    };
    let rule = "[[rules]]\nfrom='device:d#'\nto='any'\nservices='any'\n";
    assert_eq!(of("", rule, 10_000), "");
    assert_eq!(of("", rule, 10_001), "there are 10001 of [[rules]]");
    let test = "[[tests]]\nfrom='any'\nto='any'\ndeny='any'\n";
    assert_eq!(of("", test, 1_000), "");
    assert_eq!(of("", test, 1_001), "there are 1001 of [[tests]]");
    assert_eq!(of("[groups]\n", "g#=[]\n", 1_000), "");
    assert_eq!(
        of("[groups]\n", "g#=[]\n", 1_001),
        "a part has more than 1000 names"
    );
    let ports = |count: usize| {
        let ports: Vec<String> = (0..count)
            .map(|at| format!("'tcp/{}'", 1 + 2 * at))
            .collect();
        of(&format!("[services]\ns=[{}]", ports.join(",")), "", 1)
    };
    assert_eq!(ports(64), "");
    assert_eq!(ports(65), "these are 65 services");
    let members = |count: usize| of(&format!("[groups]\ng=[{}]", "'a@b',".repeat(count)), "", 1);
    assert_eq!(members(10_000), "");
    assert_eq!(members(10_001), "the list has 10001 entries");
    let comment = |bytes: usize| {
        let head = rule.replace('#', "");
        of(&head, &format!("comment='{}'", "x".repeat(bytes)), 1)
    };
    assert_eq!(comment(512), "");
    assert_eq!(comment(513), "the comment has 513 bytes");
    let nested = format!("x = {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(parse(&nested).is_err());
    // A document with a thousand mistakes names the first fifty.
    let many = parse(&"[[rules]]\n".repeat(1_000)).unwrap_err();
    assert_eq!(many.len(), 50);
}
