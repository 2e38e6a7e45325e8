//! The controller: accounts, networks, devices, keys, relay assignment, and the netmap streams by
//! which devices know each other. Data flows between members without this program.
//!
//! A request comes through `server` (TLS, places) and `api` (the caller and the handler) to the
//! deciding rooms; `store` writes their decision in one transaction, `changelog` notices it, and
//! every netmap stream that it concerns makes its own delta.
//!
//! - `config`, `reach`, `start`, `controller`, `data_dir`, `key_file`, `clock` bring it up and run
//!   it.
//! - `server`, `seats`, `limits`, `rate`, `budget`, `auth` decide who may connect, log in, and how
//!   often; `repeats` remembers requests that may come again.
//! - `access` decides which role may do what; `api` has one file per resource, `table` with all
//!   routes, and `feed`, one netmap stream.
//! - `oidc` judges the tokens of identity providers.
//! - `enrol`, `roster`, `naming`, `namespace`, `records`, `gateway_names`, `address` let devices
//!   in, join them to networks and name them.
//! - `people` decides what people may do to people; `offboarding` takes one out.
//! - `fleet`, `placement`, `presence`, `heartbeat`, `report` follow relays and devices, and decide
//!   where devices attach.
//! - `netmaps`, `policy`, `changelog`, `lineage` decide what a device knows, and which versions
//!   count; `applied` decides when a change has arrived everywhere.
//! - `store`, `tickets`, `ca` keep the database and the keys.
//! - `housekeeping`, `operator`, `metrics`, `backup`, `recovery` serve the operator.
//!
//! `deployment` is the state that they share.

#![forbid(unsafe_code)]

mod access;
mod address;
mod api;
mod applied;
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
mod device_list;
mod enrol;
mod fleet;
mod gateway_names;
mod heartbeat;
mod housekeeping;
mod identities;
mod key_file;
mod keys;
mod limits;
mod lineage;
mod login_requests;
mod metrics;
mod namespace;
mod naming;
mod netmaps;
mod offboarding;
mod oidc;
mod operator;
mod people;
mod placement;
mod policy;
mod presence;
mod rate;
mod reach;
mod records;
mod recovery;
mod renaming;
mod repeats;
mod report;
mod roster;
mod sealing;
mod seats;
mod server;
mod start;
mod store;
mod tickets;

pub use crate::api::openapi;
pub use crate::backup::{Backup, BackupError, Restored, backup, restore, rotate_ticket_key};
pub use crate::config::{Config, Timings};
pub use crate::controller::Controller;
pub use crate::oidc::{IssuerAddresses, ParseIssuerAddressesError};
pub use crate::recovery::{RecoveredOwner, ResetError, recover_owner, reset_password};
pub use crate::start::StartError;
