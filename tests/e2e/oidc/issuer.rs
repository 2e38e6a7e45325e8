//! An issuer of tokens as GitHub, GitLab and Kubernetes are one: discovery and keys over HTTPS, RSA
//! keys that rotate, and GitHub's door for jobs that ask for a token.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::service::Service;

/// A running issuer.
pub(crate) struct Issuer {
    /// Its address, which is claim `iss` of its tokens.
    pub(crate) url: String,
    /// The certificate by which its server is known, as PEM.
    pub(crate) ca: String,
    shared: Arc<Shared>,
    _service: Service,
    door: Service,
}

#[derive(Default)]
struct Shared {
    keys: Mutex<Keys>,
    asked: Mutex<Vec<String>>,
    /// The claims of the token that the next job at GitHub's door gets, but for the audience.
    job: Mutex<Value>,
}

/// Its key of now, and how many there were.
#[derive(Default)]
struct Keys {
    now: Option<KeyPair>,
    number: u32,
}

impl Keys {
    fn kid(&self) -> String {
        format!("key-{}", self.number)
    }
}

impl Issuer {
    pub(crate) fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".into()]);
        let made = made.unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let shared = Arc::new(Shared::default());
        let of_service = Arc::clone(&shared);
        let service = Service::start(move |stream| {
            let at = stream.local_addr().unwrap();
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(session, stream));
            if let Some((path, _)) = head(&mut stream) {
                let body = of_service.document(&path, &format!("https://{at}"));
                // A client that has read enough goes away.
                stream.get_mut().write_all(&body).ok();
                stream.get_mut().conn.send_close_notify();
                stream.get_mut().flush().ok();
            }
        });
        let url = format!("https://{}", service.address());
        let of_door = Arc::clone(&shared);
        let issuer = url.clone();
        let door = Service::start(move |stream| {
            let mut stream = BufReader::new(stream);
            if let Some((path, fields)) = head(&mut stream) {
                let answer = of_door.answer_job(&path, &fields, &issuer);
                stream.get_mut().write_all(&answer).ok();
            }
        });
        let issuer = Self {
            url,
            ca: made.cert.pem(),
            shared,
            _service: service,
            door,
        };
        issuer.rotate();
        issuer
    }

    /// Makes a new key; the one before is gone at once.
    pub(crate) fn rotate(&self) {
        let mut keys = self.shared.keys.lock().unwrap();
        keys.now = Some(KeyPair::generate(KeySize::Rsa2048).unwrap());
        keys.number += 1;
    }

    /// Returns the requests that came since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// The address at which a job of GitHub asks for a token, and the secret that it needs. The
    /// token will have these claims.
    pub(crate) fn door_for(&self, claims: &Value) -> (String, &'static str) {
        *self.shared.job.lock().unwrap() = claims.clone();
        let door = self.door.address();
        (format!("http://{door}/token?api-version=2.0"), DOOR_SECRET)
    }

    /// Signs claims by the key of now.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let kid = self.shared.keys.lock().unwrap().kid();
        self.sign_as(&json!({"typ": "JWT", "alg": "RS256", "kid": kid}), claims)
    }

    /// The same with any header.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.shared.sign(header, claims)
    }

    /// The keys as the issuer serves them.
    pub(crate) fn key_set(&self) -> Value {
        self.shared.key_set()
    }
}

impl Shared {
    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let keys = self.keys.lock().unwrap();
        let key = keys.now.as_ref().unwrap();
        let mut signature = vec![0; key.public_modulus_len()];
        let random = SystemRandom::new();
        let message = signed.as_bytes();
        key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    fn key_set(&self) -> Value {
        let keys = self.keys.lock().unwrap();
        let public = keys.now.as_ref().unwrap().public_key();
        // RSAPublicKey of RFC 8017 for 2048 bits: a sequence of two numbers, each after its head.
        let (n, e) = (&public.as_ref()[9..265], &public.as_ref()[267..]);
        json!({"keys": [{
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": keys.kid(),
            "n": BASE64URL_NOPAD.encode(n), "e": BASE64URL_NOPAD.encode(e),
        }]})
    }

    /// An issuer may have a path: each of those here is another kind of trouble.
    fn document(&self, path: &str, url: &str) -> Vec<u8> {
        self.asked.lock().unwrap().push(path.to_owned());
        let discovery = path.strip_suffix("/.well-known/openid-configuration");
        match (discovery, path) {
            (Some("/redirect"), _) => {
                let to = format!("{url}/.well-known/openid-configuration");
                format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into()
            }
            (Some("/huge"), _) => ok(&json!({"issuer": "x".repeat(2_000_000)})),
            (Some("/private"), _) => ok(&json!({
                "issuer": format!("{url}/private"),
                "jwks_uri": "https://localhost:1/jwks",
            })),
            (Some(""), _) => ok(&json!({"issuer": url, "jwks_uri": format!("{url}/jwks")})),
            (_, "/jwks") => ok(&self.key_set()),
            _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        }
    }

    fn answer_job(&self, path: &str, fields: &str, issuer: &str) -> Vec<u8> {
        let audience = path.split_once("&audience=").unwrap().1;
        let is_allowed = fields.contains(&format!("authorization: Bearer {DOOR_SECRET}\r\n"));
        assert!(is_allowed, "a job asked without its secret");
        let mut claims = self.job.lock().unwrap().clone();
        claims["iss"] = issuer.into();
        claims["aud"] = percent_decoded(audience).into();
        let kid = self.keys.lock().unwrap().kid();
        let token = self.sign(&json!({"typ": "JWT", "alg": "RS256", "kid": kid}), &claims);
        ok(&json!({"count": token.len(), "value": token}))
    }
}

/// Reads the head of a request: its path and its fields.
fn head(stream: &mut impl BufRead) -> Option<(String, String)> {
    let mut first = String::new();
    stream.take(4_096).read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut fields = String::new();
    while !fields.ends_with("\r\n\r\n") && fields != "\r\n" {
        if stream.read_line(&mut fields).ok()? == 0 {
            return None;
        }
    }
    Some((path, fields))
}

fn ok(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        out.push(char::from(u8::from_str_radix(hex, 16).unwrap()));
        out.push_str(rest);
    }
    out
}

/// Seconds since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "tokens have the time of this machine"
)]
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The secret by which a job of GitHub may ask for a token.
const DOOR_SECRET: &str = "the-jobs-own-request-token";
