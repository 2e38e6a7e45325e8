//! Sets up the sockets of this host, warns when there are no more, and decides how many connections
//! there is room for. Opens none.

use std::io;
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::time::Duration;

use overlan_transport::clock::now;
use overlan_transport::reminder::Reminder;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tracing::{debug, warn};

/// Sets a connection up as all are that programs, services or gateway hosts have with us: small
/// writes go at once, and an end that is gone without a word is noticed, even by one that only
/// waits.
pub(crate) fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = prepared {
        // It ended meanwhile, and says so when it is used.
        debug!(%error, "a socket was not set up");
    }
}

/// Gives connections that `socket` takes, or its own if it is one, at most `bytes` in the kernel
/// for each direction.
pub(crate) fn limit_buffers(socket: &impl AsFd, bytes: usize) {
    let socket = SockRef::from(socket);
    let limited = socket
        .set_recv_buffer_size(bytes)
        .and_then(|()| socket.set_send_buffer_size(bytes));
    if let Err(error) = limited {
        debug!(%error, "the buffers of a socket stay as they are");
    }
}

/// Returns whether `error` says that there are no more file descriptors.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Warns, once a minute at most, that there are no more file descriptors, if `error` says so.
pub(crate) fn note_shortage(error: &io::Error) {
    static SHORTAGE: LazyLock<Reminder> = LazyLock::new(Reminder::default);
    if is_shortage(error)
        && let Some(times) = SHORTAGE.due(now())
    {
        warn!(
            %error, times,
            "no more connections: this process may open no more files. Raise its limit \
             (`ulimit -n`, LimitNOFILE= of systemd), or end programs that hold many"
        );
    }
}

/// Connections that one door may serve: half of the file descriptors that this process may open, so
/// that another door and the tunnels have theirs.
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = files.saturating_sub(FILES_KEPT) / 2;
    usize::try_from(share).map_or(CONNECTIONS_MAX, |share| share.clamp(1, CONNECTIONS_MAX))
}

/// Silence after which the system asks whether the other end is there, the time between two such
/// questions, and how many stay without an answer before it is gone: 15 minutes in all, as long as
/// TCP repeats what it has sent. A host that slept for less is still connected.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);
const KEEPALIVE_PROBES: u32 = 13;

/// File descriptors for tunnels, resolver, state and logs.
const FILES_KEPT: u64 = 128;

/// Connections of one door however many files there may be: one flow each, within what the netstack
/// takes.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_ask_whether_the_other_end_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        prepare(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }
}
