//! The whole system as a user runs it: separate processes of the built binary on loopback, and real
//! programs through them.
//!
//! No port is fixed, nothing waits for a length of time: a test waits for a line, a state or an
//! end, each with a deadline.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something fails, in the functions between tests too"
)]

mod accounts;
mod lab;

mod namespace;

mod process;

mod programs;

mod service;

mod terminal;

mod settings;

mod unprivileged;

mod upstream;

mod absence;

mod demo;
mod device_code;
mod devices;

mod dns;

mod documents;

mod doors;

mod ends;

mod exit_codes;

mod first_hour;

mod lifecycle;

mod people;

mod perf;

mod policy;

mod rotation;
mod serve;

mod udp;

mod tls;

mod commands;

mod exec;

mod forward;

mod full;

mod http;

mod gateway;
mod gateway_rules;

mod library;

mod logs;

mod container;

mod memory;

mod names;

mod networks;

mod oidc;

mod openapi;
mod operations;

mod packaging;

#[path = "../../controller/tests/api/provider.rs"]
mod provider;

mod sso;

mod strangers;

mod trouble;

mod walkthrough;
