//! Feeds any bytes to the SOCKS door: the dialogue of a connection, and a datagram.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures_util::FutureExt;
use overlan_protocol::key::Secret;
use tokio::io::{join, sink};

use super::datagram::Association;
use super::handshake;
use crate::doors::credentials::ProxyCredentials;

pub(crate) fn requests(data: &[u8]) {
    let credentials = ProxyCredentials::new("user".to_owned(), Secret::new("password"));
    let credentials = credentials.expect("they can be used");
    for credentials in [None, Some(&credentials)] {
        // Reading from memory never waits.
        let mut client = join(data, sink());
        let read = handshake::read(&mut client, credentials).now_or_never();
        assert!(read.is_some(), "a client that sent all is not waited for");
    }
    let client = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1_080);
    let mut association = Association::new(client.ip());
    assert!(association.admits(client));
    if let Some(outgoing) = association.handle_client_datagram(client, data) {
        assert!(outgoing.port != 0 && data.ends_with(outgoing.data));
    }
}
