//! Overlan: a controller, a relay and two devices, each a process of the release binary, set up by
//! the commands of README's quick start. The far device serves the target; the entry is the near
//! device's SOCKS5 proxy.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use overlan_protocol::HostPort;

use super::{Entry, Parts, Place, free_address};
use crate::process::{self, Process};
use crate::trouble::{During, Result, Trouble};

pub(super) fn start(place: &Place<'_>) -> Result<Parts> {
    let binary = &place.setting.overlan;
    if !binary.is_file() {
        return Err(Trouble::Absent(format!(
            "{} does not exist; build it by `cargo build --profile dist -p overlan-cli`",
            binary.display()
        )));
    }
    let here = place.directory;
    let mut controller = Process::start(
        "controller",
        here,
        overlan(binary)
            .args(["controller", "serve", "--listen", "127.0.0.1:0"])
            .args(["--domain", DOMAIN, "--data-dir"])
            .arg(here.join("controller")),
    )?;
    let join = controller.line("join string: ")?;
    let token = controller.line("setup token: ")?;
    init(place, &join, &token)?;

    let mut apart = vec![controller];
    let relay = start_relay(place, &join, &mut apart)?;
    let far = device(place, &join, FAR, ["--socks", "off"])?;
    let target = place.setting.target;
    process::output(
        overlan(binary)
            .args(["serve", "tcp"])
            .args([target.port().to_string(), target.to_string()])
            .args(state(&here.join(FAR))),
        "",
    )?;
    let mut near = device(place, &join, NEAR, ["--socks", "127.0.0.1:0"])?;
    let up = near.line(UP)?;
    let entry = up
        .split([' ', ','])
        .find_map(|word| word.strip_prefix("socks5h://"))
        .ok_or_else(|| Trouble::failed(format!("no SOCKS address in: {up}")))?;
    Ok(Parts {
        entry: Entry::Socks(
            entry.parse().during("address of the proxy")?,
            HostPort::new(&format!("{FAR}.{NETWORK}.{DOMAIN}"), target.port())
                .during("name of the target")?,
        ),
        carriers: vec![near, relay, far],
        apart,
    })
}

const NEAR: &str = "near";
const FAR: &str = "far";
const NETWORK: &str = "home";
const DOMAIN: &str = "bench.example";

/// The owner of a deployment that lives for minutes on loopback.
const OWNER: &str = "owner@bench.example";
const PASSWORD: &str = "a password for minutes";

/// The line of a device that peers can reach.
const UP: &str = "overlan is up: ";

fn overlan(binary: &Path) -> Command {
    process::clean(binary)
}

fn state(directory: &Path) -> [&OsStr; 2] {
    ["--state-dir".as_ref(), directory.as_os_str()]
}

fn init(place: &Place<'_>, join: &str, token: &str) -> Result<()> {
    process::output(
        overlan(&place.setting.overlan)
            .args(["controller", "init", "--server", join, "--email", OWNER])
            .args(["--organisation", "Bench", "--network", NETWORK])
            .args(["--setup-token-file", "-", "--password-stdin"])
            .args(state(&place.directory.join("owner"))),
        &format!("{token}\n{PASSWORD}\n"),
    )?;
    Ok(())
}

/// The answer of an `admin` command, in a file of its own.
fn admin(place: &Place<'_>, name: &str, args: &[&str]) -> Result<std::path::PathBuf> {
    let answer = process::output(
        overlan(&place.setting.overlan)
            .arg("admin")
            .args(args)
            .args(state(&place.directory.join("owner"))),
        "",
    )?;
    let file = place.directory.join(name);
    fs::write(&file, answer).during(file.display())?;
    Ok(file)
}

fn start_relay(place: &Place<'_>, join: &str, apart: &mut Vec<Process>) -> Result<Process> {
    let token = admin(place, "relay.token", &["relay-token", "create", "relay"])?;
    // Its address must be known before it starts, as it tells the controller where clients reach
    // it.
    let listen = free_address()?;
    let address = place.link(listen, apart)?;
    let mut relay = Process::start(
        "relay",
        place.directory,
        overlan(&place.setting.overlan)
            .args(["relay", "serve", "--server", join, "--token-file"])
            .arg(token)
            .args(["--listen", &listen.to_string()])
            .args(["--address", &address.to_string()])
            .args(state(&place.directory.join("relay"))),
    )?;
    relay.line("relay relay listens on ")?;
    Ok(relay)
}

/// A device that joined with a key of its own. Ready when this returns.
fn device(place: &Place<'_>, join: &str, name: &str, socks: [&str; 2]) -> Result<Process> {
    let key = admin(place, &format!("{name}.key"), &["auth-key", "create"])?;
    let mut device = Process::start(
        name,
        place.directory,
        overlan(&place.setting.overlan)
            .args([
                "up",
                "--hostname",
                name,
                "--server",
                join,
                "--auth-key-file",
            ])
            .arg(key)
            .args(socks)
            .args(["--dns", "off"])
            .args(state(&place.directory.join(name))),
    )?;
    device.line(UP)?;
    Ok(device)
}
