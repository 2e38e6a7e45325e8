//! The script by which a browser decides what it sends through the proxy: the overlay, its zones,
//! and hosts of gateways. All else goes straight, so a browser keeps its Internet. Pure; the caller
//! judges who may ask for it.

use std::net::{IpAddr, SocketAddr};

use crate::doors::http1::Authority;
use crate::doors::proxied::Proxied;

/// The paths of the script; browsers look for the second by themselves.
pub(super) const PATHS: &[&str] = &["/proxy.pac", "/wpad.dat"];

pub(super) const CONTENT_TYPE: &str = "application/x-ns-proxy-autoconfig";

/// Returns whether a `Host` field names this very listener: `localhost` or a loopback address, or
/// the address that the client reached, with its port. A stranger may have made any other name lead
/// here.
pub(super) fn is_here(host: &Authority, own: SocketAddr) -> bool {
    let name = host.host();
    let is_address = match name.parse::<IpAddr>() {
        Ok(address) => {
            let (address, own) = (address.to_canonical(), own.ip().to_canonical());
            address == own || address.is_loopback() && own.is_loopback()
        }
        Err(_) => name.eq_ignore_ascii_case("localhost") && own.ip().to_canonical().is_loopback(),
    };
    is_address && host.port.unwrap_or(80) == own.port()
}

/// Writes the script for a browser that reaches the proxy at `proxy`. It resolves no name, and asks
/// for the destinations in `reach` by the proxy alone: if that is not there, no other server hears
/// the name.
pub(super) fn script(proxy: &Authority, reach: &Proxied) -> String {
    let names = |names: &mut dyn Iterator<Item = &String>| {
        let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
        names.join(", ")
    };
    let below = names(&mut reach.below.iter());
    let exact = names(&mut reach.names.iter());
    let ranges: Vec<String> = reach
        .ranges
        .iter()
        .map(|(address, bits)| format!("[{:?}, {bits}]", groups(*address)))
        .collect();
    let (ranges, port) = (ranges.join(", "), proxy.port.unwrap_or(80));
    let host = match proxy.host() {
        v6 if v6.contains(':') => format!("[{v6}]"),
        host => host,
    };
    format!(
        "// Destinations of the overlay go through it, all else straight. Made by `overlan up`.\n\
         var PROXY = \"PROXY {host}:{port}\";\n\
         var BELOW = [{below}];\n\
         var NAMES = [{exact}];\n\
         var RANGES = [{ranges}];\n{FUNCTIONS}"
    )
}

/// An address as numbers of 16 bits: two for IPv4, eight for IPv6.
fn groups(address: IpAddr) -> Vec<u16> {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            vec![u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        }
        IpAddr::V6(v6) => v6.segments().to_vec(),
    }
}

/// In the language of 1999, which all browsers still speak here.
const FUNCTIONS: &str = r#"
function groups(host) {
  var v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(host);
  if (v4) return [v4[1] * 256 + +v4[2], v4[3] * 256 + +v4[4]];
  if (host.indexOf(":") < 0) return null;
  var halves = host.split("::");
  if (halves.length > 2) return null;
  var head = numbers(halves[0]), tail = halves.length > 1 ? numbers(halves[1]) : [];
  while (halves.length > 1 && head.length + tail.length < 8) head.push(0);
  return head.concat(tail);
}

function numbers(text) {
  var all = text === "" ? [] : text.split(":"), out = [];
  for (var i = 0; i < all.length; i++) out.push(parseInt(all[i], 16));
  return out;
}

function within(address, range, bits) {
  if (address.length !== range.length) return false;
  for (var i = 0; i < range.length && bits > 0; i++, bits -= 16) {
    var drop = Math.pow(2, Math.max(0, 16 - bits));
    if (Math.floor(address[i] / drop) !== Math.floor(range[i] / drop)) return false;
  }
  return true;
}

function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/^\[|\]$/g, "").replace(/\.$/, "");
  var address = groups(host), i;
  for (i = 0; address && i < RANGES.length; i++)
    if (within(address, RANGES[i][0], RANGES[i][1])) return PROXY;
  for (i = 0; i < NAMES.length; i++)
    if (host === NAMES[i]) return PROXY;
  for (i = 0; i < BELOW.length; i++)
    if (host.slice(-BELOW[i].length - 1) === "." + BELOW[i]) return PROXY;
  return "DIRECT";
}
"#;
