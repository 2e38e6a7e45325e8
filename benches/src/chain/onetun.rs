//! onetun, WireGuard and smoltcp in userspace, to a wireguard-go of its own. No relay; the far end
//! is a TUN and the kernel's TCP, so it needs the right to make one. onetun has no proxy: a port of
//! its own stands for the target.

use std::fs;
use std::time::Duration;

use super::{Entry, Parts, Place, free_address};
use crate::process::{self, Process};
use crate::trouble::{During, Result, Trouble};

pub(super) fn start(place: &Place<'_>) -> Result<Parts> {
    if place.round_trip.is_some() {
        return Err(Trouble::Absent("onetun has no relay".to_owned()));
    }
    let [onetun, wireguard, wg, ip] = ["onetun", "wireguard-go", "wg", "ip"].map(process::find);
    let (onetun, wireguard, wg, ip) = (onetun?, wireguard?, wg?, ip?);
    let here = place.directory;
    let key = |name: &str| -> Result<String> {
        let private = process::output(process::clean(&wg).arg("genkey"), "")?;
        fs::write(here.join(name), &private).during("WireGuard key")?;
        let public = process::output(process::clean(&wg).arg("pubkey"), &private)?;
        Ok(public.trim().to_owned())
    };
    let (near_key, far_key) = (key("near.key")?, key("far.key")?);
    let far = Process::start(
        "wireguard-go",
        here,
        process::clean(wireguard).args(["--foreground", INTERFACE]),
    )?;
    let (server, entry) = (free_address()?, free_address()?);
    process::until("wireguard-go", PATIENCE, || {
        let set = process::output(
            process::clean(&wg)
                .args(["set", INTERFACE, "private-key"])
                .arg(here.join("far.key"))
                .args(["listen-port", &server.port().to_string()])
                .args(["peer", &near_key, "allowed-ips", NEAR]),
            "",
        );
        Ok(set.ok())
    })?;
    let address = format!("{FAR}/24");
    for words in [
        &["address", "add", &address, "dev", INTERFACE][..],
        &["link", "set", INTERFACE, "mtu", "1420", "up"][..],
    ] {
        process::output(process::clean(&ip).args(words), "")?;
    }
    let port = place.setting.target.port();
    let near = Process::start(
        "onetun",
        here,
        process::clean(onetun)
            .arg(format!("{entry}:{FAR}:{port}:TCP"))
            .args(["--endpoint-addr", &server.to_string()])
            .args(["--endpoint-public-key", &far_key])
            .arg("--private-key-file")
            .arg(here.join("near.key"))
            .args(["--source-peer-ip", NEAR, "--log", "warn"]),
    )?;
    Ok(Parts {
        entry: Entry::Forward(entry),
        carriers: vec![near, far],
        apart: Vec::new(),
    })
}

/// The longest until wireguard-go takes its settings.
const PATIENCE: Duration = Duration::from_secs(10);

/// Its interface, in the suite's own network namespace.
const INTERFACE: &str = "wgbench";

/// The addresses in the tunnel.
const NEAR: &str = "192.168.78.2";
const FAR: &str = "192.168.78.1";
