//! Sends the bytes of peers back from an overlay port, and prints the names of the peers. Ctrl-C
//! ends it.
//!
//! ```text
//! cargo run --example echo -- JOIN KEY_FILE 7
//! ```
//!
//! The device is called `echo`; see `dial.rs` for JOIN and KEY_FILE, and for a client.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use overlan::{Node, Secret, Stream};
use tokio::io::{AsyncWriteExt, copy, split};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [join, key_file, port] = args.as_slice() else {
        return Err("usage: echo JOIN KEY_FILE PORT".into());
    };
    let node = Node::builder()
        .server(join.parse()?)
        .auth_key(Secret::new(std::fs::read_to_string(key_file)?.trim()))
        .hostname("echo")
        .up()
        .await?;

    let mut listener = node.listen(port.parse()?)?;
    println!("listens on {port}");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                println!("{peer} {} {}", peer.address, peer.key);
                tokio::spawn(echo(stream));
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // Every byte that was sent back reaches its peer before the program ends.
    node.close().await?;
    println!("closed");
    Ok(())
}

async fn echo(stream: Stream) -> std::io::Result<()> {
    let (mut reader, mut writer) = split(stream);
    copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}
