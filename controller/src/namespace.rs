//! Decides who keeps a name that an older database gives to a device and to a record. From then on
//! [`crate::store::names`] has the holders.

use overlan_protocol::api::NamePolicy;

use crate::naming::{self, LabelHolder, Naming};
use crate::records::says_where;
use crate::store::names::{self, DOMAIN};
use crate::store::{self, StoreError, Tx, changes, dns};

/// Fills in the names that records and wishes hold, once for each domain that the deployment has.
/// If a device has the name of a record, the record was first, since the other way round was always
/// refused: the device gets a suffix, and every device a whole netmap.
pub(crate) async fn settle(tx: &mut Tx, domain: &str) -> Result<(), StoreError> {
    if store::setting(tx, DOMAIN).await?.as_deref() == Some(domain.as_bytes()) {
        return Ok(());
    }
    store::put_setting(tx, DOMAIN, domain.as_bytes()).await?;
    names::clear(tx).await?;
    let mut renamed = false;
    for network in names::networks(tx).await? {
        let records = dns::settings(tx, network.org, network.id).await?.records;
        names::fill(tx, network.id, records.keys()).await?;
        let end = format!(".{}.{domain}", network.name);
        let where_to = records
            .iter()
            .filter(|(_, records)| records.iter().any(says_where));
        for (name, _) in where_to {
            let Some(label) = name.strip_suffix(&end) else {
                continue;
            };
            let holder = names::holder(tx, network.id, label).await?;
            let Some(names::Holder::Device(device)) = holder else {
                continue;
            };
            let taken = names::like(tx, network.id, label).await?;
            let naming = naming::decide(label, NamePolicy::Suffix, LabelHolder::Other, &taken);
            if let Naming::Give(free) = naming {
                names::rename(tx, network.id, device, &free).await?;
                names::fill(tx, network.id, [name]).await?;
                tracing::warn!(
                    network = %network.name, name = %label, new_name = %free,
                    "a device had the name of a DNS record and was renamed"
                );
                renamed = true;
            }
        }
    }
    if renamed {
        changes::restart(tx).await?;
    }
    Ok(())
}
