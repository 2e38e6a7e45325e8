//! Much in both directions at once, also with a plain TLS client or server at the other end.

use super::*;

#[tokio::test(start_paused = true)]
async fn much_both_ways_at_once_through_a_narrow_pipe_loses_nothing() {
    let length = 3 << 20;
    let (near, far) = duplex(1_000);
    let ((sealer, opener), (far_sealer, far_opener)) = keys();
    let near = Pump::new(near, sealer, opener, Vec::new());
    let far = Pump::new(far, far_sealer, far_opener, Vec::new());
    let (mut one, mut other) = (Bulk::new(length), Bulk::new(length));
    let both = async { tokio::join!(run_pump(near, &mut one), run_pump(far, &mut other)) };
    let (first, second) = timeout(WITHIN, both).await.expect("it comes to its end");
    for ended in [first, second] {
        // Who is done first closes, and the other may read that before it asks for more.
        assert!(
            matches!(ended, Ended::Ours(()) | Ended::Closed),
            "{ended:?}"
        );
    }
    assert_eq!((one.received, other.received), (length, length));
}

/// One side is a pump, the other knows nothing of it.
async fn exchange_with_plain_tls(pumped: TlsStream<Stepwise>, plain: TlsStream<Stepwise>) {
    let length = 8 << 20;
    let mut exchange = Bulk::new(length);
    let (mut reader, mut writer) = tokio::io::split(plain);
    let reading = async {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let writing = async {
        // Pieces of all kinds, cut into records by the other implementation.
        for piece in patterned(length).chunks(100_003) {
            writer.write_all(piece).await.unwrap();
        }
        writer.flush().await.unwrap();
    };
    let talk = async { tokio::join!(run(pumped, &mut exchange), reading, writing) };
    let (ended, bytes, ()) = timeout(WITHIN, talk).await.expect("it comes to its end");
    assert!(matches!(ended, Ended::Ours(())), "{ended:?}");
    let bytes = bytes.expect("the end is announced, not torn off");
    assert!(bytes == patterned(length));
    assert_eq!(exchange.received, length);
}

#[tokio::test]
async fn a_client_exchanges_much_with_plain_tls() {
    let (client, server) = pair().await;
    exchange_with_plain_tls(client, server).await;
}

#[tokio::test]
async fn a_server_exchanges_much_with_plain_tls() {
    let (client, server) = pair().await;
    exchange_with_plain_tls(server, client).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything() {
    let (pump, mut far) = over_pipe(4_096);
    let length = 2 * FILL + 77;
    let mut exchange = Bulk::new(length);
    let reading = async {
        while far.wire.records.iter().map(Vec::len).sum::<usize>() < length {
            sleep(WRITE_STALL / 3).await;
            assert!(far.read(2_000).await);
        }
    };
    tokio::select! {
        ended = run_pump(pump, &mut exchange) => panic!("{ended:?}"),
        () = reading => {}
    }
    assert!(far.wire.bytes() == patterned(length));
}
