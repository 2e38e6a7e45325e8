//! Ranges of addresses from which something may be used. Decides which texts are ranges and which
//! addresses are in one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::gateway::is_in;

/// A range of addresses, such as `192.0.2.0/24` or `2001:db8::/32`; one address is a range, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceRange {
    begin: IpAddr,
    bits: u8,
}

impl SourceRange {
    /// Returns whether the address is in it. An IPv4 address that is written as IPv6 is the same.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        is_in(address.to_canonical(), self.begin, self.bits)
    }
}

/// A text that is not a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write an address or a range, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
pub struct ParseSourceRangeError;

impl FromStr for SourceRange {
    type Err = ParseSourceRangeError;

    fn from_str(text: &str) -> Result<Self, ParseSourceRangeError> {
        let (begin, bits) = match text.split_once('/') {
            Some((begin, bits)) => (begin, Some(bits)),
            None => (text, None),
        };
        let begin: IpAddr = begin.parse().map_err(|_| ParseSourceRangeError)?;
        let all = if begin.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse);
        let bits = bits.map_err(|_| ParseSourceRangeError)?;
        // A mapped address with few bits would mean a range that nobody wrote.
        let is_plain = begin == begin.to_canonical();
        match bits <= all && is_plain {
            true => Ok(Self { begin, bits }),
            false => Err(ParseSourceRangeError),
        }
    }
}

impl TryFrom<String> for SourceRange {
    type Error = ParseSourceRangeError;

    fn try_from(text: String) -> Result<Self, ParseSourceRangeError> {
        text.parse()
    }
}

impl From<SourceRange> for String {
    fn from(range: SourceRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for SourceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.begin, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_holds_its_addresses_in_either_form_and_no_other() {
        let holds = |range: &str, address: &str| {
            let range: SourceRange = range.parse().unwrap();
            range.contains(address.parse().unwrap())
        };
        for (range, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "::ffff:192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            assert!(holds(range, inside), "{range} {inside}");
            assert!(!holds(range, outside), "{range} {outside}");
        }
        for bad in [
            "",
            "192.0.2.0/33",
            "::/129",
            "10",
            "10.0.0.0/",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(bad.parse::<SourceRange>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_range_is_read_as_it_is_written(begin: [u8; 16], v4: bool, bits in 0u8..=128) {
            let begin = match v4 {
                true => IpAddr::from([begin[0], begin[1], begin[2], begin[3]]),
                false => IpAddr::from(begin),
            };
            let text = format!("{begin}/{bits}");
            if let Ok(range) = text.parse::<SourceRange>() {
                prop_assert!(range.contains(begin));
                prop_assert_eq!(range.to_string().parse::<SourceRange>().unwrap(), range);
            }
        }
    }
}
