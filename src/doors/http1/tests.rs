//! Both doors as a client sees them, by bytes: the proxy and a served HTTP port, each with a
//! service of the test.

mod ends;

mod rfc9110;

mod rfc9112;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::key::{DeviceId, IdentityKey};
use overlan_protocol::netmap::Owner;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::doors::proxy::ProxyConfig;
use crate::doors::proxy::tests::{Fixture, loopback_listener};
use crate::doors::serve::service::Serve;
use crate::doors::serve::tests::{Overlay, SERVED_PORT, serve_port};
use crate::doors::serve::{self, ServedPort};
use crate::names::PeerIdentity;

/// A stream of either door.
trait SharedStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> SharedStream for S {}

/// A door, and the service that it leads to.
enum Door {
    Proxy(Fixture),
    Served(ServedDoor),
}

struct ServedDoor {
    overlay: Overlay,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Door {
    /// The proxy, and a served port.
    async fn both(service: &Service) -> [Self; 2] {
        [
            Self::proxy(service).await,
            Self::served(service, Owner::Unknown),
        ]
    }

    async fn proxy(service: &Service) -> Self {
        Self::Proxy(Fixture::open_with(ProxyConfig::default(), Some(service.address)).await)
    }

    /// To a peer that was enrolled by `owner`.
    fn served(service: &Service, owner: Owner) -> Self {
        let overlay = Overlay::new();
        let mut config = ServedPort::new(&Serve::tcp(1, service.address));
        config.http = true;
        let stop = CancellationToken::new();
        let identify: serve::http::Identify = Arc::new(move |address| {
            Some(PeerIdentity {
                name: "laptop.home.overlan.lan".into(),
                label: "laptop".into(),
                network: "home".into(),
                device: DeviceId([7; 16]),
                key: IdentityKey([5; 32]),
                owner: owner.clone(),
                address,
                this_device: false,
            })
        });
        let listener = overlay.server.listen(SERVED_PORT).unwrap();
        let task = tokio::spawn(serve_port(listener, config, identify, stop.clone()));
        Self::Served(ServedDoor {
            overlay,
            stop,
            task,
        })
    }

    fn is_proxy(&self) -> bool {
        matches!(self, Self::Proxy(_))
    }

    async fn connect(&self) -> Box<dyn SharedStream> {
        match self {
            Self::Proxy(fixture) => Box::new(fixture.connect().await),
            Self::Served(served) => Box::new(served.overlay.connect().await.unwrap()),
        }
    }

    /// Returns the name of a page of the service, as a request of this door has it.
    fn url(&self, path: &str) -> String {
        match self {
            Self::Proxy(_) => format!("http://{HOST}{path}"),
            Self::Served(_) => path.to_owned(),
        }
    }

    /// A request for `/`, with more fields, each with its line end.
    fn get(&self, fields: &str) -> String {
        self.request("GET", "/", fields)
    }

    fn request(&self, method: &str, path: &str, fields: &str) -> String {
        let url = self.url(path);
        format!("{method} {url} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
    }

    /// All that the door says to `request`, after which the client closes its side.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // A door that has refused the head may have ended already.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.shutdown().await;
        to_end(&mut stream).await
    }

    /// Returns the status of the door's answer, and checks that an answer of its own says why.
    async fn status(&self, request: &str) -> u16 {
        let heard = self.ask(request).await;
        let status = heard
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {request:?} {heard:?}"));
        if status >= 400 {
            assert!(heard.contains("\r\n\r\noverlan: "), "{heard}");
        }
        status
    }

    /// Ends it. A peer hears of that only while what is returned is there.
    async fn close(self) -> Option<Overlay> {
        match self {
            Self::Proxy(fixture) => {
                fixture.close().await;
                None
            }
            Self::Served(served) => {
                served.stop.cancel();
                served.task.await.unwrap();
                Some(served.overlay)
            }
        }
    }
}

/// Reads until the end, with a limit; a reset ends it as well.
async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let (heard, _) = heard_to_end(stream).await;
    heard
}

/// The same, and whether the end was one.
async fn heard_to_end(stream: &mut (impl AsyncRead + Unpin)) -> (String, bool) {
    let mut all = Vec::new();
    let ended = timeout(LONGEST, stream.read_to_end(&mut all)).await;
    let all = String::from_utf8(all).unwrap();
    let ended = ended.unwrap_or_else(|_| panic!("no end after {all:?}"));
    (all, ended.is_ok())
}

/// Reads until `what` was heard or the stream ends, with a limit.
async fn until_heard(stream: &mut (impl AsyncRead + Unpin), what: &str) -> String {
    let mut all = String::new();
    let reading = async {
        while !all.ends_with(what) {
            match stream.read_u8().await {
                Ok(byte) => all.push(char::from(byte)),
                Err(_) => break,
            }
        }
    };
    timeout(LONGEST, reading)
        .await
        .unwrap_or_else(|_| panic!("no {what:?}"));
    all
}

/// Reads a head, with a limit.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(LONGEST, reading).await.expect("no head");
    String::from_utf8(head).unwrap()
}

/// A service of a test, and all that it heard.
struct Service {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Service {
    /// Each connection is `handle`d in a task of its own.
    async fn start<F>(handle: impl Fn(TcpStream, Notes) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener: TcpListener = loopback_listener().await;
        let address = listener.local_addr().unwrap();
        let heard = Arc::default();
        let notes = Notes(Arc::clone(&heard));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handle(stream, Notes(Arc::clone(&notes.0))));
            }
        });
        Self {
            address,
            heard,
            task,
        }
    }

    /// Gives `answer` to each head, notes what it heard, and ends the connection where `close`.
    async fn answering(answer: impl Into<String>, close: bool) -> Self {
        let answer: String = answer.into();
        Self::start(move |mut stream, notes| {
            let answer = answer.clone();
            async move {
                loop {
                    let asked = head(&mut stream).await;
                    if asked.is_empty() {
                        return;
                    }
                    notes.note(asked);
                    if stream.write_all(answer.as_bytes()).await.is_err() || close {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Answers all of a request that ends with `last`.
    async fn hearing(last: &'static str) -> Self {
        Self::start(move |mut stream, notes| async move {
            let mut all = Vec::new();
            while !all.ends_with(last.as_bytes()) {
                let Ok(byte) = stream.read_u8().await else {
                    break;
                };
                all.push(byte);
            }
            notes.note(String::from_utf8(all).unwrap());
            let _ = stream.write_all(OK.as_bytes()).await;
        })
        .await
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock())
    }

    /// The only request since the last look.
    #[track_caller]
    fn heard_one(&self) -> String {
        let mut heard = self.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The requests that a service heard.
#[derive(Clone)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, text: String) {
        if !text.is_empty() {
            self.0.lock().push(text);
        }
    }
}

/// Returns whether a head has this field with this value, in whatever case of the name.
fn has(head: &str, name: &str, value: &str) -> bool {
    values(head, name).contains(&value.to_owned())
}

/// All values of a field.
fn values(head: &str, name: &str) -> Vec<String> {
    let head = head.split("\r\n\r\n").next().unwrap();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

/// The authority at which the fixture has the service of the test.
const HOST: &str = "web.demo.overlan.lan:88";

/// An answer that ends its connection.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// Longer than anything here takes.
const LONGEST: Duration = Duration::from_secs(30);
