//! DNS for programs of this host, and questions to other resolvers. `crate::names::lookup` decides
//! what a name means; here are the sockets, the owner of the cache, and the order in which
//! resolvers are asked.

pub mod client;
mod exchange;
pub mod explain;
mod resolver;
mod serve;

pub(crate) use resolver::{FORWARDS_MAX, NoAddress, Resolver, Server};
pub use serve::serve;

#[cfg(test)]
mod tests;
