//! Sockets that take nothing, other ends that say nothing, and the memory that rests meanwhile.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_write_that_ends_later_lets_the_peer_give_more() {
    let socket = Gated::default();
    let (pump, wire) = over(socket.clone());
    let mut exchange = Scripted::sending([b"one ".to_vec(), b"two ".to_vec(), b"three".to_vec()])
        .ending_in(WRITE_STALL / 2);
    let (opener, to_send) = (socket.clone(), exchange.to_send.clone());
    // A task of its own, so that nothing but the pump's own wakers polls the pump.
    let opening = tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        let left = to_send.lock().len();
        opener.open();
        left
    });
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    assert_eq!(opening.await.unwrap(), 2, "no more than one was asked for");
    assert_eq!(socket.passed(wire), b"one two three");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_ends_is_found_as_soon_as_silence() {
    let (pump, _wire) = over(Gated::default());
    let mut exchange = Scripted::sending([b"one".to_vec()]);
    let began = now();
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Silent)), "{ended:?}");
    check_time(now() - began, SILENCE);
}

/// Hundreds of silent connections must not keep the memory of an old burst.
#[tokio::test(start_paused = true)]
async fn the_buffer_grows_with_what_comes_and_shrinks_while_nothing_does() {
    let (mut pump, mut far) = over_pipe(INBOUND);
    assert_eq!(pump.inbound.len(), INBOUND_AT_REST);
    let mut exchange = Scripted::sending([]).ending_in(Duration::from_secs(60));
    let mut most = 0;
    for pause in [0, 0, 0, 30] {
        sleep(Duration::from_secs(pause)).await;
        if pause == 0 {
            far.send(&pings(0..10_000)).await;
        } else {
            far.send(&ping(1, 0)).await;
        }
        for _ in 0..TURNS {
            let read = poll_fn(|cx| Poll::Ready(pump.poll_read(cx, &mut exchange, now()))).await;
            assert!(read.is_ok());
        }
        most = most.max(pump.inbound.len());
    }
    assert_eq!(most, INBOUND);
    assert_eq!(pump.inbound.len(), INBOUND_AT_REST);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_and_is_heard_gets_longer() {
    let (pump, mut far) = over_pipe(100);
    let mut exchange = Scripted::sending([vec![7; 1_000]]).ending_in(3 * WRITE_STALL);
    let began = now();
    let talking = async {
        loop {
            far.send(&ping(1, 0)).await;
            sleep(SILENCE / 2).await;
        }
    };
    tokio::select! {
    ended = run_pump(pump, &mut exchange) => {
    assert!(matches!(ended, Ended::Stalled), "{ended:?}");
    }
            () = talking => {}
        }
    check_time(now() - began, WRITE_STALL);
}

/// The owner's question lies after bytes that cannot be written, and so would last words to an end
/// that hears nothing.
#[tokio::test(start_paused = true)]
async fn an_owner_that_gives_up_who_is_silent_waits_for_no_last_words() {
    let (pump, _far) = over_pipe(10);
    let mut exchange = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(SILENCE)
    };
    let began = now();
    let _ = run_pump(pump, &mut exchange).await;
    check_time(now() - began, SILENCE);
}

/// Otherwise the end lies after bytes that the other side's socket does not take, and that side
/// goes on for minutes.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_given_up_is_reset() {
    let (near, far) = pair().await;
    let mut exchange = Bulk::new(64 * 1024 * 1024);
    let ended = run(near, &mut exchange).await;
    assert!(matches!(ended, Ended::Silent), "{ended:?}");
    let TlsStream::Server(far) = far else {
        panic!("the far end is the server");
    };
    let mut socket = far.into_inner().0;
    let mut chunk = vec![0; 65_536];
    let error = loop {
        match socket.read(&mut chunk).await {
            Ok(0) => panic!("an end in order"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_breaks_is_told() {
    let socket = Gated::default();
    socket.0.lock().broken = true;
    let (pump, _wire) = over(socket);
    let mut exchange = Scripted::sending([b"one".to_vec()]);
    let ended = run_pump(pump, &mut exchange).await;
    let Ended::Broken(error) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_a_part_and_then_nothing_is_a_stall() {
    let (pump, _far) = over_pipe(10);
    let mut exchange = Scripted::sending([vec![7; 100]]);
    let began = now();
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Silent)), "{ended:?}");
    check_time(now() - began, SILENCE);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_little_is_no_stall() {
    let (pump, mut far) = over_pipe(10);
    // Five times what the socket holds: it fills at once, and each read makes room for as much
    // again.
    let mut exchange = Scripted::sending([vec![7; 50 - sealed_len(0)]]).ending_in(6 * SILENCE);
    let reading = async {
        for _ in 0..4 {
            sleep(SILENCE - Duration::from_millis(100)).await;
            far.socket.read_exact(&mut [0; 10]).await.unwrap();
        }
    };
    let (ended, ()) = tokio::join!(run_pump(pump, &mut exchange), reading);
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_with_nothing_to_send_is_no_stall() {
    // A socket that is exactly full has taken everything.
    let (pump, _far) = over_pipe(sealed_len(10));
    let mut exchange = Scripted::sending([vec![7; 10]]).ending_in(9 * WRITE_STALL);
    let began = now();
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    // The announcement of the end finds no room.
    check_time(now() - began, 9 * WRITE_STALL + LAST_WORDS);
}
