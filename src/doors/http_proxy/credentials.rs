//! Reads the credentials of a `Proxy-Authorization` field. Decides which they are, not whether the
//! client may come in.

use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::doors::http1::Fields;

/// A secret that a client sent.
type Given = Zeroizing<Vec<u8>>;

/// User name and password of `Proxy-Authorization: Basic …`, if the field is there and has that
/// form.
pub(super) fn of(fields: &Fields) -> Option<(Given, Given)> {
    let value = fields.first("proxy-authorization")?;
    let (scheme, encoded) = value.split_at_checked(BASIC.len())?;
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(encoded.trim_ascii()).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = Zeroizing::new(decoded[..colon].to_vec());
    Some((user, Zeroizing::new(decoded[colon + 1..].to_vec())))
}

/// The scheme, with the space after it.
const BASIC: &[u8] = b"Basic ";
