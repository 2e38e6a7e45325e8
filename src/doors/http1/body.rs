//! The end of a body (RFC 9112, sections 6 and 7): decides how a message is framed, and finds the
//! pieces of its body. Doubtful framing is refused, because two readers that understand it
//! differently can be made to see two messages.

use bytes::{Buf, Bytes, BytesMut};

use super::fields::{Fields, Writer};
use super::message::{HttpRequest, HttpResponse, HttpVersion, Malformed, head_end};

/// The framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none.
    None,
    /// So many bytes.
    Exact(u64),
    /// Chunks, which end with one of no bytes, and then maybe fields.
    Chunked,
    /// To the end of the connection.
    UntilClose,
}

impl Length {
    pub(super) fn of_request(request: &HttpRequest) -> Result<Self, Malformed> {
        let fields = &request.fields;
        if fields.has("transfer-encoding") {
            if fields.has("content-length") {
                return Err(Malformed::TwoLengths);
            }
            return chunked(request.version, fields);
        }
        let mut lengths = fields.all("content-length");
        match (lengths.next(), lengths.next()) {
            (None, _) => Ok(Self::None),
            (Some(length), None) => Ok(Self::Exact(number(length)?)),
            (Some(_), Some(_)) => Err(Malformed::Length),
        }
    }

    /// Returns the framing of the answer to a request with `method`.
    pub(super) fn of_answer(method: &str, answer: &HttpResponse) -> Result<Self, Malformed> {
        let fields = &answer.fields;
        if method == "HEAD" || answer.is_interim() || matches!(answer.status, 204 | 304) {
            return Ok(Self::None);
        }
        if fields.has("transfer-encoding") {
            return chunked(answer.version, fields);
        }
        let mut lengths = fields.list("content-length").map(number);
        let Some(length) = lengths.next().transpose()? else {
            // An empty one means nothing.
            return match fields.has("content-length") {
                true => Err(Malformed::Length),
                false => Ok(Self::UntilClose),
            };
        };
        match lengths.all(|other| other == Ok(length)) {
            true => Ok(Self::Exact(length)),
            false => Err(Malformed::Length),
        }
    }

    /// Appends `data` as a part of such a body.
    pub(super) fn encode(self, data: &[u8], to: &mut Vec<u8>) {
        match self {
            Self::Chunked => {
                to.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                to.extend_from_slice(data);
                to.extend_from_slice(b"\r\n");
            }
            Self::None | Self::Exact(_) | Self::UntilClose => to.extend_from_slice(data),
        }
    }

    /// Appends the end of such a body, with trailer fields where it can have them.
    pub(super) fn encode_end(self, trailers: &Fields, to: &mut Vec<u8>) {
        if self == Self::Chunked {
            to.extend_from_slice(b"0\r\n");
            trailers.encode(to);
            to.extend_from_slice(b"\r\n");
        }
    }
}

fn chunked(version: HttpVersion, fields: &Fields) -> Result<Length, Malformed> {
    let codings: Vec<&[u8]> = fields.list("transfer-encoding").collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let count = codings.iter().filter(|coding| is_chunked(coding)).count();
    match codings.last() {
        Some(last) if is_chunked(last) && count == 1 && version == HttpVersion::Http11 => {}
        Some(_) | None => return Err(Malformed::Coding),
    }
    match codings.len() {
        1 => Ok(Length::Chunked),
        _ => Err(Malformed::UnknownCoding),
    }
}

/// Reads digits only: `parse` alone would take a sign.
fn number(text: &[u8]) -> Result<u64, Malformed> {
    let digits = str::from_utf8(text).ok();
    let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or(Malformed::Length)
}

/// Finds a body in the bytes of a connection.
#[derive(Debug)]
pub(super) struct Decoder {
    state: BodyState,
    writer: Writer,
}

#[derive(Debug)]
enum BodyState {
    Exact(u64),
    UntilClose,
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    /// With the bytes that were looked at and hold no end.
    Trailers(usize),
    Done,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// All of it, and the fields after it.
    End(Fields),
    /// Nothing yet: more bytes are needed.
    More,
}

impl Decoder {
    pub(super) fn new(length: Length, writer: Writer) -> Self {
        let state = match length {
            Length::None => BodyState::Done,
            Length::Exact(bytes) => BodyState::Exact(bytes),
            Length::Chunked => BodyState::ChunkLine,
            Length::UntilClose => BodyState::UntilClose,
        };
        Self { state, writer }
    }

    /// Takes the next piece out of `input`.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match &mut self.state {
                BodyState::Done => return Ok(Piece::End(Fields::default())),
                BodyState::Exact(0) => self.state = BodyState::Done,
                BodyState::Chunk(0) => self.state = BodyState::ChunkEnd,
                BodyState::Exact(left) | BodyState::Chunk(left) => {
                    let count =
                        usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    if count == 0 {
                        return Ok(Piece::More);
                    }
                    *left -= count as u64;
                    return Ok(Piece::Data(input.split_to(count).freeze()));
                }
                BodyState::UntilClose if input.is_empty() => return Ok(Piece::More),
                BodyState::UntilClose => return Ok(Piece::Data(input.split().freeze())),
                BodyState::ChunkLine => {
                    let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
                        return match input.len() {
                            0..CHUNK_LINE_MAX => Ok(Piece::More),
                            _ => Err(Malformed::Chunk),
                        };
                    };
                    let size = chunk_size(&input[..end])?;
                    input.advance(end + 1);
                    self.state = match size {
                        0 => BodyState::Trailers(0),
                        size => BodyState::Chunk(size),
                    };
                }
                BodyState::ChunkEnd => match input.get(..2) {
                    Some(b"\r\n") => {
                        input.advance(2);
                        self.state = BodyState::ChunkLine;
                    }
                    Some(_) => return Err(Malformed::Chunk),
                    None => return Ok(Piece::More),
                },
                BodyState::Trailers(seen) => {
                    let end = match &input[..] {
                        [b'\r', b'\n', ..] => Some(2),
                        [b'\n', ..] => return Err(Malformed::Chunk),
                        bytes => head_end(bytes, *seen),
                    };
                    *seen = input.len();
                    let Some(end) = end.filter(|end| *end <= TRAILERS_MAX) else {
                        return match input.len() {
                            0..TRAILERS_MAX => Ok(Piece::More),
                            _ => Err(Malformed::HeadTooLong),
                        };
                    };
                    let fields = Fields::parse(&input[..end], self.writer)?;
                    input.advance(end);
                    self.state = BodyState::Done;
                    return Ok(Piece::End(fields));
                }
            }
        }
    }

    /// Returns whether the body may end where its connection does.
    pub(super) fn ends_here(&self) -> bool {
        matches!(self.state, BodyState::UntilClose | BodyState::Done)
    }
}

/// Reads the size in a chunk's line, which is still without its LF. Extensions after `;` are
/// ignored.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let line = line.strip_suffix(b"\r").ok_or(Malformed::Chunk)?;
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, rest) = line.split_at(digits);
    let rest = rest.trim_ascii_start();
    let is_extension = rest.is_empty() || rest.starts_with(b";");
    if line.len() > CHUNK_LINE_MAX || !is_extension || rest.contains(&b'\r') {
        return Err(Malformed::Chunk);
    }
    let digits = str::from_utf8(digits).map_err(|_| Malformed::Chunk)?;
    u64::from_str_radix(digits, 16).map_err(|_| Malformed::Chunk)
}

/// Bytes of a chunk's line: a size, and extensions that nobody uses.
const CHUNK_LINE_MAX: usize = 4096;

/// Bytes of the fields after a body.
const TRAILERS_MAX: usize = 16 * 1024;
