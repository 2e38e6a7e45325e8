//! The DNS records that admins gave a name. Decides from the records and private zones of one
//! network; names of devices are `lookup.rs`'s part.

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV, TXT};
use overlan_protocol::dns::{Record, is_in};
use overlan_protocol::netmap::Network;

use super::fqdn;

/// Returns the network's records of a name; `None` if neither the name nor a name below it has any.
pub(crate) fn of(name: &str, network: &Network) -> Option<Vec<RData>> {
    if let Some(records) = network.dns.records.get(name) {
        return Some(records.iter().filter_map(data).collect());
    }
    // "No such name" would deny the names below it, too (RFC 8020).
    let has_names_below = network.dns.records.keys().any(|known| is_in(known, name));
    has_names_below.then(Vec::new)
}

/// Returns `None` if DNS cannot carry the record; a controller does not send such a record.
fn data(record: &Record) -> Option<RData> {
    Some(match record {
        Record::A(address) => RData::A(A(*address)),
        Record::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Record::Cname(target) => RData::CNAME(CNAME(fqdn(target)?)),
        Record::Txt(text) => {
            let strings = text.as_bytes().chunks(TXT_STRING_MAX).collect();
            RData::TXT(TXT::from_bytes(strings))
        }
        Record::Srv(srv) => RData::SRV(SRV::new(
            srv.priority,
            srv.weight,
            srv.port,
            fqdn(&srv.target)?,
        )),
    })
}

/// Longest string inside a TXT record, bytes (RFC 1035).
const TXT_STRING_MAX: usize = 255;

#[cfg(test)]
mod tests;
