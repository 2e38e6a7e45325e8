//! Queries a Postgres server of a peer, and prints the answer. It opens no port of this host.
//!
//! ```text
//! cargo run --example postgres -- JOIN KEY_FILE db.home:5432 USER DATABASE 'select version()'
//! ```
//!
//! See `dial.rs` for JOIN and KEY_FILE. The peer serves its database with `overlan serve tcp 5432`.
//! The overlay seals the connection from device to device, so it needs no TLS of its own.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use overlan::{Node, Secret};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [join, key_file, to, user, database, query] = args.as_slice() else {
        return Err("usage: postgres JOIN KEY_FILE HOST:PORT USER DATABASE QUERY".into());
    };
    let node = Node::builder()
        .server(join.parse()?)
        .auth_key(Secret::new(std::fs::read_to_string(key_file)?.trim()))
        .hostname("reports")
        .up()
        .await?;

    let stream = node.dial(to).await?;
    let mut config = Config::new();
    config.user(user).dbname(database);
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    let connection = tokio::spawn(connection);
    for message in client.simple_query(query).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let columns: Vec<&str> = (0..row.len())
                .map(|column| row.get(column).unwrap_or("null"))
                .collect();
            println!("{}", columns.join("|"));
        }
    }

    // The connection ends when its client is dropped.
    drop(client);
    connection.await??;
    node.close().await?;
    Ok(())
}
