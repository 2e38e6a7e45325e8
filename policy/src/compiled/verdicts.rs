//! Answers about single connections. Decides by the cell of the matrix alone; the sentence is the
//! protocol's, so that everybody who refuses says the same.

use overlan_protocol::HostIndex;
use overlan_protocol::gateway::Host;
use overlan_protocol::policy::{Denial, Protocol, RuleId, Sentence, Verdict};
use serde::{Deserialize, Serialize};

use super::{Compiled, Destination, Leads, Member};
use crate::finding::Place;

/// The answer about one connection, with the rule that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The connection may be opened.
    pub allowed: bool,
    /// The answer in one sentence, without a full stop.
    pub sentence: String,
    /// The rule that allows it, or that allowed it until it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
    /// The place of that rule in the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Its writer's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Compiled {
    /// Decides whether a device may open that port, and by which rule: of several, the first one of
    /// the document. For ICMP, the port is of no account.
    #[must_use]
    pub fn judge(
        &self,
        from: HostIndex,
        to: Destination<'_>,
        protocol: Protocol,
        port: u16,
    ) -> Verdict {
        let cell = self.cell(from, to);
        let (live, ended): (Vec<u32>, Vec<u32>) =
            cell.into_iter().partition(|slot| self.is_live(*slot));
        let says = |slot: u32| {
            let rule = self.text.rule_of(slot);
            (&rule.id, rule.services.as_slice())
        };
        let verdict = Verdict::of(live.into_iter().map(says), protocol, port);
        if verdict.is_allowed() {
            return verdict;
        }
        match Verdict::of(ended.into_iter().map(says), protocol, port) {
            Verdict::Allowed(rule) => {
                let until = self.rule(&rule).and_then(|rule| rule.until);
                let until = until.unwrap_or(self.now);
                Verdict::Denied(Denial::Ended { rule, until })
            }
            Verdict::Denied(_) => verdict,
        }
    }

    /// Answers in words. Devices are named by their labels.
    #[must_use]
    pub fn explain(
        &self,
        from: HostIndex,
        to: Destination<'_>,
        protocol: Protocol,
        port: u16,
    ) -> Explanation {
        let verdict = self.judge(from, to, protocol, port);
        let rule = match &verdict {
            Verdict::Allowed(rule) | Verdict::Denied(Denial::Ended { rule, .. }) => Some(rule),
            Verdict::Denied(Denial::NoRule | Denial::OtherServices(_)) => None,
        };
        let text = rule.and_then(|rule| self.rule(rule));
        let to = match to {
            Destination::Device(host) => self.label(host),
            Destination::Host(Host::Name(name)) => name.to_owned(),
            Destination::Host(Host::Address(address)) => address.to_string(),
        };
        let sentence = Sentence {
            from: &self.label(from),
            to: &to,
            protocol,
            port,
            verdict: &verdict,
        };
        Explanation {
            allowed: verdict.is_allowed(),
            sentence: sentence.to_string(),
            rule: rule.cloned(),
            place: text.map(|text| text.place),
            comment: text.and_then(|text| text.comment.clone()),
        }
    }

    fn label(&self, host: HostIndex) -> String {
        match self.place(host) {
            Some(place) => self.member(place).device.label.clone(),
            None => format!("device {}", host.get()),
        }
    }

    /// The slots that lead from there to there, ended ones too, in the order of the document.
    fn cell(&self, from: HostIndex, to: Destination<'_>) -> Vec<u32> {
        let Some(from) = self.place(from) else {
            return Vec::new();
        };
        let dialler = self.member(from);
        let dials = &self.rights(dialler).dials;
        match to {
            Destination::Device(to) => match self.place(to) {
                Some(to) => self.between(dialler, self.member(to)).collect(),
                None => Vec::new(),
            },
            Destination::Host(host) => {
                let leads = |slot: &u32| match self.text.leads(*slot) {
                    Leads::Hosts(hosts) => hosts.contains(host),
                    Leads::Devices | Leads::Own => false,
                };
                dials.both(&self.text.host_slots).filter(leads).collect()
            }
        }
    }

    /// The slots that lead from one device to another one, ended ones too.
    pub(crate) fn between<'a>(
        &'a self,
        from: &'a Member,
        to: &'a Member,
    ) -> impl Iterator<Item = u32> + 'a {
        let dials = &self.rights(from).dials;
        let takes = &self.rights(to).takes;
        let is_same = from.owner.is_some() && from.owner == to.owner;
        let both = dials.both(takes);
        both.filter(move |slot| is_same || *self.text.leads(*slot) != Leads::Own)
    }
}
