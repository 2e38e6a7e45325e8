//! The answer of a policy about one connection, and the one sentence that says it: for `explain`,
//! programs that were refused, previews and logs. Decides no reach; the rules are handed in.

use std::fmt;

use super::{Protocol, RuleId, Service};
use crate::{UnixTime, Utc};

/// The answer about one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This rule allows it: of several, the first one.
    Allowed(RuleId),
    /// No rule allows it.
    Denied(Denial),
}

/// The reason why no rule allows a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// No rule lets the one reach the other at all.
    NoRule,
    /// Rules let the one reach other services of the other. The first few.
    OtherServices(Vec<(RuleId, Service)>),
    /// This rule allowed it until then.
    Ended {
        /// The rule.
        rule: RuleId,
        /// Its end.
        until: UnixTime,
    },
}

impl Verdict {
    /// Returns whether the connection may be opened.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// Decides by rules that are about this source and this destination, in the policy's order.
    #[must_use]
    pub fn of<'a>(
        rules: impl IntoIterator<Item = (&'a RuleId, &'a [Service])>,
        protocol: Protocol,
        port: u16,
    ) -> Self {
        let mut others: Vec<(RuleId, Service)> = Vec::new();
        for (id, services) in rules {
            if services.iter().any(|it| it.matches(protocol, port)) {
                return Self::Allowed(id.clone());
            }
            let room = OTHERS_MAX.saturating_sub(others.len());
            others.extend(services.iter().take(room).map(|it| (id.clone(), *it)));
        }
        Self::Denied(match others.is_empty() {
            true => Denial::NoRule,
            false => Denial::OtherServices(others),
        })
    }
}

/// Other services that a refusal names: enough to see a wrong port, few enough for one line.
const OTHERS_MAX: usize = 4;

/// The answer about one connection in one sentence, without a full stop. What names it shows is
/// inert.
#[derive(Debug, Clone, Copy)]
pub struct Sentence<'a> {
    /// The device that dials, as its reader knows it.
    pub from: &'a str,
    /// The device or gateway host that is dialled.
    pub to: &'a str,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; ICMP has none.
    pub port: u16,
    /// The answer.
    pub verdict: &'a Verdict,
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = match self.verdict {
            Verdict::Allowed(_) => "may",
            Verdict::Denied(_) => "may not",
        };
        let (from, to) = (Inert(self.from), Inert(self.to));
        let service = Service::one(self.protocol, self.port);
        write!(f, "{from} {may} reach {to} on {service}: {}", self.verdict)
    }
}

/// The reason alone, as it follows a colon.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(rule) => write!(f, "rule {rule} allows it"),
            Self::Denied(denial) => denial.fmt(f),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule of the network's policy allows it"),
            Self::OtherServices(others) => {
                f.write_str("the network's policy allows only ")?;
                for (at, (rule, service)) in others.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{service} (rule {rule})")?;
                }
                let more = if others.len() == OTHERS_MAX {
                    ", and maybe more"
                } else {
                    ""
                };
                f.write_str(more)
            }
            Self::Ended { rule, until } => {
                write!(f, "rule {rule} allowed it until {}", Utc(*until))
            }
        }
    }
}

/// A text of a stranger, shown so that it stays on its line and moves no cursor: what is not
/// printed is escaped, and what is too long is cut.
#[derive(Debug, Clone, Copy)]
pub struct Inert<'a>(pub &'a str);

impl fmt::Display for Inert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        for c in rest.by_ref().take(SHOWN_MAX) {
            match c {
                '"' | '\'' => write!(f, "{c}")?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        match rest.next() {
            Some(_) => f.write_str("…"),
            None => Ok(()),
        }
    }
}

/// Characters of a stranger's text that are shown: the longest domain name fits.
const SHOWN_MAX: usize = 254;
