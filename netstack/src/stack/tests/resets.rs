//! Ends that no program made: what was written before them arrives, and then a reset.

use std::io::ErrorKind;
use std::time::Duration;

use super::net::*;
use crate::{Config, TcpStream};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(50);

/// The bytes that can be read, and the end that comes after them: `None` for an orderly end.
fn read_to_end(stream: &TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = Vec::new();
    let mut data = [0; 4_096];
    loop {
        match stream.try_read(&mut data) {
            Ok(0) => return (all, None),
            Ok(count) => all.extend_from_slice(&data[..count]),
            Err(error) => return (all, Some(error.kind())),
        }
    }
}

#[test]
fn a_stream_that_is_dropped_before_its_end_delivers_what_is_queued_and_resets() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    let sent = pattern(60_000, 1);
    assert_eq!(client.try_write(&sent).unwrap(), sent.len());
    drop(client);
    net.pass(MOMENT);
    let (received, end) = read_to_end(&server);
    assert!(received == sent, "{} bytes", received.len());
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
    for side in [A, B] {
        let stats = net.stack(side).stats();
        assert_eq!((stats.flows, stats.time_wait, stats.timers), (0, 0, 0));
    }
}

#[test]
fn an_early_answer_arrives_although_the_question_was_not_read() {
    // The program closes in order, or is gone; an upload waits in its ring, and more of it comes.
    for ends in [true, false] {
        let mut net = Net::new(small());
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        client.try_write(&pattern(60_000, 1)).unwrap();
        net.pass(MOMENT);
        server.try_write(b"501 Not Implemented").unwrap();
        if ends {
            server.try_shutdown();
        }
        drop(server);
        let _ = client.try_write(&pattern(10_000, 2));
        net.pass(MOMENT);
        let (answer, end) = read_to_end(&client);
        assert_eq!(answer, b"501 Not Implemented");
        assert_eq!(end, (!ends).then_some(ErrorKind::ConnectionReset));
        assert_eq!(
            client.try_write(b"more").unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        assert_eq!(net.stack(B).stats().flows, 0);
    }
}

#[test]
fn a_reset_waits_for_what_was_written_and_for_no_longer() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    // More than the remote has room for: it waits for the reader.
    let sent = pattern(131_000, 1);
    let mut offset = 0;
    while offset < sent.len() {
        offset += client.try_write(&sent[offset..]).unwrap();
        net.pass(MOMENT);
    }
    client.reset_when_delivered();
    assert_eq!(
        client.try_write(b"x").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    server.try_write(b"still read").unwrap();
    net.pass(10 * SECOND);
    assert_eq!(client.try_read(&mut [0; 16]).unwrap(), 10);
    let (mut received, mut end) = (Vec::new(), None);
    let took = net.until(SECOND, |_| {
        let (more, kind) = read_to_end(&server);
        received.extend(more);
        end = kind.filter(|kind| *kind != ErrorKind::WouldBlock);
        end.is_some()
    });
    assert!(received == sent);
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
    // Window, data, acknowledgement, reset.
    assert!(took <= MOMENT, "{took:?}");
    assert_eq!(
        client.try_read(&mut [0; 16]).unwrap_err().kind(),
        ErrorKind::ConnectionAborted
    );
    assert_eq!(net.stack(A).stats().flows, 0);
}

#[test]
fn a_reset_with_nothing_to_deliver_goes_out_at_once() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.reset_when_delivered();
    net.pass(Duration::from_millis(5));
    let (_, end) = read_to_end(&server);
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_reset_survives_the_loss_of_what_it_waits_for() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    client.try_write(b"lost and repeated").unwrap();
    client.reset_when_delivered();
    drop(client);
    net.settle();
    net.lose_in_flight();
    net.pass(2 * SECOND);
    let (received, end) = read_to_end(&server);
    assert_eq!(received, b"lost and repeated");
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_remote_that_takes_nothing_does_not_hold_a_reset_back_for_ever() {
    for held in [true, false] {
        let mut net = Net::new(Config {
            linger_timeout: 60 * SECOND,
            ..small()
        });
        let listener = net.stack(B).listen(80).unwrap();
        let (client, server) = net.pair(&listener, false);
        net.links[A].cut = true;
        client.try_write(b"never acknowledged").unwrap();
        client.reset_when_delivered();
        let client = held.then_some(client);
        net.pass(59 * SECOND);
        assert_eq!(net.stack(A).stats().flows, 1);
        net.links[A].cut = false;
        net.links[A].blocked = true;
        net.pass(2 * SECOND);
        assert_eq!(net.stack(A).stats().flows, 0);
        if let Some(client) = client {
            let error = client.try_read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        drop(server);
    }
}

#[test]
fn a_remote_that_started_anew_resets_what_was_open_and_nothing_else() {
    let mut net = Net::new(small());
    let listener = net.stack(B).listen(80).unwrap();
    let (client, server) = net.pair(&listener, false);
    server.try_write(b"arrived").unwrap();
    net.pass(MOMENT);
    let remote = std::net::SocketAddr::new(address(B, false), 80);
    let mut connecting = std::pin::pin!(net.stack(A).connect(net.now, remote).unwrap());

    net.stack(A).reset_remote(net.now, address(B, false));

    let (received, end) = read_to_end(&client);
    assert_eq!(received, b"arrived");
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
    net.pass(MOMENT);
    assert_eq!(read_to_end(&server).1, Some(ErrorKind::ConnectionReset));
    let _accepted = poll(std::pin::pin!(listener.accept())).unwrap().accept();
    net.pass(MOMENT);
    assert!(poll(connecting.as_mut()).unwrap().is_ok());
}
