//! Subjects of people at the identity provider of their organisation, and the groups that it named.

use std::collections::BTreeMap;

use overlan_protocol::UnixTime;
use sqlx::Row;

use super::{StoreError, Tx, damaged, seconds, time, unsigned};
use crate::netmaps::OrgId;
use crate::oidc::Groups;

/// A person of an organisation, by the account.
pub(crate) type Whose = (OrgId, i64);

/// A person as the provider named one.
#[derive(Debug, Clone)]
pub(crate) struct IdentityRow {
    pub(crate) whose: Whose,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) groups: Groups,
    /// The provider said so then.
    pub(crate) heard: UnixTime,
    pub(crate) sealed_refresh: Option<Vec<u8>>,
}

/// Writes what the provider said, in place of what it said before.
pub(crate) async fn put(tx: &mut Tx, row: &IdentityRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO identities (org_id, account_id, issuer, subject, groups, heard,
             refresh_token) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (org_id, account_id) DO UPDATE SET groups = excluded.groups,
             heard = excluded.heard, refresh_token = excluded.refresh_token",
    )
    .bind(row.whose.0.0)
    .bind(row.whose.1)
    .bind(&row.issuer)
    .bind(&row.subject)
    .bind(written(&row.groups))
    .bind(seconds(row.heard))
    .bind(&row.sealed_refresh)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns what the provider said of a person.
pub(crate) async fn get(tx: &mut Tx, whose: Whose) -> Result<Option<IdentityRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM identities WHERE org_id = ? AND account_id = ?")
        .bind(whose.0.0)
        .bind(whose.1)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| {
        Ok(IdentityRow {
            whose,
            issuer: row.try_get("issuer")?,
            subject: row.try_get("subject")?,
            groups: read(&row.try_get::<String, _>("groups")?)?,
            heard: time(&row, "heard")?,
            sealed_refresh: row.try_get("refresh_token")?,
        })
    })
    .transpose()
}

/// Returns the account that the organisation's provider named by this subject.
pub(crate) async fn bound(
    tx: &mut Tx,
    org: OrgId,
    issuer: &str,
    subject: &str,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(
        "SELECT account_id FROM identities WHERE org_id = ? AND issuer = ? AND subject = ?",
    )
    .bind(org.0)
    .bind(issuer)
    .bind(subject)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(row.try_get("account_id")?)).transpose()
}

/// Returns everybody of whom a provider was heard, and when.
pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<(Whose, UnixTime)>, StoreError> {
    let statement = "SELECT org_id, account_id, heard FROM identities
             WHERE refresh_token IS NOT NULL OR groups <> '[]'";
    let rows = sqlx::query(statement).fetch_all(&mut **tx).await?;
    rows.iter()
        .map(|row| {
            let whose = (OrgId(row.try_get("org_id")?), row.try_get("account_id")?);
            Ok((whose, time(row, "heard")?))
        })
        .collect()
}

/// Returns the number of people of an organisation whom its provider has named.
pub(crate) async fn count(tx: &mut Tx, org: OrgId) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT count(*) AS known FROM identities WHERE org_id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "known")
}

/// Forgets what the provider of an organisation said of everybody; returns the number of people.
pub(crate) async fn forget(tx: &mut Tx, org: OrgId) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM identities WHERE org_id = ?")
        .bind(org.0)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}

/// Returns the groups of everybody in an organisation, by account.
pub(crate) async fn groups(
    tx: &mut Tx,
    org: OrgId,
) -> Result<BTreeMap<i64, Vec<String>>, StoreError> {
    let statement = "SELECT account_id, groups FROM identities WHERE org_id = ? AND groups <> '[]'";
    let rows = sqlx::query(statement)
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter()
        .map(|row| {
            let groups = read(&row.try_get::<String, _>("groups")?)?;
            let names = groups.names().map(str::to_owned).collect();
            Ok((row.try_get("account_id")?, names))
        })
        .collect()
}

fn written(groups: &Groups) -> String {
    let names: Vec<&str> = groups.names().collect();
    serde_json::Value::from(names).to_string()
}

fn read(text: &str) -> Result<Groups, StoreError> {
    let names: Vec<String> = serde_json::from_str(text).map_err(|_| damaged("groups"))?;
    Ok(Groups::new(names))
}
