//! Fetches a page of a peer with hyper's HTTP client, and prints it.
//!
//! ```text
//! cargo run --example fetch --features http-client -- JOIN KEY_FILE http://greeter.home/
//! ```
//!
//! See `dial.rs` for JOIN and KEY_FILE, `web.rs` for a server.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use overlan::{Connector, Node, Secret};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [join, key_file, url] = args.as_slice() else {
        return Err("usage: fetch JOIN KEY_FILE URL".into());
    };
    let node = Node::builder()
        .server(join.parse()?)
        .auth_key(Secret::new(std::fs::read_to_string(key_file)?.trim()))
        .hostname("fetch")
        .up()
        .await?;

    let client = Client::builder(TokioExecutor::new())
        .build::<_, Empty<Bytes>>(Connector::new(node.clone()));
    let answer = client.get(url.parse()?).await?;
    println!("{}", answer.status());
    let body = answer.into_body().collect().await?.to_bytes();
    print!("{}", String::from_utf8_lossy(&body));

    drop(client);
    node.close().await?;
    Ok(())
}
