//! The controller: accounts, networks, devices, keys, relay assignment, and the netmap streams that
//! tell devices of each other.
//!
//! A request's way through the modules: `server` (TLS, places) → `api` (who calls, what is asked) →
//! the deciding modules (`enrol`, `naming`, `address`, `placement`, `netmaps`, `presence`,
//! `heartbeat`) → `store` (one transaction) → `changelog` → the netmap streams of everybody it
//! concerns. Data flows between members without this program.

#![forbid(unsafe_code)]

mod address;
mod api;
mod auth;
mod backup;
mod budget;
mod ca;
mod changelog;
mod clock;
mod config;
mod controller;
mod data_dir;
mod deployment;
mod enrol;
mod fleet;
mod gateway_names;
mod heartbeat;
mod housekeeping;
mod key_file;
mod limits;
mod lineage;
mod metrics;
mod namespace;
mod naming;
mod netmaps;
mod operator;
mod placement;
mod presence;
mod rate;
mod reach;
mod records;
mod recovery;
mod report;
mod roster;
mod seats;
mod server;
mod start;
mod store;
mod tickets;

pub use crate::backup::{Backup, BackupError, Restored, backup, restore, rotate_ticket_key};
pub use crate::config::{Config, Timings};
pub use crate::controller::Controller;
pub use crate::recovery::{ResetError, reset_password};
pub use crate::start::StartError;
