//! Does what a user of the demo does, from outside: SOCKS and DNS over loopback sockets, like any
//! other program.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use overlan::program::dns::client::{self, Lookup};
use overlan_transport::clock::now;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::WEB_NAME;
use super::site::{BULK_LEN, BULK_PATH, Noise};

/// One line of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckReport {
    /// The thing that was tried.
    pub(crate) what: &'static str,
    /// The result: a figure, or the failure.
    pub(crate) outcome: Result<String, String>,
}

/// Runs every check, even after a failed one. Returns true if all passed.
pub(super) async fn run(
    socks: SocketAddr,
    dns: SocketAddr,
    mut report: impl FnMut(&CheckReport),
) -> bool {
    let mut passed = true;
    let mut tell = |what, outcome: Result<String, CheckError>| {
        passed &= outcome.is_ok();
        let outcome = outcome.map_err(|error| error.to_string());
        report(&CheckReport { what, outcome });
    };
    tell("fetch the page through SOCKS5", within(fetch(socks)).await);
    tell(
        "resolve the name over UDP",
        within(resolve(dns, CheckTransport::Udp)).await,
    );
    tell(
        "resolve the name over TCP",
        within(resolve(dns, CheckTransport::Tcp)).await,
    );
    tell(
        "64 MiB down, SHA-256 compared",
        within(download(socks)).await,
    );
    tell("64 MiB up, SHA-256 compared", within(upload(socks)).await);
    tell(
        "round trip of a small request",
        within(latency(socks)).await,
    );
    tell(
        "a name outside the domain is refused",
        within(refuse_foreign(socks)).await,
    );
    passed
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("it took longer than {} s", LONGEST.as_secs())]
    TooLong,
    #[error("SOCKS answered {0}")]
    Socks(u8),
    #[error("{0}")]
    Wrong(String),
}

async fn within(
    check: impl Future<Output = Result<String, CheckError>>,
) -> Result<String, CheckError> {
    timeout(LONGEST, check)
        .await
        .unwrap_or(Err(CheckError::TooLong))
}

async fn fetch(socks: SocketAddr) -> Result<String, CheckError> {
    let started = now();
    let request = get("/");
    let response = http(socks, request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() || !body.windows(8).any(|part| part == b"It works") {
        return Err(CheckError::Wrong(format!(
            "the answer was {status}, {} bytes",
            body.len()
        )));
    }
    Ok(format!("{} bytes in {}", body.len(), millis(started)))
}

#[derive(Clone, Copy)]
enum CheckTransport {
    Udp,
    Tcp,
}

async fn resolve(dns: SocketAddr, transport: CheckTransport) -> Result<String, CheckError> {
    let started = now();
    let lookup = match transport {
        CheckTransport::Udp => client::ask_udp(dns, WEB_NAME).await?,
        CheckTransport::Tcp => client::ask_tcp(dns, WEB_NAME).await?,
    };
    if let Lookup::Addresses(addresses) = &lookup
        && !addresses.is_empty()
    {
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        return Ok(format!("{} in {}", addresses.join(", "), millis(started)));
    }
    Err(CheckError::Wrong(format!("the answer was {lookup:?}")))
}

async fn download(socks: SocketAddr) -> Result<String, CheckError> {
    let started = now();
    let mut body = http(socks, get(BULK_PATH)).await?.into_body();
    let mut context = digest::Context::new(&digest::SHA256);
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            context.update(data);
        }
    }
    let elapsed = now() - started;
    same_hash(&HEXLOWER.encode(context.finish().as_ref()))?;
    Ok(rate(elapsed))
}

async fn upload(socks: SocketAddr) -> Result<String, CheckError> {
    let started = now();
    let body = Noise::new(BULK_LEN).boxed();
    let request = Request::put(BULK_PATH)
        .header(hyper::header::HOST, WEB_NAME)
        .body(body);
    let request = request.map_err(|error| CheckError::Wrong(error.to_string()))?;
    let answer = http(socks, request)
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes();
    let elapsed = now() - started;
    same_hash(&String::from_utf8_lossy(&answer))?;
    Ok(rate(elapsed))
}

fn same_hash(got: &str) -> Result<(), CheckError> {
    let expected = Noise::new(BULK_LEN).hash();
    if got == expected {
        Ok(())
    } else {
        Err(CheckError::Wrong(format!(
            "SHA-256 is {got}, must be {expected}"
        )))
    }
}

/// The median of requests on one open connection.
async fn latency(socks: SocketAddr) -> Result<String, CheckError> {
    let mut stream = connect(socks, WEB_NAME, 80).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {WEB_NAME}\r\n\r\n");
    let mut times = Vec::new();
    let mut answer = vec![0; 4096];
    for _ in 0..ROUND_TRIPS {
        let started = now();
        stream.write_all(request.as_bytes()).await?;
        let mut got = 0;
        while !answer[..got].ends_with(b"</p>\n") {
            let count = stream.read(&mut answer[got..]).await?;
            if count == 0 {
                return Err(CheckError::Wrong("the connection ended early".to_owned()));
            }
            got += count;
        }
        times.push(now() - started);
    }
    times.sort();
    let micros = |at: usize| times.get(at).map_or(0, Duration::as_micros);
    Ok(format!(
        "p50 {} µs, p99 {} µs",
        micros(ROUND_TRIPS / 2),
        micros(ROUND_TRIPS * 99 / 100)
    ))
}

async fn refuse_foreign(socks: SocketAddr) -> Result<String, CheckError> {
    match connect(socks, "example.org", 80).await {
        Err(CheckError::Socks(2)) => Ok("SOCKS reply 2, not allowed".to_owned()),
        Err(error) => Err(error),
        Ok(_) => Err(CheckError::Wrong("it was connected".to_owned())),
    }
}

fn get(path: &str) -> Request<BoxBody<Bytes, std::convert::Infallible>> {
    let mut request = Request::new(Empty::new().boxed());
    *request.uri_mut() = path.parse().unwrap_or_default();
    let host = hyper::header::HeaderValue::from_static(WEB_NAME);
    request.headers_mut().insert(hyper::header::HOST, host);
    request
}

async fn http(
    socks: SocketAddr,
    request: Request<BoxBody<Bytes, std::convert::Infallible>>,
) -> Result<Response<Incoming>, CheckError> {
    let stream = connect(socks, WEB_NAME, 80).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response's body, because the sender is dropped here.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// A SOCKS5 CONNECT by name, as any program does it.
async fn connect(socks: SocketAddr, name: &str, port: u16) -> Result<TcpStream, CheckError> {
    let mut stream = TcpStream::connect(socks).await?;
    stream.set_nodelay(true)?;
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request[..3]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;
    stream.write_all(&request[3..]).await?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await?;
    if reply[1] != 0 {
        return Err(CheckError::Socks(reply[1]));
    }
    let mut bound = vec![0; if reply[3] == 4 { 18 } else { 6 }];
    stream.read_exact(&mut bound).await?;
    Ok(stream)
}

fn millis(started: Instant) -> String {
    format!("{:.1} ms", (now() - started).as_secs_f64() * 1_000.0)
}

fn rate(elapsed: Duration) -> String {
    let gigabits = BULK_LEN as f64 * 8.0 / 1e9 / elapsed.as_secs_f64();
    format!("{gigabits:.2} Gbit/s, {:.2} s", elapsed.as_secs_f64())
}

/// Longest time for one check, unoptimised builds and busy machines included.
const LONGEST: Duration = Duration::from_secs(120);

/// Requests whose times are compared.
const ROUND_TRIPS: usize = 500;
