//! Auth keys and relay tokens. Using one is a single conditional UPDATE, so of two racing users one
//! wins.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{AuthKeySummary, NamePolicy};
use overlan_protocol::key::{NetworkId, RelayId};
use overlan_protocol::source_range::SourceRange;
use overlan_protocol::tag::Tag;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::accounts::Digest;
use super::{StoreError, Tx, damaged, parsed, seconds, signed, tags, time, time_or_none, unsigned};
use crate::netmaps::OrgId;

/// An auth key without its secret.
#[derive(Debug, Clone)]
pub(crate) struct AuthKey {
    pub(crate) id: String,
    pub(crate) org: OrgId,
    /// The networks that its devices may be in.
    pub(crate) networks: BTreeSet<NetworkId>,
    pub(crate) reusable: bool,
    pub(crate) ephemeral: bool,
    /// Its devices wait for approval.
    pub(crate) approval: bool,
    pub(crate) on_name_taken: NamePolicy,
    pub(crate) expires: UnixTime,
    pub(crate) last_used: Option<UnixTime>,
    pub(crate) revoked: Option<UnixTime>,
    pub(crate) note: String,
    /// Tags that its devices get.
    pub(crate) tags: BTreeSet<Tag>,
    pub(crate) uses: u32,
    /// Devices that it may enrol, if it is reusable.
    pub(crate) max_uses: Option<u32>,
    /// Addresses from which it may be used; none is everywhere.
    pub(crate) sources: Vec<SourceRange>,
    /// Seconds for which its ephemeral devices may be offline.
    pub(crate) ephemeral_secs: Option<u64>,
}

impl AuthKey {
    /// Says whether it enrolled as many devices as it may.
    pub(crate) fn is_used_up(&self) -> bool {
        match self.max_uses {
            Some(most) => self.uses >= most,
            None => !self.reusable && self.uses > 0,
        }
    }

    /// Says whether it may be used from an address.
    pub(crate) fn may_come_from(&self, address: IpAddr) -> bool {
        let mut sources = self.sources.iter();
        self.sources.is_empty() || sources.any(|range| range.contains(address))
    }
}

/// A relay token without its secret.
#[derive(Debug, Clone)]
pub(crate) struct RelayToken {
    pub(crate) org: OrgId,
    pub(crate) name: String,
    pub(crate) expires: UnixTime,
    pub(crate) used: Option<UnixTime>,
}

pub(crate) async fn insert_auth_key(
    tx: &mut Tx,
    key: &AuthKey,
    secret: &Digest,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO auth_keys (id, org_id, secret, reusable, ephemeral, approval, on_name_taken,
             expires, note, created, max_uses, sources, ephemeral_secs)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&key.id)
    .bind(key.org.0)
    .bind(&secret[..])
    .bind(key.reusable)
    .bind(key.ephemeral)
    .bind(key.approval)
    .bind(policy_text(key.on_name_taken))
    .bind(seconds(key.expires))
    .bind(&key.note)
    .bind(seconds(now))
    .bind(key.max_uses)
    .bind(source_text(&key.sources))
    .bind(key.ephemeral_secs.map(signed))
    .execute(&mut **tx)
    .await?;
    for network in &key.networks {
        sqlx::query("INSERT INTO auth_key_networks (key_id, network_id) VALUES (?, ?)")
            .bind(&key.id)
            .bind(network.to_string())
            .execute(&mut **tx)
            .await?;
    }
    tags::insert_of_key(tx, &key.id, &key.tags).await
}

/// Returns the auth key with this id and secret, in any state.
pub(crate) async fn auth_key(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
) -> Result<Option<AuthKey>, StoreError> {
    let row = sqlx::query("SELECT * FROM auth_keys WHERE id = ? AND secret = ?")
        .bind(id)
        .bind(&secret[..])
        .fetch_optional(&mut **tx)
        .await?;
    let Some(mut key) = row.as_ref().map(auth_key_row).transpose()? else {
        return Ok(None);
    };
    let rows = sqlx::query("SELECT network_id FROM auth_key_networks WHERE key_id = ?")
        .bind(id)
        .fetch_all(&mut **tx)
        .await?;
    let networks = rows.iter().map(|row| parsed(row, "network_id"));
    key.networks = networks.collect::<Result<_, _>>()?;
    key.tags = tags::of_key(tx, id).await?;
    Ok(Some(key))
}

/// Returns the policy of an auth key for taken names, if the key is still known.
pub(crate) async fn name_policy(tx: &mut Tx, id: &str) -> Result<Option<NamePolicy>, StoreError> {
    let row = sqlx::query("SELECT * FROM auth_keys WHERE id = ?")
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    let key = row.as_ref().map(auth_key_row).transpose()?;
    Ok(key.map(|key| key.on_name_taken))
}

/// Uses the auth key if it may be used now, and says whether it could.
pub(crate) async fn consume_auth_key(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE auth_keys SET uses = uses + 1, last_used = ?3
         WHERE id = ?1 AND secret = ?2 AND expires > ?3 AND revoked IS NULL
         AND (reusable = 1 OR uses = 0) AND (max_uses IS NULL OR uses < max_uses)",
    )
    .bind(id)
    .bind(&secret[..])
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Returns the organisation's auth keys, newest first, at most `limit`.
pub(crate) async fn auth_keys(
    tx: &mut Tx,
    org: OrgId,
    limit: u32,
) -> Result<Vec<AuthKeySummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT a.key_id, n.name FROM auth_key_networks a JOIN networks n ON n.id = a.network_id
         WHERE n.org_id = ? ORDER BY n.name",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let key = row.try_get("key_id")?;
        names.entry(key).or_default().push(row.try_get("name")?);
    }
    let mut tagged = tags::of_keys(tx, org).await?;
    let rows =
        sqlx::query("SELECT * FROM auth_keys WHERE org_id = ? ORDER BY created DESC, id LIMIT ?")
            .bind(org.0)
            .bind(limit)
            .fetch_all(&mut **tx)
            .await?;
    rows.iter()
        .map(|row| {
            let key = auth_key_row(row)?;
            Ok(AuthKeySummary {
                networks: names.remove(&key.id).unwrap_or_default(),
                tags: tagged.remove(&key.id).unwrap_or_default(),
                id: key.id,
                reusable: key.reusable,
                ephemeral: key.ephemeral,
                approval: key.approval,
                expires: key.expires,
                uses: key.uses,
                max_uses: key.max_uses,
                sources: key.sources,
                ephemeral_secs: key.ephemeral_secs,
                revoked: key.revoked.is_some(),
                note: key.note,
            })
        })
        .collect()
}

/// Returns the number of the organisation's auth keys.
pub(crate) async fn count_auth_keys(tx: &mut Tx, org: OrgId) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS keys FROM auth_keys WHERE org_id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "keys")
}

/// Revokes one of the organisation's auth keys; returns its note, if there is such a key.
pub(crate) async fn revoke_auth_key(
    tx: &mut Tx,
    org: OrgId,
    id: &str,
    now: UnixTime,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "UPDATE auth_keys SET revoked = coalesce(revoked, ?) WHERE id = ?
             AND org_id = ? RETURNING note",
    )
    .bind(seconds(now))
    .bind(id)
    .bind(org.0)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| row.try_get("note")).transpose()?)
}

/// Forgets keys and tokens that ended before `before`.
pub(crate) async fn prune(tx: &mut Tx, before: UnixTime) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM auth_key_networks WHERE key_id IN (SELECT id FROM auth_keys
             WHERE expires <= ?)",
        "DELETE FROM auth_keys WHERE expires <= ?",
        "DELETE FROM relay_tokens WHERE expires <= ?",
    ] {
        sqlx::query(statement)
            .bind(seconds(before))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

pub(crate) async fn insert_relay_token(
    tx: &mut Tx,
    id: &str,
    token: &RelayToken,
    secret: &Digest,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO relay_tokens (id, org_id, name, secret, expires, created) VALUES (?, ?, ?, ?,
             ?, ?)",
    )
    .bind(id)
    .bind(token.org.0)
    .bind(&token.name)
    .bind(&secret[..])
    .bind(seconds(token.expires))
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns the relay token with this id and secret, in any state.
pub(crate) async fn relay_token(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
) -> Result<Option<RelayToken>, StoreError> {
    let row = sqlx::query("SELECT * FROM relay_tokens WHERE id = ? AND secret = ?")
        .bind(id)
        .bind(&secret[..])
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| {
        Ok(RelayToken {
            org: OrgId(row.try_get("org_id")?),
            name: row.try_get("name")?,
            expires: time(&row, "expires")?,
            used: time_or_none(&row, "used")?,
        })
    })
    .transpose()
}

/// Uses the relay token for `relay` if it may be used now, and says whether it could.
pub(crate) async fn consume_relay_token(
    tx: &mut Tx,
    id: &str,
    secret: &Digest,
    relay: RelayId,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE relay_tokens SET used = ?3, relay_id = ?4 WHERE id = ?1 AND secret = ?2
             AND expires > ?3 AND used IS NULL",
    )
    .bind(id)
    .bind(&secret[..])
    .bind(seconds(now))
    .bind(relay.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn auth_key_row(row: &SqliteRow) -> Result<AuthKey, StoreError> {
    let policy: String = row.try_get("on_name_taken")?;
    Ok(AuthKey {
        id: row.try_get("id")?,
        org: OrgId(row.try_get("org_id")?),
        networks: BTreeSet::new(),
        reusable: row.try_get("reusable")?,
        ephemeral: row.try_get("ephemeral")?,
        approval: row.try_get("approval")?,
        on_name_taken: policy_from_text(&policy).ok_or_else(|| damaged("on_name_taken"))?,
        expires: time(row, "expires")?,
        last_used: time_or_none(row, "last_used")?,
        revoked: time_or_none(row, "revoked")?,
        note: row.try_get("note")?,
        tags: BTreeSet::new(),
        uses: unsigned(row, "uses")?,
        max_uses: row.try_get("max_uses")?,
        sources: sources(row)?,
        ephemeral_secs: row
            .try_get::<Option<i64>, _>("ephemeral_secs")?
            .map(i64::unsigned_abs),
    })
}

fn source_text(sources: &[SourceRange]) -> String {
    let sources: Vec<String> = sources.iter().map(SourceRange::to_string).collect();
    sources.join(",")
}

fn sources(row: &SqliteRow) -> Result<Vec<SourceRange>, StoreError> {
    let text: String = row.try_get("sources")?;
    let ranges = text.split(',').filter(|range| !range.is_empty());
    ranges
        .map(|range| range.parse().map_err(|_| damaged("sources")))
        .collect()
}

fn policy_text(policy: NamePolicy) -> &'static str {
    match policy {
        NamePolicy::Suffix => "suffix",
        NamePolicy::TakeOverOffline => "take-over-offline",
        NamePolicy::Fail => "fail",
    }
}

fn policy_from_text(text: &str) -> Option<NamePolicy> {
    [
        NamePolicy::Suffix,
        NamePolicy::TakeOverOffline,
        NamePolicy::Fail,
    ]
    .into_iter()
    .find(|policy| policy_text(*policy) == text)
}
