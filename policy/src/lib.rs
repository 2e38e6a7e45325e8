//! The policy of a network: one small document that says who may reach what, and its compiler.
//! Decides meaning and reach; reads no clock, no file and no database, and enforces nothing.
//!
//! [`parse()`] reads a text, [`Compiled::new`] puts it together with the devices and people that
//! exist. The result answers about single connections, makes the rules of each device, and is
//! compared with another one. Every answer names the rule that it comes from.
#![forbid(unsafe_code)]

mod compiled;
mod diff;
mod document;
mod expectations;
mod finding;
mod parse;
mod reach;
mod rule_set;
mod world;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use compiled::{Compiled, Destination, Explanation};
pub use diff::{Among, Difference, Shift, diff};
pub use document::{Document, Expectation, Party, PartyTextError, Rule};
pub use expectations::{Failure, run_tests};
pub use finding::{Finding, Place};
pub use parse::parse;
pub use world::{World, WorldDevice, WorldPerson};

/// The document that a new network has: members reach members, and what their gateways lead to.
pub const STARTER: &str = include_str!("starter.toml");
