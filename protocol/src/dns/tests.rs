use super::*;

#[test]
fn records_are_read_as_people_write_them_and_shown_the_same() {
    for (kind, value) in [
        ("A", "10.1.2.3"),
        ("AAAA", "fd00::1"),
        ("CNAME", "web.home.overlan.lan"),
        ("TXT", "v=spf1 -all; \"quoted\""),
        ("SRV", "10 5 5432 db.home.overlan.lan"),
    ] {
        let record = Record::parse(&kind.to_lowercase(), value).unwrap();
        assert_eq!((record.kind(), record.value().as_str()), (kind, value));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
    assert_eq!(
        Record::parse("CNAME", "Web.Home.Overlan.LAN."),
        Ok(Record::Cname("web.home.overlan.lan".to_owned()))
    );
}

#[test]
fn what_is_no_record_is_refused_with_the_form_it_should_have() {
    for (kind, value) in [
        ("A", "fd00::1"),
        ("A", ""),
        ("AAAA", "10.1.2.3"),
        ("CNAME", "web"),
        ("CNAME", "a..b"),
        ("CNAME", "-a.b"),
        ("SRV", "10 5 db.home"),
        ("SRV", "10 5 70000 db.home"),
        ("SRV", "10 5 1 db.home more"),
        ("TXT", ""),
    ] {
        let refused = Record::parse(kind, value).unwrap_err();
        assert!(
            matches!(refused, DnsTextError::Value(_)) && refused.to_string().contains(kind),
            "{kind} {value:?}: {refused}"
        );
    }
    assert_eq!(Record::parse("MX", "10 a.b"), Err(DnsTextError::Kind));
    assert!(Record::parse("TXT", &"x".repeat(TXT_MAX)).is_ok());
    assert!(Record::parse("TXT", &"x".repeat(TXT_MAX + 1)).is_err());
}

#[test]
fn resolvers_are_peers_or_addresses_with_a_port() {
    for (text, shown) in [
        ("dns", "dns:53"),
        ("DNS:5353", "dns:5353"),
        ("100.64.0.7", "100.64.0.7:53"),
        ("100.64.0.7:54", "100.64.0.7:54"),
        ("fd3b:7e5c:1a42::7", "[fd3b:7e5c:1a42::7]:53"),
        ("[fd3b:7e5c:1a42::7]:54", "[fd3b:7e5c:1a42::7]:54"),
    ] {
        let via: Via = text.parse().unwrap();
        assert_eq!(via.to_string(), shown);
        assert_eq!(shown.parse::<Via>(), Ok(via));
    }
    for text in [
        "",
        "dns:0",
        "dns:x",
        "a.b",
        "100.64.0.7:0",
        "-a",
        "dns:53:53",
    ] {
        assert_eq!(text.parse::<Via>(), Err(DnsTextError::Via), "{text:?}");
    }
}

#[test]
fn a_name_lies_in_a_zone_by_whole_labels() {
    assert!(is_in("corp.internal", "corp.internal"));
    assert!(is_in("git.corp.internal", "corp.internal"));
    assert!(!is_in("mycorp.internal", "corp.internal"));
    assert!(!is_in("internal", "corp.internal"));
}
