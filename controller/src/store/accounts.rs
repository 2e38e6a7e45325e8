//! Organisations, accounts and networks.

use overlan_protocol::UnixTime;
use overlan_protocol::api::FormerName;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::NetworkId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, damaged, former_names, parsed, seconds, unsigned};
use crate::netmaps::OrgId;

/// SHA-256 of a secret.
pub(crate) type Digest = [u8; 32];

/// An account, as far as a login needs it.
#[derive(Debug)]
pub(crate) struct AccountRow {
    pub(crate) id: i64,
    pub(crate) password: String,
}

/// A network without its members.
#[derive(Debug, Clone)]
pub(crate) struct NetworkRow {
    pub(crate) id: NetworkId,
    pub(crate) name: String,
    pub(crate) vni: Vni,
    pub(crate) is_default: bool,
    pub(crate) devices: u32,
    pub(crate) online: u32,
    /// Names that it had before and that still mean it.
    pub(crate) former: Vec<FormerName>,
}

impl NetworkRow {
    /// Says whether the network has this label, or had it before and still answers to it.
    pub(crate) fn is_called(&self, label: &str) -> bool {
        self.name == label || self.former.iter().any(|former| former.name == label)
    }
}

/// Says whether any account exists.
pub(crate) async fn is_set_up(tx: &mut Tx) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM accounts) AS found")
        .fetch_one(&mut **tx)
        .await?;
    Ok(row.try_get("found")?)
}

pub(crate) async fn insert_organisation(
    tx: &mut Tx,
    name: &str,
    now: UnixTime,
) -> Result<OrgId, StoreError> {
    let done = sqlx::query("INSERT INTO organisations (name, created) VALUES (?, ?)")
        .bind(name)
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    Ok(OrgId(done.last_insert_rowid()))
}

/// Returns the organisation's name.
pub(crate) async fn organisation_name(tx: &mut Tx, org: OrgId) -> Result<String, StoreError> {
    let row = sqlx::query("SELECT name FROM organisations WHERE id = ?")
        .bind(org.0)
        .fetch_one(&mut **tx)
        .await?;
    Ok(row.try_get("name")?)
}

pub(crate) async fn insert_account(
    tx: &mut Tx,
    email: &str,
    password: &str,
    now: UnixTime,
) -> Result<i64, StoreError> {
    let done = sqlx::query("INSERT INTO accounts (email, password, created) VALUES (?, ?, ?)")
        .bind(email)
        .bind(password)
        .bind(seconds(now))
        .execute(&mut **tx)
        .await?;
    Ok(done.last_insert_rowid())
}

pub(crate) async fn account_by_email(
    tx: &mut Tx,
    email: &str,
) -> Result<Option<AccountRow>, StoreError> {
    let row = sqlx::query("SELECT id, password FROM accounts WHERE email = ?")
        .bind(email)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| {
        Ok(AccountRow {
            id: row.try_get("id")?,
            password: row.try_get("password")?,
        })
    })
    .transpose()
}

/// Returns email and password hash of an account.
pub(crate) async fn email_and_password(
    tx: &mut Tx,
    account: i64,
) -> Result<(String, String), StoreError> {
    let row = sqlx::query("SELECT email, password FROM accounts WHERE id = ?")
        .bind(account)
        .fetch_one(&mut **tx)
        .await?;
    Ok((row.try_get("email")?, row.try_get("password")?))
}

/// Returns the emails of all accounts.
pub(crate) async fn emails(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT email FROM accounts ORDER BY email")
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| Ok(row.try_get("email")?)).collect()
}

/// Changes the password hash of an account from `old` to `new`; says whether it was `old`.
pub(crate) async fn change_password(
    tx: &mut Tx,
    account: i64,
    old: &str,
    new: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE accounts SET password = ? WHERE id = ? AND password = ?")
        .bind(new)
        .bind(account)
        .bind(old)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Sets the password hash of an account.
pub(crate) async fn set_password(tx: &mut Tx, account: i64, new: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE accounts SET password = ? WHERE id = ?")
        .bind(new)
        .bind(account)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes a network; `Conflict` if the VNI or the name is in use.
pub(crate) async fn insert_network(
    tx: &mut Tx,
    org: OrgId,
    network: &NetworkRow,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO networks (id, org_id, name, vni, is_default, created) VALUES (?, ?, ?, ?, ?,
             ?)",
    )
    .bind(network.id.to_string())
    .bind(org.0)
    .bind(&network.name)
    .bind(network.vni.get())
    .bind(network.is_default)
    .bind(seconds(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Returns all networks of an organisation with their numbers of devices.
pub(crate) async fn networks(tx: &mut Tx, org: OrgId) -> Result<Vec<NetworkRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT n.id, n.name, n.vni, n.is_default, count(d.id) AS devices, coalesce(sum(d.online),
             0) AS online
         FROM networks n LEFT JOIN members m ON m.network_id = n.id
         LEFT JOIN devices d ON d.id = m.device_id
         WHERE n.org_id = ? GROUP BY n.id ORDER BY n.name",
    )
    .bind(org.0)
    .fetch_all(&mut **tx)
    .await?;
    let mut former = former_names::of_org(tx, org).await?;
    rows.iter()
        .map(|row| {
            let mut network = network_row(row)?;
            network.former = former.remove(&network.id).unwrap_or_default();
            Ok(network)
        })
        .collect()
}

/// Removes a network that has no members any more.
pub(crate) async fn delete_network(
    tx: &mut Tx,
    org: OrgId,
    id: NetworkId,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM released_hosts WHERE org_id = ? AND network_id = ?",
        "DELETE FROM networks WHERE org_id = ? AND id = ?",
    ] {
        sqlx::query(statement)
            .bind(org.0)
            .bind(id.to_string())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

fn network_row(row: &SqliteRow) -> Result<NetworkRow, StoreError> {
    Ok(NetworkRow {
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        vni: Vni::new(unsigned(row, "vni")?).ok_or_else(|| damaged("vni"))?,
        is_default: row.try_get("is_default")?,
        devices: unsigned(row, "devices")?,
        online: unsigned(row, "online")?,
        former: Vec::new(),
    })
}

/// Returns the email of an account.
pub(crate) async fn email(tx: &mut Tx, account: i64) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT email FROM accounts WHERE id = ?")
        .bind(account)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| Ok(row.try_get("email")?)).transpose()
}
