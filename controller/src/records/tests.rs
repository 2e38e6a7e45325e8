use std::collections::BTreeMap;

use super::*;

fn dns() -> Dns {
    let one = |value: &str| vec![Record::parse("A", value).unwrap()];
    Dns {
        former: Vec::new(),
        zones: BTreeMap::from([
            ("corp.internal".to_owned(), Zone::default()),
            (
                "ad.corp.internal".to_owned(),
                Zone {
                    via: vec!["dc".parse().unwrap()],
                },
            ),
        ]),
        records: BTreeMap::from([
            ("git.corp.internal".to_owned(), one("10.0.0.1")),
            (
                "www.home.overlan.lan".to_owned(),
                vec![Record::Cname("web.home.overlan.lan".to_owned())],
            ),
        ]),
    }
}

fn names(dns: &Dns) -> NetworkNames<'_> {
    NetworkNames {
        deployment: "overlan.lan",
        domain: "home.overlan.lan",
        dns,
    }
}

fn a(value: &str) -> Record {
    Record::parse("A", value).unwrap()
}

#[test]
fn a_single_label_lies_below_the_networks_domain() {
    let dns = dns();
    let absolute = |name| names(&dns).absolute(name);
    assert_eq!(absolute("Db").as_deref(), Ok("db.home.overlan.lan"));
    assert_eq!(
        absolute("Git.Corp.Internal.").as_deref(),
        Ok("git.corp.internal")
    );
    assert_eq!(
        absolute("a..b"),
        Err(RecordError::NotAName("a..b".to_owned()))
    );
    assert_eq!(absolute(""), Err(RecordError::NotAName(String::new())));
    assert!(absolute("*.apps.home.overlan.lan").is_err());
}

#[test]
fn records_are_added_where_the_network_has_names() {
    let dns = dns();
    let names = names(&dns);
    let add = |name: &str, record| names.add(name, record, false);
    assert_eq!(
        add("db.home.overlan.lan", a("10.0.0.2")),
        Ok(vec![a("10.0.0.2")])
    );
    assert_eq!(
        add("git.corp.internal", a("10.0.0.2")),
        Ok(vec![a("10.0.0.1"), a("10.0.0.2")])
    );
    assert_eq!(
        add("git.corp.internal", a("10.0.0.1")),
        Ok(vec![a("10.0.0.1")]),
        "twice is once"
    );
    let alias = || Record::Cname("x.example.org".to_owned());
    assert_eq!(
        add("git.corp.internal", alias()),
        Err(RecordError::Alone("git.corp.internal".to_owned()))
    );
    assert_eq!(
        add("www.home.overlan.lan", a("10.0.0.2")),
        Err(RecordError::Alias("www.home.overlan.lan".to_owned()))
    );
    assert_eq!(
        add("corp.internal", alias()),
        Err(RecordError::Apex("corp.internal".to_owned()))
    );
    assert_eq!(
        add("x.ad.corp.internal", a("10.0.0.2")),
        Err(RecordError::Delegated("ad.corp.internal".to_owned())),
        "the longest zone counts"
    );
    assert_eq!(
        add("db.lab.overlan.lan", a("10.0.0.2")),
        Err(RecordError::OfDeployment("db.lab.overlan.lan".to_owned())),
        "the name of another network"
    );
    let outside = add("db.lab.internal", a("10.0.0.2")).unwrap_err();
    assert!(
        outside
            .to_string()
            .contains("home.overlan.lan, ad.corp.internal, corp.internal"),
        "{outside}"
    );
}

#[test]
fn a_devices_name_has_its_own_addresses_and_may_have_text() {
    let dns = Dns::default();
    let names = names(&dns);
    let add = |record| names.add("web.home.overlan.lan", record, true);
    assert!(matches!(add(a("10.0.0.2")), Err(RecordError::Device(_))));
    assert!(matches!(
        add(Record::Cname("a.b".to_owned())),
        Err(RecordError::Device(_))
    ));
    assert!(add(Record::Txt("hello".to_owned())).is_ok());
}

#[test]
fn a_zone_above_the_deployment_holds_no_names_of_other_networks() {
    let mut dns = Dns::default();
    dns.zones.insert("lan".to_owned(), Zone::default());
    let add = |name: &str| names(&dns).add(name, a("10.0.0.2"), false);
    let theirs = "web.acme.overlan.lan";
    assert_eq!(
        add(theirs),
        Err(RecordError::OfDeployment(theirs.to_owned()))
    );
    assert!(add("printer.lan").is_ok() && add("db.home.overlan.lan").is_ok());
}

#[test]
fn a_host_behind_a_device_has_a_name_of_its_own() {
    let dns = dns();
    let claim = |name: &str, record| names(&dns).claim(name, record, false);
    let www = "www.home.overlan.lan";
    let same = Record::Cname("web.home.overlan.lan".to_owned());
    assert_eq!(claim(www, same.clone()), Ok(vec![same]));
    let other = Record::Cname("db.home.overlan.lan".to_owned());
    let taken = Err(RecordError::Taken(www.to_owned()));
    assert_eq!(claim(www, other), taken);
    let git = "git.corp.internal";
    let beside = claim(git, a("10.0.0.2"));
    assert_eq!(beside, Err(RecordError::Taken(git.to_owned())));
}

#[test]
fn limits_hold() {
    let mut dns = Dns::default();
    let many = (0..32).map(|n| a(&format!("10.0.0.{n}"))).collect();
    dns.records.insert("a.home.overlan.lan".to_owned(), many);
    let more = names(&dns).add("a.home.overlan.lan", a("10.0.1.1"), false);
    assert!(matches!(more, Err(RecordError::TooMany(_))));
    for n in 0..ZONES_MAX {
        dns.zones.insert(format!("z{n}.internal"), Zone::default());
    }
    assert!(names(&dns).zone("z1.internal", vec![]).is_ok());
    let more = names(&dns).zone("more.internal", vec![]);
    assert!(matches!(more, Err(RecordError::TooMany(_))));
    for n in 0..RECORDS_MAX {
        dns.records
            .insert(format!("r{n}.home.overlan.lan"), vec![a("10.0.0.1")]);
    }
    let more = names(&dns).add("b.home.overlan.lan", a("10.0.1.1"), false);
    assert!(matches!(more, Err(RecordError::TooMany(_))));
}

#[test]
fn records_are_removed_by_name_type_and_value() {
    let mut dns = dns();
    let text = Record::Txt("x".to_owned());
    let records = vec![a("10.0.0.1"), a("10.0.0.2"), text.clone()];
    dns.records.insert("git.corp.internal".to_owned(), records);
    let names = names(&dns);
    let remove = |kind, value| names.remove("git.corp.internal", kind, value);
    assert_eq!(remove(None, None), Ok((vec![], 3)));
    assert_eq!(remove(Some("a"), None), Ok((vec![text.clone()], 2)));
    assert_eq!(
        remove(Some("A"), Some("10.0.0.1")),
        Ok((vec![a("10.0.0.2"), text], 1))
    );
    let nothing = Err(RecordError::Nothing("git.corp.internal".to_owned()));
    assert_eq!(remove(Some("AAAA"), None), nothing);
    assert_eq!(remove(Some("A"), Some("10.0.0.9")), nothing);
    assert_eq!(remove(Some("A"), Some("nonsense")), nothing);
}

#[test]
fn zones_have_records_or_resolvers() {
    let dns = dns();
    let names = names(&dns);
    let via = |text: &str| vec![text.parse::<Via>().unwrap()];
    assert!(names.zone("prod.example", via("dns")).is_ok());
    assert!(names.zone("prod.example", via("100.64.0.7")).is_ok());
    assert!(names.zone("prod.example", via("10.1.0.53:54")).is_ok());
    assert!(names.zone("10.in-addr.arpa", via("dns")).is_ok());
    assert!(names.zone("ad.corp.internal", vec![]).is_ok());
    for nowhere in ["127.0.0.1", "169.254.169.254", "[fe80::1]:53", "100.64.0.0"] {
        let refused = names.zone("x.example", via(nowhere));
        assert!(matches!(refused, Err(RecordError::Via(_))), "{nowhere}");
    }
    let four = ["a", "b", "c", "d"]
        .map(|label| label.parse().unwrap())
        .into();
    assert!(matches!(
        names.zone("x.example", four),
        Err(RecordError::Via(_))
    ));
    for ours in ["overlan.lan", "lab.overlan.lan", "x.home.overlan.lan"] {
        assert_eq!(
            names.zone(ours, vec![]),
            Err(RecordError::OfDeployment(ours.to_owned()))
        );
    }
    let has_records = RecordError::HasRecords {
        zone: "corp.internal".to_owned(),
        records: 1,
    };
    assert_eq!(
        names.zone("corp.internal", via("dns")),
        Err(has_records.clone())
    );
    assert_eq!(names.remove_zone("corp.internal"), Err(has_records));
    assert_eq!(names.remove_zone("ad.corp.internal"), Ok(()));
    assert!(matches!(
        names.remove_zone("x.example"),
        Err(RecordError::Nothing(_))
    ));
}
