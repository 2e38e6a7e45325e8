//! The engine by hand: two of them, two relays of a few lines, virtual time.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use overlan_netstack::{ConnectError, TcpListener};
use overlan_protocol::HostIndex;
use overlan_protocol::exchange::Exchange as _;
use overlan_protocol::frame::{self, Address, BODY_MAX, Frame, GoneReason};
use overlan_protocol::hello::{Reject, RejectCode};
use overlan_protocol::key::{IdentitySecret, TunnelKey, encode_signature};
use overlan_protocol::policy::{Filter, Peers, Protocol, Rule, RuleId, Service};
use overlan_protocol::proof::tunnel_key_message;

use super::*;

mod absence;
mod credit;
mod filter;
mod lab;
mod links;
mod netmaps;
mod ways;

use lab::{
    BACKUP, HOME, HOSTS, Lab, NETWORK, PORT, VNI, address_of, identity, netmap, pass_bytes, tunnel,
};

const SECOND: Duration = Duration::from_secs(1);

/// Only TCP to this port, from these hosts.
fn only(port: u16, hosts: Vec<HostIndex>) -> Filter {
    let service = Service {
        protocol: Some(Protocol::Tcp),
        ports: Some((port, port)),
    };
    let rule = Rule {
        id: RuleId::default(),
        peers: Peers::Hosts(hosts),
        services: vec![service],
    };
    Filter {
        inbound: vec![rule],
        ..Filter::starter()
    }
}

fn is_idle(listener: &TcpListener) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    matches!(listener.poll_accept(&mut cx), Poll::Pending)
}

/// A connect that must come to nothing within `within`.
fn refused(
    lab: &mut Lab,
    to: SocketAddr,
    listener: &TcpListener,
    within: Duration,
) -> ConnectError {
    match lab.connect(0, to, listener, within) {
        Some(Err(error)) => error,
        Some(Ok(_)) => panic!("it was let in"),
        None => panic!("nobody answered"),
    }
}

fn write_all_there_is_room_for(stream: &overlan_netstack::TcpStream) -> usize {
    let mut written = 0;
    while let Ok(count) = stream.try_write(&[7; 16_384]) {
        written += count;
    }
    written
}
