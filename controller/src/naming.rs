//! Decides which host label a new device gets. Knows no device; the caller says who has the wanted
//! label.

use std::collections::BTreeSet;

use overlan_protocol::api::NamePolicy;
use overlan_protocol::name::with_suffix;

/// The present holder of the wanted label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelHolder {
    /// Nobody.
    Nobody,
    /// A device that the same auth key enrolled and that has no control session.
    Replaceable,
    /// Another device, records, or a gateway host that a device wishes to serve.
    Other,
}

/// The decision about the label of a new device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Give this label.
    Give(String),
    /// Remove the device that holds the wanted label, and give it.
    TakeOver,
    /// Refuse.
    Refuse,
}

/// Decides for `wanted`. `taken` lists the names in use that begin like it.
pub(crate) fn decide(
    wanted: &str,
    policy: NamePolicy,
    holder: LabelHolder,
    taken: &BTreeSet<String>,
) -> Naming {
    match (holder, policy) {
        (LabelHolder::Nobody, _) => Naming::Give(wanted.to_owned()),
        (_, NamePolicy::Fail) => Naming::Refuse,
        (LabelHolder::Replaceable, NamePolicy::TakeOverOffline) => Naming::TakeOver,
        (LabelHolder::Other, NamePolicy::TakeOverOffline) | (_, NamePolicy::Suffix) => {
            let free = (1..=u32::try_from(taken.len()).unwrap_or(u32::MAX - 1) + 1)
                .map(|number| with_suffix(wanted, number))
                .find(|label| !taken.contains(label));
            // One number more than there are taken labels was tried, so one of them was free.
            free.map_or(Naming::Refuse, Naming::Give)
        }
    }
}

#[cfg(test)]
mod tests;
