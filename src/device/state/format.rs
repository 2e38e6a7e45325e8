//! The form of each file of the state directory: a schema version, a checksum, the value. Decides
//! whether bytes are such a file; opens no file, and does not know what values mean.

use std::io;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Versioned<'f> {
    schema_version: u32,
    /// SHA-256 of the bytes of `value`; earlier versions wrote none.
    #[serde(default)]
    sum: Option<String>,
    #[serde(borrow)]
    value: &'f RawValue,
}

/// The schema version alone. It is read first, because the rest of another version may not parse.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// Writes `value` as the bytes of a file.
pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Zeroizing<Vec<u8>>> {
    let value = Zeroizing::new(serde_json::to_string(value)?);
    let versioned = Versioned {
        schema_version: SCHEMA_VERSION,
        sum: Some(sum_of(&value)),
        value: serde_json::from_str(&value)?,
    };
    let mut bytes = Zeroizing::new(serde_json::to_vec(&versioned)?);
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the value from the bytes of a file.
///
/// # Errors
/// The reason why it cannot be used, without a quotation of the file, which may hold keys.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("it is larger than {FILE_MAX} bytes"));
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    if version.schema_version != SCHEMA_VERSION {
        return Err(format!(
            "another version of overlan wrote it: it has schema version {}, and this program \
             (overlan {}) reads version {SCHEMA_VERSION}",
            version.schema_version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let versioned: Versioned<'_> =
        serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    let value = versioned.value.get();
    if versioned.sum.is_some_and(|sum| sum != sum_of(value)) {
        let reason = "its checksum is wrong, so another program or the disk changed it; without \
                      the field \"sum\" it is read without this check";
        return Err(reason.to_owned());
    }
    serde_json::from_str(value).map_err(|error| damaged(&error))
}

/// Computes the checksum that shows damage in a file that still parses, such as a bit that a disk
/// changed. It is no protection against a person who changes the file.
fn sum_of(value: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, value.as_bytes()).as_ref())
}

/// Describes the damage by its place. Serde's own text may quote the file, which may hold keys.
fn damaged(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "a value is missing or has a wrong form",
        Category::Syntax | Category::Io => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// The version of this form.
const SCHEMA_VERSION: u32 = 1;

/// Largest file that is read, bytes: the netmap is the largest, and it takes at most half of this
/// on the wire.
pub(super) const FILE_MAX: u64 = 2 * overlan_protocol::netmap::MAP_EVENT_MAX as u64;
