//! The end of an organisation in the database.

use super::{StoreError, Tx};
use crate::netmaps::OrgId;

/// Deletes an organisation whose devices are gone, with everything that is its own. The rows by
/// which its devices hear that they were removed stay.
pub(crate) async fn delete(tx: &mut Tx, org: OrgId) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM sessions WHERE org_id = ?",
        "DELETE FROM api_tokens WHERE org_id = ?",
        "DELETE FROM policies WHERE org_id = ?",
        "DELETE FROM former_names WHERE org_id = ?",
        "DELETE FROM dns_records WHERE org_id = ?",
        "DELETE FROM dns_zones WHERE org_id = ?",
        "DELETE FROM auth_keys WHERE org_id = ?",
        "DELETE FROM relay_tokens WHERE org_id = ?",
        "DELETE FROM relays WHERE org_id = ?",
        "DELETE FROM released_hosts WHERE org_id = ?",
        "DELETE FROM changes WHERE org_id = ?",
        "DELETE FROM networks WHERE org_id = ?",
        "DELETE FROM organisations WHERE id = ?",
    ] {
        sqlx::query(statement)
            .bind(org.0)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Returns the accounts of an organisation's people.
pub(crate) async fn accounts(tx: &mut Tx, org: OrgId) -> Result<Vec<i64>, StoreError> {
    let query = "SELECT account_id FROM people WHERE org_id = ? ORDER BY account_id";
    Ok(sqlx::query_scalar(query)
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?)
}
