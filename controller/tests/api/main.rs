//! The controller's API over real TLS on loopback, as devices, relays and people see it.

#![expect(
    clippy::unwrap_used,
    reason = "these helpers run in tests only; a surprise fails the test"
)]

mod certificates;
mod connections;
mod disk;
mod enrolment;
mod http;
mod lab;
mod login;
mod names;
mod networks;
mod relays;
mod rights;
mod routes;
mod secrets;
mod streams;
mod tenants;
