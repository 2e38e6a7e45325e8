//! API tokens of people.

use std::net::IpAddr;
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{ApiTokenSummary, Role};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::accounts::Digest;
use super::{StoreError, Tx, parsed, seconds, time, time_or_none, unsigned};
use crate::netmaps::OrgId;

/// An API token and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct ApiToken {
    pub(crate) org: OrgId,
    pub(crate) account: i64,
    /// The present role of its person.
    pub(crate) role: Role,
    pub(crate) summary: ApiTokenSummary,
}

pub(crate) async fn insert(
    tx: &mut Tx,
    token: &ApiToken,
    secret: &Digest,
) -> Result<(), StoreError> {
    let summary = &token.summary;
    sqlx::query(
        "INSERT INTO api_tokens (id, org_id, account_id, secret, name, scopes, created, expires)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&summary.id)
    .bind(token.org.0)
    .bind(token.account)
    .bind(&secret[..])
    .bind(&summary.name)
    .bind(summary.scopes.join(","))
    .bind(seconds(summary.created))
    .bind(seconds(summary.expires))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the token with this id and secret, even if it has expired. One whose person has left the
/// organisation is nobody's.
pub(crate) async fn get(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
) -> Result<Option<ApiToken>, StoreError> {
    let row = sqlx::query(
        "SELECT t.*, p.role FROM api_tokens t
         JOIN people p ON p.org_id = t.org_id AND p.account_id = t.account_id
         WHERE t.id = ? AND t.secret = ?",
    )
    .bind(id)
    .bind(&secret[..])
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(ApiToken {
            org: OrgId(row.try_get("org_id")?),
            account: row.try_get("account_id")?,
            role: parsed(&row, "role")?,
            summary: summary(&row)?,
        })
    })
    .transpose()
}

/// Returns the tokens of a person in an organisation, newest first.
pub(crate) async fn of_person(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
) -> Result<Vec<ApiTokenSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM api_tokens WHERE org_id = ? AND account_id = ? ORDER BY created DESC, id",
    )
    .bind(org.0)
    .bind(account)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(summary).collect()
}

/// Counts the tokens of a person in an organisation.
pub(crate) async fn count(tx: &mut Tx, org: OrgId, account: i64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT count(*) AS number FROM api_tokens WHERE org_id = ? AND account_id = ?",
    )
    .bind(org.0)
    .bind(account)
    .fetch_one(&mut **tx)
    .await?;
    unsigned(&row, "number")
}

/// Notes a use.
pub(crate) async fn touch(
    tx: &mut Tx,
    id: &str,
    source: IpAddr,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_tokens SET last_used = ?, last_source = ? WHERE id = ?")
        .bind(seconds(now))
        .bind(source.to_string())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a token of a person; returns its name if there was one.
pub(crate) async fn remove(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
    id: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "DELETE FROM api_tokens WHERE org_id = ? AND account_id = ? AND id = ? RETURNING name",
    )
    .bind(org.0)
    .bind(account)
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(row.try_get("name")?)).transpose()
}

/// Removes all tokens of a person in an organisation; returns their number.
pub(crate) async fn remove_all(tx: &mut Tx, org: OrgId, account: i64) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM api_tokens WHERE org_id = ? AND account_id = ?")
        .bind(org.0)
        .bind(account)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}

/// Forgets tokens that ended `kept` ago.
pub(crate) async fn prune(tx: &mut Tx, now: UnixTime, kept: Duration) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM api_tokens WHERE expires <= ?")
        .bind(seconds(now - kept))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn summary(row: &SqliteRow) -> Result<ApiTokenSummary, StoreError> {
    let scopes: String = row.try_get("scopes")?;
    Ok(ApiTokenSummary {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: scopes.split(',').map(str::to_owned).collect(),
        created: time(row, "created")?,
        expires: time(row, "expires")?,
        last_used: time_or_none(row, "last_used")?,
        last_source: row.try_get("last_source")?,
    })
}
