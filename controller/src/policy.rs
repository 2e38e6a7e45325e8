//! Policies of networks, as the controller holds them: what each member sees and may do at a
//! version of the change log. The crate `overlan-policy` reads and compiles the documents.
//!
//! `sight` is one network's policy, compiled; `sights` holds those that are in use; `world` reads
//! what a document is put together with.

mod sight;
mod sights;
mod world;

pub(crate) use sight::{Eyes, Sight, Turn};
pub(crate) use sights::Sights;
pub(crate) use world::{PolicyInForce, in_force, world_of};
