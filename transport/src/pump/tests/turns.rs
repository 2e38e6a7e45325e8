//! Wakes and turns: when the exchange is asked, and when other tasks get their turn.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_wakes_is_asked_again() {
    let (pump, mut far) = over_pipe(1_000);
    let mut exchange = Scripted::default();
    let (to_send, waker) = (exchange.to_send.clone(), exchange.waker.clone());
    let talking = async {
        advance(Duration::from_secs(3_600)).await;
        to_send.lock().push(b"later".to_vec());
        waker.lock().take().unwrap().wake();
        far.read_bytes(5).await
    };
    let bytes = tokio::select! {
        ended = run_pump(pump, &mut exchange) => panic!("{ended:?}"),
        bytes = talking => bytes,
    };
    assert_eq!(bytes, b"later");
    assert!(
        exchange.fills < 10,
        "asked {} times for nothing",
        exchange.fills
    );
}

#[tokio::test(start_paused = true)]
async fn all_records_of_one_fill_go_in_one_write() {
    let sink = Sink::default();
    let (pump, _wire) = over(sink.clone());
    let frames = (0..).map(|token| ping_of(token, record::BODY_MAX));
    let count = FILL / record::BODY_MAX;
    let frames: Vec<_> = frames.take(count).collect();
    let mut exchange = Scripted::sending([frames.concat()]).ending_in(Duration::from_secs(1));
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    let writes = sink.0.lock();
    assert_eq!(writes[0], count * sealed_len(record::BODY_MAX));
}

#[tokio::test(start_paused = true)]
async fn endless_work_leaves_others_their_turn() {
    let (pump, _wire) = over(Sink::default());
    let mut exchange = Bulk::new(usize::MAX);
    let others = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = run_pump(pump, &mut exchange) => panic!("{ended:?}"),
        () = others => {}
    }
    assert!(exchange.sent >= 3 * FILL, "it went on meanwhile");
}

#[tokio::test(start_paused = true)]
async fn work_for_more_than_one_turn_goes_on_by_itself() {
    let socket = Gated::default();
    socket.open();
    let (pump, wire) = over(socket.clone());
    let mut exchange = Scripted::default().ending_in(Duration::from_secs(1));
    *exchange.to_send.lock() = vec![vec![7]; 3 * TURNS];
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Ours(Done::InTime))), "{ended:?}");
    assert_eq!(socket.passed(wire), [7; 3 * TURNS]);
}
