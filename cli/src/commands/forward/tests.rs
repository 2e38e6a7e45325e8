//! Tests: forwards are written in two forms, and some need another flag.

use super::*;

#[test]
fn forwards_are_written_as_ssh_writes_them() {
    for (text, told) in [
        ("5432:db:5432", "127.0.0.1:5432 -> db:5432"),
        ("0:db:5432", "127.0.0.1:0 -> db:5432"),
        ("localhost:80:web:8080", "127.0.0.1:80 -> web:8080"),
        ("127.0.0.2:80:web:8080", "127.0.0.2:80 -> web:8080"),
        ("*:80:web:8080", "[::]:80 -> web:8080"),
        ("[::1]:80:web:8080", "[::1]:80 -> web:8080"),
        ("80:[fd7a::2]:8080", "127.0.0.1:80 -> [fd7a::2]:8080"),
        ("[::1]:80:[fd7a::2]:8080", "[::1]:80 -> [fd7a::2]:8080"),
        ("/run/x.sock:web:80", "/run/x.sock -> web:80"),
        ("./x.sock:web:80", "./x.sock -> web:80"),
    ] {
        assert_eq!(text.parse::<Spec>().unwrap().to_string(), told, "{text}");
    }
    for text in [
        "",
        "80",
        "80:web",
        "80:web:0",
        "80::80",
        "80:web:70000",
        "x:web:80",
        "::1:80:web:80",
        "[::1:80:web:80",
        "[::1]80:web:80",
        "example.com:80:web:80",
        "80:web:80:",
    ] {
        assert!(text.parse::<Spec>().is_err(), "{text}");
    }
}

#[test]
fn only_loopback_needs_no_consent() {
    let code = |text: &str, udp, gateway| {
        let checked = check(&text.parse().unwrap(), udp, gateway);
        checked.err().map(|failure| failure.code())
    };
    assert_eq!(code("80:web:80", false, false), None);
    assert_eq!(code("[::1]:80:web:80", true, false), None);
    assert_eq!(code("0.0.0.0:80:web:80", false, false), Some(Code::Usage));
    assert_eq!(code("*:80:web:80", true, false), Some(Code::Usage));
    assert_eq!(code("0.0.0.0:80:web:80", false, true), None);
    assert_eq!(code("/x:web:80", false, false), None);
    assert_eq!(code("/x:web:80", true, true), Some(Code::Usage));
}
