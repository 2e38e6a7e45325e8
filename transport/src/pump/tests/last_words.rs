//! The end of a connection, and what the other side hears of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn last_words_arrive_whole_behind_a_half_written_record() {
    let (pump, mut far) = over_pipe(10);
    let mut exchange = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(Duration::from_secs(1))
    };
    let reading = async {
        // Until the exchange has ended it and the record is stuck in the middle.
        sleep(Duration::from_millis(1_500)).await;
        far.read_to_end().await
    };
    let (ended, bytes) = tokio::join!(run_pump(pump, &mut exchange), reading);
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    assert_eq!(bytes, [patterned(100), b"goodbye".to_vec()].concat());
}

#[tokio::test(start_paused = true)]
async fn last_words_wait_only_a_moment_for_who_does_not_listen() {
    let (pump, _far) = over_pipe(10);
    let mut exchange = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(Duration::from_secs(1))
    };
    let began = now();
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    check_time(now() - began, Duration::from_secs(1) + LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_peer_refuses_end_it_with_its_last_words() {
    let (pump, mut far) = over_pipe(1_000);
    let mut exchange = Scripted {
        refuses: Some(2),
        last_words: b"no".to_vec(),
        ..Scripted::default()
    };
    far.send(&pings(1..=3)).await;
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::Refused)), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2]);
    assert_eq!(far.read_to_end().await, b"no");
}

#[tokio::test]
async fn last_words_and_the_end_arrive_at_plain_tls() {
    let (near, mut far) = pair().await;
    let mut exchange = Scripted {
        refuses: Some(2),
        last_words: b"no".to_vec(),
        ..Scripted::sending([patterned(70_000)])
    };
    far.write_all(&pings(1..=3)).await.unwrap();
    far.flush().await.unwrap();
    let mut bytes = Vec::new();
    let talk = async { tokio::join!(run(near, &mut exchange), far.read_to_end(&mut bytes)) };
    let (ended, read) = timeout(WITHIN, talk).await.unwrap();
    assert!(matches!(ended, Ended::Ours(Done::Refused)), "{ended:?}");
    read.expect("the end is announced, not torn off");
    assert!(bytes.ends_with(b"no"));
    let sent = &bytes[..bytes.len() - 2];
    assert!(
        sent.is_empty() || sent == patterned(70_000),
        "whole or not at all"
    );
}

#[tokio::test]
async fn plain_tls_that_closes_ends_it() {
    let (near, mut far) = pair().await;
    let mut exchange = Scripted::default();
    let closing = async {
        far.write_all(&pings(1..=3)).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let talk = async { tokio::join!(run(near, &mut exchange), closing) };
    let (ended, ()) = timeout(WITHIN, talk).await.unwrap();
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2, 3]);
}
