//! The log lines of two flows at once, and the cost of a span that nobody asked for.

use super::*;

use std::fmt;
use std::io::Write;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// A tunnel to `port` through the door, in which one byte has come back.
async fn tunnel(door: &Fixture, port: u16) -> TcpStream {
    let mut client = door.connect().await;
    let request = format!("CONNECT {WEB}:{port} HTTP/1.1\r\nHost: {WEB}:{port}\r\n\r\nx");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\nx") {
        heard.push(client.read_u8().await.unwrap());
    }
    client
}

/// A connection by SOCKS to `port`, in which one byte has come back.
async fn socks(door: &Fixture, port: u16) -> TcpStream {
    let mut client = door.connect().await;
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(WEB.len()).unwrap()];
    request.extend_from_slice(WEB.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    request.push(b'x');
    client.write_all(&request).await.unwrap();
    let mut heard = [0; 2 + 10 + 1];
    client.read_exact(&mut heard).await.unwrap();
    client
}

#[tokio::test]
async fn lines_of_two_flows_at_once_name_their_client_and_their_destination() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(LevelFilter::DEBUG)
        .with_writer(log.clone())
        .finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let own = loopback_listener().await;
    let door = Fixture::open_with(ProxyConfig::default(), own.local_addr().ok()).await;
    let echoing = tokio::spawn(async move {
        let (mut stream, _) = own.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let (mut first, mut second) = (tunnel(&door, ECHO).await, socks(&door, OWN).await);
    let clients = [&first, &second].map(|stream| stream.local_addr().unwrap());
    for stream in [&mut first, &mut second] {
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    echoing.await.unwrap();
    door.close().await;
    drop(logging);

    let log = log.text();
    let ended = log.lines().filter(|line| line.contains("ended"));
    let ended: Vec<&str> = ended.filter(|line| line.contains("flow{")).collect();
    assert_eq!(ended.len(), 2, "{log}");
    for (client, port) in clients.into_iter().zip([ECHO, OWN]) {
        let door = format!("door{{client={client}}}");
        let lines: Vec<_> = ended.iter().filter(|line| line.contains(&door)).collect();
        let [line] = lines[..] else {
            panic!("{door} {log}");
        };
        assert!(line.contains(&format!("port={port}}}")), "{line}");
        assert!(
            line.contains(&format!("destination={WEB}"))
                || line.contains(&format!("destination=\"{WEB}\"")),
            "{line}"
        );
    }
}

/// It must not be written.
struct Unwritten;

impl fmt::Display for Unwritten {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("nobody asked for this span");
    }
}

#[test]
fn a_span_below_the_level_of_the_log_formats_nothing() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_writer(Log::default())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let span = debug_span!("flow", destination = %Unwritten);
        assert!(span.is_disabled());
    });
}
