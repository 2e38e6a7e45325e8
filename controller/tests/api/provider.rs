//! A small identity provider over real HTTPS: discovery, keys that rotate, logins of one fixed
//! person, codes with PKCE, refresh tokens that are used once. And a browser that follows it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use overlan_protocol::api::JoinString;
use overlan_protocol::key::random_bytes;
use overlan_transport::clock::wall;
use overlan_transport::tls::{self, ServerTrust};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use serde_json::{Value, json};

pub(crate) const CLIENT: &str = "overlan";
pub(crate) const SECRET: &str = "the secret of the client: ü";

/// A running provider.
pub(crate) struct Provider {
    /// Its address, which is claim `iss` of its tokens.
    pub(crate) url: String,
    /// The certificate by which its server is known, as PEM.
    pub(crate) ca: String,
    known: Arc<Mutex<Known>>,
}

/// Everything that it knows; tests change it.
pub(crate) struct Known {
    url: String,
    key: Ed25519KeyPair,
    keys_made: u32,
    /// Claims of the person who logs in.
    pub(crate) person: Value,
    /// Claims that replace those of each ID token.
    pub(crate) twisted: Value,
    /// The issuer that it sends with a browser in place of its own.
    pub(crate) answers_as: Option<String>,
    /// It answers no question.
    pub(crate) is_down: bool,
    /// It refuses every refresh token.
    pub(crate) has_revoked: bool,
    /// Questions for tokens that it refused, by the reason.
    pub(crate) refused: Vec<&'static str>,
    codes: BTreeMap<String, BTreeMap<String, String>>,
    refresh_tokens: Vec<String>,
    /// Questions that it was asked.
    pub(crate) asked: Vec<String>,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let known = Arc::new(Mutex::new(Known {
            url: url.clone(),
            key: Ed25519KeyPair::generate().unwrap(),
            keys_made: 1,
            person: json!({
                "sub": "u-7", "email": "ana@example.org", "email_verified": true,
                "groups": ["engineers"],
            }),
            twisted: json!({}),
            answers_as: None,
            is_down: false,
            has_revoked: false,
            refused: Vec::new(),
            codes: BTreeMap::new(),
            refresh_tokens: Vec::new(),
            asked: Vec::new(),
        }));
        let of_server = known.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, known) = (config.clone(), of_server.clone());
                thread::spawn(move || serve(stream, config, &known));
            }
        });
        Self {
            url,
            ca: made.cert.pem(),
            known,
        }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Makes a new key; the one before is gone at once.
    pub(crate) fn rotate(&self) {
        let mut known = self.known();
        known.key = Ed25519KeyPair::generate().unwrap();
        known.keys_made += 1;
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, known: &Mutex<Known>) {
    let session = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(session, stream));
    let Some(message) = Message::read(&mut stream) else {
        return;
    };
    let answer = {
        let mut known = known.lock().unwrap();
        if known.is_down {
            return;
        }
        known.answer(&message)
    };
    stream.get_mut().write_all(answer.as_bytes()).ok();
    stream.get_mut().conn.send_close_notify();
    stream.get_mut().flush().ok();
}

impl Known {
    fn answer(&mut self, message: &Message) -> String {
        let path = message.first.split(' ').nth(1).unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        self.asked.push(path.to_owned());
        match path {
            "/.well-known/openid-configuration" => ok(&json!({
                "issuer": self.url,
                "authorization_endpoint": format!("{}/authorize", self.url),
                "token_endpoint": format!("{}/token", self.url),
                "jwks_uri": format!("{}/jwks", self.url),
                "response_types_supported": ["code"],
                "scopes_supported": ["openid", "email", "groups", "offline_access"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            })),
            "/jwks" => {
                let x = BASE64URL_NOPAD.encode(self.key.public_key().as_ref());
                let kid = format!("key-{}", self.keys_made);
                let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x});
                ok(&json!({"keys": [key]}))
            }
            "/authorize" => self.authorize(query),
            "/token" => match self.token(message) {
                Ok(tokens) => ok(&tokens),
                Err(reason) => {
                    self.refused.push(reason);
                    let body = json!({"error": "invalid_grant"}).to_string();
                    let length = body.len();
                    format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\n\r\n{body}")
                }
            },
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        }
    }

    /// Logs the person in at once, and sends the browser back.
    fn authorize(&mut self, query: &str) -> String {
        let fields = fields(query);
        let has = |name: &str, value: &str| {
            let found = fields.get(name).map(String::as_str);
            assert_eq!(found, Some(value), "{name} of {query}");
        };
        has("response_type", "code");
        has("client_id", CLIENT);
        has("code_challenge_method", "S256");
        has("scope", "openid email groups offline_access");
        let code = random();
        let iss = self.answers_as.clone().unwrap_or_else(|| self.url.clone());
        let location = format!(
            "{}?code={code}&state={}&iss={}",
            fields["redirect_uri"],
            fields["state"],
            escaped(&iss)
        );
        self.codes.insert(code, fields);
        format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
    }

    fn token(&mut self, message: &Message) -> Result<Value, &'static str> {
        let basic = message.field("authorization").unwrap_or_default();
        let basic = basic.strip_prefix("Basic ").ok_or("no client")?.as_bytes();
        let expected = format!("{CLIENT}:{}", escaped(SECRET));
        if BASE64.decode(basic).unwrap() != expected.as_bytes() {
            return Err("another client");
        }
        let asked = fields(&message.body);
        let mut claims = self.person.clone();
        match asked["grant_type"].as_str() {
            "authorization_code" => {
                let code = self.codes.remove(&asked["code"]).ok_or("unknown code")?;
                let challenge = digest(&SHA256, asked["code_verifier"].as_bytes());
                if BASE64URL_NOPAD.encode(challenge.as_ref()) != code["code_challenge"] {
                    return Err("another verifier");
                }
                if asked["redirect_uri"] != code["redirect_uri"] {
                    return Err("another redirect URI");
                }
                claims["nonce"] = code["nonce"].clone().into();
            }
            "refresh_token" => {
                let given = &asked["refresh_token"];
                let is_known = self.refresh_tokens.iter().any(|known| known == given);
                if self.has_revoked || !is_known {
                    return Err("revoked");
                }
                self.refresh_tokens.retain(|known| known != given);
            }
            _ => return Err("another grant"),
        }
        claims["iss"] = self.url.clone().into();
        claims["aud"] = CLIENT.into();
        let now = wall().as_secs();
        claims["iat"] = now.into();
        claims["exp"] = (now + 300).into();
        for (claim, value) in self.twisted.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let refresh = random();
        self.refresh_tokens.push(refresh.clone());
        Ok(json!({
            "token_type": "Bearer", "access_token": random(), "refresh_token": refresh,
            "id_token": self.sign(&claims),
        }))
    }

    fn sign(&self, claims: &Value) -> String {
        let kid = format!("key-{}", self.keys_made);
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = json!({"alg": "EdDSA", "kid": kid, "typ": "JWT"});
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

/// A request or an answer of HTTP/1.1.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// Its first line.
    pub(crate) first: String,
    fields: String,
    pub(crate) body: String,
}

impl Message {
    fn read(stream: &mut impl BufRead) -> Option<Self> {
        let mut message = Self::default();
        stream.take(16_384).read_line(&mut message.first).ok()?;
        while !message.fields.ends_with("\r\n\r\n") && message.fields != "\r\n" {
            if stream.read_line(&mut message.fields).ok()? == 0 {
                return None;
            }
        }
        let length = message.field("content-length").unwrap_or_default();
        let mut body = vec![0; length.parse().unwrap_or(0)];
        stream.read_exact(&mut body).ok()?;
        message.body = String::from_utf8(body).ok()?;
        Some(message)
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let mut lines = self.fields.lines();
        lines.find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }

    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// A browser that trusts the controller and the provider, and keeps the controller's cookie.
#[derive(Clone)]
pub(crate) struct Browser {
    controller: (String, Arc<ClientConfig>),
    provider: Arc<ClientConfig>,
    pub(crate) cookie: Option<String>,
}

impl Browser {
    pub(crate) fn new(join: &JoinString, provider: &Provider) -> Self {
        let trust = ServerTrust::DeploymentCa(vec![join.ca.unwrap()]);
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(provider.ca.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let of_provider = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = tls::client_config(&trust, overlan_protocol::ALPN_CONTROLLER);
        Self {
            controller: (format!("https://{}", join.server), config),
            provider: Arc::new(of_provider),
            cookie: None,
        }
    }

    /// Opens the page of a login, and returns the address to which it leads.
    pub(crate) fn open(&mut self, url: &str) -> Message {
        let page = self.get(url);
        if let Some(cookie) = page.field("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        page
    }

    /// Follows the link of a login's page to the end: the provider, and back.
    pub(crate) fn follow(&self, page: &Message) -> Message {
        self.get(&self.to_callback(page))
    }

    /// Follows the link of a login's page to the provider, and returns the address to which that
    /// sends the browser back.
    pub(crate) fn to_callback(&self, page: &Message) -> String {
        let go = self.get(&self.link(page));
        assert_eq!(go.status(), 303, "{go:?}");
        let sent = self.get(&go.field("location").unwrap());
        assert_eq!(sent.status(), 302, "{sent:?}");
        sent.field("location").unwrap()
    }

    /// The link of a login's page.
    pub(crate) fn link(&self, page: &Message) -> String {
        let link = page.body.split_once("href=\"").unwrap().1;
        let link = link.split_once('"').unwrap().0.replace("&amp;", "&");
        format!("{}{link}", self.controller.0)
    }

    pub(crate) fn get(&self, url: &str) -> Message {
        let (origin, config) = &self.controller;
        let (path, cookie) = match url.strip_prefix(origin.as_str()) {
            Some(path) => (path, self.cookie.clone()),
            None => ("", None),
        };
        let rest = url.strip_prefix("https://").unwrap();
        let (server, provider_path) = rest.split_once('/').unwrap();
        let (config, path) = match path.is_empty() {
            false => (config, path.to_owned()),
            true => (&self.provider, format!("/{provider_path}")),
        };
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(config.clone(), name).unwrap();
        let tcp = TcpStream::connect(server).unwrap();
        let mut stream = StreamOwned::new(session, tcp);
        let cookie = cookie.map_or_else(String::new, |cookie| format!("cookie: {cookie}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {server}\r\naccept: text/html\r\n{cookie}\
             connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        Message::read(&mut BufReader::new(stream)).unwrap()
    }
}

fn ok(body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn random() -> String {
    BASE64URL_NOPAD.encode(&random_bytes::<16>())
}

fn fields(form: &str) -> BTreeMap<String, String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), plain(value)))
        .collect()
}

fn plain(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                let hex = std::str::from_utf8(&hex).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap()
}

fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
