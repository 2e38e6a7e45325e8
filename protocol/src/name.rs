//! Names: decides which texts are labels, makes a label from an operating system's host name, and
//! takes overlay names apart. Does not know which names exist.

/// Returns whether `label` is a host or network label: 1 to 63 lower-case letters, digits and
/// hyphens, no hyphen at an end, and not the form of an internationalised name, which could look
/// like another device's.
pub fn is_label(label: &str) -> bool {
    (1..=LABEL_MAX).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.starts_with("xn--")
}

/// Returns whether `domain` is one or more labels joined by dots, together at most [`DOMAIN_MAX`]
/// bytes.
pub fn is_domain(domain: &str) -> bool {
    domain.len() <= DOMAIN_MAX && domain.split('.').all(is_label)
}

/// Makes a label from a host name: its first part in lower case, with hyphens for other characters;
/// `device` if nothing is left.
pub fn label_from_hostname(hostname: &str) -> String {
    let first = hostname.split('.').next().unwrap_or_default();
    let mut label = String::new();
    for character in first.chars() {
        if character.is_ascii_alphanumeric() {
            label.push(character.to_ascii_lowercase());
        } else if !label.ends_with('-') {
            label.push('-');
        }
    }
    label.truncate(LABEL_MAX - SUFFIX_ROOM);
    let label = label.trim_matches('-');
    if is_label(label) {
        label.to_owned()
    } else {
        "device".to_owned()
    }
}

/// The label with a number that makes it unique: `web`, 1 → `web-1`.
pub fn with_suffix(label: &str, number: u32) -> String {
    let suffix = format!("-{number}");
    let room = LABEL_MAX - suffix.len();
    let stem = label.get(..room).unwrap_or(label).trim_end_matches('-');
    format!("{stem}{suffix}")
}

/// A name inside the overlay, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlayName<'a> {
    /// `domain`
    Domain,
    /// `network.domain`
    Network {
        /// Network label.
        network: &'a str,
    },
    /// `host.network.domain`
    Host {
        /// Host label.
        host: &'a str,
        /// Network label.
        network: &'a str,
    },
    /// A name below our domain with too many labels to exist.
    Deeper,
}

impl<'a> OverlayName<'a> {
    /// Takes `name` apart, which must be in lower case; one trailing dot is allowed. `None` if the
    /// name is not below `domain`.
    pub fn parse(name: &'a str, domain: &str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let below = name.strip_suffix(domain)?;
        if below.is_empty() {
            return Some(Self::Domain);
        }
        let below = below.strip_suffix('.')?;
        let mut labels = below.split('.');
        Some(match (labels.next(), labels.next(), labels.next()) {
            (Some(network), None, _) => Self::Network { network },
            (Some(host), Some(network), None) => Self::Host { host, network },
            _ => Self::Deeper,
        })
    }
}

/// Longest label, bytes (RFC 1035).
pub const LABEL_MAX: usize = 63;

/// Longest deployment domain, bytes: host, network, two dots and this make at most 253.
pub const DOMAIN_MAX: usize = 253 - 2 * (LABEL_MAX + 1);

/// Bytes that a label made from a host name leaves for a suffix such as `-4194302`.
const SUFFIX_ROOM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_are_made_from_host_names() {
        for (hostname, label) in [
            ("web", "web"),
            ("Web01.example.org", "web01"),
            ("Anna's MacBook", "anna-s-macbook"),
            ("_", "device"),
            ("", "device"),
            ("xn--bcher-kva", "xn-bcher-kva"),
            ("büro", "b-ro"),
        ] {
            assert_eq!(label_from_hostname(hostname), label, "{hostname:?}");
        }
        assert_eq!(with_suffix("web", 1), "web-1");
        assert_eq!(with_suffix(&"a".repeat(63), 12).len(), 63);
    }

    #[test]
    fn names_are_taken_apart() {
        let parse = |name| OverlayName::parse(name, "overlan.lan");
        assert_eq!(
            parse("web.demo.overlan.lan"),
            Some(OverlayName::Host {
                host: "web",
                network: "demo"
            })
        );
        assert_eq!(
            parse("web.demo.overlan.lan."),
            Some(OverlayName::Host {
                host: "web",
                network: "demo"
            })
        );
        assert_eq!(
            parse("demo.overlan.lan"),
            Some(OverlayName::Network { network: "demo" })
        );
        assert_eq!(parse("overlan.lan"), Some(OverlayName::Domain));
        assert_eq!(parse("a.b.c.overlan.lan"), Some(OverlayName::Deeper));
        for foreign in ["notoverlan.lan", "example.org", "lan", "", "."] {
            assert_eq!(parse(foreign), None, "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn every_host_name_gives_a_label_with_room_for_a_suffix(
            hostname in ".{0,100}",
            number in 1u32..4_194_303,
        ) {
            let label = label_from_hostname(&hostname);
            prop_assert!(is_label(&label));
            prop_assert!(is_label(&with_suffix(&label, number)));
        }
    }
}
