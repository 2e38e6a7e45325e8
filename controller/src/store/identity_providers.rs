//! Identity providers of organisations, and the logins by them that are under way.

use overlan_protocol::UnixTime;
use overlan_protocol::key::Secret;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::accounts::Digest;
use super::{StoreError, Tx, seconds, time};
use crate::netmaps::OrgId;

/// The identity provider of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityProvider {
    pub(crate) org: OrgId,
    pub(crate) issuer: String,
    pub(crate) issuer_ca: Option<String>,
    pub(crate) client_id: String,
    pub(crate) sealed_secret: Vec<u8>,
    /// Domains of emails whose holders become members.
    pub(crate) domains: Vec<String>,
    pub(crate) groups_claim: String,
    pub(crate) changed: UnixTime,
}

/// Writes the provider of an organisation, in place of the one before.
pub(crate) async fn put(tx: &mut Tx, provider: &IdentityProvider) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO identity_providers (org_id, issuer, issuer_ca, client_id, client_secret,
             domains, groups_claim, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (org_id) DO UPDATE SET issuer = excluded.issuer,
             issuer_ca = excluded.issuer_ca, client_id = excluded.client_id,
             client_secret = excluded.client_secret, domains = excluded.domains,
             groups_claim = excluded.groups_claim, changed = excluded.changed",
    )
    .bind(provider.org.0)
    .bind(&provider.issuer)
    .bind(&provider.issuer_ca)
    .bind(&provider.client_id)
    .bind(&provider.sealed_secret)
    .bind(provider.domains.join(","))
    .bind(&provider.groups_claim)
    .bind(seconds(provider.changed))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the provider of an organisation.
pub(crate) async fn get(tx: &mut Tx, org: OrgId) -> Result<Option<IdentityProvider>, StoreError> {
    let row = sqlx::query("SELECT * FROM identity_providers WHERE org_id = ?")
        .bind(org.0)
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(provider).transpose()
}

/// Returns the organisations with a provider that are called `name`, in any case of letters, or
/// have this number; without a name all of them. At most `limit`.
pub(crate) async fn organisations(
    tx: &mut Tx,
    name: Option<&str>,
    limit: u32,
) -> Result<Vec<OrgId>, StoreError> {
    let rows = sqlx::query(
        "SELECT o.id FROM identity_providers p JOIN organisations o ON o.id = p.org_id
         WHERE ?1 IS NULL OR o.name = ?1 OR lower(o.name) = ?2 OR o.id = ?3
         ORDER BY o.id = ?3 DESC, o.id LIMIT ?4",
    )
    .bind(name)
    .bind(name.map(str::to_lowercase))
    .bind(name.and_then(|name| name.parse::<i64>().ok()))
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| Ok(OrgId(row.try_get("id")?)))
        .collect()
}

/// Removes the provider of an organisation; says whether there was one.
pub(crate) async fn remove(tx: &mut Tx, org: OrgId) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM identity_providers WHERE org_id = ?")
        .bind(org.0)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

fn provider(row: &SqliteRow) -> Result<IdentityProvider, StoreError> {
    let domains: String = row.try_get("domains")?;
    let domains = domains.split(',').filter(|domain| !domain.is_empty());
    Ok(IdentityProvider {
        org: OrgId(row.try_get("org_id")?),
        issuer: row.try_get("issuer")?,
        issuer_ca: row.try_get("issuer_ca")?,
        client_id: row.try_get("client_id")?,
        sealed_secret: row.try_get("client_secret")?,
        domains: domains.map(str::to_owned).collect(),
        groups_claim: row.try_get("groups_claim")?,
        changed: time(row, "changed")?,
    })
}

/// A login by a provider that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignOn {
    pub(crate) org: OrgId,
    /// The login request that it will approve.
    pub(crate) login_request: String,
    pub(crate) expires: UnixTime,
}

/// The part of a login that a browser holds, once it is on its way to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Away {
    /// The SHA-256 of the browser's cookie.
    pub(crate) browser: Digest,
    /// The SHA-256 of the state.
    pub(crate) state: Digest,
    pub(crate) nonce: String,
    pub(crate) verifier: Secret,
}

/// Writes a login that begins; `ticket` is the SHA-256 of the secret in its address.
pub(crate) async fn begin(
    tx: &mut Tx,
    ticket: &Digest,
    sign_on: &SignOn,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sign_ons WHERE expires <= ?")
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO sign_ons (ticket, org_id, login_request, expires) VALUES (?, ?, ?, ?)",
    )
    .bind(&ticket[..])
    .bind(sign_on.org.0)
    .bind(&sign_on.login_request)
    .bind(seconds(sign_on.expires))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns a login that is under way, by its ticket.
pub(crate) async fn by_ticket(
    tx: &mut Tx,
    ticket: &Digest,
    now: UnixTime,
) -> Result<Option<SignOn>, StoreError> {
    let row = sqlx::query("SELECT * FROM sign_ons WHERE ticket = ? AND expires > ?")
        .bind(&ticket[..])
        .bind(seconds(now))
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(sign_on).transpose()
}

/// Notes with what a browser goes to the provider; a second one of the same login takes the place
/// of the first.
pub(crate) async fn send_away(tx: &mut Tx, ticket: &Digest, away: &Away) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sign_ons SET browser = ?, state = ?, nonce = ?, verifier = ? WHERE ticket = ?",
    )
    .bind(&away.browser[..])
    .bind(&away.state[..])
    .bind(&away.nonce)
    .bind(away.verifier.reveal())
    .bind(&ticket[..])
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes the login with this state out: the second that comes with it finds nothing.
pub(crate) async fn come_back(
    tx: &mut Tx,
    state: &Digest,
    browser: &Digest,
    now: UnixTime,
) -> Result<Option<(SignOn, String, Secret)>, StoreError> {
    let row = sqlx::query(
        "DELETE FROM sign_ons WHERE state = ? AND browser = ? AND expires > ? RETURNING *",
    )
    .bind(&state[..])
    .bind(&browser[..])
    .bind(seconds(now))
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        let (nonce, verifier): (String, String) = (row.try_get("nonce")?, row.try_get("verifier")?);
        Ok((sign_on(&row)?, nonce, Secret::new(&verifier)))
    })
    .transpose()
}

fn sign_on(row: &SqliteRow) -> Result<SignOn, StoreError> {
    Ok(SignOn {
        org: OrgId(row.try_get("org_id")?),
        login_request: row.try_get("login_request")?,
        expires: time(row, "expires")?,
    })
}
