//! Logins that one machine asks for and a person grants on another one. Each decision is a single
//! conditional statement, so of two racing people one decides.

use std::net::IpAddr;

use overlan_protocol::UnixTime;
use overlan_protocol::api::UserCode;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::accounts::Digest;
use super::{StoreError, Tx, damaged, parsed, seconds, time, unsigned};
use crate::login_requests::{LoginGrant, Verdict};
use crate::netmaps::OrgId;

/// A login request without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AskedLogin {
    /// The public part of its secret.
    pub(crate) id: String,
    pub(crate) code: UserCode,
    /// The program that asks, as it says itself.
    pub(crate) program: String,
    /// The machine that asks, as it says itself.
    pub(crate) host: String,
    /// The address that the request came from, as connections are counted.
    pub(crate) source: IpAddr,
    /// The only organisation whose people may grant it; without one it is open to all.
    pub(crate) org: Option<OrgId>,
    pub(crate) created: UnixTime,
    pub(crate) expires: UnixTime,
}

/// Writes a request; `Conflict` if another one has the code.
pub(crate) async fn insert(
    tx: &mut Tx,
    secret: &Digest,
    request: &AskedLogin,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO login_requests (id, secret, code, program, host, source, wanted_org, created,
             expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&request.id)
    .bind(&secret[..])
    .bind(request.code.to_string())
    .bind(&request.program)
    .bind(&request.host)
    .bind(request.source.to_string())
    .bind(request.org.map(|org| org.0))
    .bind(seconds(request.created))
    .bind(seconds(request.expires))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the number of requests from a source and from all sources that have not reached their
/// end, decided ones included.
pub(crate) async fn count(
    tx: &mut Tx,
    source: IpAddr,
    now: UnixTime,
) -> Result<(u32, u32), StoreError> {
    let row = sqlx::query(
        "SELECT count(*) AS known, coalesce(sum(source = ?1), 0) AS of_source FROM login_requests
         WHERE expires > ?2",
    )
    .bind(source.to_string())
    .bind(seconds(now))
    .fetch_one(&mut **tx)
    .await?;
    Ok((unsigned(&row, "of_source")?, unsigned(&row, "known")?))
}

/// Returns the request with this id, if nobody has decided and it has not reached its end.
pub(crate) async fn get(
    tx: &mut Tx,
    id: &str,
    now: UnixTime,
) -> Result<Option<AskedLogin>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM login_requests
         WHERE id = ? AND expires > ? AND account_id IS NULL AND denied IS NULL",
    )
    .bind(id)
    .bind(seconds(now))
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(asked).transpose()
}

/// Returns the request with this code that people of `org` may grant, if nobody has decided and it
/// has not reached its end.
pub(crate) async fn by_code(
    tx: &mut Tx,
    code: UserCode,
    org: OrgId,
    now: UnixTime,
) -> Result<Option<AskedLogin>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM login_requests
         WHERE code = ? AND (wanted_org IS NULL OR wanted_org = ?) AND expires > ?
             AND account_id IS NULL AND denied IS NULL",
    )
    .bind(code.to_string())
    .bind(org.0)
    .bind(seconds(now))
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(asked).transpose()
}

/// Returns the request with this id and secret, however it stands.
pub(crate) async fn of_secret(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
) -> Result<Option<(AskedLogin, Verdict)>, StoreError> {
    let row = sqlx::query("SELECT * FROM login_requests WHERE id = ? AND secret = ?")
        .bind(id)
        .bind(&secret[..])
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| Ok((asked(&row)?, verdict(&row)?)))
        .transpose()
}

/// Grants a request that waits, and says whether it did.
pub(crate) async fn approve(
    tx: &mut Tx,
    id: &str,
    grant: LoginGrant,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE login_requests SET org_id = ?2, account_id = ?3
         WHERE id = ?1 AND expires > ?4 AND account_id IS NULL AND denied IS NULL
             AND (wanted_org IS NULL OR wanted_org = ?2)",
    )
    .bind(id)
    .bind(grant.org.0)
    .bind(grant.account)
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Refuses a request that waits, and says whether it did. `reason` is one line for people.
pub(crate) async fn deny(
    tx: &mut Tx,
    id: &str,
    reason: &str,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE login_requests SET denied = ?2
         WHERE id = ?1 AND expires > ?3 AND account_id IS NULL AND denied IS NULL",
    )
    .bind(id)
    .bind(reason)
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes a request; says whether it was still there, so that a session is given once.
pub(crate) async fn take(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM login_requests WHERE id = ?")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the requests that an account has granted and whose sessions were not fetched.
pub(crate) async fn end_granted(tx: &mut Tx, account: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM login_requests WHERE account_id = ?")
        .bind(account)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Forgets requests that reached their end before this time.
pub(crate) async fn prune(tx: &mut Tx, before: UnixTime) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM login_requests WHERE expires <= ?")
        .bind(seconds(before))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn asked(row: &SqliteRow) -> Result<AskedLogin, StoreError> {
    let org: Option<i64> = row.try_get("wanted_org")?;
    Ok(AskedLogin {
        id: row.try_get("id")?,
        code: parsed(row, "code")?,
        program: row.try_get("program")?,
        host: row.try_get("host")?,
        source: parsed(row, "source")?,
        org: org.map(OrgId),
        created: time(row, "created")?,
        expires: time(row, "expires")?,
    })
}

fn verdict(row: &SqliteRow) -> Result<Verdict, StoreError> {
    let denied: Option<String> = row.try_get("denied")?;
    let org: Option<i64> = row.try_get("org_id")?;
    let account: Option<i64> = row.try_get("account_id")?;
    match (denied, org, account) {
        (Some(reason), _, _) => Ok(Verdict::Refused(reason)),
        (None, None, None) => Ok(Verdict::Open),
        (None, Some(org), Some(account)) => Ok(Verdict::Granted(LoginGrant {
            org: OrgId(org),
            account,
        })),
        (None, _, _) => Err(damaged("account_id")),
    }
}
