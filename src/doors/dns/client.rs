//! Asks one resolver for the addresses of one name, as a test or a `dns` command does. It never
//! asks anybody else and caches nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use overlan_protocol::key::random_bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::exchange;

/// The answer of a resolver about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Its IPv4 addresses; none if it exists without one.
    Addresses(Vec<IpAddr>),
    /// It does not exist.
    NoSuchName,
    /// The resolver does not answer for such names.
    Refused,
    /// Another response code.
    Failed(u16),
}

/// Asks over UDP; tries again after a moment without an answer.
pub async fn ask_udp(resolver: SocketAddr, name: &str) -> io::Result<Lookup> {
    let (id, query) = query(name)?;
    exchange::udp(resolver, &query, |answer| Some(read(id, answer))).await?
}

/// Asks over TCP.
pub async fn ask_tcp(resolver: SocketAddr, name: &str) -> io::Result<Lookup> {
    let (id, query) = query(name)?;
    let exchange = async {
        let mut stream = TcpStream::connect(resolver).await?;
        read(id, &exchange::stream(&mut stream, &query).await?)
    };
    timeout(ANSWER_WITHIN, exchange)
        .await
        .unwrap_or_else(|_| Err(exchange::no_answer()))
}

fn query(name: &str) -> io::Result<(u16, Vec<u8>)> {
    let id = u16::from_be_bytes(random_bytes());
    let mut fqdn = name.to_owned();
    if !fqdn.ends_with('.') {
        fqdn.push('.');
    }
    let name = Name::from_ascii(&fqdn)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::A));
    let bytes = message
        .to_vec()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    Ok((id, bytes))
}

fn read(id: u16, answer: &[u8]) -> io::Result<Lookup> {
    let message = Message::from_vec(answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    if message.metadata.id != id || message.metadata.message_type != MessageType::Response {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer belongs to another question",
        ));
    }
    let code = message.metadata.response_code;
    if code == ResponseCode::NXDomain {
        return Ok(Lookup::NoSuchName);
    }
    if code == ResponseCode::Refused {
        return Ok(Lookup::Refused);
    }
    if code != ResponseCode::NoError {
        return Ok(Lookup::Failed(code.into()));
    }
    let addresses = message.answers.iter().filter_map(|record| {
        if let RData::A(address) = record.data {
            Some(IpAddr::V4(address.0))
        } else {
            None
        }
    });
    Ok(Lookup::Addresses(addresses.collect()))
}

/// Time for an answer over TCP: the resolver is near.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
