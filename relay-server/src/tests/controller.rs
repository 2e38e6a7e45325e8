//! A controller that registers one relay and gives orders, over HTTPS with a CA of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use overlan_protocol::api::{
    JoinString, Problem, ProblemKind, RelayHeartbeat, RelayOrders, RelayRegisterRequest,
    RelayRegisterResponse, path,
};
use overlan_protocol::key::{IdentityKey, RelayId, decode_signature};
use overlan_protocol::proof::{ChannelProof, Principal, enrolment_message};
use overlan_protocol::{ALPN_CONTROLLER, Exporter};
use overlan_transport::tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// A running controller; dropping it ends it and its connections.
pub(crate) struct Controller {
    pub(crate) join: JoinString,
    pub(crate) orders: watch::Sender<RelayOrders>,
    /// The newest heartbeat with a good proof.
    beats: watch::Receiver<Option<RelayHeartbeat>>,
    _tasks: JoinSet<()>,
}

struct Desk {
    relay: RelayId,
    token: &'static str,
    registered: watch::Sender<Option<IdentityKey>>,
    orders: watch::Receiver<RelayOrders>,
    beats: watch::Sender<Option<RelayHeartbeat>>,
}

pub(crate) const TOKEN: &str = "ovr_lab_secret";

impl Controller {
    /// Expects one relay to register with [`TOKEN`].
    pub(crate) async fn start(relay: RelayId, orders: RelayOrders) -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .expect("an address")
            .signed_by(&key, &Issuer::from_params(&ca, &ca_key))
            .expect("a certificate");
        let ca_der = ca_certificate.der().clone();
        let fingerprint = tls::certificate_fingerprint(&ca_der);
        let config = tls::server_config(
            vec![leaf.der().clone(), ca_der],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            ALPN_CONTROLLER,
        )
        .expect("key and certificate fit");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let (orders, orders_seen) = watch::channel(orders);
        let (beats_sent, beats) = watch::channel(None);
        let desk = Arc::new(Desk {
            relay,
            token: TOKEN,
            registered: watch::channel(None).0,
            orders: orders_seen,
            beats: beats_sent,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, TlsAcceptor::from(config), desk));
        Self {
            join: JoinString {
                server: address.try_into().unwrap(),
                ca: Some(fingerprint),
                former: Default::default(),
            },
            orders,
            beats,
            _tasks: tasks,
        }
    }

    /// A heartbeat of a relay that has applied orders of `version`.
    pub(crate) async fn beat(&mut self, version: u64) -> RelayHeartbeat {
        let applied = |beat: &Option<RelayHeartbeat>| {
            beat.as_ref().is_some_and(|beat| beat.applied == version)
        };
        let beat = timeout(PATIENCE, self.beats.wait_for(applied)).await;
        let beat = beat.expect("it comes in time").expect("the desk lives");
        beat.clone().expect("waited for it")
    }
}

/// The time that a test waits for a heartbeat.
const PATIENCE: Duration = Duration::from_secs(10);

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, desk) = (acceptor.clone(), desk.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else {
                return;
            };
            let stream: TlsStream<_> = stream.into();
            let exporter = tls::exporter(&stream);
            let service = service_fn(move |request| {
                let desk = desk.clone();
                async move { Ok::<_, Infallible>(desk.answer(request, &exporter).await) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Desk {
    async fn answer(
        &self,
        request: Request<Incoming>,
        exporter: &Exporter,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let proof = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| ChannelProof::from_header(value.to_str().ok()?));
        let body = request.into_body().collect().await;
        let body = body.expect("a whole body").to_bytes();
        match path.as_str() {
            path::RELAY_REGISTER => self.register(&body, exporter),
            path::RELAY_HEARTBEAT => self.heartbeat(&body, proof, exporter).await,
            _ => problem(ProblemKind::NotFound),
        }
    }

    fn register(&self, body: &[u8], exporter: &Exporter) -> Response<Full<Bytes>> {
        let request: RelayRegisterRequest = serde_json::from_slice(body).expect("a request");
        if request.token.reveal() != self.token {
            return problem(ProblemKind::KeyUnknown);
        }
        let signature = decode_signature(&request.proof).expect("a signature");
        let message = enrolment_message(exporter, &request.identity);
        if !request.identity.verifies(&message, &signature) {
            return problem(ProblemKind::NotAuthenticated);
        }
        self.registered.send_replace(Some(request.identity));
        json(serde_json::to_vec(&RelayRegisterResponse {
            relay: self.relay,
            name: "lab-1".to_owned(),
            orders: self.orders.borrow().clone(),
        }))
    }

    async fn heartbeat(
        &self,
        body: &[u8],
        proof: Option<ChannelProof>,
        exporter: &Exporter,
    ) -> Response<Full<Bytes>> {
        let key = *self.registered.borrow();
        let proved = key.zip(proof).is_some_and(|(key, proof)| {
            proof.principal == Principal::Relay(self.relay) && proof.is_proved_by(&key, exporter)
        });
        if !proved {
            return problem(ProblemKind::NotAuthenticated);
        }
        let beat: RelayHeartbeat = serde_json::from_slice(body).expect("a heartbeat");
        let applied = beat.applied;
        self.beats.send_replace(Some(beat));
        let mut orders = self.orders.clone();
        let newer = orders.wait_for(|orders| orders.version != applied).await;
        json(serde_json::to_vec(
            &*newer.expect("the test holds the sender"),
        ))
    }
}

fn json(body: serde_json::Result<Vec<u8>>) -> Response<Full<Bytes>> {
    let body = body.expect("plain fields serialise");
    Response::new(Full::new(Bytes::from(body)))
}

fn problem(kind: ProblemKind) -> Response<Full<Bytes>> {
    let problem = Problem {
        kind,
        title: "no".to_owned(),
        status: 403,
        detail: String::new(),
        retry_after_secs: None,
    };
    let mut response = json(serde_json::to_vec(&problem));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
