//! The tokio shells that client, relay and controller share. They decide nothing about networks,
//! devices and policy.

#![forbid(unsafe_code)]

mod connect_error;

pub mod clock;

pub mod file;

pub mod reminder;

pub mod accept;

pub mod connect;

pub mod document;

pub mod outgoing;

pub mod tls;

pub mod https;

mod record;

pub mod pump;

pub mod operator;

pub mod private_dir;

pub mod strangers;

pub use connect_error::ConnectError;

#[cfg(test)]
mod tests;
