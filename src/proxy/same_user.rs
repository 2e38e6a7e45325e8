//! Decides whether the program at the other end of a loopback connection may use the door: those of our own user and of root
//! may. Asks the kernel of Linux who holds a socket; keeps nothing.

mod sock_diag;

use std::io::{self, BufRead};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether the program that connected from `client` to `server` may go on. Connections that do not come over loopback are
/// judged by their credentials alone.
///
/// Yes, if the system does not tell who it is because there is no `/proc`.
pub(super) async fn may_connect(client: SocketAddr, server: SocketAddr) -> bool {
    let (client, server) = (canonical(client), canonical(server));
    if !client.ip().is_loopback() {
        return true;
    }
    if let Some(owner) = sock_diag::look_up(client, server) {
        return owner.is_ours();
    }
    // For this the kernel walks all its sockets.
    let looked = tokio::task::spawn_blocking(move || {
        for _ in 0..ATTEMPTS {
            match look_up(client, server) {
                Ok(None) => {}
                Ok(Some(owner)) => return owner.is_ours(),
                Err(error) => return error.kind() != io::ErrorKind::InvalidData,
            }
        }
        // The client has gone away meanwhile, so it wants no answer either.
        false
    });
    looked.await.unwrap_or(false)
}

/// Whether the program that sends datagrams from `client` to `server` may go on; otherwise as [`may_connect`].
pub(super) async fn may_send(client: SocketAddr, server: SocketAddr) -> bool {
    let (client, server) = (canonical(client), canonical(server));
    if !client.ip().is_loopback() {
        return true;
    }
    if let Some(owner) = sock_diag::look_up_udp(client, server) {
        return owner.is_ours();
    }
    let looked = tokio::task::spawn_blocking(move || {
        for _ in 0..ATTEMPTS {
            match look_up_udp(client) {
                Ok(None) => {}
                Ok(Some(owner)) => return owner.is_ours(),
                Err(error) => return error.kind() != io::ErrorKind::InvalidData,
            }
        }
        false
    });
    looked.await.unwrap_or(false)
}

/// Who holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    user: u32,
    inode: u64,
}

impl Owner {
    /// A socket whose program is gone has inode 0, and the kernel may show it as root's.
    fn is_ours(self) -> bool {
        self.inode != 0 && (self.user == ROOT || self.user == own_user())
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn look_up(client: SocketAddr, server: SocketAddr) -> io::Result<Option<Owner>> {
    if let (SocketAddr::V4(_), SocketAddr::V4(_)) = (client, server) {
        let v4 = std::fs::File::open("/proc/net/tcp")?;
        let (local, remote) = (hex_v4(client), hex_v4(server));
        if let Some(owner) = find(io::BufReader::new(v4), &local, &remote)? {
            return Ok(Some(owner));
        }
    }
    // A program may reach an IPv4 address by an IPv6 socket.
    match std::fs::File::open("/proc/net/tcp6") {
        Ok(v6) => find(io::BufReader::new(v6), &hex_v6(client), &hex_v6(server)),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound && client.is_ipv4() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Most programs leave the address of a socket for datagrams open, and do not connect it.
fn look_up_udp(client: SocketAddr) -> io::Result<Option<Owner>> {
    let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, client.port()));
    let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, client.port()));
    if client.is_ipv4() {
        let v4 = std::fs::File::open("/proc/net/udp")?;
        let locals = [hex_v4(client), hex_v4(any_v4)];
        if let Some(owner) = find_where(io::BufReader::new(v4), |local, _| {
            locals.iter().any(|wanted| wanted == local)
        })? {
            return Ok(Some(owner));
        }
    }
    let locals = [hex_v6(client), hex_v6(any_v6)];
    match std::fs::File::open("/proc/net/udp6") {
        Ok(v6) => find_where(io::BufReader::new(v6), |local, _| {
            locals.iter().any(|wanted| wanted == local)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && client.is_ipv4() => Ok(None),
        Err(error) => Err(error),
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Finds the socket between two addresses in a table of the form of `/proc/net/tcp`.
fn find(table: impl BufRead, local: &str, remote: &str) -> io::Result<Option<Owner>> {
    find_where(table, |this, other| this == local && other == remote)
}

/// The first socket whose local and remote address are as wanted.
fn find_where(
    table: impl BufRead,
    wanted: impl Fn(&str, &str) -> bool,
) -> io::Result<Option<Owner>> {
    for line in table.take(TABLE_MAX).lines() {
        let line = line?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(remote)) = (fields.next(), fields.next()) else {
            continue;
        };
        if !wanted(local, remote) {
            continue;
        }
        // State, queues, timer, retransmissions; then user, timeouts, inode.
        let mut fields = fields.skip(4);
        let user = fields.next().and_then(|user| user.parse().ok());
        let inode = fields.nth(1).and_then(|inode| inode.parse().ok());
        return match (user, inode) {
            (Some(user), Some(inode)) => Ok(Some(Owner { user, inode })),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
    }
    Ok(None)
}

/// The kernel prints an address as words of its own byte order.
fn hex_v4(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!(
            "{:08X}:{:04X}",
            u32::from_ne_bytes(v4.ip().octets()),
            v4.port()
        ),
        SocketAddr::V6(_) => hex_v6(address),
    }
}

fn hex_v6(address: SocketAddr) -> String {
    let octets = match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    };
    let words: String = octets
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)))
        .collect();
    format!("{words}:{:04X}", address.port())
}

const ROOT: u32 = 0;

/// The kernel's table is read in pieces while it changes, and a line can be missed once.
const ATTEMPTS: usize = 2;

/// Bytes of the table that are read: more than a hundred thousand sockets. A client beyond that is not found, and refused.
const TABLE_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
