//! Asks a proxy for a connection, over a connection to the proxy. Errors are texts for people: the
//! program treats all of them alike.

use bytes::Bytes;
use data_encoding::BASE64;
use fast_socks5::client::{Config, Socks5Stream};
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{AuthenticationMethod, Socks5Command};
use http::{Method, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use overlan_protocol::HostPort;
use tokio::net::TcpStream;

use super::UpstreamProxy;

/// Asks by HTTP CONNECT.
pub(super) async fn http(
    stream: TcpStream,
    proxy: &UpstreamProxy,
    to: &HostPort,
) -> Result<TcpStream, String> {
    let broken = |error: hyper::Error| format!("it does not answer like an HTTP proxy: {error}");
    let (mut sender, connection) = Builder::new()
        .max_buf_size(ANSWER_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let target = to.to_string();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&target)
        .header(header::HOST, &target);
    if let Some(user) = &proxy.user {
        let password = proxy.password.as_ref().map_or("", |it| it.reveal());
        let credentials = BASE64.encode(format!("{user}:{password}").as_bytes());
        request = request.header(header::PROXY_AUTHORIZATION, format!("Basic {credentials}"));
    }
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            status if status.is_success() => hyper::upgrade::on(response).await.map_err(broken),
            // tinyproxy answers the second.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
                Err(match &proxy.user {
                    None => "it wants a user and a password; add them to its URL".to_owned(),
                    Some(user) => format!("it refused the password of user {user:?}"),
                })
            }
            status => Err(format!("it answered {status}")),
        }
    };
    // The second future ends when the first has dropped its half or handed the connection over.
    let (upgraded, _) = tokio::join!(exchange, connection.with_upgrades());
    let parts = upgraded?
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| "its connection cannot be taken over".to_owned())?;
    match parts.read_buf.is_empty() {
        true => Ok(parts.io.into_inner()),
        // In TLS the client speaks first.
        false => Err("it sent bytes before TLS began".to_owned()),
    }
}

/// Asks by SOCKS5; the proxy resolves the name.
pub(super) async fn socks5(
    stream: TcpStream,
    proxy: &UpstreamProxy,
    to: &HostPort,
) -> Result<TcpStream, String> {
    let credentials = proxy.user.as_ref().map(|user| {
        let password = proxy.password.as_ref().map_or("", |it| it.reveal());
        AuthenticationMethod::Password {
            username: user.clone(),
            password: password.to_owned(),
        }
    });
    let mut stream = Socks5Stream::use_stream(stream, credentials, Config::default())
        .await
        .map_err(|error| error.to_string())?;
    let target = match to.socket_address() {
        Some(address) => TargetAddr::Ip(address),
        None => TargetAddr::Domain(to.host().to_owned(), to.port()),
    };
    stream
        .request(Socks5Command::TCPConnect, target)
        .await
        .map_err(|error| error.to_string())?;
    Ok(stream.get_socket())
}

/// Longest answer of a proxy, bytes.
const ANSWER_MAX: usize = 64 * 1024;
