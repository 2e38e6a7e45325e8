//! The whole data plane in virtual time: two clients' engines and two relays' forwarders, joined by
//! wires that delay, cut and reorder. No socket, no sleep; a seed decides everything that can go
//! differently.

#![expect(
    clippy::unwrap_used,
    reason = "a simulation that cannot go on must stop loudly"
)]

mod absence;
mod cases;
mod deployment;
mod one_way;
mod rights;
mod script;
mod wire;
mod world;
