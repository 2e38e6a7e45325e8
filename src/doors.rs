//! The entrances to the overlay on this host: the proxy (SOCKS5, HTTP), DNS, ports that are served
//! to peers, and the hosts to which this device is a gateway. Doors see the overlay through traits
//! and never name the device.
//!
//! ```text
//! moves   credentials   proxied          what several rooms need, and which names none of them
//!    └─ http1    client ─ overlay ─ places ─ door
//!          └─ serve      gateway    dns        └─ socks, http_proxy ─ proxy
//! ```

pub mod proxy;

mod client;

mod credentials;

mod door;

mod moves;

mod overlay;

mod places;

mod proxied;

mod socks;

mod http1;

mod http_proxy;

pub mod dns;

pub(crate) mod serve;

pub(crate) mod gateway;

/// Feeds SOCKS5 and HTTP/1.1: what a local program, or a service, may send to the proxy.
#[cfg(feature = "fuzzing")]
pub fn feed(data: &[u8]) {
    socks::fuzzing::requests(data);
    http1::fuzzing::messages(data);
}
