//! SOCKS5 (RFC 1928) without authentication, both sides as bytes in and bytes out; and opening a
//! connection through it.

use std::net::{IpAddr, SocketAddr};

use overlan_protocol::HostPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::trouble::{During, Result, Trouble};

/// Opens a connection to `destination` through the proxy at `proxy`. Nagle is off.
pub(crate) async fn open(proxy: SocketAddr, destination: &HostPort) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy)
        .await
        .during(format_args!("connect to the proxy {proxy}"))?;
    stream.set_nodelay(true).during("set TCP_NODELAY")?;
    stream.write_all(&GREETING).await.during("SOCKS greeting")?;
    let mut method = [0; 2];
    stream
        .read_exact(&mut method)
        .await
        .during("SOCKS method")?;
    if method != [VERSION, NO_AUTHENTICATION] {
        return Err(Trouble::failed(format!("SOCKS method {method:?}")));
    }
    let request = connect_request(destination)?;
    stream.write_all(&request).await.during("SOCKS request")?;
    // The head says how long the reply is. No byte of the stream after it may be read here.
    let mut reply = vec![0; REPLY_HEAD];
    stream.read_exact(&mut reply).await.during("SOCKS reply")?;
    let length = reply_length(&reply)?;
    reply.resize(length, 0);
    stream
        .read_exact(&mut reply[REPLY_HEAD..])
        .await
        .during("SOCKS reply")?;
    Ok(stream)
}

/// Reads the client's greeting and request from `stream`, and returns the destination. The caller
/// writes the reply.
pub(crate) async fn accept(stream: &mut TcpStream) -> Result<HostPort> {
    let mut head = [0; 2];
    stream
        .read_exact(&mut head)
        .await
        .during("SOCKS greeting")?;
    let mut methods = vec![0; usize::from(head[1])];
    stream
        .read_exact(&mut methods)
        .await
        .during("SOCKS greeting")?;
    if head[0] != VERSION || !methods.contains(&NO_AUTHENTICATION) {
        return Err(Trouble::failed(
            "not a SOCKS5 client without authentication",
        ));
    }
    stream
        .write_all(&[VERSION, NO_AUTHENTICATION])
        .await
        .during("SOCKS method")?;
    let mut request = vec![0; REPLY_HEAD];
    stream
        .read_exact(&mut request)
        .await
        .during("SOCKS request")?;
    if request[..3] != [VERSION, CONNECT, 0] {
        return Err(Trouble::failed("not a SOCKS5 CONNECT"));
    }
    let length = message_length(&request)?;
    request.resize(length, 0);
    stream
        .read_exact(&mut request[REPLY_HEAD..])
        .await
        .during("SOCKS request")?;
    destination(&request)
}

/// The reply that says: connected.
pub(crate) const CONNECTED: [u8; 10] = [VERSION, 0, 0, IPV4, 0, 0, 0, 0, 0, 0];

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
const GREETING: [u8; 3] = [VERSION, 1, NO_AUTHENTICATION];

/// Version, code, reserved, kind of address, and the first byte of the address, which is a name's
/// length.
const REPLY_HEAD: usize = 5;

fn connect_request(destination: &HostPort) -> Result<Vec<u8>> {
    let mut bytes = vec![VERSION, CONNECT, 0];
    match destination.host().parse() {
        Ok(IpAddr::V4(address)) => {
            bytes.push(IPV4);
            bytes.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            bytes.push(IPV6);
            bytes.extend(address.octets());
        }
        Err(_) => {
            let length = u8::try_from(destination.host().len()).during("name for SOCKS")?;
            bytes.extend([NAME, length]);
            bytes.extend(destination.host().as_bytes());
        }
    }
    bytes.extend(destination.port().to_be_bytes());
    Ok(bytes)
}

/// Returns the length of a whole reply from its head, or the refusal that it holds.
fn reply_length(head: &[u8]) -> Result<usize> {
    match head {
        [VERSION, 0, ..] => message_length(head),
        [VERSION, code, ..] => Err(Trouble::failed(format!(
            "the proxy refused with SOCKS reply {code}"
        ))),
        _ => Err(Trouble::failed(format!("not a SOCKS5 reply: {head:?}"))),
    }
}

/// Length of a whole request or reply from its head of [`REPLY_HEAD`] bytes.
fn message_length(head: &[u8]) -> Result<usize> {
    match head {
        [_, _, _, IPV4, ..] => Ok(4 + 4 + 2),
        [_, _, _, NAME, length, ..] => Ok(5 + usize::from(*length) + 2),
        [_, _, _, IPV6, ..] => Ok(4 + 16 + 2),
        _ => Err(Trouble::failed(format!("unknown SOCKS address: {head:?}"))),
    }
}

/// The destination in a whole request.
fn destination(request: &[u8]) -> Result<HostPort> {
    let bad = || Trouble::failed("SOCKS request cut short");
    let (front, port) = request.split_last_chunk::<2>().ok_or_else(bad)?;
    let host = match front {
        [_, _, _, NAME, _, name @ ..] => String::from_utf8(name.to_vec()).during("SOCKS name")?,
        [_, _, _, _, address @ ..] => {
            match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
                (Ok(four), _) => IpAddr::from(four).to_string(),
                (_, Ok(sixteen)) => IpAddr::from(sixteen).to_string(),
                _ => return Err(bad()),
            }
        }
        _ => return Err(bad()),
    };
    let port = u16::from_be_bytes(*port);
    HostPort::new(&host, port).during("SOCKS destination")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(host: &str, port: u16) -> HostPort {
        HostPort::new(host, port).unwrap()
    }

    #[test]
    fn requests_carry_names_and_addresses() {
        for wanted in [
            to("web.home.example", 80),
            to("127.0.0.1", 8080),
            to("::1", 1),
        ] {
            let request = connect_request(&wanted).unwrap();
            assert_eq!(message_length(&request).unwrap(), request.len());
            assert_eq!(destination(&request).unwrap(), wanted);
        }
        let mut long = vec![5, 1, 0, 3, 255];
        long.extend([b'x'; 255]);
        long.extend([0, 1]);
        assert!(destination(&long).is_err(), "no name is that long");
    }

    #[test]
    fn replies_say_their_length_or_their_refusal() {
        assert_eq!(reply_length(&CONNECTED).unwrap(), CONNECTED.len());
        assert_eq!(reply_length(&[5, 0, 0, 4, 0]).unwrap(), 22);
        assert_eq!(reply_length(&[5, 0, 0, 3, 9]).unwrap(), 16);
        let refused = reply_length(&[5, 4, 0, 1, 0]).unwrap_err();
        assert_eq!(refused.to_string(), "the proxy refused with SOCKS reply 4");
        assert!(reply_length(&[4, 0, 0, 1, 0]).is_err());
        assert!(reply_length(&[5, 0, 0, 9, 0]).is_err());
        assert!(reply_length(&[]).is_err());
    }

    #[test]
    fn requests_cut_short_are_refused() {
        assert!(destination(&[5, 1, 0, 1, 127, 0, 0]).is_err());
        assert!(destination(&[5]).is_err());
    }
}
