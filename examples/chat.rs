//! Two nodes in one process talk to each other: lines over a connection, and a wave by a datagram.
//!
//! ```text
//! cargo run --example chat -- JOIN KEY_FILE
//! ```
//!
//! KEY_FILE holds a reusable auth key (`overlan admin auth-key create --reusable`), since the
//! program makes two devices; `dial.rs` explains JOIN.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::time::Duration;

use overlan::{JoinString, Node, Secret, UpError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [join, key_file] = args.as_slice() else {
        return Err("usage: chat JOIN KEY_FILE".into());
    };
    let key = Secret::new(std::fs::read_to_string(key_file)?.trim());
    let join: JoinString = join.parse()?;
    let (alice, bob) = tokio::try_join!(up("alice", &join, &key), up("bob", &join, &key))?;
    // A device accepts nothing from a peer that is not in its netmap yet.
    tokio::try_join!(
        alice.wait_for("bob", PATIENCE),
        bob.wait_for("alice", PATIENCE)
    )?;

    let mut door = bob.listen(PORT)?;
    let (said, heard) = tokio::try_join!(alices_side(&alice), async {
        let (stream, peer) = door.accept().await?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        println!("{} says: {}", peer.label, line.trim_end());
        stream.write_all(b"Fine, and you?\n").await?;
        Ok(line)
    })?;
    println!("bob says: {}", said.trim_end());
    assert_eq!(heard, "How are you?\n");

    let (waving, watching) = (alice.bind_udp(0)?, bob.bind_udp(PORT)?);
    let mut wave = [0; 16];
    let (len, from) = loop {
        // Datagrams may be lost, so it is sent until it arrives.
        waving.send_to(b"waves", &format!("bob:{PORT}"))?;
        let received = watching.recv_from(&mut wave);
        if let Ok(received) = tokio::time::timeout(Duration::from_secs(1), received).await {
            break received?;
        }
    };
    let who = bob.identify(from).map(|peer| peer.label);
    println!(
        "{} {}",
        who.as_deref().unwrap_or("somebody"),
        String::from_utf8_lossy(&wave[..len])
    );

    tokio::try_join!(alice.close(), bob.close())?;
    Ok(())
}

async fn alices_side(alice: &Node) -> Result<String, Box<dyn Error>> {
    let mut stream = BufReader::new(alice.dial(&format!("bob:{PORT}")).await?);
    stream.write_all(b"How are you?\n").await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    Ok(answer)
}

async fn up(name: &str, join: &JoinString, key: &Secret) -> Result<Node, UpError> {
    Node::builder()
        .server(join.clone())
        .auth_key(key.clone())
        .hostname(name)
        .up()
        .await
}

/// An overlay port: it opens no port of this host.
const PORT: u16 = 4_000;

const PATIENCE: Duration = Duration::from_secs(30);
