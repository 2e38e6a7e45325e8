//! Both ends over two stacks that are joined by a task: real time, since what is measured is how
//! much goes in it.

use std::net::SocketAddr;

use overlan_netstack::{Config, ConnectError, Shell, Stack};
use tokio::sync::Notify;

use super::super::{PORT, serve};
use super::*;

struct Woken(Arc<Notify>);

impl Shell for Woken {
    fn packets_ready(&self, _: IpAddr) {
        self.0.notify_one();
    }

    fn timer_changed(&self) {
        self.0.notify_one();
    }
}

/// Two stacks and the tasks that carry packets between them and let the second be measured.
struct Pair {
    stacks: [Stack; 2],
    events: mpsc::Receiver<Progress>,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

fn address(index: usize) -> IpAddr {
    IpAddr::from([100, 64, 0, 1 + index as u8])
}

async fn carry(stacks: [Stack; 2], woken: Arc<Notify>) {
    let mut packet = Vec::new();
    loop {
        let mut moved = false;
        for (index, stack) in stacks.iter().enumerate() {
            let other = 1 - index;
            stack.handle_timeout(now());
            for _ in 0..16 {
                packet.clear();
                if stack
                    .poll_packet(now(), address(other), &mut packet)
                    .is_none()
                {
                    break;
                }
                stacks[other].handle_packet(now(), &packet, &|_, _, _| true);
                moved = true;
            }
        }
        if moved {
            tokio::task::yield_now().await;
            continue;
        }
        let due = stacks.iter().filter_map(Stack::poll_timeout).min();
        let due = due.unwrap_or_else(|| now() + Duration::from_secs(1));
        tokio::select! {
            () = woken.notified() => {}
            () = sleep_until(due.into()) => {}
        }
    }
}

impl Pair {
    fn new() -> Self {
        let woken = Arc::new(Notify::new());
        let stacks = [0, 1].map(|index| {
            let shell = Arc::new(Woken(woken.clone()));
            let seed = [index as u8; 32];
            Stack::new(Config::default(), &[address(index)], now(), seed, shell)
        });
        let (told, events) = mpsc::channel(64);
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(carry(stacks.clone(), woken));
        let listener = stacks[1].listen(PORT).unwrap();
        tasks.spawn(serve(
            vec![listener],
            Counters::default,
            told,
            closing.clone(),
        ));
        Self {
            stacks,
            events,
            closing,
            tasks,
        }
    }

    async fn dial(&self) -> Result<TcpStream, PerfError> {
        let to = SocketAddr::new(address(1), PORT);
        let connecting = self.stacks[0].connect(now(), to).unwrap();
        connecting.await.map_err(|error| {
            assert_eq!(error, ConnectError::Refused);
            PerfError::NotServing(PORT)
        })
    }

    async fn run(&self, plan: Plan, stop: CancellationToken) -> (Result<Report, PerfError>, Told) {
        let (told, mut events) = mpsc::channel(64);
        let dial = || self.dial();
        let peer = "peer".to_owned();
        let result = run(peer, plan, dial, Counters::default, &told, stop).await;
        drop(told);
        let mut told = Vec::new();
        while let Some(event) = events.recv().await {
            told.push(event);
        }
        (result, told)
    }
}

type Told = Vec<Progress>;

#[tokio::test]
async fn both_directions_are_measured_and_the_session_ends() {
    let mut pair = Pair::new();
    let plan = Plan::new(1, 2, 1).unwrap();
    let (report, told) = pair.run(plan, CancellationToken::new()).await;
    let report = report.unwrap();
    assert_eq!((report.address, report.interrupted), (address(1), false));
    let (up, down) = (report.up.unwrap(), report.down.unwrap());
    assert_eq!((up.streams.len(), down.streams.len()), (2, 1));
    assert!(
        up.bytes > 1 << 20 && down.bytes > 1 << 20,
        "{up:?} {down:?}"
    );
    assert!(up.fairness > 0.8, "{up:?}");
    assert!(report.latency_idle.unwrap().round_trips > 10);
    assert!(report.latency_loaded.unwrap().round_trips > 1);
    assert!((0.9..10.0).contains(&report.seconds), "{}", report.seconds);
    assert!(matches!(told[0], Progress::Idle { latency: Some(_) }));
    assert!(
        matches!(
            told[1],
            Progress::Second {
                second: 1,
                up: 1..,
                down: 1..
            }
        ),
        "{told:?}"
    );

    let remote = address(0);
    assert_eq!(
        pair.events.recv().await,
        Some(Progress::Began { remote, plan })
    );
    assert_eq!(pair.events.recv().await, Some(Progress::Ended { remote }));
}

#[tokio::test]
async fn it_can_be_stopped_at_any_time_and_reports_what_it_has() {
    let pair = Pair::new();
    let stop = CancellationToken::new();
    stop.cancel();
    let plan = Plan::new(3_600, 1, 1).unwrap();
    let (result, _) = pair.run(plan, stop).await;
    assert!(matches!(result, Err(PerfError::Interrupted)), "{result:?}");

    for plan in [plan, Plan::new(3_600, 0, 0).unwrap()] {
        let stop = CancellationToken::new();
        let (told, mut events) = mpsc::channel(64);
        let running = run(
            "peer".to_owned(),
            plan,
            || pair.dial(),
            Counters::default,
            &told,
            stop.clone(),
        );
        let stopping = async {
            if plan.has_streams() {
                while !matches!(events.recv().await, Some(Progress::Second { .. })) {}
            } else {
                // Nothing tells of single round trips; the flows of the session do.
                while pair.stacks[1].stats().flows < 2 {
                    tokio::task::yield_now().await;
                }
            }
            stop.cancel();
        };
        let (report, ()) = tokio::join!(running, stopping);
        match report {
            Ok(report) => {
                assert!(report.interrupted);
                assert_eq!(report.up.is_some(), plan.has_streams());
            }
            Err(error) => {
                let early = matches!(error, PerfError::Interrupted) && !plan.has_streams();
                assert!(early, "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn sessions_are_few_and_strangers_join_none() {
    let mut pair = Pair::new();
    let plan = Plan::new(60, 1, 0).unwrap();
    let mut open = Vec::new();
    for number in 0..4 {
        let stream = pair.dial().await.unwrap();
        let session = [number; 16];
        ready(&stream, &Message::Open { session, plan })
            .await
            .unwrap();
        open.push(stream);
    }
    let one_more = pair.dial().await.unwrap();
    let session = [9; 16];
    let answer = ready(&one_more, &Message::Open { session, plan }).await;
    assert!(matches!(answer, Err(PerfError::Busy)), "{answer:?}");

    let join = async |session, role| {
        let stream = pair.dial().await.unwrap();
        let answer = exchange(&stream, &Message::Join { session, role }).await;
        (answer.unwrap(), stream)
    };
    let refused = Message::Refused(Refused::Unknown);
    let (answer, _stream) = join([0; 16], Role::Up(0)).await;
    assert_eq!(answer, Message::Ready);
    assert_eq!(join([0; 16], Role::Up(0)).await.0, refused, "there already");
    assert_eq!(join([0; 16], Role::Up(1)).await.0, refused, "not planned");
    assert_eq!(join([0; 16], Role::Down(0)).await.0, refused);
    assert_eq!(
        join([8; 16], Role::Echo).await.0,
        refused,
        "no such session"
    );

    // A control connection that goes makes room.
    drop(open.pop());
    let ended =
        async { while !matches!(pair.events.recv().await, Some(Progress::Ended { .. })) {} };
    ended.await;
    let stream = pair.dial().await.unwrap();
    ready(&stream, &Message::Open { session, plan })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_speaks_something_else_is_let_go_and_a_closed_port_is_said_to_be() {
    let mut pair = Pair::new();
    let stream = pair.dial().await.unwrap();
    stream.try_write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answer = read_message(&stream).await;
    assert!(answer.is_err(), "{answer:?}");

    let stream = pair.dial().await.unwrap();
    // Counts are for who has started.
    let plan = Plan::new(1, 0, 0).unwrap();
    let session = [1; 16];
    ready(&stream, &Message::Open { session, plan })
        .await
        .unwrap();
    assert!(exchange(&stream, &Message::Ask).await.is_err());

    pair.closing.cancel();
    // The task of the end that serves.
    pair.tasks.join_next().await.unwrap().unwrap();
    let plan = Plan::new(1, 1, 0).unwrap();
    let (result, _) = pair.run(plan, CancellationToken::new()).await;
    assert!(
        matches!(result, Err(PerfError::NotServing(PORT))),
        "{result:?}"
    );
}
