//! Lines of JSON on a connection of the control socket. Decides how long one may be.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::UnixStream;

pub(super) async fn write_line<T: Serialize>(
    stream: &mut BufStream<UnixStream>,
    value: &T,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// Reads a whole line; `None` at the end of the stream. A line of more than `max` bytes is
/// [`io::ErrorKind::InvalidData`].
pub(super) async fn read_line(
    stream: &mut BufStream<UnixStream>,
    max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let whole = read_on(stream, &mut line, max).await?;
    Ok(whole.then_some(line))
}

/// Reads on until `line` is whole, and returns false if the stream ends before. It can be dropped
/// and called again.
pub(super) async fn read_on(
    stream: &mut BufStream<UnixStream>,
    line: &mut Vec<u8>,
    max: usize,
) -> io::Result<bool> {
    let room = (max + 1).saturating_sub(line.len());
    stream.take(room as u64).read_until(b'\n', line).await?;
    if line.len() > max {
        let text = format!("it exceeds {max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(line.ends_with(b"\n"))
}

pub(super) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(line)
}
