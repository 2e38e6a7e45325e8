//! Sockets of this host, how they are set up and what is said when there are no more; how many connections there is room for, and each
//! source's share of them. Opens none.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use overlan_protocol::address;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::reminder::Reminder;

/// Sets a connection up as all are that programs, services or hosts behind this one have with us: small writes go at once, and who is
/// gone without a word is noticed, also by who only waits.
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
        debug!(%error, "a socket stays as it is");
    }
}

/// Gives connections that `socket` takes, or its own if it is one, at most `bytes` in the kernel for each direction.
pub(crate) fn limit_buffers(socket: &impl AsFd, bytes: usize) {
    let socket = SockRef::from(socket);
    let limited = socket
        .set_recv_buffer_size(bytes)
        .and_then(|()| socket.set_send_buffer_size(bytes));
    if let Err(error) = limited {
        debug!(%error, "the buffers of a socket stay as they are");
    }
}

/// Says, once a minute at most, that there are no more file descriptors, if that is what `error` is about.
pub(crate) fn note_shortage(error: &io::Error) {
    static SHORTAGE: LazyLock<Reminder> = LazyLock::new(Reminder::default);
    let errno = Errno::from_io_error(error);
    if matches!(errno, Some(Errno::MFILE | Errno::NFILE))
        && let Some(times) = SHORTAGE.due(Instant::now())
    {
        warn!(
            %error, times,
            "no more connections: this process may open no more files. Raise its limit (`ulimit -n`, LimitNOFILE= of systemd), or end what holds many"
        );
    }
}

/// Connections that one door may serve: half of the file descriptors that this process may open, so that another door and the
/// tunnels have theirs.
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = files.saturating_sub(FILES_KEPT) / 2;
    usize::try_from(share).map_or(CONNECTIONS_MAX, |share| share.clamp(1, CONNECTIONS_MAX))
}

/// Places of which each source has a share, so that no single one takes those of all others.
#[derive(Debug)]
pub(crate) struct Shares {
    each: usize,
    taken: Mutex<BTreeMap<Source, usize>>,
}

/// Who takes places: a device, whichever of its addresses it uses; else an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Device(u32),
    Address(IpAddr),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        address::host_index(address).map_or(Self::Address(address), Self::Device)
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shares: Arc<Shares>,
    source: Source,
}

impl Shares {
    /// Of `all` places, a source gets one of [`SOURCES_AT_LEAST`] parts.
    pub(crate) fn of(all: usize) -> Arc<Self> {
        Arc::new(Self {
            each: (all / SOURCES_AT_LEAST).max(1),
            taken: Mutex::default(),
        })
    }

    /// A place for `source`, unless it has its share.
    pub(crate) fn take(self: &Arc<Self>, source: Source) -> Option<Place> {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(source).or_default();
        if *taken >= self.each {
            return None;
        }
        *taken += 1;
        Some(Place {
            shares: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self
            .shares
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.source) {
            *taken -= 1;
            if *taken == 0 {
                all.remove(&self.source);
            }
        }
    }
}

/// So many sources, each with as many connections as it likes, have some.
pub(crate) const SOURCES_AT_LEAST: usize = 4;

/// Silence after which the system asks whether the other end is there, between two such questions, and how many stay without an
/// answer before it is gone: 15 minutes in all, as long as TCP repeats what it has sent. Who only slept for less is still connected.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);
const KEEPALIVE_PROBES: u32 = 13;

/// File descriptors for tunnels, resolver, state and logs.
const FILES_KEPT: u64 = 128;

/// Connections of one door however many files there may be: one flow each, within what the netstack takes.
const CONNECTIONS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_takes_its_share_by_all_its_addresses_and_no_more() {
        let shares = Shares::of(8);
        let [v4, v6] = address::both(7).unwrap();
        let first = shares.take(v4.into()).unwrap();
        let second = shares.take(v6.into()).unwrap();
        assert!(shares.take(v4.into()).is_none() && shares.take(v6.into()).is_none());
        let [other, _] = address::both(8).unwrap();
        let others = shares.take(other.into()).unwrap();
        drop(first);
        let again = shares.take(v6.into()).unwrap();
        assert!(shares.take(v4.into()).is_none());
        drop((second, again, others));
        assert!(
            shares.taken.lock().unwrap().is_empty(),
            "nothing is kept of who is gone"
        );
        assert!(Shares::of(1).take(v4.into()).is_some(), "one at least");
    }

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
