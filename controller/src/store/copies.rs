//! Copies of the database in one file, with other files in a table of their own.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use super::{ACQUIRE_TIMEOUT, StoreError, Tx};

/// A file that is stored in a copy.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// Writes the database as it is at one moment into the empty file `to`, and `carried` beside its
/// tables. A controller that uses the database goes on meanwhile.
pub(crate) async fn write(
    database: &Path,
    to: &Path,
    carried: &[Carried],
) -> Result<(), StoreError> {
    let target = to
        .to_str()
        .ok_or_else(|| StoreError::Failed(format!("{} is not UTF-8", to.display())))?;
    let mut connection = connect(database).await?;
    sqlx::query("VACUUM INTO ?")
        .bind(target)
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    let mut connection = connect(to).await?;
    for statement in [
        "PRAGMA journal_mode = DELETE",
        "CREATE TABLE carried_files (name TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT",
    ] {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    for Carried { name, content } in carried {
        sqlx::query("INSERT INTO carried_files (name, content) VALUES (?, ?)")
            .bind(name)
            .bind(content)
            .execute(&mut connection)
            .await?;
    }
    Ok(connection.close().await?)
}

/// Takes the carried files out of a copy; there are none in a database that is not a copy.
pub(crate) async fn take(tx: &mut Tx) -> Result<Vec<Carried>, StoreError> {
    let is_copy = sqlx::query("SELECT 1 FROM sqlite_master WHERE name = 'carried_files'")
        .fetch_optional(&mut **tx)
        .await?;
    if is_copy.is_none() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query("SELECT name, content FROM carried_files ORDER BY name")
        .fetch_all(&mut **tx)
        .await?;
    sqlx::query("DROP TABLE carried_files")
        .execute(&mut **tx)
        .await?;
    let carried = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Carried {
            name: row.try_get("name")?,
            content: row.try_get("content")?,
        })
    };
    rows.iter().map(carried).collect()
}

async fn connect(file: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .disable_statement_logging();
    Ok(SqliteConnection::connect_with(&options).await?)
}
