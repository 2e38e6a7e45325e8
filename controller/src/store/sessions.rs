//! Sessions of people, and the sources of their logins.

use std::time::Duration;

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{Role, SessionSummary};
use overlan_protocol::key::random_bytes;
use sqlx::Row;

use super::accounts::Digest;
use super::{StoreError, Tx, damaged, login_requests, parsed, seconds, time};
use crate::netmaps::OrgId;

/// A live session, which is a login to one of the account's organisations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) org: OrgId,
    pub(crate) account: i64,
    /// The person's role in that organisation now.
    pub(crate) role: Role,
    pub(crate) last_used: UnixTime,
}

/// The beginning of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    pub(crate) org: OrgId,
    pub(crate) account: i64,
    /// The address that the login came from.
    pub(crate) source: IpAddr,
    pub(crate) at: UnixTime,
    pub(crate) expires: UnixTime,
}

/// Writes a session that begins, and the source of its login.
pub(crate) async fn insert(
    tx: &mut Tx,
    token: &Digest,
    session: &Beginning,
) -> Result<(), StoreError> {
    let source = session.source.to_string();
    let now = seconds(session.at);
    sqlx::query(
        "INSERT INTO sessions (token, org_id, account_id, last_used, expires, id, created,
             source) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&token[..])
    .bind(session.org.0)
    .bind(session.account)
    .bind(now)
    .bind(seconds(session.expires))
    .bind(HEXLOWER.encode(&random_bytes::<ID_BYTES>()))
    .bind(now)
    .bind(&source)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO login_sources (account_id, source, last) VALUES (?, ?, ?)
         ON CONFLICT (account_id, source) DO UPDATE SET last = excluded.last",
    )
    .bind(session.account)
    .bind(&source)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM login_sources WHERE account_id = ?1 AND source NOT IN
             (SELECT source FROM login_sources WHERE account_id = ?1 ORDER BY last DESC, source
             LIMIT ?2)",
    )
    .bind(session.account)
    .bind(SOURCES_MAX)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Says whether the account logged in from this source before.
pub(crate) async fn is_known(
    tx: &mut Tx,
    account: i64,
    source: IpAddr,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM login_sources WHERE account_id = ? AND source = ?")
        .bind(account)
        .bind(source.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.is_some())
}

/// Returns the session with this token, if it has reached neither its end nor its idle limit and
/// the person still is in the organisation.
pub(crate) async fn get(
    tx: &mut Tx,
    token: &Digest,
    now: UnixTime,
    idle: Duration,
) -> Result<Option<Session>, StoreError> {
    let row = sqlx::query(
        "SELECT s.org_id, s.account_id, s.last_used, p.role FROM sessions s
         JOIN people p ON p.org_id = s.org_id AND p.account_id = s.account_id
         WHERE s.token = ? AND s.expires > ? AND s.last_used > ?",
    )
    .bind(&token[..])
    .bind(seconds(now))
    .bind(seconds(now - idle))
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(Session {
            org: OrgId(row.try_get("org_id")?),
            account: row.try_get("account_id")?,
            role: parsed(&row, "role")?,
            last_used: time(&row, "last_used")?,
        })
    })
    .transpose()
}

/// Returns the live sessions of an account, in all organisations or in one, newest first; which of
/// them asks is not known here.
pub(crate) async fn of_account(
    tx: &mut Tx,
    account: i64,
    org: Option<OrgId>,
    now: UnixTime,
    idle: Duration,
) -> Result<Vec<(Digest, SessionSummary)>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.token, s.id, s.created, s.last_used, s.expires, s.source, o.name FROM sessions s
         JOIN organisations o ON o.id = s.org_id
         WHERE s.account_id = ?1 AND (?2 IS NULL OR s.org_id = ?2) AND s.expires > ?3
             AND s.last_used > ?4
         ORDER BY s.created DESC, s.id LIMIT ?5",
    )
    .bind(account)
    .bind(org.map(|org| org.0))
    .bind(seconds(now))
    .bind(seconds(now - idle))
    .bind(LIST_MAX)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| {
            let token: Vec<u8> = row.try_get("token")?;
            let token = token.try_into().map_err(|_| damaged("token"))?;
            let summary = SessionSummary {
                id: row.try_get("id")?,
                current: false,
                created: time(row, "created")?,
                last_used: time(row, "last_used")?,
                expires: time(row, "expires")?,
                source: row.try_get("source")?,
                organisation: row.try_get("name")?,
            };
            Ok((token, summary))
        })
        .collect()
}

pub(crate) async fn touch(tx: &mut Tx, token: &Digest, now: UnixTime) -> Result<(), StoreError> {
    sqlx::query("UPDATE sessions SET last_used = ? WHERE token = ?")
        .bind(seconds(now))
        .bind(&token[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends the session with this token.
pub(crate) async fn delete(tx: &mut Tx, token: &Digest) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE token = ?")
        .bind(&token[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends a session of the account by its id, if it is one of this organisation where one is given;
/// says whether there was one.
pub(crate) async fn end(
    tx: &mut Tx,
    account: i64,
    org: Option<OrgId>,
    id: &str,
) -> Result<bool, StoreError> {
    let statement =
        "DELETE FROM sessions WHERE account_id = ?1 AND id = ?2 AND (?3 IS NULL OR org_id = ?3)";
    let done = sqlx::query(statement)
        .bind(account)
        .bind(id)
        .bind(org.map(|org| org.0))
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends all sessions of the account but `kept`, and those that were granted to a machine that has
/// not fetched them yet; returns the number of sessions.
pub(crate) async fn end_all(
    tx: &mut Tx,
    account: i64,
    kept: Option<&Digest>,
) -> Result<u64, StoreError> {
    login_requests::end_granted(tx, account).await?;
    let done =
        sqlx::query("DELETE FROM sessions WHERE account_id = ?1 AND (?2 IS NULL OR token <> ?2)")
            .bind(account)
            .bind(kept.map(|token| &token[..]))
            .execute(&mut **tx)
            .await?;
    Ok(done.rows_affected())
}

/// Ends all sessions of the account in one organisation; returns their number.
pub(crate) async fn end_in(tx: &mut Tx, org: OrgId, account: i64) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM sessions WHERE org_id = ? AND account_id = ?")
        .bind(org.0)
        .bind(account)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}

/// Removes sessions past their end or idle limit.
pub(crate) async fn prune(tx: &mut Tx, now: UnixTime, idle: Duration) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE expires <= ? OR last_used <= ?")
        .bind(seconds(now))
        .bind(seconds(now - idle))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Bytes of the public id of a session.
const ID_BYTES: usize = 6;

/// Sources remembered for an account; the one that was used longest ago is forgotten first.
const SOURCES_MAX: u32 = 16;

/// Most sessions in one list.
const LIST_MAX: u32 = 1_000;
