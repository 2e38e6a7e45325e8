//! The controller's API over real TLS on loopback, as devices, relays and people see it.

mod enrolment;
mod http;
mod lab;
mod login;
mod relays;
mod secrets;
mod streams;
mod tenants;
