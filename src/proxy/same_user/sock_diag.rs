//! Asks the kernel about one socket through netlink (`man 7 sock_diag`): a few microseconds however many sockets there are.

use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use super::Owner;

/// Who holds the socket from `local` to `remote`. `None` if the kernel does not say, be it that there is no such socket, be it
/// that it does not answer such questions to us.
pub(super) fn look_up(local: SocketAddr, remote: SocketAddr) -> Option<Owner> {
    let answer = ask(&question(IPPROTO_TCP, local, remote)?)?;
    owner(&answer, local.port(), |to| to == remote.port())
}

/// Who holds the socket for datagrams that hears at `local` what `remote` says.
pub(super) fn look_up_udp(local: SocketAddr, remote: SocketAddr) -> Option<Owner> {
    // The kernel looks for whom a datagram from the first to the second would reach (`udp_diag`: "src and dst are swapped for
    // historical reasons").
    let answer = ask(&question(IPPROTO_UDP, remote, local)?)?;
    owner(&answer, local.port(), |to| to == remote.port() || to == 0)
}

fn ask(question: &[u8]) -> Option<Vec<u8>> {
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
    // The answer is there when the question has been sent.
    let mut answer = [0; ANSWER_MAX];
    let (len, _) = recv(&kernel, answer.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
    answer.get(..len).map(<[u8]>::to_vec)
}

/// `nlmsghdr`, then `inet_diag_req_v2`. Numbers are in the machine's order, addresses and ports in the network's.
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

/// Reads `nlmsghdr`, then `inet_diag_msg`. Where there is no such connection the kernel may answer with a listener.
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

/// From the kernel's `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h`, `linux/socket.h`, `linux/in.h`.
const QUESTION_LEN: usize = 72;
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const ALL_STATES: u32 = u32::MAX;
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Bytes of the longest answer, which is one message of 88 bytes, or an error.
const ANSWER_MAX: usize = 512;
