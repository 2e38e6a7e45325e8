//! DNS for programs of this host, and questions to other resolvers. What a name is to us is decided
//! by `crate::names::lookup`; here are the sockets, the cache's owner and the order in which
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
