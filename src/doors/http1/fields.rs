//! Header and trailer fields in the order and the case in which they came (RFC 9112, section 5).
//! Decides which lines are fields; knows no field by its name.

use super::FIELDS_MAX;
use super::message::Malformed;

/// The fields of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<Field>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: String,
    value: Vec<u8>,
}

/// The writer of a head. A fault of a client is refused; one of a service is mended where RFC 9112
/// says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Client,
    Service,
}

impl Fields {
    /// Reads the lines of a head after its first, or those of a trailer section. Lines end with
    /// CRLF or LF.
    pub(super) fn parse(lines: &[u8], writer: Writer) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                fields.fold(line, writer)?;
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, value) = line.split_at(colon.ok_or(Malformed::NoColon)?);
            let trimmed = name.trim_ascii_end();
            if trimmed.len() != name.len() && writer == Writer::Client {
                return Err(Malformed::SpaceBeforeColon);
            }
            let name = str::from_utf8(trimmed).map_err(|_| Malformed::FieldName)?;
            if !is_token(name) {
                return Err(Malformed::FieldName);
            }
            let value = value[1..].trim_ascii();
            if !value.iter().all(|byte| is_value(*byte)) {
                return Err(Malformed::FieldValue);
            }
            if fields.0.len() == FIELDS_MAX {
                return Err(Malformed::TooManyFields);
            }
            fields.push(name, value);
        }
        Ok(fields)
    }

    /// Appends a line that goes on with the value of the field before it.
    fn fold(&mut self, line: &[u8], writer: Writer) -> Result<(), Malformed> {
        let (Some(last), Writer::Service) = (self.0.last_mut(), writer) else {
            return Err(Malformed::Folded);
        };
        let more = line.trim_ascii();
        if !more.iter().all(|byte| is_value(*byte)) {
            return Err(Malformed::FieldValue);
        }
        // Spaces around a value are not part of it, wherever its lines break.
        if !last.value.is_empty() && !more.is_empty() {
            last.value.push(b' ');
        }
        last.value.extend_from_slice(more);
        Ok(())
    }

    /// Adds a field after the others.
    pub(crate) fn push(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push(Field {
            name: name.to_owned(),
            value: value.into(),
        });
    }

    /// Makes `value` the only one of `name`.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.remove(name);
        self.push(name, value);
    }

    /// The values of all fields with this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let same = move |field: &&Field| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(same).map(|field| &field.value[..])
    }

    /// The first of them.
    pub(crate) fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The members of a list with commas, over all fields with this name.
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Returns whether the list holds `member`, in whatever case.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        self.list(name)
            .any(|known| known.eq_ignore_ascii_case(member.as_bytes()))
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0
            .retain(|field| !field.name.eq_ignore_ascii_case(name));
    }

    /// Keeps the fields whose name is wanted.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|field| wanted(&field.name));
    }

    /// Writes a line for each field, without the empty line after them.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        for field in &self.0 {
            to.extend_from_slice(field.name.as_bytes());
            to.extend_from_slice(b": ");
            to.extend_from_slice(&field.value);
            to.extend_from_slice(b"\r\n");
        }
    }
}

/// Returns a field's name as programs read it that make variables of names: `X_Overlan.User`
/// becomes `HTTP_X_OVERLAN_USER` just as `X-Overlan-User` does. Letters are small here, and every
/// byte that is neither a letter nor a digit is `-`.
pub(crate) fn folded(name: &str) -> String {
    let fold = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte.to_ascii_lowercase()),
        _ => '-',
    };
    name.bytes().map(fold).collect()
}

/// Returns whether `text` is a word of HTTP (RFC 9110, section 5.6.2), as methods and names of
/// fields are.
pub(super) fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// Returns whether a value may hold `byte`. Control characters have no place there (RFC 9110,
/// section 5.5): a bare CR, for one, ends a line for some readers.
fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
