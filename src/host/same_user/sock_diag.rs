//! Asks the kernel about one socket through netlink (`man 7 sock_diag`): a few microseconds however
//! many sockets there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use super::Owner;

/// Finds the owner of the socket from `local` to `remote`. `None` if the kernel does not say: there
/// is no such socket, or it does not answer such questions to us.
pub(super) fn look_up(local: SocketAddr, remote: SocketAddr) -> Option<Owner> {
    let answer = ask(&question(IPPROTO_TCP, local, remote)?)?;
    owner(&answer, local.port(), |to| to == remote.port())
}

/// Finds the owners of the sockets for datagrams that have `port`. `None` if the kernel does not
/// say.
pub(super) fn look_up_udp(port: u16) -> Option<Vec<Owner>> {
    let mut found = Vec::new();
    for any in [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    ] {
        let mut question = question(IPPROTO_UDP, SocketAddr::new(any.ip(), port), any)?;
        question[6..8].copy_from_slice(&(REQUEST | DUMP).to_ne_bytes());
        let kernel = put(&question)?;
        let mut answer = vec![0; DUMP_MAX];
        'family: loop {
            let (len, _) = recv(&kernel, answer.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
            let mut rest = answer.get(..len)?;
            while !rest.is_empty() {
                let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
                let message = rest
                    .get(..length)
                    .filter(|message| message.len() >= HEADER_LEN)?;
                match u16::from_ne_bytes(*message.get(4..)?.first_chunk()?) {
                    DONE => break 'family,
                    BY_FAMILY => found.push(owner(message, port, |_| true)?),
                    _ => return None,
                }
                // Each message begins at a multiple of four bytes.
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
    Some(found)
}

fn ask(question: &[u8]) -> Option<Vec<u8>> {
    let kernel = put(question)?;
    // The answer is there when the question has been sent.
    let mut answer = [0; ANSWER_MAX];
    let (len, _) = recv(&kernel, answer.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
    answer.get(..len).map(<[u8]>::to_vec)
}

/// A socket on which the kernel answers `question`.
fn put(question: &[u8]) -> Option<OwnedFd> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )
    .ok()?;
    sendto(
        &kernel,
        question,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )
    .ok()?;
    Some(kernel)
}

/// `nlmsghdr`, then `inet_diag_req_v2`. Numbers are in the machine's order, addresses and ports in
/// the network's.
fn question(protocol: u8, local: SocketAddr, remote: SocketAddr) -> Option<[u8; QUESTION_LEN]> {
    let (family, addresses) = match (local.ip(), remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let mut addresses = [0; 32];
            addresses[..4].copy_from_slice(&local.octets());
            addresses[16..20].copy_from_slice(&remote.octets());
            (AF_INET, addresses)
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            let mut addresses = [0; 32];
            addresses[..16].copy_from_slice(&local.octets());
            addresses[16..].copy_from_slice(&remote.octets());
            (AF_INET6, addresses)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let mut message = [0; QUESTION_LEN];
    message[0..4].copy_from_slice(&(QUESTION_LEN as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    message[16] = family;
    message[17] = protocol;
    message[20..24].copy_from_slice(&ALL_STATES.to_ne_bytes());
    message[24..26].copy_from_slice(&local.port().to_be_bytes());
    message[26..28].copy_from_slice(&remote.port().to_be_bytes());
    message[28..60].copy_from_slice(&addresses);
    message[64..72].copy_from_slice(&NO_COOKIE);
    Some(message)
}

/// Reads `nlmsghdr`, then `inet_diag_msg`. Where there is no such connection the kernel may answer
/// with a listener.
fn owner(answer: &[u8], local: u16, remote: impl Fn(u16) -> bool) -> Option<Owner> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let from = u16::from_be_bytes(*answer.get(20..)?.first_chunk()?);
    let to = u16::from_be_bytes(*answer.get(22..)?.first_chunk()?);
    let user = u32::from_ne_bytes(*answer.get(80..)?.first_chunk()?);
    let inode = u32::from_ne_bytes(*answer.get(84..)?.first_chunk()?);
    (kind == BY_FAMILY && from == local && remote(to)).then_some(Owner {
        user,
        inode: u64::from(inode),
    })
}

/// From the kernel's `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h`, `linux/socket.h`,
/// `linux/in.h`.
const QUESTION_LEN: usize = 72;
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const DONE: u16 = 3;
const HEADER_LEN: usize = 16;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const ALL_STATES: u32 = u32::MAX;
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Bytes of the longest answer, which is one message of 88 bytes, or an error.
const ANSWER_MAX: usize = 512;

/// Bytes of one part of a list: the kernel fills at most 32 KiB at a time.
const DUMP_MAX: usize = 32 * 1024;
