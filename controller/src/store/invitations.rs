//! Invitations into organisations, and one-time ways to a new password. Using one is a single
//! conditional statement, so of two racing users one wins.

use overlan_protocol::UnixTime;
use overlan_protocol::api::Role;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::accounts::Digest;
use super::{StoreError, Tx, parsed, seconds, time, time_or_none, unsigned};
use crate::netmaps::OrgId;

/// An invitation without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) id: String,
    pub(crate) org: OrgId,
    pub(crate) email: String,
    pub(crate) role: Role,
    /// The account of the person who made it.
    pub(crate) by: Option<i64>,
    pub(crate) expires: UnixTime,
    pub(crate) accepted: Option<UnixTime>,
    pub(crate) revoked: Option<UnixTime>,
}

/// Writes an invitation that begins at `now`.
pub(crate) async fn insert(
    tx: &mut Tx,
    invitation: &Invitation,
    secret: &Digest,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO invitations (id, org_id, secret, email, role, account_id, created, expires)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&invitation.id)
    .bind(invitation.org.0)
    .bind(&secret[..])
    .bind(&invitation.email)
    .bind(invitation.role.name())
    .bind(invitation.by)
    .bind(seconds(now))
    .bind(seconds(invitation.expires))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the number of an organisation's invitations, ended ones included.
pub(crate) async fn count(tx: &mut Tx, org: OrgId) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS known FROM invitations WHERE org_id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "known")
}

/// Returns the invitations of an organisation, newest first, with the emails of those who made
/// them.
pub(crate) async fn list(
    tx: &mut Tx,
    org: OrgId,
    limit: u32,
) -> Result<Vec<(Invitation, Option<String>)>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.*, a.email AS maker FROM invitations i
         LEFT JOIN accounts a ON a.id = i.account_id
         WHERE i.org_id = ? ORDER BY i.created DESC, i.id LIMIT ?",
    )
    .bind(org.0)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| Ok((invitation(row)?, row.try_get("maker")?)))
        .collect()
}

/// Returns the invitation with this id and secret.
pub(crate) async fn get(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
) -> Result<Option<Invitation>, StoreError> {
    let row = sqlx::query("SELECT * FROM invitations WHERE id = ? AND secret = ?")
        .bind(id)
        .bind(&secret[..])
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(invitation).transpose()
}

/// Returns the open invitations of an organisation for an email, the newest first.
pub(crate) async fn open_for(
    tx: &mut Tx,
    org: OrgId,
    email: &str,
    now: UnixTime,
) -> Result<Vec<Invitation>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM invitations WHERE org_id = ? AND email = ? AND accepted IS NULL
             AND revoked IS NULL AND expires > ? ORDER BY created DESC, id",
    )
    .bind(org.0)
    .bind(email)
    .bind(seconds(now))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(invitation).collect()
}

/// Uses an invitation up if it is open, and says whether it was.
pub(crate) async fn accept(tx: &mut Tx, id: &str, now: UnixTime) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE invitations SET accepted = ?2 WHERE id = ?1 AND accepted IS NULL
             AND revoked IS NULL AND expires > ?2",
    )
    .bind(id)
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes back an invitation that nobody has accepted; returns the email that it was for.
pub(crate) async fn revoke(
    tx: &mut Tx,
    org: OrgId,
    id: &str,
    now: UnixTime,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "UPDATE invitations SET revoked = coalesce(revoked, ?3)
         WHERE org_id = ?1 AND id = ?2 AND accepted IS NULL RETURNING email",
    )
    .bind(org.0)
    .bind(id)
    .bind(seconds(now))
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(row.try_get("email")?)).transpose()
}

/// Takes back the open invitations that a person made in the organisation; returns their ids.
pub(crate) async fn revoke_of(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
    now: UnixTime,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "UPDATE invitations SET revoked = ?3 WHERE org_id = ?1 AND account_id = ?2
             AND accepted IS NULL AND revoked IS NULL AND expires > ?3 RETURNING id",
    )
    .bind(org.0)
    .bind(account)
    .bind(seconds(now))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Forgets invitations that ended before this time, and ways to a new password that ended.
pub(crate) async fn prune(tx: &mut Tx, before: UnixTime, now: UnixTime) -> Result<(), StoreError> {
    let statement =
        "DELETE FROM invitations WHERE expires <= ?1 OR accepted <= ?1 OR revoked <= ?1";
    sqlx::query(statement)
        .bind(seconds(before))
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM password_resets WHERE expires <= ?")
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn invitation(row: &SqliteRow) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: row.try_get("id")?,
        org: OrgId(row.try_get("org_id")?),
        email: row.try_get("email")?,
        role: parsed(row, "role")?,
        by: row.try_get("account_id")?,
        expires: time(row, "expires")?,
        accepted: time_or_none(row, "accepted")?,
        revoked: time_or_none(row, "revoked")?,
    })
}

/// Writes a way to a new password, in place of an older one of the account.
pub(crate) async fn insert_reset(
    tx: &mut Tx,
    account: i64,
    id: &str,
    secret: &Digest,
    expires: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM password_resets WHERE account_id = ?")
        .bind(account)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO password_resets (id, account_id, secret, expires) VALUES (?, ?, ?, ?)",
    )
    .bind(id)
    .bind(account)
    .bind(&secret[..])
    .bind(seconds(expires))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the account that a way to a new password is for, if it is open.
pub(crate) async fn reset_of(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
    now: UnixTime,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(
        "SELECT account_id FROM password_resets WHERE id = ? AND secret = ? AND expires > ?",
    )
    .bind(id)
    .bind(&secret[..])
    .bind(seconds(now))
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(row.try_get("account_id")?)).transpose()
}

/// Uses up the way to a new password; says whether it was still there.
pub(crate) async fn use_reset(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM password_resets WHERE id = ?")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the way to a new password that an account has.
pub(crate) async fn end_reset(tx: &mut Tx, account: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM password_resets WHERE account_id = ?")
        .bind(account)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
