//! The tokio shells that client, relay and controller share. They decide nothing about networks, devices or policy.

#![forbid(unsafe_code)]

pub mod outgoing;

pub mod tls;

pub mod https;

pub mod liveness;

mod record;

pub mod pump;

pub mod operator;

pub mod private_dir;

pub mod strangers;

#[cfg(test)]
mod tests;
