//! Decides how a file of the state directory is written and checked: a schema version, a checksum,
//! the value. Knows neither files nor what the values mean.

use std::io;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The frame of every file.
#[derive(Serialize, Deserialize)]
struct Versioned<'f> {
    schema_version: u32,
    /// SHA-256 of the bytes of `value`; earlier versions wrote none.
    #[serde(default)]
    sum: Option<String>,
    #[serde(borrow)]
    value: &'f RawValue,
}

/// Its version alone, read first: a later version's `value` need not be understood to say so.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// Returns the bytes of a file that holds `value`.
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

/// Reads the value out of a file.
///
/// # Errors
/// The reason why it cannot be used, without quoting the file.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("it is larger than {FILE_MAX} bytes"));
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    if version.schema_version != SCHEMA_VERSION {
        return Err(format!(
            "it has schema version {}, and this program (overlan {}) knows version {SCHEMA_VERSION} only, so another version wrote it",
            version.schema_version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let versioned: Versioned<'_> =
        serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    let value = versioned.value.get();
    if versioned.sum.is_some_and(|sum| sum != sum_of(value)) {
        return Err("its checksum does not fit, so something else than this program changed it; without the field \"sum\" it is taken as it is".to_owned());
    }
    serde_json::from_str(value).map_err(|error| damaged(&error))
}

/// By which damage is noticed that leaves a file readable, such as a bit that a disk turned. It
/// keeps nobody from changing it.
fn sum_of(value: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, value.as_bytes()).as_ref())
}

/// Returns where the damage is. Not serde's own text: that may quote what it found, and the files
/// hold keys.
fn damaged(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "a value is missing or not of the right form",
        Category::Syntax | Category::Io => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// Version of the form of all files.
const SCHEMA_VERSION: u32 = 1;

/// Largest file that is read, bytes: the netmap is the largest, and its longest form on the wire is
/// half of this.
pub(super) const FILE_MAX: u64 = 2 * overlan_protocol::netmap::MAP_EVENT_MAX as u64;
