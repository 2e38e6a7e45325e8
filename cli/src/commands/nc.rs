//! `nc`: standard input and output as one connection of the overlay. Decides when it is over; the
//! running `overlan up` holds the connection.
//!
//! ```text
//! stdin ──thread──> socket pair ── handed over ── overlan up ── overlay
//! stdout <─thread──      ┘
//! ```

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use overlan::program::carry::{Carry, Happened, OverlayTransport};
use overlan::program::socket::{Request, Response, call_with_sockets};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::commands::exit::{Code, Failure};
use crate::commands::running::NetworkArgs;
use crate::commands::{StateArgs, duration, output, port, running, waiting};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NcArgs {
    /// Label, full name or address of a peer; with -l the overlay port
    #[arg(value_name = "HOST|PORT")]
    host: String,
    #[command(flatten)]
    network: NetworkArgs,
    /// Port of the peer
    #[arg(
        value_parser = port::within(port::ANY),
        required_unless_present = "listen",
        conflicts_with = "listen",
    )]
    port: Option<u16>,
    /// Wait for one connection of a peer instead
    #[arg(short, long)]
    listen: bool,
    /// Use UDP: one datagram for each read of standard input
    #[arg(short, long)]
    udp: bool,
    /// Give up without a connection after this time, and end after as long a silence: seconds, or
    /// with a unit (2m)
    #[arg(
        short = 'w',
        long,
        env = "OVERLAN_NC_TIMEOUT",
        value_name = "TIME",
        value_parser = duration::within::<u32>(duration::SOME),
    )]
    timeout: Option<u32>,
    /// Report on standard error once it is connected
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  ssh through the overlay, in ~/.ssh/config:
    Host *.overlan.internal
        ProxyCommand overlan nc %h %p
  A file from here to a peer:
    web$ overlan nc -l 9000 > file        then here: overlan nc web 9000 < file
  Whether a port answers:
    overlan nc -w 3 web 22 < /dev/null

The end of standard input closes this side of the connection; the other side goes on until it is
closed, too.
Exit codes: 0 both sides closed, 1 refused, reset or unknown, 6 denied by policy, 7 timeout, 9 no
relay.";

/// `overlan nc`.
pub(crate) async fn run(args: NcArgs) -> Result<(), Failure> {
    let request = Request::Carry(carry(&args)?);
    let control = args.state.open()?.socket_path();
    let (ours, theirs) = PairEnd::new(args.udp)?;
    let used = watch::Sender::new(Instant::now());
    let (connected, mut has_connected) = watch::channel(false);
    let mut copying = None;
    let mut begin = Some((ours, used.clone()));
    let asked = call_with_sockets(
        &control,
        &request,
        vec![theirs],
        std::future::pending(),
        |happened| match happened {
            Happened::Connected {
                remote,
                datagram_max,
            } => {
                if args.verbose {
                    output::note(&format!("connected with {remote}"));
                }
                if let Some((ours, used)) = begin.take() {
                    copying = Some(ours.copy(datagram_max, used));
                    connected.send_replace(true);
                }
            }
            Happened::Listening if args.verbose => {
                output::note(&format!("listening on overlay port {}", args.host));
            }
            Happened::Listening | Happened::Failed { .. } | Happened::Foreign { .. } => {}
        },
    );
    let what = match args.port {
        Some(port) => format!("{}, port {port}", args.host),
        None => format!("a peer on port {}", args.host),
    };
    let answer = tokio::select! {
        answer = asked => answer,
        never = waiting::until_came(&what, connected.subscribe()) => match never {},
        () = silence(args.timeout, used.subscribe()) => {
            let text = match *has_connected.borrow_and_update() {
                true => "the connection was silent for that long",
                false if args.listen => "no peer connected",
                false => "the peer did not answer",
            };
            let seconds = args.timeout.unwrap_or_default();
            return Err(Failure::new(Code::TimedOut, format!("{text} (--timeout {seconds})")));
        }
    };
    // Bytes that the peer sent before its end are written in any case.
    if let Some((copying, written)) = copying.take() {
        copying.end_datagrams();
        let written = written.await;
        if let Ok(Err(error)) = written
            && answer.is_ok()
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error.into());
        }
    }
    match answer {
        Ok(Response::Done) => Ok(()),
        Ok(other) => Err(running::unexpected(&other)),
        Err(error) => Err(error.into()),
    }
}

fn carry(args: &NcArgs) -> Result<Carry, Failure> {
    let transport = if args.udp {
        OverlayTransport::Udp
    } else {
        OverlayTransport::Tcp
    };
    if let Some(port) = args.port {
        let peer = args.network.place(&args.host);
        return Ok(Carry::Connect {
            transport,
            peer,
            port,
        });
    }
    let port = port::number(&args.host, &port::ANY)
        .map_err(|error| Failure::usage(format!("--listen {:?}: {error}", args.host)))?;
    Ok(Carry::Accept { transport, port })
}

/// Returns when nothing was copied for `seconds`; never if there is no such limit.
async fn silence(seconds: Option<u32>, used: watch::Receiver<Instant>) {
    let Some(seconds) = seconds else {
        return std::future::pending().await;
    };
    let within = Duration::from_secs(u64::from(seconds));
    loop {
        let last = *used.borrow();
        if last + within <= Instant::now() {
            return;
        }
        sleep_until(last + within).await;
    }
}

/// This program's end of the pair whose other end is handed over.
enum PairEnd {
    Stream(UnixStream),
    Datagram {
        socket: UnixDatagram,
        /// True once nothing more comes from the peer.
        over: AtomicBool,
    },
}

impl PairEnd {
    fn new(udp: bool) -> io::Result<(Self, OwnedFd)> {
        Ok(if udp {
            let (ours, theirs) = UnixDatagram::pair()?;
            (
                Self::Datagram {
                    socket: ours,
                    over: AtomicBool::new(false),
                },
                theirs.into(),
            )
        } else {
            let (ours, theirs) = UnixStream::pair()?;
            (Self::Stream(ours), theirs.into())
        })
    }

    /// Copies in two threads: reads of standard input cannot be waited for in any other way that
    /// works for files, terminals and pipes alike, or be given up, so the thread that reads ends
    /// with the process. The result comes when all that the peer sent is written.
    fn copy(
        self,
        datagram_max: usize,
        used: watch::Sender<Instant>,
    ) -> (Arc<Self>, oneshot::Receiver<io::Result<()>>) {
        let (done, written) = oneshot::channel();
        let ours = Arc::new(self);
        let kept = Arc::clone(&ours);
        let (reader, reads) = (Arc::clone(&ours), used.clone());
        let len = match &*ours {
            Self::Stream(_) => COPY_LEN,
            Self::Datagram { .. } => datagram_max,
        };
        thread::spawn(move || {
            reader.send_input(len, &reads);
        });
        thread::spawn(move || {
            let result = ours.write_output(&used);
            // Nobody waits if the connection timed out.
            let _received = done.send(result);
        });
        (kept, written)
    }

    /// Nothing more comes from the peer. A stream says so itself; datagrams have no end of their
    /// own, and a read of nothing is one.
    fn end_datagrams(&self) {
        if let Self::Datagram { socket, over } = self {
            over.store(true, Ordering::Release);
            // What has arrived is still read. It fails only for a socket that is closed already.
            let _closed = socket.shutdown(Shutdown::Read);
        }
    }

    fn send_input(&self, len: usize, used: &watch::Sender<Instant>) {
        let mut buffer = vec![0; len];
        // Not through the standard library's own buffer.
        let input = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        let Ok(mut input) = input else {
            return self.close();
        };
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let sent = match self {
                Self::Stream(stream) => (&mut &*stream).write_all(&buffer[..read]),
                Self::Datagram { socket, .. } => socket.send(&buffer[..read]).map(drop),
            };
            if sent.is_err() {
                return;
            }
            used.send_replace(Instant::now());
        }
        self.close();
    }

    /// No more comes from here. Datagrams have no end.
    fn close(&self) {
        if let Self::Stream(stream) = self {
            // It fails if the other end is gone already.
            let _closed = stream.shutdown(Shutdown::Write);
        }
    }

    /// Returns true if a read of nothing is the end.
    fn is_over(&self) -> bool {
        match self {
            Self::Stream(_) => true,
            Self::Datagram { over, .. } => over.load(Ordering::Acquire),
        }
    }

    fn write_output(&self, used: &watch::Sender<Instant>) -> io::Result<()> {
        let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut buffer = vec![0; COPY_LEN];
        loop {
            let read = match self {
                Self::Stream(stream) => (&mut &*stream).read(&mut buffer),
                Self::Datagram { socket, .. } => socket.recv(&mut buffer),
            };
            let read = match read {
                Ok(0) if self.is_over() => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The connection broke; `overlan up` says how.
                Err(_) => break,
            };
            if let Err(error) = output.write_all(&buffer[..read]) {
                // Nobody reads any more: the peer must not go on sending.
                if let Self::Stream(stream) = self {
                    let _closed = stream.shutdown(Shutdown::Both);
                }
                return Err(error);
            }
            used.send_replace(Instant::now());
        }
        drop(output);
        // The reader sees the end at once, though standard input may go on.
        close_stdout()?;
        if io::stdin().is_terminal() {
            // A person has no other way to see that the peer is gone.
            self.close();
        }
        Ok(())
    }
}

/// Closes standard output for its reader; later writes go nowhere.
fn close_stdout() -> io::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

/// Bytes of one copy of a stream, and the longest datagram.
const COPY_LEN: usize = 128 * 1024;

#[cfg(test)]
mod tests;
