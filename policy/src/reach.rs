//! All that one may open of another one: ports, each with the first rule that allows it. Decides
//! how ranges overlap; knows no devices.

use std::collections::BTreeMap;

use overlan_protocol::policy::{Protocol, Service};

/// Allowed ports by protocol. ICMP, which has none, is allowed as one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// By protocol and first port: the last port and the rule. Ranges do not overlap.
    ranges: BTreeMap<(Protocol, u16), (u16, u32)>,
}

/// Ports of one protocol that one rule allows, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) protocol: Protocol,
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// The first rule that allows them.
    pub(crate) rule: Option<u32>,
}

impl Range {
    /// The service that these ports are.
    pub(crate) fn service(&self) -> Service {
        let whole = bounds(self.protocol) == (self.first, self.last);
        Service {
            protocol: Some(self.protocol),
            ports: (!whole).then_some((self.first, self.last)),
        }
    }
}

impl Reach {
    /// Takes the services of rules, the first one first.
    pub(crate) fn of<'a>(rules: impl Iterator<Item = (u32, &'a [Service])>) -> Self {
        let mut reach = Self::default();
        for (rule, services) in rules {
            for service in services {
                reach.add(rule, service);
            }
            if reach.is_everything() {
                break;
            }
        }
        reach
    }

    fn add(&mut self, rule: u32, service: &Service) {
        for range in asked(service) {
            let open: Vec<Range> = self.split(range).collect();
            for range in open.into_iter().filter(|it| it.rule.is_none()) {
                let key = (range.protocol, range.first);
                self.ranges.insert(key, (range.last, rule));
            }
        }
    }

    fn is_everything(&self) -> bool {
        let width = |((protocol, first), (last, _)): (&(Protocol, u16), &(u16, u32))| {
            let _ = protocol;
            u64::from(last - first) + 1
        };
        self.ranges.iter().map(width).sum::<u64>() == PORTS
    }

    /// Cuts ports into those that a rule allows and those that none does, ascending.
    pub(crate) fn split(&self, asked: Range) -> impl Iterator<Item = Range> {
        let mut next = Some(asked.first);
        let before = self
            .ranges
            .range(..(asked.protocol, asked.first))
            .next_back();
        let begun =
            before.filter(|(key, (last, _))| key.0 == asked.protocol && *last >= asked.first);
        let later = self
            .ranges
            .range((asked.protocol, asked.first)..=(asked.protocol, asked.last));
        let mut known = begun.into_iter().chain(later).peekable();
        std::iter::from_fn(move || {
            let first = next?;
            let (last, rule) = match known.peek() {
                Some(((_, begin), _)) if *begin > first => (begin - 1, None),
                Some((_, (last, rule))) => ((*last).min(asked.last), Some(*rule)),
                None => (asked.last, None),
            };
            if rule.is_some() {
                known.next();
            }
            next = (last < asked.last).then(|| last + 1);
            Some(Range {
                first,
                last,
                rule,
                ..asked
            })
        })
    }

    /// The ports that are allowed here and not in `other`, neighbours of one rule joined.
    pub(crate) fn beyond(&self, other: &Self) -> Vec<Range> {
        let mut beyond: Vec<Range> = Vec::new();
        for ((protocol, first), (last, rule)) in &self.ranges {
            let range = Range {
                protocol: *protocol,
                first: *first,
                last: *last,
                rule: Some(*rule),
            };
            for part in other.split(range).filter(|it| it.rule.is_none()) {
                let part = Range {
                    rule: Some(*rule),
                    ..part
                };
                match beyond.last_mut() {
                    Some(before)
                        if (before.protocol, before.rule) == (part.protocol, part.rule)
                            && before.last.checked_add(1) == Some(part.first) =>
                    {
                        before.last = part.last;
                    }
                    _ => beyond.push(part),
                }
            }
        }
        beyond
    }

    /// Cuts a service into what a rule allows and what none does.
    pub(crate) fn of_service(&self, service: &Service) -> impl Iterator<Item = Range> {
        asked(service).flat_map(|range| self.split(range))
    }
}

/// The ports of a service, by protocol.
fn asked(service: &Service) -> impl Iterator<Item = Range> + use<> {
    let Service { protocol, ports } = *service;
    let wanted = Protocol::ALL
        .into_iter()
        .filter(move |it| protocol.is_none_or(|only| only == *it));
    // A range of ports does not mean ICMP, which has none.
    let wanted = wanted.filter(move |it| ports.is_none() || *it != Protocol::Icmp);
    wanted.map(move |protocol| {
        let (first, last) = ports.unwrap_or(bounds(protocol));
        Range {
            protocol,
            first,
            last,
            rule: None,
        }
    })
}

/// The first and the last port of a protocol.
fn bounds(protocol: Protocol) -> (u16, u16) {
    match protocol {
        Protocol::Tcp | Protocol::Udp => (1, u16::MAX),
        Protocol::Icmp => (0, 0),
    }
}

/// Ports of all protocols together.
const PORTS: u64 = 2 * 65_535 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(rules: &[(u32, &str)]) -> Reach {
        let parsed: Vec<(u32, Vec<Service>)> = rules
            .iter()
            .map(|(rule, text)| {
                (
                    *rule,
                    text.split(' ').map(|it| it.parse().unwrap()).collect(),
                )
            })
            .collect();
        Reach::of(parsed.iter().map(|(rule, all)| (*rule, all.as_slice())))
    }

    fn shown(ranges: impl IntoIterator<Item = Range>) -> String {
        let each = ranges.into_iter().map(|it| match it.rule {
            Some(rule) => format!("{}:{rule}", it.service()),
            None => format!("{}:-", it.service()),
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_first_rule_keeps_its_ports() {
        let reach = reach(&[(1, "tcp/80-89"), (2, "tcp/85-95 udp"), (3, "any")]);
        let all = "any".parse().unwrap();
        assert_eq!(
            shown(reach.of_service(&all)),
            "tcp/1-79:3 tcp/80-89:1 tcp/90-95:2 tcp/96-65535:3 udp:2 icmp:3"
        );
    }

    #[test]
    fn what_no_rule_allows_is_cut_out() {
        let reach = reach(&[(1, "tcp/22"), (2, "tcp/80-89")]);
        let range = "tcp/20-100".parse().unwrap();
        assert_eq!(
            shown(reach.of_service(&range)),
            "tcp/20-21:- tcp/22:1 tcp/23-79:- tcp/80-89:2 tcp/90-100:-"
        );
        let one = "tcp/85".parse().unwrap();
        assert_eq!(shown(reach.of_service(&one)), "tcp/85:2");
        let icmp = "icmp".parse().unwrap();
        assert_eq!(shown(reach.of_service(&icmp)), "icmp:-");
    }

    #[test]
    fn a_difference_has_the_rules_of_the_wider_side() {
        let old = reach(&[(1, "tcp/22 tcp/80-89")]);
        let new = reach(&[(7, "tcp/85-95"), (8, "icmp")]);
        assert_eq!(shown(new.beyond(&old)), "tcp/90-95:7 icmp:8");
        assert_eq!(shown(old.beyond(&new)), "tcp/22:1 tcp/80-84:1");
        assert_eq!(shown(new.beyond(&new)), "");
    }
}
