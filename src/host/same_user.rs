//! Decides whether the program at the other end of a local door may use it: those of our own user
//! and of root may. Every door of this host that asks for no credentials asks here; what the kernel
//! of Linux does not know is refused. It keeps no state.
//!
//! ```text
//! netlink (sock_diag) ─┬─ a socket ─────────────┐
//!                      └─ nothing → /proc/net ─┬┴ sockets → ours, all of them? ─┬─ admitted
//!                                              └─ nothing, or nobody to ask ────┴─ refused
//! ```

mod sock_diag;

use std::io::{self, BufRead};
use std::net::SocketAddr;

use crate::host::shares::Claimant;

/// The reason why a program may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// It runs as another user.
    #[error("it belongs to user {0} of this host")]
    User(u32),
    /// No socket of this host is the other end: it is in another network namespace or on another
    /// host, or has closed already.
    #[error("the kernel of this host does not know it; it may run in another network namespace")]
    Unknown,
    /// The system answers no such questions to us.
    #[error("the kernel does not say which user connects")]
    Untold,
}

/// Returns the user of the program that connected from `client` to `server`, both as the door sees
/// them, if it may go on. The address that a client binds is its own choice and counts for nothing.
///
/// # Errors
/// For every user but our own and root, and for a program that the kernel does not know.
pub(crate) async fn admit_connection(
    client: SocketAddr,
    server: SocketAddr,
) -> Result<u32, Stranger> {
    decide(&ask_for_connection(client, server).await?, own_user())
}

/// Returns whether the program that sends datagrams from `client` may do so in the name of `user`,
/// who opened the door for them.
///
/// # Errors
/// As [`admit_connection`]: every socket that can send from that port must belong to that user, to
/// us or to root.
pub(crate) async fn admit_sender(client: SocketAddr, user: u32) -> Result<u32, Stranger> {
    let client = canonical(client);
    let owners = match sock_diag::look_up_udp(client.port()) {
        Some(owners) if !owners.is_empty() => owners,
        Some(_) | None => blocking(move || look_up_udp(client.port())).await?,
    };
    decide(&owners, user)
}

/// Returns the user of the program that connected from `client` to `server`, whether or not it may
/// go on; `None` if the kernel does not know.
pub(crate) async fn user_of_connection(client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let owners = ask_for_connection(client, server).await.ok()?;
    owners
        .first()
        .filter(|owner| owner.inode != 0)
        .map(|owner| owner.user)
}

/// Returns the source whose share of a door's places the program takes that connected from `client`
/// to `server`: its user, if it comes by loopback and the kernel knows it; else its address.
pub(crate) async fn source_of(client: SocketAddr, server: SocketAddr) -> Claimant {
    if client.ip().to_canonical().is_loopback()
        && let Some(user) = user_of_connection(client, server).await
    {
        return Claimant::User(user);
    }
    Claimant::from(client.ip())
}

/// Returns whether the kernel says that the socket from `client` to `server` belongs to no program
/// any more. If the kernel says nothing, it does not: the client may be on another host.
pub(crate) fn has_left(client: SocketAddr, server: SocketAddr) -> bool {
    let owners = sock_diag::look_up(canonical(client), canonical(server));
    owners.is_some_and(|owner| owner.inode == 0)
}

async fn ask_for_connection(
    client: SocketAddr,
    server: SocketAddr,
) -> Result<Vec<Owner>, Stranger> {
    let (client, server) = (canonical(client), canonical(server));
    match sock_diag::look_up(client, server) {
        Some(owner) => Ok(vec![owner]),
        None => blocking(move || Ok(look_up(client, server)?.into_iter().collect())).await,
    }
}

/// Asks on a thread for blocking work: the kernel walks all its sockets for the answer.
async fn blocking(
    ask: impl Fn() -> io::Result<Vec<Owner>> + Send + 'static,
) -> Result<Vec<Owner>, Stranger> {
    let asked = tokio::task::spawn_blocking(move || {
        for _ in 0..ATTEMPTS {
            match ask() {
                Ok(owners) if owners.is_empty() => {}
                Ok(owners) => return Ok(owners),
                Err(_) => return Err(Stranger::Untold),
            }
        }
        Ok(Vec::new())
    });
    asked.await.unwrap_or(Err(Stranger::Untold))
}

/// The owner of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    user: u32,
    inode: u64,
}

/// The rule: somebody holds the other end, and everybody who may hold it is `expected`, our own
/// user or root.
fn decide(owners: &[Owner], expected: u32) -> Result<u32, Stranger> {
    let mut admitted = Err(Stranger::Unknown);
    for owner in owners {
        // A socket whose program is gone has inode 0, and the kernel may show it as root's.
        if owner.inode == 0 {
            return Err(Stranger::Unknown);
        }
        if ![ROOT, own_user(), expected].contains(&owner.user) {
            return Err(Stranger::User(owner.user));
        }
        if owner.user == OVERFLOW && !is_mapped(OVERFLOW) {
            // All users that our user namespace does not know look alike.
            return Err(Stranger::Untold);
        }
        admitted = Ok(owner.user);
    }
    admitted
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns whether our user namespace knows the user: lines of
/// `first inside, first outside, count`.
fn is_mapped(user: u32) -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else {
        return false;
    };
    map.lines().any(|line| covers(line, user))
}

fn covers(line: &str, user: u32) -> bool {
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
        (numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    user.checked_sub(first).is_some_and(|nth| nth < count)
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

/// Finds the sockets for datagrams that have a port, whatever address they are bound or connected
/// to: a program may say with each datagram which address it comes from, and send past the one that
/// it is connected to.
fn look_up_udp(port: u16) -> io::Result<Vec<Owner>> {
    let port = format!(":{port:04X}");
    let has_port = |local: &str, _: &str| local.ends_with(&port);
    let mut found = find_all(
        io::BufReader::new(std::fs::File::open("/proc/net/udp")?),
        has_port,
    )?;
    match std::fs::File::open("/proc/net/udp6") {
        Ok(v6) => found.append(&mut find_all(io::BufReader::new(v6), has_port)?),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Finds the socket between two addresses in a table of the form of `/proc/net/tcp`.
fn find(table: impl BufRead, local: &str, remote: &str) -> io::Result<Option<Owner>> {
    let found = find_all(table, |this, other| this == local && other == remote)?;
    Ok(found.first().copied())
}

/// Finds the sockets whose local and remote address are as wanted.
fn find_all(table: impl BufRead, wanted: impl Fn(&str, &str) -> bool) -> io::Result<Vec<Owner>> {
    let mut found = Vec::new();
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
        match (user, inode) {
            (Some(user), Some(inode)) => found.push(Owner { user, inode }),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(found)
}

/// Writes an address as the kernel does, in words of its own byte order.
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

/// The user that the kernel shows for all that a user namespace does not know, unless an
/// administrator of the host has changed it.
const OVERFLOW: u32 = 65_534;

/// The kernel's table is read in pieces while it changes, and a line can be missed once.
const ATTEMPTS: usize = 2;

/// Bytes of the table that are read: more than a hundred thousand sockets. A client beyond that is
/// not found, and refused.
const TABLE_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
