//! The database: one function per query, no decisions. The only door to sqlx.
//!
//! One connection writes, so writers queue here and never meet a locked database; a few read. Every
//! writer takes the lock at its beginning. A tenant's rows are only found together with its
//! organisation, and who is in that stands in `people`; `invitations` lead there, and
//! `login_requests` to a session. Which CA each device and relay knows stands in `learnt`, and how
//! an organisation ends in `organisations`.

pub(crate) mod accounts;
pub(crate) mod api_tokens;
pub(crate) mod changes;
pub(crate) mod copies;
pub(crate) mod device_rights;
pub(crate) mod devices;
pub(crate) mod dns;
pub(crate) mod former_names;
pub(crate) mod identities;
pub(crate) mod identity_providers;
pub(crate) mod invitations;
pub(crate) mod keys;
pub(crate) mod learnt;
pub(crate) mod login_requests;
pub(crate) mod members;
pub(crate) mod names;
pub(crate) mod organisations;
pub(crate) mod people;
pub(crate) mod policies;
pub(crate) mod relays;
pub(crate) mod routes;
pub(crate) mod runs;
pub(crate) mod sessions;
pub(crate) mod tags;
pub(crate) mod trust_rules;
pub(crate) mod views;
pub(crate) mod waiting;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use overlan_protocol::key::RelayId;
use overlan_protocol::{HostIndex, UnixTime};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, SqlSafeStr, Sqlite, Transaction};
use tokio::sync::Notify;

use crate::clock;

/// A transaction; dropped without commit it changes nothing.
pub(crate) type Tx = Transaction<'static, Sqlite>;

/// The reason why the database did not answer. One variant per thing the caller does differently.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Too many transactions wait for it; the caller tries again.
    #[error("the database is busy")]
    Busy,
    /// A row breaks a uniqueness rule.
    #[error("a row with the same key exists")]
    Conflict,
    /// Anything else.
    #[error("the database failed: {0}")]
    Failed(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let unique = error
            .as_database_error()
            .is_some_and(|error| error.is_unique_violation());
        if unique {
            Self::Conflict
        } else if matches!(error, sqlx::Error::PoolTimedOut) {
            Self::Busy
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// The kind of file that is found where the database should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No file, or an empty one: it never had a table, or the copy has none.
    Nothing,
    /// A whole database of ours.
    Ours,
    /// A database of another program.
    Foreign,
    /// Not a database, or a damaged one; with the damage.
    Damaged(String),
}

/// Looks at a database file without changing its content.
pub(crate) async fn inspect(file: &Path) -> Found {
    if std::fs::metadata(file).map_or(0, |found| found.len()) == 0 {
        return Found::Nothing;
    }
    let looked = async {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let checks = sqlx::query("PRAGMA quick_check(3)")
            .fetch_all(&mut connection)
            .await?;
        let checks = checks.iter().map(|row| row.try_get::<String, _>(0));
        let checks = checks.collect::<Result<Vec<_>, _>>()?;
        let row = sqlx::query(
            "SELECT count(*) AS tables, count(*) FILTER (WHERE name IN ('counter', 'changes',
                 'organisations')) AS ours
             FROM sqlite_master WHERE type = 'table'",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        let (tables, ours): (i64, i64) = (row.try_get("tables")?, row.try_get("ours")?);
        Ok::<_, sqlx::Error>(match (checks.as_slice(), tables, ours) {
            ([ok], 0, _) if ok == "ok" => Found::Nothing,
            ([ok], _, 3) if ok == "ok" => Found::Ours,
            ([ok], _, _) if ok == "ok" => Found::Foreign,
            _ => Found::Damaged(checks.join("; ")),
        })
    };
    looked
        .await
        .unwrap_or_else(|error| Found::Damaged(error.to_string()))
}

/// Totals over all organisations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) devices: u64,
    pub(crate) devices_online: u64,
    pub(crate) relays: u64,
    pub(crate) relays_online: u64,
    pub(crate) networks: u64,
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    changed: Notify,
}

impl Store {
    /// Opens or makes the database file and brings its tables up to date.
    pub(crate) async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(ACQUIRE_TIMEOUT)
            // A slow disk is not a fault of the program, and an operator's log is no place for
            // statements.
            .disable_statement_logging();
        let writer = pool(1).connect_with(options.clone()).await?;
        Migrator::with_migrations(migrations())
            .run(&writer)
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let readers = pool(READERS)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        Ok(Self {
            writer,
            readers,
            changed: Notify::new(),
        })
    }

    /// Begins a writing transaction.
    pub(crate) async fn write(&self) -> Result<Tx, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Begins a reading transaction: all its reads see one state.
    pub(crate) async fn read(&self) -> Result<Tx, StoreError> {
        Ok(self.readers.begin().await?)
    }

    /// Commits a writing transaction, and wakes the follower of the change log.
    pub(crate) async fn commit(&self, tx: Tx) -> Result<(), StoreError> {
        tx.commit().await?;
        self.changed.notify_one();
        Ok(())
    }

    /// Writes a value that nobody reads, to see whether writing works.
    pub(crate) async fn check_write(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let now = clock::wall().as_secs().to_le_bytes();
        put_setting(&mut tx, WRITTEN, &now).await?;
        Ok(tx.commit().await?)
    }

    /// Counts the rows of all organisations.
    pub(crate) async fn totals(&self) -> Result<Totals, StoreError> {
        let mut tx = self.read().await?;
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM devices) AS devices, (SELECT count(*) FROM devices
                 WHERE online = 1) AS devices_online,
                 (SELECT count(*) FROM relays) AS relays, (SELECT count(*) FROM relays
                 WHERE online = 1) AS relays_online,
                 (SELECT count(*) FROM networks) AS networks",
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(Totals {
            devices: unsigned(&row, "devices")?,
            devices_online: unsigned(&row, "devices_online")?,
            relays: unsigned(&row, "relays")?,
            relays_online: unsigned(&row, "relays_online")?,
            networks: unsigned(&row, "networks")?,
        })
    }

    /// Moves all commits from the write-ahead log into the database file, so that a copy of the
    /// file alone has them.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        let statement = "PRAGMA wal_checkpoint(TRUNCATE)";
        sqlx::query(statement).execute(&self.writer).await?;
        Ok(())
    }

    /// Completes after a commit. There may be one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes a pool that hands out connections in a clean state only. A connection whose COMMIT or
/// ROLLBACK failed counts a transaction as open that the database may have ended by itself, as it
/// does on a full disk, and would refuse every user: it is closed, and another one is opened when
/// it is needed.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .acquire_slow_threshold(ACQUIRE_TIMEOUT)
        .after_release(|connection, _| {
            Box::pin(async move {
                // The ROLLBACK of a dropped transaction is queued before this, and has run when
                // this is answered.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
}

/// Returns all changes ever made to the tables, in order.
fn migrations() -> Vec<Migration> {
    let steps = STEPS.iter();
    steps
        .map(|(version, name, sql)| {
            let sql = (*sql).into_sql_str();
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
        })
        .collect()
}

/// Reads a setting.
pub(crate) async fn setting(tx: &mut Tx, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sqlx::query("SELECT value FROM settings WHERE name = ?")
        .bind(name)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| Ok(row.try_get("value")?)).transpose()
}

/// Writes a setting.
pub(crate) async fn put_setting(tx: &mut Tx, name: &str, value: &[u8]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE
    SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a setting that has exactly this value; says whether it had.
pub(crate) async fn take_setting(
    tx: &mut Tx,
    name: &str,
    value: &[u8],
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM settings WHERE name = ? AND value = ?")
        .bind(name)
        .bind(value)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Reads a column whose text has a parsed form.
fn parsed<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| damaged(column))
}

/// Reads a column with a number that is never negative.
fn unsigned<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| damaged(column))
}

/// Reads the relay list of a device's row.
fn relay_list(row: &SqliteRow) -> Result<Vec<RelayId>, StoreError> {
    let text: String = row.try_get("relays")?;
    text.split(',')
        .filter(|id| !id.is_empty())
        .map(|id| id.parse().map_err(|_| damaged("relays")))
        .collect()
}

/// Reads the host index of a row.
fn host(row: &SqliteRow) -> Result<HostIndex, StoreError> {
    HostIndex::new(unsigned(row, "host")?).ok_or_else(|| damaged("host"))
}

/// Makes a time fit for a column.
fn seconds(at: UnixTime) -> i64 {
    signed(at.as_secs())
}

/// Reads a column with a time.
fn time(row: &SqliteRow, column: &'static str) -> Result<UnixTime, StoreError> {
    unsigned(row, column).map(UnixTime::from_secs)
}

/// Reads a column with a time or nothing.
fn time_or_none(row: &SqliteRow, column: &'static str) -> Result<Option<UnixTime>, StoreError> {
    let at: Option<i64> = row.try_get(column)?;
    Ok(at.map(|at| UnixTime::from_secs(at.unsigned_abs())))
}

/// Makes a number fit for a column; times and counters stay far below the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn damaged(column: &'static str) -> StoreError {
    StoreError::Failed(format!("column {column} is not readable"))
}

/// All steps: number, name, statements. Those of a release stay as they are.
const STEPS: &[(i64, &str, &str)] = &[
    (1, "init", include_str!("../migrations/0001_init.sql")),
    (10, "dns", include_str!("../migrations/0010_dns.sql")),
    (
        11,
        "networks",
        include_str!("../migrations/0011_networks.sql"),
    ),
    (12, "routes", include_str!("../migrations/0012_routes.sql")),
    (
        20,
        "route names",
        include_str!("../migrations/0020_route_names.sql"),
    ),
    (
        21,
        "waiting",
        include_str!("../migrations/0021_waiting.sql"),
    ),
    (100, "names", include_str!("../migrations/0100_names.sql")),
    (
        101,
        "sessions",
        include_str!("../migrations/0101_sessions.sql"),
    ),
    (150, "runs", include_str!("../migrations/0150_runs.sql")),
    (
        170,
        "owner notes",
        include_str!("../migrations/0170_owner_notes.sql"),
    ),
    (200, "people", include_str!("../migrations/0200_people.sql")),
    (
        201,
        "invitations",
        include_str!("../migrations/0201_invitations.sql"),
    ),
    (
        202,
        "password resets",
        include_str!("../migrations/0202_password_resets.sql"),
    ),
    (
        210,
        "api tokens",
        include_str!("../migrations/0210_api_tokens.sql"),
    ),
    (
        220,
        "trust rules",
        include_str!("../migrations/0220_trust_rules.sql"),
    ),
    (
        221,
        "trust rule tags",
        include_str!("../migrations/0221_trust_rule_tags.sql"),
    ),
    (230, "tags", include_str!("../migrations/0230_tags.sql")),
    (
        231,
        "former names",
        include_str!("../migrations/0231_former_names.sql"),
    ),
    (
        232,
        "device rights",
        include_str!("../migrations/0232_device_rights.sql"),
    ),
    (
        233,
        "key limits",
        include_str!("../migrations/0233_key_limits.sql"),
    ),
    (
        240,
        "policies",
        include_str!("../migrations/0240_policies.sql"),
    ),
    (
        250,
        "identity providers",
        include_str!("../migrations/0250_identity_providers.sql"),
    ),
    (
        251,
        "sign-ons",
        include_str!("../migrations/0251_sign_ons.sql"),
    ),
    (
        260,
        "login requests",
        include_str!("../migrations/0260_login_requests.sql"),
    ),
    (
        280,
        "rotated keys",
        include_str!("../migrations/0280_rotated_keys.sql"),
    ),
    (
        281,
        "deleted organisations",
        include_str!("../migrations/0281_deleted_organisations.sql"),
    ),
];

/// Most rows in one list: some 3 MB of JSON.
pub(crate) const LIST_MAX: u32 = 10_000;

/// Setting that [`Store::check_write`] writes.
const WRITTEN: &str = "written";

/// The time for which a transaction waits for a connection before it fails as busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that read at once; each has a thread of its own.
const READERS: u32 = 4;

#[cfg(test)]
mod tests;
