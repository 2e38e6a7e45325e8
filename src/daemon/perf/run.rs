//! The end that measures. Decides the order of a measurement and its end; `figures` and
//! `bottleneck` decide the meaning of the figures.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use overlan_netstack::TcpStream;
use overlan_protocol::key::random_bytes;
use overlan_transport::clock::now;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::bottleneck::{DirectionFacts, find};
use super::figures::{Latency, RoundTrips, Throughput, fairness, rate};
use super::sample::{Sample, Sampler};
use super::stream::{Bulk, read_message, write_message};
use super::wire::{Counts, Message, Refused, Role, SessionId};
use super::{Counters, PerfError, Plan, Progress, Report, SCHEMA_VERSION};

/// Measures by `plan` over connections that `dial` opens to the peer, which is `peer` in the
/// report. `counters` reads this client's counters; events go to `progress` as far as it has room.
/// When `stop` is cancelled, the report covers the time until then.
///
/// # Errors
/// See [`PerfError`]; no connection stays open.
pub async fn run<D, F>(
    peer: String,
    plan: Plan,
    dial: D,
    counters: impl Fn() -> Counters,
    progress: &mpsc::Sender<Progress>,
    stop: CancellationToken,
) -> Result<Report, PerfError>
where
    D: Fn() -> F,
    F: Future<Output = Result<TcpStream, PerfError>>,
{
    let connected = stop.run_until_cancelled(connect(plan, dial)).await;
    let ConnectedPeer {
        control,
        echo,
        ups,
        downs,
    } = connected.ok_or(PerfError::Interrupted)??;
    let address = control.0.peer_addr().ip();
    let run = PerfRun {
        plan,
        sampler: Sampler::new(),
        counters,
        progress,
        stop,
    };
    if !plan.has_streams() {
        let (idle, measured) = run.latency(&control, &echo).await?;
        return Ok(measured.report(peer, address, idle));
    }
    let mut idle = RoundTrips::new();
    let pinging = echo.ping(&mut idle, Duration::ZERO, now() + IDLE_FOR, IDLE_MOST);
    run.stop
        .run_until_cancelled(pinging)
        .await
        .unwrap_or(Ok(()))?;
    let latency = idle.latency();
    tell(progress, Progress::Idle { latency });
    let measured = run.streams(&control, echo, ups, downs).await?;
    Ok(measured.report(peer, address, latency))
}

/// All connections of a session.
struct ConnectedPeer {
    control: ControlStream,
    echo: Bulk,
    ups: Vec<Bulk>,
    downs: Vec<Bulk>,
}

async fn connect<D, F>(plan: Plan, dial: D) -> Result<ConnectedPeer, PerfError>
where
    D: Fn() -> F,
    F: Future<Output = Result<TcpStream, PerfError>>,
{
    let session: SessionId = random_bytes();
    let control = ControlStream(dial().await?);
    ready(&control.0, &Message::Open { session, plan }).await?;
    let join = async |role| {
        let stream = dial().await?;
        ready(&stream, &Message::Join { session, role }).await?;
        Ok::<_, PerfError>(Bulk(stream))
    };
    Ok(ConnectedPeer {
        echo: join(Role::Echo).await?,
        ups: try_join_all((0..plan.up()).map(|index| join(Role::Up(index)))).await?,
        downs: try_join_all((0..plan.down()).map(|index| join(Role::Down(index)))).await?,
        control,
    })
}

/// A measurement whose connections are open.
struct PerfRun<'a, C> {
    plan: Plan,
    sampler: Sampler,
    counters: C,
    progress: &'a mpsc::Sender<Progress>,
    stop: CancellationToken,
}

impl<C: Fn() -> Counters> PerfRun<'_, C> {
    /// Measures round trips alone, for as long as planned.
    async fn latency(
        &self,
        control: &ControlStream,
        echo: &Bulk,
    ) -> Result<(Option<Latency>, Measured), PerfError> {
        let before = control.counts(&Message::Start).await?;
        let here_before = self.sample();
        let begin = now();
        let mut times = RoundTrips::new();
        let pinging = echo.ping(
            &mut times,
            Duration::ZERO,
            begin + length(self.plan),
            u32::MAX,
        );
        let ended = self.stop.run_until_cancelled(pinging).await;
        let interrupted = ended.is_none();
        ended.unwrap_or(Ok(()))?;
        let elapsed_us = micros(begin, now());
        let here = self.sample().since(&here_before);
        let there = control.newest_counts(interrupted, &before).await?;
        let measured = Measured {
            interrupted,
            elapsed_us,
            there_elapsed_us: there.elapsed_us.saturating_sub(before.elapsed_us),
            up: Vec::new(),
            down: Vec::new(),
            here,
            there: there.sample.since(&before.sample),
            loaded: None,
        };
        Ok((times.latency(), measured))
    }

    /// Runs all streams for as long as planned, and measures round trips beside them.
    async fn streams(
        &self,
        control: &ControlStream,
        echo: Bulk,
        ups: Vec<Bulk>,
        downs: Vec<Bulk>,
    ) -> Result<Measured, PerfError> {
        let before = control.counts(&Message::Start).await?;
        let here_before = self.sample();
        let begin = now();
        let end = begin + length(self.plan);
        let mut streams = StreamTasks::start(echo, ups, downs, end);
        let sum = |bytes: &[u64]| bytes.iter().sum::<u64>();
        let (mut last_there, mut last_down, mut last_at) = (before.clone(), 0, begin);
        let mut second = 0;
        let (interrupted, down, elapsed_us, here, there) = loop {
            second += 1;
            let tick = (begin + Duration::from_secs(u64::from(second))).min(end);
            let interrupted = tokio::select! {
                () = sleep_until(tick.into()) => false,
                () = self.stop.cancelled() => true,
                error = streams.failed() => return Err(error.into()),
            };
            let (down, at, here) = (streams.received(), now(), self.sample());
            let there = control.newest_counts(interrupted, &last_there).await?;
            if !interrupted {
                let up = rate(
                    sum(&there.received).saturating_sub(sum(&last_there.received)),
                    there.elapsed_us.saturating_sub(last_there.elapsed_us),
                );
                let down = rate(sum(&down).saturating_sub(last_down), micros(last_at, at));
                tell(self.progress, Progress::Second { second, up, down });
            }
            if interrupted || tick >= end {
                let here = here.since(&here_before);
                break (interrupted, down, micros(begin, at), here, there);
            }
            (last_down, last_there, last_at) = (sum(&down), there, at);
        };
        let loaded = match interrupted {
            true => None,
            false => timeout(ANSWER_WITHIN, streams.loaded.recv())
                .await
                .ok()
                .flatten(),
        };
        Ok(Measured {
            interrupted,
            elapsed_us,
            there_elapsed_us: there.elapsed_us.saturating_sub(before.elapsed_us),
            up: there.received,
            down,
            here,
            there: there.sample.since(&before.sample),
            loaded: loaded.and_then(|times: RoundTrips| times.latency()),
        })
    }

    fn sample(&self) -> Sample {
        self.sampler.sample(&(self.counters)())
    }
}

/// The tasks of all streams, and of the round trips beside them. They end when it is dropped.
struct StreamTasks {
    tasks: JoinSet<io::Result<()>>,
    /// Bytes of each stream from the peer.
    received: Vec<Arc<AtomicU64>>,
    /// The round trips, once their time is over.
    loaded: mpsc::Receiver<RoundTrips>,
}

impl StreamTasks {
    /// Starts all streams, and takes round trips on `echo` until `end`.
    fn start(echo: Bulk, ups: Vec<Bulk>, downs: Vec<Bulk>, end: Instant) -> Self {
        let mut tasks = JoinSet::new();
        for up in ups {
            tasks.spawn(async move { Err(up.push().await) });
        }
        let received: Vec<Arc<AtomicU64>> = downs.iter().map(|_| Arc::default()).collect();
        for (down, received) in downs.into_iter().zip(&received) {
            let received = received.clone();
            tasks.spawn(async move {
                down.pull(&received).await?;
                Err(io::ErrorKind::UnexpectedEof.into())
            });
        }
        let (pings, loaded) = mpsc::channel(1);
        tasks.spawn(async move {
            let mut times = RoundTrips::new();
            // A round trip that is cut off by the end does not count, since its time is unknown.
            let pinging = echo.ping(&mut times, PING_PAUSE, end, u32::MAX);
            tokio::select! {
                result = pinging => result?,
                () = pings.closed() => return Ok(()),
                () = sleep_until(end.into()) => {}
            }
            let _taken = pings.send(times).await;
            Ok(())
        });
        Self {
            tasks,
            received,
            loaded,
        }
    }

    fn received(&self) -> Vec<u64> {
        let bytes = self.received.iter();
        bytes.map(|bytes| bytes.load(Relaxed)).collect()
    }

    /// Returns the error of the first stream that fails.
    async fn failed(&mut self) -> io::Error {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Ok(Ok(())) | Err(_)) => {}
                None => return pending().await,
            }
        }
    }
}

/// The numbers of a measurement that has ended.
#[derive(Debug)]
struct Measured {
    interrupted: bool,
    elapsed_us: u64,
    there_elapsed_us: u64,
    up: Vec<u64>,
    down: Vec<u64>,
    here: Sample,
    there: Sample,
    loaded: Option<Latency>,
}

impl Measured {
    fn report(self, peer: String, address: IpAddr, latency_idle: Option<Latency>) -> Report {
        let median = |latency: Option<Latency>| latency.map_or(0, |latency| latency.p50_us);
        let direction = |local_sends: bool, streams: &[u64], elapsed_us: u64| {
            let bytes = streams.iter().sum();
            let (sender, receiver) = match local_sends {
                true => (self.here, self.there),
                false => (self.there, self.here),
            };
            (!streams.is_empty()).then(|| Throughput {
                bytes,
                bits_per_second: rate(bytes, elapsed_us),
                streams: streams
                    .iter()
                    .map(|bytes| rate(*bytes, elapsed_us))
                    .collect(),
                fairness: fairness(streams),
                bottleneck: find(&DirectionFacts {
                    local_sends,
                    sender,
                    receiver,
                    elapsed_us,
                    bytes,
                    fastest: streams.iter().copied().max().unwrap_or_default(),
                    idle_us: median(latency_idle),
                    loaded_us: median(self.loaded),
                }),
            })
        };
        Report {
            schema_version: SCHEMA_VERSION,
            peer,
            address,
            seconds: self.elapsed_us as f64 / 1e6,
            interrupted: self.interrupted,
            latency_idle,
            latency_loaded: self.loaded,
            up: direction(true, &self.up, self.there_elapsed_us),
            down: direction(false, &self.down, self.elapsed_us),
            here: self.here.side(self.elapsed_us),
            there: self.there.side(self.there_elapsed_us),
        }
    }
}

/// The control connection, with which a session begins and ends.
struct ControlStream(TcpStream);

impl ControlStream {
    async fn counts(&self, message: &Message) -> Result<Counts, PerfError> {
        let Message::Counts(counts) = exchange(&self.0, message).await? else {
            return Err(PerfError::NotUnderstood);
        };
        Ok(counts)
    }

    /// Asks for the newest counts. After an interruption the wait is short, since this client may
    /// be stopping; without an answer `known` are the last counts.
    async fn newest_counts(&self, interrupted: bool, known: &Counts) -> Result<Counts, PerfError> {
        let asked = self.counts(&Message::Ask);
        if !interrupted {
            return asked.await;
        }
        match timeout(LAST_WITHIN, asked).await {
            Ok(Ok(counts)) => Ok(counts),
            Ok(Err(_)) | Err(_) => Ok(known.clone()),
        }
    }
}

async fn ready(stream: &TcpStream, message: &Message) -> Result<(), PerfError> {
    match exchange(stream, message).await? {
        Message::Ready => Ok(()),
        Message::Refused(Refused::Busy) => Err(PerfError::Busy),
        Message::Refused(Refused::Unknown)
        | Message::Open { .. }
        | Message::Join { .. }
        | Message::Start
        | Message::Ask
        | Message::Counts(_) => Err(PerfError::NotUnderstood),
    }
}

async fn exchange(stream: &TcpStream, message: &Message) -> Result<Message, PerfError> {
    let exchange = async {
        write_message(stream, message).await?;
        read_message(stream).await
    };
    let answer = timeout(ANSWER_WITHIN, exchange).await;
    match answer.map_err(|_| PerfError::Silent)? {
        Ok(answer) => Ok(answer),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(PerfError::NotUnderstood),
        Err(error) => Err(error.into()),
    }
}

fn tell(progress: &mpsc::Sender<Progress>, event: Progress) {
    // A slow reader must not delay the measurement.
    let _sent = progress.try_send(event);
}

fn length(plan: Plan) -> Duration {
    Duration::from_secs(u64::from(plan.seconds()))
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// Time for the idle round trips before the streams.
const IDLE_FOR: Duration = Duration::from_secs(1);

/// The number of idle round trips, if they take less time: enough that the slowest of a hundred is
/// not an accident.
const IDLE_MOST: u32 = 1_000;

/// The pause between two round trips under load, so that they are not a load themselves.
const PING_PAUSE: Duration = Duration::from_millis(5);

/// Time for one answer of the peer: longer than the recovery from a dead relay.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Time for the last answer after an interruption.
const LAST_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
