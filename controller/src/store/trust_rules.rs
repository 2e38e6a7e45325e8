//! Trust rules, the tokens that were used by them, and the ends of the devices that came by them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::key::{DeviceId, NetworkId};
use overlan_protocol::tag::Tag;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::accounts::Digest;
use super::{StoreError, Tx, damaged, parsed, seconds, signed, time, time_or_none, unsigned};
use crate::enrol::TrustRule;
use crate::netmaps::OrgId;

/// A trust rule, and its use until now.
#[derive(Debug, Clone)]
pub(crate) struct ListedRule {
    pub(crate) rule: TrustRule,
    pub(crate) uses: u64,
    pub(crate) last_used: Option<UnixTime>,
    pub(crate) created: UnixTime,
}

/// Writes a new rule. Fails with [`StoreError::Conflict`] if its organisation has one of the name.
pub(crate) async fn insert(tx: &mut Tx, rule: &TrustRule, now: UnixTime) -> Result<(), StoreError> {
    let claims = serde_json::to_string(&rule.claims);
    let claims = claims.map_err(|error| StoreError::Failed(error.to_string()))?;
    sqlx::query(
        "INSERT INTO trust_rules (id, org_id, name, issuer, audience, claims, issuer_ca, jwks,
             device_name, lifetime_secs, created)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&rule.id)
    .bind(rule.org.0)
    .bind(&rule.name)
    .bind(&rule.issuer)
    .bind(&rule.audience)
    .bind(claims)
    .bind(&rule.issuer_ca)
    .bind(&rule.jwks)
    .bind(&rule.device_name)
    .bind(signed(rule.lifetime.as_secs()))
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    for network in &rule.networks {
        sqlx::query("INSERT INTO trust_rule_networks (rule_id, network_id) VALUES (?, ?)")
            .bind(&rule.id)
            .bind(network.to_string())
            .execute(&mut **tx)
            .await?;
    }
    for tag in &rule.tags {
        sqlx::query("INSERT INTO trust_rule_tags (rule_id, tag) VALUES (?, ?)")
            .bind(&rule.id)
            .bind(tag.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Returns the organisation's rules by name.
pub(crate) async fn of_org(tx: &mut Tx, org: OrgId) -> Result<Vec<ListedRule>, StoreError> {
    let rows = sqlx::query("SELECT * FROM trust_rules WHERE org_id = ? ORDER BY name")
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?;
    with_networks(tx, rows).await
}

/// Returns the rules for tokens of an issuer to an audience, by name. They are of one organisation,
/// since an audience is; a token names no other.
pub(crate) async fn for_token(
    tx: &mut Tx,
    issuer: &str,
    audience: &str,
) -> Result<Vec<TrustRule>, StoreError> {
    let rows =
        sqlx::query("SELECT * FROM trust_rules WHERE issuer = ? AND audience = ? ORDER BY name")
            .bind(issuer)
            .bind(audience)
            .fetch_all(&mut **tx)
            .await?;
    let listed = with_networks(tx, rows).await?;
    Ok(listed.into_iter().map(|listed| listed.rule).collect())
}

/// Says whether any rule names the issuer.
pub(crate) async fn names_issuer(tx: &mut Tx, issuer: &str) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM trust_rules WHERE issuer = ? LIMIT 1")
        .bind(issuer)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.is_some())
}

/// Returns the organisation whose rules have the audience.
pub(crate) async fn holder_of_audience(
    tx: &mut Tx,
    audience: &str,
) -> Result<Option<OrgId>, StoreError> {
    let row = sqlx::query("SELECT org_id FROM trust_rules WHERE audience = ? LIMIT 1")
        .bind(audience)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| Ok(OrgId(row.try_get("org_id")?))).transpose()
}

/// Returns the number of the organisation's rules.
pub(crate) async fn count(tx: &mut Tx, org: OrgId) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS rules FROM trust_rules WHERE org_id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "rules")
}

/// Removes a rule of the organisation; returns its id if there was one.
pub(crate) async fn remove(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("DELETE FROM trust_rules WHERE org_id = ? AND name = ? RETURNING id")
        .bind(org.0)
        .bind(name)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

/// Notes that a device came by a rule; says whether the rule is still there.
pub(crate) async fn note_use(tx: &mut Tx, id: &str, now: UnixTime) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE trust_rules SET uses = uses + 1, last_used = ? WHERE id = ?")
        .bind(seconds(now))
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a token was used; says whether this is the first time.
pub(crate) async fn use_token(
    tx: &mut Tx,
    digest: &Digest,
    expires: UnixTime,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO used_tokens (digest, expires) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
    )
    .bind(&digest[..])
    .bind(seconds(expires))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets used tokens that ended before a time.
pub(crate) async fn prune(tx: &mut Tx, before: UnixTime) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM used_tokens WHERE expires <= ?")
        .bind(seconds(before))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the time at which a device ends.
pub(crate) async fn set_end(
    tx: &mut Tx,
    device: DeviceId,
    ends: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO device_ends (device_id, ends) VALUES (?, ?)")
        .bind(device.to_string())
        .bind(seconds(ends))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns devices whose end has come, at most `limit`.
pub(crate) async fn ended(
    tx: &mut Tx,
    now: UnixTime,
    limit: u32,
) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query("SELECT device_id FROM device_ends WHERE ends <= ? LIMIT ?")
        .bind(seconds(now))
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "device_id")).collect()
}

/// Returns the time at which the next device ends.
pub(crate) async fn next_end(tx: &mut Tx) -> Result<Option<UnixTime>, StoreError> {
    let row = sqlx::query("SELECT min(ends) AS ends FROM device_ends")
        .fetch_one(&mut **tx)
        .await?;
    time_or_none(&row, "ends")
}

async fn with_networks(tx: &mut Tx, rows: Vec<SqliteRow>) -> Result<Vec<ListedRule>, StoreError> {
    let mut listed = rows.iter().map(rule_row).collect::<Result<Vec<_>, _>>()?;
    let Some(org) = listed.first().map(|listed| listed.rule.org) else {
        return Ok(listed);
    };
    let rows = sqlx::query(
        "SELECT n.rule_id, n.network_id FROM trust_rule_networks n
         JOIN trust_rules r ON r.id = n.rule_id WHERE r.org_id = ?",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    let mut networks: BTreeMap<String, BTreeSet<NetworkId>> = BTreeMap::new();
    for row in &rows {
        let rule = row.try_get("rule_id")?;
        let network = parsed(row, "network_id")?;
        networks.entry(rule).or_default().insert(network);
    }
    let rows = sqlx::query(
        "SELECT t.rule_id, t.tag FROM trust_rule_tags t JOIN trust_rules r ON r.id = t.rule_id
         WHERE r.org_id = ?",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    let mut tags: BTreeMap<String, BTreeSet<Tag>> = BTreeMap::new();
    for row in &rows {
        let rule = row.try_get("rule_id")?;
        tags.entry(rule).or_default().insert(parsed(row, "tag")?);
    }
    for listed in &mut listed {
        let rule = &mut listed.rule;
        rule.tags = tags.remove(&rule.id).unwrap_or_default();
        rule.networks = networks.remove(&rule.id).unwrap_or_default();
    }
    Ok(listed)
}

fn rule_row(row: &SqliteRow) -> Result<ListedRule, StoreError> {
    let claims: String = row.try_get("claims")?;
    let rule = TrustRule {
        id: row.try_get("id")?,
        org: OrgId(row.try_get("org_id")?),
        name: row.try_get("name")?,
        issuer: row.try_get("issuer")?,
        audience: row.try_get("audience")?,
        claims: serde_json::from_str(&claims).map_err(|_| damaged("claims"))?,
        issuer_ca: row.try_get("issuer_ca")?,
        jwks: row.try_get("jwks")?,
        networks: BTreeSet::new(),
        tags: BTreeSet::new(),
        device_name: row.try_get("device_name")?,
        lifetime: Duration::from_secs(unsigned(row, "lifetime_secs")?),
    };
    Ok(ListedRule {
        rule,
        uses: unsigned(row, "uses")?,
        last_used: time_or_none(row, "last_used")?,
        created: time(row, "created")?,
    })
}
