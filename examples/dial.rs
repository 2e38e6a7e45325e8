//! Sends one line to a port of a peer and prints the answer.
//!
//! ```text
//! cargo run --example dial -- JOIN KEY_FILE web.home:7 'hello'
//! ```
//!
//! JOIN is the join string of the controller, and KEY_FILE holds an auth key (`overlan admin
//! auth-key create`). The device is in memory, and exists as long as this program runs.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use overlan::{Node, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [join, key_file, to, line] = args.as_slice() else {
        return Err("usage: dial JOIN KEY_FILE HOST:PORT LINE".into());
    };
    let node = Node::builder()
        .server(join.parse()?)
        .auth_key(Secret::new(std::fs::read_to_string(key_file)?.trim()))
        .hostname("dial")
        .up()
        .await?;

    let mut stream = node.dial(to).await?;
    stream.write_all(line.as_bytes()).await?;
    // The peer reads the end of the line; this side goes on reading.
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");

    drop(stream);
    node.close().await?;
    Ok(())
}
