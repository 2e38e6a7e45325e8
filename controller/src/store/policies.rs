//! Policy documents of networks, with their history.

use overlan_protocol::UnixTime;
use overlan_protocol::api::{PolicyRevision, Role};
use overlan_protocol::key::NetworkId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Tx, parsed, seconds, signed, time, unsigned};
use crate::netmaps::OrgId;

/// One document of a network's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyRow {
    /// Counts up from 1.
    pub(crate) number: u64,
    pub(crate) text: String,
    /// The email of the person who set it.
    pub(crate) author: String,
    /// The document of which it took the text.
    pub(crate) goes_back: Option<u64>,
    /// The version of the change log from which it counts.
    pub(crate) version: u64,
    pub(crate) at: UnixTime,
}

/// Returns the document that counts; `None` if nobody has set one.
pub(crate) async fn newest(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<Option<PolicyRow>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM policies WHERE org_id = ? AND network_id = ? ORDER BY number DESC LIMIT 1",
    )
    .bind(org.0)
    .bind(network.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(policy).transpose()
}

/// Returns one document of the history.
pub(crate) async fn numbered(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    number: u64,
) -> Result<Option<PolicyRow>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM policies WHERE org_id = ? AND network_id = ? AND number = ?")
            .bind(org.0)
            .bind(network.to_string())
            .bind(signed(number))
            .fetch_optional(&mut **tx)
            .await?;
    row.as_ref().map(policy).transpose()
}

/// Returns the whole history without the texts, newest first.
pub(crate) async fn history(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<Vec<PolicyRevision>, StoreError> {
    let rows = sqlx::query(
        "SELECT number, author, created, goes_back, length(text) AS characters FROM policies
             WHERE org_id = ? AND network_id = ? ORDER BY number DESC",
    )
    .bind(org.0)
    .bind(network.to_string())
    .fetch_all(&mut **tx)
    .await?;
    let revision = |row: &SqliteRow| {
        Ok(PolicyRevision {
            number: unsigned(row, "number")?,
            author: row.try_get("author")?,
            at: time(row, "created")?,
            goes_back: number_or_none(row, "goes_back")?,
            characters: unsigned(row, "characters")?,
        })
    };
    rows.iter().map(revision).collect()
}

/// Adds a document, and forgets all but the newest `keep`.
pub(crate) async fn add(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
    row: &PolicyRow,
    keep: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO policies (network_id, org_id, number, text, author, goes_back, version,
             created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(network.to_string())
    .bind(org.0)
    .bind(signed(row.number))
    .bind(&row.text)
    .bind(&row.author)
    .bind(row.goes_back.map(signed))
    .bind(signed(row.version))
    .bind(seconds(row.at))
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM policies WHERE org_id = ? AND network_id = ? AND number <= ?")
        .bind(org.0)
        .bind(network.to_string())
        .bind(signed(row.number.saturating_sub(keep)))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns the version of the change log at which anything that a network's policy looks at changed
/// last; `None` if there is no such network.
pub(crate) async fn changed_at(
    tx: &mut Tx,
    org: OrgId,
    network: NetworkId,
) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query("SELECT policy_at FROM networks WHERE org_id = ? AND id = ?")
        .bind(org.0)
        .bind(network.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref()
        .map(|row| unsigned(row, "policy_at"))
        .transpose()
}

/// Returns the networks whose document, which somebody set, has rules that end.
pub(crate) async fn with_ends(tx: &mut Tx) -> Result<Vec<(OrgId, NetworkId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.org_id, p.network_id FROM policies p WHERE p.text LIKE '%until%' AND p.number =
             (SELECT max(number) FROM policies WHERE network_id = p.network_id)",
    )
    .fetch_all(&mut **tx)
    .await?;
    let network = |row: &SqliteRow| Ok((OrgId(row.try_get("org_id")?), parsed(row, "network_id")?));
    rows.iter().map(network).collect()
}

/// Returns the people of an organisation: account, email and role.
pub(crate) async fn people(
    tx: &mut Tx,
    org: OrgId,
) -> Result<Vec<(i64, String, Role)>, StoreError> {
    let statement =
        "SELECT p.account_id, a.email, p.role FROM people p JOIN accounts a ON a.id = p.account_id
             WHERE p.org_id = ?";
    let rows = sqlx::query(statement)
        .bind(org.0)
        .fetch_all(&mut **tx)
        .await?;
    let person = |row: &SqliteRow| {
        let (account, email) = (row.try_get("account_id")?, row.try_get("email")?);
        Ok((account, email, parsed(row, "role")?))
    };
    rows.iter().map(person).collect()
}

fn number_or_none(row: &SqliteRow, column: &'static str) -> Result<Option<u64>, StoreError> {
    let number: Option<i64> = row.try_get(column)?;
    Ok(number.map(i64::unsigned_abs))
}

fn policy(row: &SqliteRow) -> Result<PolicyRow, StoreError> {
    Ok(PolicyRow {
        number: unsigned(row, "number")?,
        text: row.try_get("text")?,
        author: row.try_get("author")?,
        goes_back: number_or_none(row, "goes_back")?,
        version: unsigned(row, "version")?,
        at: time(row, "created")?,
    })
}
