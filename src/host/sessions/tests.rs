use super::*;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The side of a test: datagrams in and out, in virtual time.
#[derive(Default)]
struct Sides {
    arriving: Mutex<VecDeque<(SocketAddr, Vec<u8>)>>,
    arrived: Notify,
    answered: Mutex<Vec<(SocketAddr, u8)>>,
    refused: Mutex<Vec<SocketAddr>>,
    /// The senders that have a back, in the order of opening.
    opened: Mutex<Vec<SocketAddr>>,
    open_now: Mutex<Vec<SocketAddr>>,
    /// One clone for each session that looks up a name without end.
    looking_up: Arc<()>,
    /// Lets those find it.
    found: Notify,
    /// Datagrams that came to the service.
    served: AtomicUsize,
    /// Nobody is let in any more.
    closed: CancellationToken,
}

struct Many(Arc<Sides>);

/// Answers every datagram with its successor; refuses 0.
struct One {
    from: SocketAddr,
    sides: Arc<Sides>,
    answers: Mutex<VecDeque<io::Result<u8>>>,
    due: Notify,
}

impl Front for Many {
    async fn recv_from(&self, data: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            if let Some((from, datagram)) = self.0.arriving.lock().pop_front() {
                data[..datagram.len()].copy_from_slice(&datagram);
                return Ok((datagram.len(), from));
            }
            self.0.arrived.notified().await;
        }
    }

    fn send_to(&self, data: &[u8], to: SocketAddr) {
        self.0.answered.lock().push((to, data[0]));
    }

    fn refuse(&self, to: SocketAddr) {
        self.0.refused.lock().push(to);
    }
}

impl Back for One {
    async fn recv(&self, data: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(answer) = self.answers.lock().pop_front() {
                data[0] = answer?;
                return Ok(1);
            }
            self.due.notified().await;
        }
    }

    fn send(&self, data: &[u8]) -> io::Result<()> {
        self.sides.served.fetch_add(1, Relaxed);
        let answer = match data[0] {
            0 => Err(io::ErrorKind::ConnectionRefused.into()),
            byte => Ok(byte.wrapping_add(1)),
        };
        self.answers.lock().push_back(answer);
        self.due.notify_one();
        Ok(())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let mut open_now = self.sides.open_now.lock();
        open_now.retain(|from| *from != self.from);
    }
}

impl Sides {
    fn start(self: &Arc<Self>, max: usize) -> JoinSet<()> {
        let limits = SessionLimits {
            all: max,
            of_one_address: max,
        };
        self.start_with(limits)
    }

    fn start_with(self: &Arc<Self>, limits: SessionLimits) -> JoinSet<()> {
        let mut task = JoinSet::new();
        let sides = self.clone();
        let open = move |from: SocketAddr| {
            let sides = sides.clone();
            async move {
                // Nobody is at port 1.
                if from.port() == 1 {
                    return None;
                }
                // The name of the service at port 2 is looked up for long.
                if from.port() % 256 == 2 {
                    let _looking_up = sides.looking_up.clone();
                    sides.found.notified().await;
                }
                sides.opened.lock().push(from);
                sides.open_now.lock().push(from);
                Some(One {
                    from,
                    sides,
                    answers: Mutex::default(),
                    due: Notify::new(),
                })
            }
        };
        let front = Many(self.clone());
        let until = Until {
            closed: self.closed.clone(),
            ended: CancellationToken::new(),
        };
        task.spawn(async move { run(front, limits, open, &until).await });
        task
    }

    async fn send(&self, from: u16, byte: u8) {
        self.send_from(at(from), &[byte]).await;
    }

    async fn send_from(&self, from: SocketAddr, datagram: &[u8]) {
        let datagram = (from, datagram.to_vec());
        self.arriving.lock().push_back(datagram);
        self.arrived.notify_one();
        // In virtual time this lets everything else run out of work.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn open_ports(&self) -> Vec<u16> {
        let open = self.open_now.lock();
        let mut ports: Vec<u16> = open.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([100, 64, 0, 1], port))
}

#[tokio::test(start_paused = true)]
async fn each_sender_gets_its_own_answers() {
    let sides = Arc::new(Sides::default());
    let _task = sides.start(8);
    for (from, byte) in [(7, 1), (8, 10), (7, 2)] {
        sides.send(from, byte).await;
    }
    let answered = sides.answered.lock().clone();
    assert_eq!(answered, [(at(7), 2), (at(8), 11), (at(7), 3)]);
    assert_eq!(*sides.opened.lock(), [at(7), at(8)]);
}

#[tokio::test(start_paused = true)]
async fn who_meets_nobody_hears_of_it_and_may_try_again() {
    let sides = Arc::new(Sides::default());
    let _task = sides.start(8);
    sides.send(7, 0).await;
    sides.send(1, 5).await;
    assert_eq!(*sides.refused.lock(), [at(7), at(1)]);
    // The service has come meanwhile.
    sides.send(7, 4).await;
    assert_eq!(*sides.answered.lock(), [(at(7), 5)]);
    assert_eq!(sides.opened.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_both_sides_were_silent_and_the_next_datagram_opens_another() {
    let sides = Arc::new(Sides::default());
    let _task = sides.start(8);
    sides.send(7, 1).await;
    tokio::time::sleep(IDLE - Duration::from_millis(100)).await;
    sides.send(7, 2).await;
    tokio::time::sleep(IDLE - Duration::from_millis(100)).await;
    assert_eq!(sides.open_ports(), [7], "it was used meanwhile");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(sides.open_ports().is_empty());
    sides.send(7, 3).await;
    assert_eq!(sides.opened.lock().len(), 2);
    assert_eq!(sides.answered.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_sender_that_was_silent_for_longest_makes_room() {
    let sides = Arc::new(Sides::default());
    let _task = sides.start(3);
    for from in [7, 8, 9, 7, 10] {
        sides.send(from, 1).await;
    }
    assert_eq!(sides.open_ports(), [7, 9, 10]);
    assert_eq!(sides.answered.lock().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_makes_room_stops_looking_up_its_name() {
    let sides = Arc::new(Sides::default());
    let _task = sides.start(3);
    for round in 0..20_u16 {
        sides.send(round * 256 + 2, 1).await;
        let looking_up = Arc::strong_count(&sides.looking_up) - 1;
        assert!(looking_up <= 3, "{looking_up} after {round}");
    }
    // The latest ones are there and carry what waited.
    sides.found.notify_waiters();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(
        sides.open_ports(),
        [17, 18, 19].map(|round| round * 256 + 2)
    );
    assert_eq!(sides.served.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn one_address_takes_its_share_and_ends_nobody_elses_session() {
    let sides = Arc::new(Sides::default());
    let limits = SessionLimits {
        all: 4,
        of_one_address: 2,
    };
    let _task = sides.start_with(limits);
    let other = SocketAddr::from(([100, 64, 0, 9], 77));
    sides.send_from(other, &[1]).await;
    for from in 10..30 {
        sides.send(from, 1).await;
    }
    assert_eq!(sides.open_ports(), [28, 29, 77]);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_that_wait_are_bounded_for_a_session_and_for_all() {
    let sides = Arc::new(Sides::default());
    let _task = sides.start(64);
    let datagram = [1; 32 << 10];
    let fit = WAITING_BYTES / datagram.len();
    for _ in 0..2 * fit {
        sides.send_from(at(2), &datagram).await;
    }
    sides.found.notify_waiters();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(sides.served.swap(0, Relaxed), fit);

    // The space is free again, also for twice as many sessions as have it.
    let sessions = 2 * WAITING_BYTES_ALL / WAITING_BYTES;
    for session in 1..=sessions {
        let from = at(u16::try_from(session).unwrap() * 256 + 2);
        for _ in 0..fit {
            sides.send_from(from, &datagram).await;
        }
    }
    sides.found.notify_waiters();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let all = WAITING_BYTES_ALL / datagram.len();
    assert_eq!(sides.served.load(Relaxed), all);
    // Who got no space then has it now.
    let last = at(u16::try_from(sessions).unwrap() * 256 + 2);
    sides.send_from(last, &datagram).await;
    assert_eq!(sides.served.load(Relaxed), all + 1);
}

#[tokio::test(start_paused = true)]
async fn a_front_that_is_closed_goes_on_for_its_sessions_and_takes_no_new_sender() {
    let sides = Arc::new(Sides::default());
    let mut task = sides.start(8);
    sides.send(10, 1).await;
    sides.closed.cancel();
    sides.send(10, 3).await;
    sides.send(11, 5).await;
    assert_eq!(*sides.answered.lock(), [(at(10), 2), (at(10), 4)]);
    assert_eq!(*sides.refused.lock(), [at(11)]);
    assert_eq!(sides.open_ports(), [10]);
    task.shutdown().await;
}
