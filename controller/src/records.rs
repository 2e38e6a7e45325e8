//! Decides which records and zones a network may have. Knows no database: the present settings come
//! in, and the changed ones go out.

use overlan_protocol::HostIndex;
use overlan_protocol::dns::{
    self, Dns, RECORDS_MAX, RECORDS_OF_NAME_MAX, Record, VIA_MAX, Via, ViaHost, ZONES_MAX, Zone,
};
use overlan_protocol::gateway::may_lead_to;

/// One network, as far as its names are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkNames<'a> {
    /// The deployment's domain.
    pub(crate) deployment: &'a str,
    /// The zone of the network's devices: `network.domain`.
    pub(crate) domain: &'a str,
    /// Its records and zones.
    pub(crate) dns: &'a Dns,
}

/// The use that a record makes of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameUse {
    /// It stands beside others, as a person decides.
    Shared,
    /// It has the name for itself, as a gateway host does.
    Exclusive,
}

/// The reason why a record or zone was not changed. The text says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// The text is not a name.
    #[error(
        "{0:?} is not a valid name, which has labels of 1 to 63 letters, digits, hyphens and \
         underscores, joined by dots"
    )]
    NotAName(String),
    /// The name is in none of the network's zones.
    #[error("{name} is in none of the network's zones ({zones}); declare its zone first")]
    InNoZone { name: String, zones: String },
    /// The zone is delegated to other resolvers.
    #[error("{0} is delegated to its resolvers, so it cannot have records")]
    Delegated(String),
    /// A device has the name.
    #[error("{0} is the name of a device; give the record another name")]
    Device(String),
    /// The name that a gateway host wants has other records already.
    #[error(
        "{0} already has other records; give the host another name, or remove those records first"
    )]
    Taken(String),
    /// The name is that of a zone.
    #[error("{0} is the name of a zone, which cannot be an alias (CNAME)")]
    Apex(String),
    /// A CNAME would stand beside other records.
    #[error("a CNAME must be the only record, and {0} already has records; remove them first")]
    Alone(String),
    /// A record would stand beside a CNAME.
    #[error("{0} has a CNAME, which must be the only record; remove it first")]
    Alias(String),
    /// A limit is reached.
    #[error("{0}")]
    TooMany(String),
    /// The name is below the deployment's domain.
    #[error("{0} is below the deployment's domain, whose names are those of networks and devices")]
    OfDeployment(String),
    /// There are too many resolvers, or one that no device can reach.
    #[error("{0}")]
    Via(String),
    /// The zone has records.
    #[error("{zone} has {records} records; remove them first")]
    HasRecords { zone: String, records: usize },
    /// There is nothing to remove.
    #[error("{0} has nothing of that kind to remove")]
    Nothing(String),
}

/// Says whether a record gives the place of a name: then the name cannot be a device's as well.
pub(crate) fn says_where(record: &Record) -> bool {
    matches!(record, Record::A(_) | Record::Aaaa(_) | Record::Cname(_))
}

impl NetworkNames<'_> {
    /// Returns the absolute name that a person means: a single label is below `network.domain`.
    pub(crate) fn absolute(&self, name: &str) -> Result<String, RecordError> {
        let no_name = || RecordError::NotAName(name.to_owned());
        let found = dns::normal(name).ok_or_else(no_name)?;
        match found.contains('.') || name.ends_with('.') {
            true => Ok(found),
            false => dns::normal(&format!("{found}.{}", self.domain)).ok_or_else(no_name),
        }
    }

    /// Returns all records of `name` with `record` among them. `is_device` says that a device of
    /// the network has the name.
    pub(crate) fn add(
        &self,
        name: &str,
        record: Record,
        is_device: bool,
    ) -> Result<Vec<Record>, RecordError> {
        let zone = self.zone_of(name)?;
        let is_alias = matches!(record, Record::Cname(_));
        if name == zone && is_alias {
            return Err(RecordError::Apex(name.to_owned()));
        }
        if is_device && says_where(&record) {
            return Err(RecordError::Device(name.to_owned()));
        }
        let mut records = self.dns.records.get(name).cloned().unwrap_or_default();
        if records.contains(&record) {
            return Ok(records);
        }
        if records
            .iter()
            .any(|known| matches!(known, Record::Cname(_)))
        {
            return Err(RecordError::Alias(name.to_owned()));
        }
        if is_alias && !records.is_empty() {
            return Err(RecordError::Alone(name.to_owned()));
        }
        if records.len() >= RECORDS_OF_NAME_MAX {
            let text = format!("{name} has {RECORDS_OF_NAME_MAX} records, and cannot have more");
            return Err(RecordError::TooMany(text));
        }
        if self.dns.records.values().map(Vec::len).sum::<usize>() >= RECORDS_MAX {
            let text = format!("the network has {RECORDS_MAX} records, and cannot have more");
            return Err(RecordError::TooMany(text));
        }
        records.push(record);
        records.sort_by_key(|record| (record.kind(), record.value()));
        Ok(records)
    }

    /// Does the same for a gateway host, which gets a name of its own: no other record of an
    /// address or alias may be there.
    pub(crate) fn claim(
        &self,
        name: &str,
        record: Record,
        is_device: bool,
    ) -> Result<Vec<Record>, RecordError> {
        let mut known = self.dns.records.get(name).into_iter().flatten();
        if known.any(|known| says_where(known) && *known != record) {
            return Err(RecordError::Taken(name.to_owned()));
        }
        self.add(name, record, is_device)
    }

    /// Returns the records of `name` that stay if those of `kind` and `value` are removed, and the
    /// number of removed ones.
    pub(crate) fn remove(
        &self,
        name: &str,
        kind: Option<&str>,
        value: Option<&str>,
    ) -> Result<(Vec<Record>, u32), RecordError> {
        let goes = |record: &Record| {
            kind.is_none_or(|kind| record.kind().eq_ignore_ascii_case(kind))
                && value.is_none_or(|value| {
                    let same = kind.and_then(|kind| Record::parse(kind, value).ok());
                    same.as_ref() == Some(record)
                })
        };
        let records = self.dns.records.get(name).map_or(&[][..], Vec::as_slice);
        let stay: Vec<Record> = records.iter().filter(|&it| !goes(it)).cloned().collect();
        match u32::try_from(records.len() - stay.len()) {
            Ok(0) | Err(_) => Err(RecordError::Nothing(name.to_owned())),
            Ok(gone) => Ok((stay, gone)),
        }
    }

    /// Returns the zone `zone` with these resolvers. The caller has checked that peers among them
    /// exist.
    pub(crate) fn zone(&self, zone: &str, via: Vec<Via>) -> Result<Zone, RecordError> {
        if dns::is_in(zone, self.deployment) {
            return Err(RecordError::OfDeployment(zone.to_owned()));
        }
        let is_new = !self.dns.zones.contains_key(zone);
        if is_new && self.dns.zones.len() >= ZONES_MAX {
            let text = format!("the network has {ZONES_MAX} zones, and cannot have more");
            return Err(RecordError::TooMany(text));
        }
        if via.len() > VIA_MAX {
            let text = format!("a zone has at most {VIA_MAX} resolvers");
            return Err(RecordError::Via(text));
        }
        for via in &via {
            if let ViaHost::Address(address) = via.host
                && HostIndex::of_address(address).is_none()
                && !may_lead_to(address)
            {
                return Err(RecordError::Via(format!(
                    "{address} is neither the address of a device nor one that a gateway may lead \
                     to; for resolvers of a host's own network see `overlan up --dns-forward`"
                )));
            }
        }
        let records = self.records_in(zone);
        if !via.is_empty() && records > 0 {
            let zone = zone.to_owned();
            return Err(RecordError::HasRecords { zone, records });
        }
        Ok(Zone { via })
    }

    /// Checks that the zone can be removed.
    pub(crate) fn remove_zone(&self, zone: &str) -> Result<(), RecordError> {
        if !self.dns.zones.contains_key(zone) {
            return Err(RecordError::Nothing(zone.to_owned()));
        }
        match self.records_in(zone) {
            0 => Ok(()),
            records => Err(RecordError::HasRecords {
                zone: zone.to_owned(),
                records,
            }),
        }
    }

    /// Returns the zone with the most labels that holds `name`.
    fn zone_of(&self, name: &str) -> Result<String, RecordError> {
        if dns::is_in(name, self.domain) {
            return Ok(self.domain.to_owned());
        }
        // Names of other networks are not allowed here, even where a zone holds the whole domain.
        if dns::is_in(name, self.deployment) {
            return Err(RecordError::OfDeployment(name.to_owned()));
        }
        let zones = self.dns.zones.iter();
        let holds = zones.filter(|(zone, _)| dns::is_in(name, zone));
        match holds.max_by_key(|(zone, _)| zone.len()) {
            Some((zone, settings)) if settings.via.is_empty() => Ok(zone.clone()),
            Some((zone, _)) => Err(RecordError::Delegated(zone.clone())),
            None => {
                let mut zones = vec![self.domain];
                zones.extend(self.dns.zones.keys().map(String::as_str));
                Err(RecordError::InNoZone {
                    name: name.to_owned(),
                    zones: zones.join(", "),
                })
            }
        }
    }

    /// Counts the records that are in the zone and in no zone below it.
    fn records_in(&self, zone: &str) -> usize {
        let names = self.dns.records.iter();
        let here = names.filter(|(name, _)| {
            let inner = |other: &&String| {
                other.len() > zone.len() && dns::is_in(other, zone) && dns::is_in(name, other)
            };
            dns::is_in(name, zone) && self.dns.zones.keys().find(inner).is_none()
        });
        here.map(|(_, records)| records.len()).sum()
    }
}

#[cfg(test)]
mod tests;
