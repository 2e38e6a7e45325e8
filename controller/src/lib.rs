//! The controller: accounts, networks, devices, keys, policy, relay assignment.
