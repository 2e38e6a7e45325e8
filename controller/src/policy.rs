//! Compiles a network's policy to the filter of one member. Networks have the starter policy: members reach members.

use overlan_protocol::policy::Filter;

/// The rules of every member of a network under the starter policy.
pub(crate) fn starter() -> Filter {
    Filter::starter()
}
