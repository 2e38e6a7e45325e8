//! Services of this host that a device serves: web pages in plain and over TLS, and whatever a
//! test does with a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::process::LONGEST;

/// A listener on a free port of 127.0.0.1. Dropping it ends its connections and waits for their
/// threads.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Service {
    /// Runs `handle` in a thread of its own for each connection.
    pub(crate) fn start(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", handle)
    }

    /// The same at an address of a namespace that the test made.
    pub(crate) fn start_at(
        place: &str,
        handle: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(place).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared, &handle)
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// A web server that answers GET with `page` and POST with what was posted.
    pub(crate) fn http(page: &'static str) -> Self {
        // A client that goes away early is the client's test, not this server's.
        Self::http_at("127.0.0.1:0", page)
    }

    /// The same at an address of a namespace that the test made.
    pub(crate) fn http_at(place: &str, page: &'static str) -> Self {
        Self::start_at(place, move |stream| drop(exchange(stream, page)))
    }

    /// The same over TLS, and the certificate for `name` by which clients know it, as PEM.
    pub(crate) fn https(page: &'static str, name: &str) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let service = Self::start(move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            drop(exchange(StreamOwned::new(session, stream), page));
        });
        (service, made.cert.pem())
    }

    /// The address on which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts. It fails only if that thread is gone.
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Shared, handle: &(impl Fn(TcpStream) + Sync)) {
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let mut connections = shared.connections.lock().unwrap();
            if shared.stop.load(Ordering::SeqCst) {
                for connection in connections.drain(..) {
                    // It may be closed already.
                    connection.shutdown(Shutdown::Both).ok();
                }
                return;
            }
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(LONGEST)).unwrap();
            let end = stream.try_clone().unwrap();
            connections.push(stream.try_clone().unwrap());
            scope.spawn(move || {
                handle(stream);
                // The clones keep the socket open. It fails if the client was faster.
                end.shutdown(Shutdown::Both).ok();
            });
        }
    });
}

/// One request and its answer.
fn exchange(stream: impl Read + Write, page: &str) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if stream.read_line(&mut request)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = request.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    let body = if request.starts_with("POST ") {
        let mut posted = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut posted)?;
        posted
    } else {
        page.as_bytes().to_vec()
    };
    let stream = stream.get_mut();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.flush()
}
