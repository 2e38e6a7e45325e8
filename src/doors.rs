//! Where bytes enter and leave the overlay on this host: the proxy (SOCKS5, HTTP), DNS, ports that
//! are served to peers, and the hosts that this device is a gateway to. Doors see the overlay
//! through traits and never name the device behind them.

pub mod proxy;

mod socks;

mod http1;

mod http_proxy;

pub mod dns;

pub(crate) mod serve;

pub(crate) mod gateway;
