//! A web application on the overlay that knows its visitors by the keys of their devices: no login,
//! no cookie, no header. Ctrl-C ends it.
//!
//! ```text
//! cargo run --example web --features axum -- JOIN KEY_FILE 80
//! ```
//!
//! The device is called `greeter`; `dial.rs` explains JOIN and KEY_FILE. `fetch.rs` is a client for
//! it, and so is curl through `overlan up`.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use overlan::{Node, PeerIdentity, Secret};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [join, key_file, port] = args.as_slice() else {
        return Err("usage: web JOIN KEY_FILE PORT".into());
    };
    let node = Node::builder()
        .server(join.parse()?)
        .auth_key(Secret::new(std::fs::read_to_string(key_file)?.trim()))
        .hostname("greeter")
        .up()
        .await?;

    let app = Router::new().route("/", get(greet));
    let listener = node.listen(port.parse()?)?;
    println!("listens on {port}");
    let ended = async {
        // If no handler can be installed, Ctrl-C ends the program at once, so the error is ignored.
        let _interrupted = tokio::signal::ctrl_c().await;
    };
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<PeerIdentity>(),
    )
    .with_graceful_shutdown(ended)
    .await?;
    node.close().await?;
    println!("closed");
    Ok(())
}

async fn greet(ConnectInfo(peer): ConnectInfo<PeerIdentity>) -> String {
    format!("hello {}, device {}\n", peer.name, peer.device)
}
