//! The people of an organisation, and everything there that is one person's.

use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{OrganisationSummary, PersonSummary, Role};
use overlan_protocol::key::DeviceId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, parsed, seconds, time, time_or_none, unsigned};
use crate::netmaps::OrgId;

/// A person's place in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) org: OrgId,
    pub(crate) account: i64,
    pub(crate) role: Role,
}

/// An organisation that an account is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) org: OrgId,
    pub(crate) name: String,
}

/// Takes an account into an organisation; `Conflict` if it is there already.
pub(crate) async fn insert(tx: &mut Tx, place: Place, now: UnixTime) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO people (org_id, account_id, role, created) VALUES (?, ?, ?, ?)")
        .bind(place.org.0)
        .bind(place.account)
        .bind(place.role.name())
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the role of an account in an organisation, if it is there.
pub(crate) async fn role(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
) -> Result<Option<Role>, StoreError> {
    let row = sqlx::query("SELECT role FROM people WHERE org_id = ? AND account_id = ?")
        .bind(org.0)
        .bind(account)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| parsed(&row, "role")).transpose()
}

/// A person of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Colleague {
    pub(crate) account: i64,
    pub(crate) email: String,
    pub(crate) role: Role,
}

/// Returns an organisation's person.
pub(crate) async fn known(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
) -> Result<Option<Colleague>, StoreError> {
    let row = sqlx::query(
        "SELECT a.email, p.role FROM people p JOIN accounts a ON a.id = p.account_id
         WHERE p.org_id = ? AND p.account_id = ?",
    )
    .bind(org.0)
    .bind(account)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(Colleague {
            account,
            email: row.try_get("email")?,
            role: parsed(&row, "role")?,
        })
    })
    .transpose()
}

/// Says whether somebody with this email is in the organisation.
pub(crate) async fn is_there(tx: &mut Tx, org: OrgId, email: &str) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 FROM people p JOIN accounts a ON a.id = p.account_id
         WHERE p.org_id = ? AND a.email = ?",
    )
    .bind(org.0)
    .bind(email)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}

/// Writes another role of somebody who is in the organisation.
pub(crate) async fn set_role(tx: &mut Tx, place: Place) -> Result<(), StoreError> {
    sqlx::query("UPDATE people SET role = ? WHERE org_id = ? AND account_id = ?")
        .bind(place.role.name())
        .bind(place.org.0)
        .bind(place.account)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends a person's place in an organisation.
pub(crate) async fn delete(tx: &mut Tx, org: OrgId, account: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM people WHERE org_id = ? AND account_id = ?")
        .bind(org.0)
        .bind(account)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the number of an organisation's people.
pub(crate) async fn count(tx: &mut Tx, org: OrgId) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS people FROM people WHERE org_id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "people")
}

/// Returns the number of an organisation's owners.
pub(crate) async fn owners(tx: &mut Tx, org: OrgId) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS owners FROM people WHERE org_id = ? AND role = ?")
        .bind(org.0)
        .bind(Role::Owner.name())
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "owners")
}

/// Returns the organisations of an account, in the order in which it joined them.
pub(crate) async fn homes(tx: &mut Tx, account: i64) -> Result<Vec<Home>, StoreError> {
    let rows = sqlx::query(
        "SELECT o.id, o.name FROM people p JOIN organisations o ON o.id = p.org_id
         WHERE p.account_id = ? ORDER BY p.created, o.id",
    )
    .bind(account)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(home).collect()
}

/// Returns the number of organisations of this controller.
pub(crate) async fn count_organisations(tx: &mut Tx) -> Result<u32, StoreError> {
    let row = sqlx::query("SELECT count(*) AS known FROM organisations")
        .fetch_one(&mut **tx)
        .await?;
    unsigned(&row, "known")
}

/// Returns all organisations of this controller, at most `limit`: for its operator only.
pub(crate) async fn organisations(tx: &mut Tx, limit: u32) -> Result<Vec<Home>, StoreError> {
    let rows = sqlx::query("SELECT id, name FROM organisations ORDER BY id LIMIT ?")
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(home).collect()
}

fn home(row: &SqliteRow) -> Result<Home, StoreError> {
    Ok(Home {
        org: OrgId(row.try_get("id")?),
        name: row.try_get("name")?,
    })
}

/// Returns the people of an organisation by email, at most `limit`; sessions and keys count while
/// they are live. `asker` is the account that asks.
pub(crate) async fn list(
    tx: &mut Tx,
    org: OrgId,
    asker: i64,
    live: Live,
    limit: u32,
) -> Result<Vec<PersonSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.account_id, a.email, p.role, p.created,
             (SELECT max(s.last_used) FROM sessions s WHERE s.org_id = ?1
                 AND s.account_id = p.account_id AND s.expires > ?2 AND s.last_used > ?3) AS seen,
             (SELECT count(*) FROM sessions s WHERE s.org_id = ?1
                 AND s.account_id = p.account_id AND s.expires > ?2 AND s.last_used > ?3) AS logins,
             (SELECT count(*) FROM devices d WHERE d.org_id = ?1
                 AND d.account_id = p.account_id) AS devices,
             (SELECT count(*) FROM auth_keys k WHERE k.org_id = ?1
                 AND k.account_id = p.account_id AND k.revoked IS NULL AND k.expires > ?2
                 AND (k.reusable = 1 OR k.uses = 0)) AS auth_keys
         FROM people p JOIN accounts a ON a.id = p.account_id
         WHERE p.org_id = ?1 ORDER BY a.email LIMIT ?4",
    )
    .bind(org.0)
    .bind(seconds(live.now))
    .bind(seconds(live.now - live.idle))
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| {
            let account: i64 = row.try_get("account_id")?;
            Ok(PersonSummary {
                id: account.unsigned_abs(),
                email: row.try_get("email")?,
                role: parsed(row, "role")?,
                you: account == asker,
                joined: time(row, "created")?,
                last_seen: time_or_none(row, "seen")?,
                logins: unsigned(row, "logins")?,
                devices: unsigned(row, "devices")?,
                auth_keys: unsigned(row, "auth_keys")?,
            })
        })
        .collect()
}

/// The times by which sessions and keys are live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    pub(crate) now: UnixTime,
    /// The time after its last use at which a session ends.
    pub(crate) idle: Duration,
}

/// Returns the organisation as the person of `place` sees it.
pub(crate) async fn organisation(
    tx: &mut Tx,
    place: Place,
) -> Result<OrganisationSummary, StoreError> {
    let row = sqlx::query(
        "SELECT o.name, o.created,
             (SELECT count(*) FROM people p WHERE p.org_id = o.id) AS people,
             (SELECT count(*) FROM networks n WHERE n.org_id = o.id) AS networks,
             (SELECT count(*) FROM devices d WHERE d.org_id = o.id) AS devices
         FROM organisations o WHERE o.id = ?",
    )
    .bind(place.org.0)
    .fetch_one(&mut **tx)
    .await?;
    let owners = sqlx::query(
        "SELECT a.email FROM people p JOIN accounts a ON a.id = p.account_id
         WHERE p.org_id = ? AND p.role = ? ORDER BY a.email LIMIT ?",
    )
    .bind(place.org.0)
    .bind(Role::Owner.name())
    .bind(OWNERS_SHOWN)
    .fetch_all(&mut **tx)
    .await?;
    Ok(OrganisationSummary {
        id: place.org.0.unsigned_abs(),
        name: row.try_get("name")?,
        created: time(&row, "created")?,
        role: place.role,
        people: unsigned(&row, "people")?,
        owners: owners
            .iter()
            .map(|row| Ok(row.try_get("email")?))
            .collect::<Result<_, StoreError>>()?,
        networks: unsigned(&row, "networks")?,
        devices: unsigned(&row, "devices")?,
    })
}

/// Most owners that an organisation names.
const OWNERS_SHOWN: u32 = 100;

/// Gives an organisation another name.
pub(crate) async fn rename(tx: &mut Tx, org: OrgId, name: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE organisations SET name = ? WHERE id = ?")
        .bind(name)
        .bind(org.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes who made an auth key.
pub(crate) async fn note_auth_key(tx: &mut Tx, id: &str, account: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE auth_keys SET account_id = ? WHERE id = ?")
        .bind(account)
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes who made a relay token.
pub(crate) async fn note_relay_token(
    tx: &mut Tx,
    id: &str,
    account: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE relay_tokens SET account_id = ? WHERE id = ?")
        .bind(account)
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Revokes the auth keys that a person made in the organisation and that still enrol devices;
/// returns their ids.
pub(crate) async fn revoke_auth_keys(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
    now: UnixTime,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "UPDATE auth_keys SET revoked = ?3 WHERE org_id = ?1 AND account_id = ?2
             AND revoked IS NULL AND expires > ?3 AND (reusable = 1 OR uses = 0) RETURNING id",
    )
    .bind(org.0)
    .bind(account)
    .bind(seconds(now))
    .fetch_all(&mut **tx)
    .await?;
    ids(&rows)
}

/// Removes the relay tokens that a person made in the organisation and that no relay used; returns
/// their ids.
pub(crate) async fn remove_relay_tokens(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM relay_tokens WHERE org_id = ? AND account_id = ? AND used IS NULL
             RETURNING id",
    )
    .bind(org.0)
    .bind(account)
    .fetch_all(&mut **tx)
    .await?;
    ids(&rows)
}

fn ids(rows: &[SqliteRow]) -> Result<Vec<String>, StoreError> {
    let ids = rows.iter().map(|row| Ok(row.try_get("id")?));
    let mut ids = ids.collect::<Result<Vec<String>, StoreError>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Returns the devices of an organisation that are this person's: enrolled by the person's login,
/// or handed over.
pub(crate) async fn devices(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query("SELECT id FROM devices WHERE org_id = ? AND account_id = ?")
        .bind(org.0)
        .bind(account)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// Returns the devices of an organisation that auth keys of this person enrolled.
pub(crate) async fn devices_by_keys(
    tx: &mut Tx,
    org: OrgId,
    account: i64,
) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.id FROM devices d JOIN auth_keys k ON k.id = d.auth_key AND k.org_id = d.org_id
         WHERE d.org_id = ? AND k.account_id = ? AND d.account_id IS NULL",
    )
    .bind(org.0)
    .bind(account)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// Gives a device to another person of its organisation.
pub(crate) async fn hand_device(
    tx: &mut Tx,
    org: OrgId,
    device: DeviceId,
    to: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE devices SET account_id = ? WHERE org_id = ? AND id = ?")
        .bind(to)
        .bind(org.0)
        .bind(device.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes an account that is in no organisation any more and has no device that could name it;
/// says whether it was deleted.
pub(crate) async fn forget_account(tx: &mut Tx, account: i64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "DELETE FROM accounts WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM people WHERE account_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM devices WHERE account_id = ?1)",
    )
    .bind(account)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
