//! The request of a client of Postgres for TLS, which comes in plain text first. Decides the answer
//! to it; the handshake that follows is TLS's own.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The protocol on which a client of Postgres insists that begins with TLS at once
/// (`sslnegotiation=direct`).
pub(super) const ALPN: &[u8] = b"postgresql";

/// Answers the requests of a client of Postgres before TLS. Returns bytes that belong to TLS
/// already: a client of any other kind begins with those. Not a byte after the agreed request is
/// read, so nothing that came in plain text is taken for what is secured.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if the client goes on in plain text; otherwise the error of
/// reading or writing.
pub(super) async fn agree<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
) -> io::Result<Vec<u8>> {
    for _ in 0..REQUESTS_MAX {
        let mut request = [0; REQUEST_LEN];
        let read = client.read(&mut request).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if request[0] != PLAIN {
            return Ok(request[..read].to_vec());
        }
        client.read_exact(&mut request[read..]).await?;
        let answer = match request {
            SSL_REQUEST => AGREED,
            GSS_REQUEST => REFUSED,
            _ => break,
        };
        client.write_all(answer).await?;
        client.flush().await?;
        if request == SSL_REQUEST {
            return Ok(Vec::new());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the client goes on in plain text on a port that is served with TLS",
    ))
}

/// Bytes of a request: its length, then its code, both in network order.
const REQUEST_LEN: usize = 8;

/// The first byte of a request; TLS begins with another one.
const PLAIN: u8 = 0;

/// Asks for TLS (PostgreSQL's protocol, SSLRequest: 80877103).
const SSL_REQUEST: [u8; REQUEST_LEN] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Asks for Kerberos (GSSENCRequest: 80877104), which some clients try first.
const GSS_REQUEST: [u8; REQUEST_LEN] = [0, 0, 0, 8, 4, 210, 22, 48];

const AGREED: &[u8] = b"S";

const REFUSED: &[u8] = b"N";

/// Kerberos, then TLS.
const REQUESTS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the result of [`agree`] for `said`, its answer, and the bytes that it leaves unread.
    async fn asked(said: &[u8]) -> (io::Result<Vec<u8>>, Vec<u8>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(said).await.unwrap();
        theirs.shutdown().await.unwrap();
        let agreed = agree(&mut ours).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        (agreed, answer, rest)
    }

    #[tokio::test]
    async fn a_client_of_postgres_is_told_that_tls_follows() {
        let hello = [22, 3, 1];
        let (begun, answer, rest) = asked(&[&SSL_REQUEST[..], &hello].concat()).await;
        assert_eq!(
            (begun.unwrap(), answer, rest),
            (vec![], b"S".to_vec(), hello.to_vec())
        );
        let both = [&GSS_REQUEST[..], &SSL_REQUEST, &hello].concat();
        let (begun, answer, rest) = asked(&both).await;
        assert_eq!(
            (begun.unwrap(), answer, rest),
            (vec![], b"NS".to_vec(), hello.to_vec())
        );
    }

    #[tokio::test]
    async fn other_clients_begin_with_tls_and_nobody_goes_on_in_plain_text() {
        let hello = [22, 3, 1, 0, 9, 1, 0, 0, 5, 3];
        let (begun, answer, rest) = asked(&hello).await;
        assert_eq!(begun.unwrap(), &hello[..8]);
        assert_eq!((answer, rest), (vec![], hello[8..].to_vec()));
        let startup = [0, 0, 0, 9, 0, 3, 0, 0, 0];
        for plain in [
            &startup[..],
            &GSS_REQUEST,
            &[GSS_REQUEST, GSS_REQUEST].concat(),
            &[0, 0],
        ] {
            let (begun, _, _) = asked(plain).await;
            assert!(begun.is_err(), "{plain:?}");
        }
    }
}
