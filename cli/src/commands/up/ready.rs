//! The line that `up` prints when peers can reach it. Decides its words; prints nothing.

use overlan::program::status::Status;

/// Returns the line as one JSON document, or for people.
pub(super) fn line(status: &Status, as_json: bool) -> String {
    match as_json {
        true => document(status),
        false => sentence(status),
    }
}

/// One line for people, and for scripts that wait for it.
fn sentence(status: &Status) -> String {
    let mut line = "overlan is up".to_owned();
    if let Some(device) = &status.device {
        line.push_str(&format!(": {}", device.name));
        for address in device.addresses.iter().filter(|address| address.is_ipv4()) {
            line.push_str(&format!(" {address}"));
        }
    }
    if let Some(address) = status.socks {
        line.push_str(&format!(", socks5h://{address}"));
    }
    if let Some(address) = status.dns {
        line.push_str(&format!(", dns {address}"));
    }
    line
}

/// The same for programs, also on one line, so that more lines may follow some day.
fn document(status: &Status) -> String {
    let document = serde_json::json!({
        "schema_version": 1,
        "state": status.state,
        "device": status.device,
        "socks": status.socks,
        "proxies": status.proxies,
        "dns": status.dns,
    });
    document.to_string()
}
