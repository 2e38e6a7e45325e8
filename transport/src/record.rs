//! TLS 1.3 record protection (RFC 8446, section 5.2) in place, for connections whose handshake
//! rustls has done.
//!
//! rustls authenticates the other side, agrees on keys and exports them; here bytes are sealed in
//! place, so that a frame is neither copied into TLS nor out of it. Holds two keys, two counters
//! and no socket. There is no key update: a connection that has used up its keys ends, and its
//! owner opens another.

use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

/// Seals the bytes that this side sends.
pub(crate) struct Sealer(Direction);

/// Opens the records that the other side sends.
pub(crate) struct Opener {
    direction: Direction,
    /// The number of records in a row without data.
    useless: u32,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Application data: this part of the record's bytes.
    Data(Range<usize>),
    /// The other side will send nothing more.
    Close,
    /// A message of the handshake that changes nothing here, such as a session ticket.
    Ignored,
}

/// The reason why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// A record is not authentic, or bytes are not a record.
    #[error("a TLS record is damaged or forged")]
    Forged,
    /// A record is larger than TLS allows.
    #[error("a TLS record is too large")]
    TooLarge,
    /// Too many records in a row have no data.
    #[error("more than {USELESS_MAX} TLS records in a row are empty")]
    Useless,
    /// The other side ended the connection with an alert.
    #[error("the other side sent TLS alert {0}")]
    Alert(u8),
    /// The other side asks for new keys.
    #[error("the other side asked for a TLS key update, which is not supported")]
    KeyUpdate,
    /// The keys have protected as many records as they may.
    #[error("the TLS keys of this connection are used up; it must be opened again")]
    Exhausted,
}

/// Takes over from rustls. `None` for a cipher that is not one of TLS 1.3's three.
pub(crate) fn take_over(secrets: ExtractedSecrets) -> Option<(Sealer, Opener)> {
    let (sent, tx) = secrets.tx;
    let (received, rx) = secrets.rx;
    Some((
        Sealer(Direction::new(sent, &tx)?),
        Opener {
            direction: Direction::new(received, &rx)?,
            useless: 0,
        },
    ))
}

impl Sealer {
    /// Seals at most [`BODY_MAX`] bytes of application data in place. Returns the bytes that go in
    /// front of them and after them.
    pub(crate) fn seal(
        &mut self,
        body: &mut [u8],
    ) -> Result<([u8; HEADER_LEN], [u8; TRAILER_LEN]), RecordError> {
        self.seal_as(APPLICATION_DATA, body)
    }

    /// Returns the record that announces to the other side that nothing more comes.
    pub(crate) fn seal_close(&mut self) -> Result<Vec<u8>, RecordError> {
        let mut body = [WARNING, CLOSE_NOTIFY];
        let (header, trailer) = self.seal_as(ALERT, &mut body)?;
        Ok([&header[..], &body, &trailer].concat())
    }

    fn seal_as(
        &mut self,
        content: u8,
        body: &mut [u8],
    ) -> Result<([u8; HEADER_LEN], [u8; TRAILER_LEN]), RecordError> {
        if body.len() > BODY_MAX {
            return Err(RecordError::TooLarge);
        }
        let length = (body.len() + TRAILER_LEN) as u16;
        let [high, low] = length.to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let mut trailer = [0; TRAILER_LEN];
        let nonce = self.0.next_nonce()?;
        let sealed = self.0.key.seal_in_place_scatter(
            nonce,
            Aad::from(header),
            body,
            &[content],
            &mut trailer,
        );
        sealed.map_err(|_| RecordError::Exhausted)?;
        Ok((header, trailer))
    }
}

impl Opener {
    /// Opens one whole record in place, header included.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<Content, RecordError> {
        let content = self.open_any(record)?;
        let brings = match &content {
            Content::Data(range) => !range.is_empty(),
            Content::Close => true,
            Content::Ignored => false,
        };
        self.useless = if brings { 0 } else { self.useless + 1 };
        if self.useless > USELESS_MAX {
            return Err(RecordError::Useless);
        }
        Ok(content)
    }

    fn open_any(&mut self, record: &mut [u8]) -> Result<Content, RecordError> {
        let (header, sealed) = record
            .split_first_chunk_mut::<HEADER_LEN>()
            .ok_or(RecordError::Forged)?;
        if header[0] != APPLICATION_DATA {
            return Err(RecordError::Forged);
        }
        let nonce = self.direction.next_nonce()?;
        let key = &self.direction.key;
        let opened = key.open_in_place(nonce, Aad::from(*header), sealed);
        let inner = opened.map_err(|_| RecordError::Forged)?;
        // The content type counts, and so does padding.
        if inner.len() > BODY_MAX + 1 {
            return Err(RecordError::TooLarge);
        }
        // Padding is zeros after the content type.
        let Some(at) = inner.iter().rposition(|byte| *byte != 0) else {
            return Err(RecordError::Forged);
        };
        match inner[at] {
            APPLICATION_DATA => Ok(Content::Data(HEADER_LEN..HEADER_LEN + at)),
            ALERT => match inner[..at] {
                [_, CLOSE_NOTIFY] => Ok(Content::Close),
                [_, alert] => Err(RecordError::Alert(alert)),
                _ => Err(RecordError::Forged),
            },
            HANDSHAKE if inner[0] == NEW_SESSION_TICKET => Ok(Content::Ignored),
            HANDSHAKE => Err(RecordError::KeyUpdate),
            _ => Err(RecordError::Forged),
        }
    }
}

/// The length of the record that `bytes` start with, header included; `None` while the header is
/// not whole. After the handshake there is only one kind on the outside (RFC 8446, section 5); any
/// other ends the connection, also a change_cipher_spec, which anybody on the way could put in.
pub(crate) fn record_len(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    if header[0] != APPLICATION_DATA {
        return Err(RecordError::Forged);
    }
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length > CIPHERTEXT_MAX {
        return Err(RecordError::TooLarge);
    }
    Ok(Some(HEADER_LEN + length))
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    /// The number of the next record under these keys; it starts where rustls left it.
    sequence: u64,
    /// Records that may still be protected.
    left: u64,
}

impl Direction {
    fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Option<Self> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let key = key.as_ref().get(..algorithm.key_len())?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?),
            iv: iv.as_ref().try_into().ok()?,
            sequence,
            left: RECORDS_MAX.checked_sub(sequence)?,
        })
    }

    fn next_nonce(&mut self) -> Result<Nonce, RecordError> {
        self.left = self.left.checked_sub(1).ok_or(RecordError::Exhausted)?;
        let mut nonce = self.iv;
        for (byte, counter) in nonce[NONCE_LEN - 8..]
            .iter_mut()
            .zip(self.sequence.to_be_bytes())
        {
            *byte ^= counter;
        }
        self.sequence += 1;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Bytes in front of a record's body: type, version, length.
pub(crate) const HEADER_LEN: usize = 5;

/// Bytes after a record's body: content type and tag.
pub(crate) const TRAILER_LEN: usize = 17;

/// Most application data of one record.
pub(crate) const BODY_MAX: usize = overlan_protocol::TLS_RECORD_MAX;

/// Most bytes after a record's header: a full body, its type, and the 255 bytes that RFC 8446
/// allows a cipher to add.
const CIPHERTEXT_MAX: usize = BODY_MAX + 256;

/// Bytes of the largest record.
pub(crate) const RECORD_MAX: usize = HEADER_LEN + CIPHERTEXT_MAX;

/// Most records in a row without data: as many as rustls allows.
const USELESS_MAX: u32 = 32;

/// AES-GCM protects 2^24.5 full records under one key with margin (RFC 8446, section 5.5); this is
/// 256 GiB.
const RECORDS_MAX: u64 = 1 << 24;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
const WARNING: u8 = 1;
const CLOSE_NOTIFY: u8 = 0;

#[cfg(test)]
pub(crate) mod tests;
