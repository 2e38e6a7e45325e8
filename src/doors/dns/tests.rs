use super::*;

use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use overlan_protocol::netmap::Netmap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::names::lookup::tests::{answer, many_networks, query, texts};
use crate::names::tests::netmap;

struct Server {
    udp: UdpSocket,
    tcp: TcpStream,
    netmap: watch::Sender<Arc<Netmap>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// A server on free ports, and a client of both.
async fn server(netmap: Netmap) -> Server {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect(udp.local_addr().unwrap()).await.unwrap();
    let stream = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
    let (sender, receiver) = watch::channel(Arc::new(netmap));
    let shutdown = CancellationToken::new();
    let netmap = receiver.clone();
    let answer = move |query: Vec<u8>, transport| {
        let netmap = netmap.borrow().clone();
        async move { answer(&query, &netmap, transport) }
    };
    let task = tokio::spawn(serve(udp, tcp, answer, shutdown.clone()));
    Server {
        udp: client,
        tcp: stream,
        netmap: sender,
        shutdown,
        task,
    }
}

impl Server {
    async fn ask_udp(&self, message: &Message) -> Message {
        self.udp.send(&message.to_vec().unwrap()).await.unwrap();
        let mut reply = vec![0; 65_535];
        let len = self.udp.recv(&mut reply).await.unwrap();
        Message::from_vec(&reply[..len]).unwrap()
    }

    async fn read_tcp(&mut self) -> Message {
        let len = self.tcp.read_u16().await.unwrap();
        let mut reply = vec![0; usize::from(len)];
        self.tcp.read_exact(&mut reply).await.unwrap();
        Message::from_vec(&reply).unwrap()
    }
}

fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().unwrap();
    [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
}

#[tokio::test]
async fn queries_are_answered_over_udp_and_follow_the_netmap() {
    let server = server(netmap()).await;
    let web = query("Web.Demo.Overlan.Lan.", RecordType::A);
    // Neither garbage nor an answer stops it.
    server.udp.send(b"x").await.unwrap();
    server.udp.send(&[0xff; 40]).await.unwrap();
    let reply = server.ask_udp(&web).await;
    assert_eq!(texts(&reply.answers), ["100.64.0.2"]);
    let foreign = server.ask_udp(&query("example.org.", RecordType::A)).await;
    assert_eq!(foreign.metadata.response_code, ResponseCode::Refused);

    let mut changed = netmap();
    changed.networks.clear();
    server.netmap.send(Arc::new(changed)).unwrap();
    let gone = server.ask_udp(&web).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
    server.shutdown.cancel();
    server.task.await.unwrap();
}

#[tokio::test]
async fn what_is_cut_on_udp_is_whole_on_tcp() {
    let mut server = server(many_networks()).await;
    let long = query("1.0.64.100.in-addr.arpa.", RecordType::PTR);
    assert!(server.ask_udp(&long).await.metadata.truncation);
    server.tcp.write_all(&framed(&long)).await.unwrap();
    assert_eq!(
        server.read_tcp().await.answers.len(),
        many_networks().networks.len()
    );
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert_eq!(server.tcp.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn tcp_answers_many_queries_in_their_order_byte_by_byte() {
    let mut server = server(netmap()).await;
    let names = ["web", "laptop", "mail", "db"];
    let queries: Vec<u8> = names
        .iter()
        .flat_map(|name| framed(&query(&format!("{name}.demo.overlan.lan."), RecordType::A)))
        .collect();
    server.tcp.set_nodelay(true).unwrap();
    for byte in queries {
        server.tcp.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    server.tcp.shutdown().await.unwrap();
    for answers in [&["100.64.0.2"][..], &["100.64.0.1"], &[], &["100.64.0.3"]] {
        assert_eq!(texts(&server.read_tcp().await.answers), answers);
    }
    assert_eq!(
        server.tcp.read(&mut [0]).await.unwrap(),
        0,
        "it closes after us"
    );
    server.shutdown.cancel();
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_length_that_is_no_querys_ends_the_connection() {
    let mut server = server(netmap()).await;
    server.tcp.write_all(&[0xff, 0xff]).await.unwrap();
    assert_eq!(server.tcp.read(&mut [0]).await.unwrap(), 0);
    server.shutdown.cancel();
    server.task.await.unwrap();
}
