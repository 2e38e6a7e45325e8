//! Reads what a client asks for: greeting, password, request. Decides nothing about destinations, and dials nothing.
//!
//! The messages are read by `fast-socks5`, except the password, which that crate would write to a debug log. The reply to a
//! request is ours, since that crate says "connection refused" where a name is no text.

use std::io;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, Digest, SHA256};
use fast_socks5::Socks5Command;
use fast_socks5::server::{AuthMethod, NoAuthentication, Socks5ServerProtocol, SocksServerError};
use fast_socks5::util::target_addr::{AddrError, TargetAddr};
use overlan_protocol::key::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt, sink};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::dial::DialError;
use crate::names::Destination;

/// What a client wants: a connection to there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) destination: Destination,
    pub(super) port: u16,
}

/// Why a client gets no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("it belongs to another user of this host")]
    OtherUser,
    #[error("it does not speak SOCKS5")]
    NotSocks,
    #[error("it sent no whole request in time")]
    TooSlow,
    #[error("it offers no way to authenticate that is accepted")]
    NoMethod,
    #[error("user name or password are wrong")]
    WrongCredentials,
    #[error("it asks for something else than a connection")]
    Command,
    #[error("it names a destination by an unknown kind of address")]
    AddressType,
    #[error("it names a destination by what is no text")]
    NotText,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Rejected {
    /// The reply code it hears, if the dialogue has come as far as a request.
    pub(super) fn reply(&self) -> Option<u8> {
        match self {
            Self::Command => Some(DialError::Unsupported.socks_reply()),
            Self::AddressType => Some(ADDRESS_TYPE_NOT_SUPPORTED),
            Self::NotText => Some(DialError::UnknownName.socks_reply()),
            Self::OtherUser
            | Self::NotSocks
            | Self::TooSlow
            | Self::NoMethod
            | Self::WrongCredentials
            | Self::Io(_) => None,
        }
    }
}

/// Reads as far as the request and not a byte further.
pub(super) async fn read(
    client: &mut TcpStream,
    credentials: Option<&(String, Secret)>,
) -> Result<Request, Rejected> {
    // The first byte alone shows a browser or another protocol, which may wait for us to speak.
    let mut version = [0];
    if client.peek(&mut version).await? == 0 || version != [VERSION] {
        return Err(Rejected::NotSocks);
    }
    let greeting = Socks5ServerProtocol::start(&mut *client);
    match credentials {
        None => {
            greeting
                .negotiate_auth(&[NoAuthentication])
                .await
                .map_err(rejected)?;
        }
        Some(credentials) => {
            greeting
                .negotiate_auth(&[Password])
                .await
                .map_err(rejected)?;
            authenticate(client, credentials).await?;
        }
    }
    let (reading, _) = client.split();
    // The steps above were the authentication; what the library would reply goes nowhere.
    let request =
        Socks5ServerProtocol::skip_auth_this_is_not_rfc_compliant(tokio::io::join(reading, sink()));
    let (_, command, target) = request.read_command().await.map_err(rejected)?;
    match command {
        Socks5Command::TCPConnect => Ok(match target {
            TargetAddr::Ip(address) => Request {
                destination: Destination::Address(address.ip()),
                port: address.port(),
            },
            TargetAddr::Domain(name, port) => Request {
                destination: Destination::from_text(&name),
                port,
            },
        }),
        Socks5Command::TCPBind | Socks5Command::UDPAssociate => Err(Rejected::Command),
    }
}

/// The reply to a request. The address that a connection has on our side means nothing to a client, so it is none.
pub(super) fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, ADDRESS_V4, 0, 0, 0, 0, 0, 0]
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's other errors are about what is not used here"
)]
fn rejected(error: SocksServerError) -> Rejected {
    match error {
        SocksServerError::Io { source, .. } => Rejected::Io(source),
        SocksServerError::AuthMethodUnacceptable(_) => Rejected::NoMethod,
        SocksServerError::UnknownCommand(_) => Rejected::Command,
        SocksServerError::AddrError(AddrError::IncorrectAddressType) => Rejected::AddressType,
        SocksServerError::AddrError(AddrError::Utf8(_)) => Rejected::NotText,
        SocksServerError::AddrError(
            AddrError::IPv4Unreadable(source)
            | AddrError::IPv6Unreadable(source)
            | AddrError::PortNumberUnreadable(source)
            | AddrError::DomainLenUnreadable(source)
            | AddrError::DomainContentUnreadable(source),
        ) => Rejected::Io(source),
        _ => Rejected::NotSocks,
    }
}

/// The method "user name and password". Its messages follow in [`authenticate`].
#[derive(Clone, Copy)]
struct Password;

impl<T> AuthMethod<T> for Password {
    type StartingState = T;

    fn method_id(self) -> u8 {
        METHOD_PASSWORD
    }

    fn new(self, inner: T) -> T {
        inner
    }
}

async fn authenticate(
    client: &mut TcpStream,
    (user, password): &(String, Secret),
) -> Result<(), Rejected> {
    let version = client.read_u8().await?;
    let given_user = read_field(client).await?;
    let given_password = read_field(client).await?;
    let equal = verify_slices_are_equal(
        fingerprint(&given_user, &given_password).as_ref(),
        fingerprint(user.as_bytes(), password.reveal().as_bytes()).as_ref(),
    )
    .is_ok();
    if version == PASSWORD_VERSION && equal {
        client.write_all(&[PASSWORD_VERSION, 0]).await?;
        Ok(())
    } else {
        client.write_all(&[PASSWORD_VERSION, 1]).await?;
        Err(Rejected::WrongCredentials)
    }
}

async fn read_field(client: &mut TcpStream) -> io::Result<Zeroizing<Vec<u8>>> {
    let len = client.read_u8().await?;
    let mut field = Zeroizing::new(vec![0; usize::from(len)]);
    client.read_exact(&mut field).await?;
    Ok(field)
}

/// Of equal length for all inputs, so that a comparison in constant time hides lengths too.
fn fingerprint(user: &[u8], password: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&(user.len() as u64).to_be_bytes());
    context.update(user);
    context.update(password);
    context.finish()
}

/// RFC 1928, sections 3 and 5; RFC 1929, section 2.
const VERSION: u8 = 5;
const METHOD_PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;
