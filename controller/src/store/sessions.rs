//! Sessions of people, and the sources of their logins.

use std::time::Duration;

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use overlan_protocol::UnixTime;
use overlan_protocol::api::SessionSummary;
use overlan_protocol::key::random_bytes;
use sqlx::Row;

use super::accounts::Digest;
use super::{StoreError, Tx, damaged, seconds, time};
use crate::netmaps::OrgId;

/// A live session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) org: OrgId,
    pub(crate) account: i64,
    pub(crate) last_used: UnixTime,
}

/// Writes a session that begins now, and the source of its login.
pub(crate) async fn insert(
    tx: &mut Tx,
    token: &Digest,
    session: &Session,
    source: IpAddr,
    expires: UnixTime,
) -> Result<(), StoreError> {
    let source = source.to_string();
    let now = seconds(session.last_used);
    sqlx::query(
        "INSERT INTO sessions (token, org_id, account_id, last_used, expires, id, created,
             source) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&token[..])
    .bind(session.org.0)
    .bind(session.account)
    .bind(now)
    .bind(seconds(expires))
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

/// Returns the session with this token, if it has reached neither its end nor its idle limit.
pub(crate) async fn get(
    tx: &mut Tx,
    token: &Digest,
    now: UnixTime,
    idle: Duration,
) -> Result<Option<Session>, StoreError> {
    let row = sqlx::query(
        "SELECT org_id, account_id, last_used FROM sessions WHERE token = ? AND expires > ?
             AND last_used > ?",
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
            last_used: time(&row, "last_used")?,
        })
    })
    .transpose()
}

/// Returns the live sessions of an account, newest first; which of them asks is not known here.
pub(crate) async fn of_account(
    tx: &mut Tx,
    account: i64,
    now: UnixTime,
    idle: Duration,
) -> Result<Vec<(Digest, SessionSummary)>, StoreError> {
    let rows = sqlx::query(
        "SELECT token, id, created, last_used, expires, source FROM sessions
         WHERE account_id = ? AND expires > ? AND last_used > ? ORDER BY created DESC, id LIMIT ?",
    )
    .bind(account)
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

/// Ends a session of the account by its id; says whether there was one.
pub(crate) async fn end(tx: &mut Tx, account: i64, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM sessions WHERE account_id = ? AND id = ?")
        .bind(account)
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends all sessions of the account but `kept`; returns their number.
pub(crate) async fn end_all(
    tx: &mut Tx,
    account: i64,
    kept: Option<&Digest>,
) -> Result<u64, StoreError> {
    let done =
        sqlx::query("DELETE FROM sessions WHERE account_id = ?1 AND (?2 IS NULL OR token <> ?2)")
            .bind(account)
            .bind(kept.map(|token| &token[..]))
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
