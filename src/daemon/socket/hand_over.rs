//! Open sockets that a command hands over to the running client by the control socket. Decides how
//! many are taken; the request decides their use.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::daemon::carry::SOCKETS_MAX;

/// Hands `sockets` over, with one byte that carries them. They also stay open here.
pub(super) async fn send(stream: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(OwnedFd::as_fd).collect();
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(io::Error::other(format!(
                    "more than {SOCKETS_MAX} sockets at once"
                )));
            }
            let sent = sendmsg(
                stream,
                &[IoSlice::new(&CARRIER)],
                &mut control,
                SendFlags::NOSIGNAL,
            );
            Ok(sent.map(drop)?)
        })
        .await
}

/// Takes exactly `count` sockets.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if something else arrives; the sockets that came with it are
/// closed.
pub(super) async fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let sockets = stream
        .async_io(Interest::READABLE, || {
            let mut byte = [0; CARRIER.len()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                stream,
                &mut [IoSliceMut::new(&mut byte)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let sockets: Vec<OwnedFd> = control
                .drain()
                .filter_map(|message| {
                    if let RecvAncillaryMessage::ScmRights(sockets) = message {
                        Some(sockets)
                    } else {
                        None
                    }
                })
                .flatten()
                .collect();
            let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
            Ok((received.bytes == CARRIER.len() && !is_cut).then_some(sockets))
        })
        .await?;
    sockets
        .filter(|sockets| sockets.len() == count)
        .ok_or_else(|| {
            let text = format!("the request has to come with {count} sockets");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
}

/// The byte with the sockets, since a message without bytes cannot carry them.
const CARRIER: [u8; 1] = [0];
