use std::net::{IpAddr, Ipv4Addr};

use super::*;

/// Spellings that a service may take for `name`.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned(), name.to_uppercase(), name.to_lowercase()];
    for other in ["_", ".", "~", "!"] {
        all.push(name.replace('-', other));
        all.push(name.replacen('-', other, 1));
        if let Some(last) = name.rfind('-') {
            all.push(format!("{}{other}{}", &name[..last], &name[last + 1..]));
        }
    }
    all
}

#[test]
fn no_spelling_of_a_field_by_which_services_learn_who_asks_passes() {
    for name in [
        "X-Overlan-User",
        "X-Overlan-Name",
        "X-Overlan-Whatever-Comes",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-User",
        "X-Real-IP",
        "Client-IP",
        "X-Remote-User",
        "Forwarded",
        "Proxy",
    ] {
        for spelling in spellings(name) {
            assert!(identity::is_claim(&spelling), "{spelling}");
            let mut fields = Fields::default();
            fields.push(&spelling, "boss");
            identity::introduce(&mut fields, ADDRESS, None);
            let mut bytes = format!("{fields:?}");
            bytes.retain(|letter| letter != ' ');
            let boss = format!("{:?}", b"boss".to_vec()).replace(' ', "");
            assert!(!bytes.contains(&boss), "{spelling}: {bytes}");
        }
    }
    for passes in [
        "X-Overlanes",
        "User",
        "Authorization",
        "Proxy-Free",
        "X-Forward",
        "Cookie",
    ] {
        assert!(!identity::is_claim(passes), "{passes}");
    }
}

#[test]
fn every_field_is_always_there() {
    let mut fields = Fields::default();
    identity::introduce(&mut fields, ADDRESS, None);
    for name in ["Name", "Label", "Network", "Device", "User"] {
        let name = format!("X-Overlan-{name}");
        let values: Vec<&[u8]> = fields.all(&name).collect();
        assert_eq!(values, [b""], "{name}");
    }
    for name in ["X-Overlan-Address", "X-Forwarded-For"] {
        assert_eq!(fields.first(name), Some(&b"100.64.0.2"[..]));
    }
}

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2));
