//! The handles under a real runtime: two stacks whose shells are tasks.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::core::Core;
use crate::{Config, ConnectError, Shell, Stack};

/// Carries packets to the other stack right away, from whatever task produced them.
#[derive(Default)]
struct Cable {
    /// One carrier at a time, or packets would overtake each other.
    carrying: Mutex<()>,
    ends: OnceLock<(Weak<Core>, Weak<Core>)>,
    wanted: tokio::sync::Notify,
}

impl Shell for Cable {
    fn packets_ready(&self, _: IpAddr) {
        self.wanted.notify_one();
    }

    fn timer_changed(&self) {
        self.wanted.notify_one();
    }
}

impl Cable {
    /// Does what is due at this end. Returns when there is more: without it an acknowledgement that
    /// waits would never go.
    fn run_timers(&self) -> Option<std::time::Instant> {
        let core = self.ends.get()?.0.upgrade()?;
        let stack = Stack { core };
        stack.handle_timeout(tokio::time::Instant::now().into_std());
        stack.poll_timeout()
    }

    fn carry(&self, remote: IpAddr) {
        let _carrying = self.carrying.lock();
        let Some((from, to)) = self.ends.get() else {
            return;
        };
        let (Some(from), Some(to)) = (from.upgrade(), to.upgrade()) else {
            return;
        };
        let (from, to) = (Stack { core: from }, Stack { core: to });
        let now = tokio::time::Instant::now().into_std();
        let mut packet = Vec::new();
        while from.poll_packet(now, remote, &mut packet).is_some() {
            to.handle_packet(now, &packet, &|_, _, _| true);
            packet.clear();
        }
    }
}

fn stacks() -> (Stack, Stack) {
    let (a, b): (IpAddr, IpAddr) = ([100, 64, 0, 1].into(), [100, 64, 0, 2].into());
    let now = tokio::time::Instant::now().into_std();
    let wires = [Arc::new(Cable::default()), Arc::new(Cable::default())];
    let stack_a = Stack::new(Config::default(), &[a], now, [1; 32], wires[0].clone());
    let stack_b = Stack::new(Config::default(), &[b], now, [2; 32], wires[1].clone());
    let (weak_a, weak_b) = (Arc::downgrade(&stack_a.core), Arc::downgrade(&stack_b.core));
    wires[0].ends.set((weak_a.clone(), weak_b.clone())).unwrap();
    wires[1].ends.set((weak_b, weak_a)).unwrap();
    for (wire, remote) in wires.into_iter().zip([b, a]) {
        tokio::spawn(async move {
            loop {
                let due = wire.run_timers();
                let timer = async {
                    match due {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = wire.wanted.notified() => {}
                    () = timer => {}
                }
                wire.carry(remote);
            }
        });
    }
    (stack_a, stack_b)
}

#[tokio::test]
async fn copies_both_ways_through_one_shared_stream() {
    let (a, b) = stacks();
    let listener = b.listen(80).unwrap();
    let echo = tokio::spawn(async move {
        let stream = listener.accept().await.accept();
        // One task, both directions, no lock.
        let (mut reader, mut writer) = (&stream, &stream);
        let copied = tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
        copied
    });
    let now = tokio::time::Instant::now().into_std();
    let stream = a
        .connect(now, "100.64.0.2:80".parse().unwrap())
        .unwrap()
        .await
        .unwrap();
    let sent: Vec<u8> = (0..5_000_000_u32)
        .map(|index| ((index * 7) >> 3) as u8)
        .collect();
    let (mut reader, mut writer) = (&stream, &stream);
    let send = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let all = async { tokio::join!(send, reader.read_to_end(&mut received)) };
    let ((), read) = tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .unwrap();
    assert_eq!(read.unwrap(), sent.len());
    assert!(received == sent);
    assert_eq!(echo.await.unwrap(), sent.len() as u64);
}

#[tokio::test]
async fn waiting_tasks_are_woken_by_ends_of_all_kinds() {
    let (a, b) = stacks();
    let listener = b.listen(80).unwrap();
    let now = tokio::time::Instant::now().into_std();
    let remote = "100.64.0.2:80".parse().unwrap();
    let (client, server) = tokio::join!(a.connect(now, remote).unwrap(), async {
        listener.accept().await.accept()
    });
    let (mut client, mut server) = (client.unwrap(), server);
    let waiting = tokio::spawn(async move { client.read_u8().await });
    tokio::task::yield_now().await;
    server.write_all(b"").await.unwrap();
    server.abort();
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );

    let refused = a
        .connect(now, "100.64.0.2:81".parse().unwrap())
        .unwrap()
        .await;
    assert_eq!(refused.unwrap_err(), ConnectError::Refused);

    let socket = b.bind_udp(53).unwrap();
    let asking = a.bind_udp(0).unwrap();
    asking
        .send_to(b"question", "100.64.0.2:53".parse().unwrap())
        .unwrap();
    let mut data = [0; 16];
    let (len, _) = socket.recv_from(&mut data).await.unwrap();
    assert_eq!(&data[..len], b"question");

    let pong = a
        .ping(now, [100, 64, 0, 2].into(), b"x")
        .unwrap()
        .await
        .unwrap();
    assert_eq!(pong.payload, b"x");
}

#[tokio::test]
async fn what_was_written_is_delivered_when_the_remote_has_acknowledged_it_and_the_close() {
    let (a, b) = stacks();
    let listener = b.listen(80).unwrap();
    let now = tokio::time::Instant::now().into_std();
    let remote = "100.64.0.2:80".parse().unwrap();
    let (client, server) = tokio::join!(a.connect(now, remote).unwrap(), async {
        listener.accept().await.accept()
    });
    let (mut client, mut server) = (client.unwrap(), server);
    let delivered = || std::future::poll_fn(|cx| a.poll_delivered(cx));
    // An idle flow that somebody holds has nothing to deliver.
    delivered().await;

    // More than the remote has room for waits until its program reads, and then until the FIN is
    // acknowledged.
    let sent = vec![7; 3 << 20];
    let (mut writing, mut read) = (client_writes(&mut client, &sent), vec![]);
    let mut waiting = std::pin::pin!(async {
        (&mut writing).await;
        delivered().await;
    });
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "nobody has read");
    let both = async { tokio::join!(waiting, server.read_to_end(&mut read)) };
    let ((), len) = tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .unwrap();
    assert_eq!(len.unwrap(), sent.len());

    // A reset of everything is heard by who holds a stream, whatever it waits for.
    let waiting = tokio::spawn(async move { server.write_all(&vec![0; 8 << 20]).await });
    tokio::task::yield_now().await;
    b.reset_flows(tokio::time::Instant::now().into_std());
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    assert_eq!(b.stats().flows, 0);
    std::future::poll_fn(|cx| b.poll_delivered(cx)).await;
}

fn client_writes<'a>(
    client: &'a mut crate::TcpStream,
    data: &'a [u8],
) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async {
        client.write_all(data).await.unwrap();
        client.shutdown().await.unwrap();
    })
}
