//! The controller's API over real TLS on loopback, as devices, relays and people see it.

#![expect(
    clippy::unwrap_used,
    reason = "these helpers run in tests only; a surprise fails the test"
)]

mod audit;
mod backup;
mod budgets;
mod certificates;
mod closing;
mod connections;
mod damage;
mod device_changes;
mod disk;
mod enrolment;
mod http;
mod key_limits;
mod keys;
mod lab;
mod lineage;
mod login;
mod login_requests;
mod matrix;
mod names;
mod networks;
mod people;
mod provider;
mod registration;
mod relays;
mod repeats;
mod rights;
mod routes;
mod secrets;
mod sessions;
mod shape;
mod sso;
mod streams;
mod tags;
mod tenants;
mod tokens;
mod trust_rules;
mod upgrade;
