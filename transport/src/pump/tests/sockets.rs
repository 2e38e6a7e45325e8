//! The other end of a pump's socket, and sockets that do what a test wants.

use std::io::IoSlice;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::*;
use crate::record::tests::handshake;

pub(super) type Keys = (Sealer, Opener);

/// The keys of both ends after a handshake.
pub(super) fn keys() -> (Keys, Keys) {
    let (client, server) = handshake();
    let client = client.dangerous_extract_secrets().unwrap();
    let server = server.dangerous_extract_secrets().unwrap();
    (
        record::take_over(client).unwrap(),
        record::take_over(server).unwrap(),
    )
}

/// A pump on a socket that holds `capacity` bytes each way, and who is at the other end of it.
pub(super) fn over_pipe(capacity: usize) -> (Pump<DuplexStream>, Far) {
    let (near, far) = duplex(capacity);
    let (pump, wire) = over(near);
    (pump, Far { socket: far, wire })
}

/// A pump on `socket`, and what reads and writes the records of it.
pub(super) fn over<S: AsyncRead + AsyncWrite + Unpin>(socket: S) -> (Pump<S>, Wire) {
    let ((sealer, opener), far) = keys();
    let wire = Wire {
        keys: far,
        unopened: Vec::new(),
        records: Vec::new(),
        closed: false,
    };
    (Pump::new(socket, sealer, opener, Vec::new()), wire)
}

/// The records of the other end.
pub(super) struct Wire {
    pub(super) keys: Keys,
    /// Start of a record.
    pub(super) unopened: Vec<u8>,
    /// The content of each record that came.
    pub(super) records: Vec<Vec<u8>>,
    /// The end was announced.
    pub(super) closed: bool,
}

impl Wire {
    pub(super) fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        for body in bytes.chunks(record::BODY_MAX) {
            let mut body = body.to_vec();
            let (header, trailer) = self.keys.0.seal(&mut body).unwrap();
            sealed.extend_from_slice(&header);
            sealed.append(&mut body);
            sealed.extend_from_slice(&trailer);
        }
        sealed
    }

    pub(super) fn seal_close(&mut self) -> Vec<u8> {
        self.keys.0.seal_close().unwrap()
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.unopened.extend_from_slice(bytes);
        while let Some(length) = record::record_len(&self.unopened).unwrap()
            && length <= self.unopened.len()
        {
            assert!(!self.closed, "nothing comes after the end");
            let mut record: Vec<u8> = self.unopened.drain(..length).collect();
            match self.keys.1.open(&mut record).unwrap() {
                Content::Data(range) => self.records.push(record[range].to_vec()),
                Content::Close => self.closed = true,
                Content::Ignored => panic!("a pump has no such messages"),
            }
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.records.concat()
    }
}

/// The other end of a pump's socket.
pub(super) struct Far {
    pub(super) socket: DuplexStream,
    pub(super) wire: Wire,
}

impl Far {
    /// Sends `bytes` in records as large as possible.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let sealed = self.wire.seal(bytes);
        self.socket.write_all(&sealed).await.unwrap();
    }

    /// Reads at most `most` bytes, records' overhead included; `false` at the end.
    pub(super) async fn read(&mut self, most: usize) -> bool {
        let mut chunk = vec![0; most];
        let count = self.socket.read(&mut chunk).await.unwrap();
        self.wire.take(&chunk[..count]);
        count > 0
    }

    /// Reads until this many bytes came in records.
    pub(super) async fn read_bytes(&mut self, length: usize) -> Vec<u8> {
        while self.wire.records.iter().map(Vec::len).sum::<usize>() < length {
            assert!(self.read(4_096).await, "more was to come");
        }
        self.wire.bytes()
    }

    /// Everything up to an end that is announced.
    pub(super) async fn read_to_end(&mut self) -> Vec<u8> {
        while self.read(4_096).await {}
        assert!(self.wire.closed && self.wire.unopened.is_empty());
        self.wire.bytes()
    }
}

/// A socket that takes nothing until its gate opens, and then everything.
#[derive(Clone, Default)]
pub(super) struct Gated(pub(super) Arc<Mutex<Gate>>);

#[derive(Default)]
pub(super) struct Gate {
    pub(super) is_open: bool,
    pub(super) waiting: Option<Waker>,
    pub(super) passed: Vec<u8>,
    /// Writes fail.
    pub(super) broken: bool,
}

impl Gated {
    pub(super) fn open(&self) {
        let mut gate = self.0.lock();
        gate.is_open = true;
        if let Some(waker) = gate.waiting.take() {
            waker.wake();
        }
    }

    /// The bytes that passed the gate, opened.
    pub(super) fn passed(&self, mut wire: Wire) -> Vec<u8> {
        wire.take(&self.0.lock().passed);
        assert!(wire.closed && wire.unopened.is_empty());
        wire.bytes()
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut gate = self.0.lock();
        if gate.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !gate.is_open {
            gate.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        gate.passed.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Takes all that is written, at once, without end, and notes the size of each write.
#[derive(Clone, Default)]
pub(super) struct Sink(pub(super) Arc<Mutex<Vec<usize>>>);

impl AsyncRead for Sink {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = parts.iter().map(|part| part.len()).sum();
        self.0.lock().push(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
