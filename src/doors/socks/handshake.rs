//! Reads the greeting, the password and the request of a client. Decides nothing about
//! destinations, and dials nothing.
//!
//! The messages are read by `fast-socks5`, except the password, which that crate would write to a
//! debug log. The reply to a request is ours, since that crate says "connection refused" where a
//! name is not UTF-8.

use std::io;

use fast_socks5::Socks5Command;
use fast_socks5::server::{AuthMethod, NoAuthentication, Socks5ServerProtocol, SocksServerError};
use fast_socks5::util::target_addr::{AddrError, TargetAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, sink};
use zeroize::Zeroizing;

use crate::doors::credentials::ProxyCredentials;
use crate::names::Destination;
use crate::names::DialError;

/// The command of a client and its destination.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SocksRequest {
    pub(super) command: SocksCommand,
    pub(super) destination: Destination,
    pub(super) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocksCommand {
    /// A connection to the destination.
    Connect,
    /// A connection from the destination.
    Bind,
    /// A socket for datagrams. The destination is the address that the client means to send from,
    /// which many clients do not know.
    Associate,
}

/// The reason why a client is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocksRejected {
    #[error("it does not speak SOCKS5")]
    NotSocks,
    #[error("it did not send a whole request in time")]
    TooSlow,
    #[error("it offers no authentication method that is accepted here")]
    NoMethod,
    #[error("the user name or the password is wrong")]
    WrongCredentials,
    #[error("its command is not CONNECT, BIND or UDP ASSOCIATE")]
    Command,
    #[error("its destination has an unknown type of address")]
    AddressType,
    #[error("its destination is not valid UTF-8")]
    NotText,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl SocksRejected {
    /// Returns the reply code that it gets, if the dialogue has come as far as a request.
    pub(super) fn reply(&self) -> Option<u8> {
        match self {
            Self::Command => Some(DialError::Unsupported.socks_reply()),
            Self::AddressType => Some(ADDRESS_TYPE_NOT_SUPPORTED),
            Self::NotText => Some(DialError::UnknownName.socks_reply()),
            Self::NotSocks
            | Self::TooSlow
            | Self::NoMethod
            | Self::WrongCredentials
            | Self::Io(_) => None,
        }
    }
}

/// Reads as far as the request and not a byte further.
pub(super) async fn read<C>(
    client: &mut C,
    credentials: Option<&ProxyCredentials>,
) -> Result<SocksRequest, SocksRejected>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
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
    // The steps above were the authentication; what the library would reply goes nowhere.
    let request =
        Socks5ServerProtocol::skip_auth_this_is_not_rfc_compliant(tokio::io::join(client, sink()));
    let (_, command, target) = request.read_command().await.map_err(rejected)?;
    let command = match command {
        Socks5Command::TCPConnect => SocksCommand::Connect,
        Socks5Command::TCPBind => SocksCommand::Bind,
        Socks5Command::UDPAssociate => SocksCommand::Associate,
    };
    let (destination, port) = destination(target);
    Ok(SocksRequest {
        command,
        destination,
        port,
    })
}

/// Splits the destination of a request or a datagram into host and port.
pub(super) fn destination(target: TargetAddr) -> (Destination, u16) {
    match target {
        TargetAddr::Ip(address) => (address.ip().into(), address.port()),
        TargetAddr::Domain(name, port) => (Destination::from_text(&name), port),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's other errors are about what is not used here"
)]
fn rejected(error: SocksServerError) -> SocksRejected {
    match error {
        SocksServerError::Io { source, .. } => SocksRejected::Io(source),
        SocksServerError::AuthMethodUnacceptable(_) => SocksRejected::NoMethod,
        SocksServerError::UnknownCommand(_) => SocksRejected::Command,
        SocksServerError::AddrError(AddrError::IncorrectAddressType) => SocksRejected::AddressType,
        SocksServerError::AddrError(AddrError::Utf8(_)) => SocksRejected::NotText,
        SocksServerError::AddrError(
            AddrError::IPv4Unreadable(source)
            | AddrError::IPv6Unreadable(source)
            | AddrError::PortNumberUnreadable(source)
            | AddrError::DomainLenUnreadable(source)
            | AddrError::DomainContentUnreadable(source),
        ) => SocksRejected::Io(source),
        _ => SocksRejected::NotSocks,
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

async fn authenticate<C>(
    client: &mut C,
    credentials: &ProxyCredentials,
) -> Result<(), SocksRejected>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let version = client.read_u8().await?;
    let user = read_field(client).await?;
    let password = read_field(client).await?;
    let equal = credentials.are(&user, &password);
    if version == PASSWORD_VERSION && equal {
        client.write_all(&[PASSWORD_VERSION, 0]).await?;
        Ok(())
    } else {
        client.write_all(&[PASSWORD_VERSION, 1]).await?;
        Err(SocksRejected::WrongCredentials)
    }
}

async fn read_field<C: AsyncRead + Unpin>(client: &mut C) -> io::Result<Zeroizing<Vec<u8>>> {
    let len = client.read_u8().await?;
    let mut field = Zeroizing::new(vec![0; usize::from(len)]);
    client.read_exact(&mut field).await?;
    Ok(field)
}

/// RFC 1928, sections 3 and 5; RFC 1929, section 2.
const METHOD_PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;
