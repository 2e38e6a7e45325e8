//! `ssh -D`, what people use today: an sshd of its own on loopback with keys made for it,
//! AES-128-GCM. There is no relay in it, so it has one encrypted hop where the other chains have
//! two.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::{Entry, Parts, Place, free_address};
use crate::process::{self, Process};
use crate::trouble::{During, Result, Trouble};

pub(super) fn start(place: &Place<'_>) -> Result<Parts> {
    if place.round_trip.is_some() {
        return Err(Trouble::Absent("ssh -D has no relay".to_owned()));
    }
    let (ssh, sshd) = (process::find("ssh")?, process::find("sshd")?);
    let keygen = process::find("ssh-keygen")?;
    if !Path::new("/run/sshd").is_dir() {
        // It belongs to the package's service, which makes it; sshd refuses to start without it.
        return Err(Trouble::Absent(
            "sshd needs the directory /run/sshd; start the ssh service once, or make it".to_owned(),
        ));
    }
    let here = place.directory;
    for key in ["host", "client"] {
        process::output(
            process::clean(&keygen)
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(here.join(key)),
            "",
        )?;
    }
    fs::copy(here.join("client.pub"), here.join("authorized")).during("authorized keys")?;
    let (server, entry) = (free_address()?, free_address()?);
    let config = here.join("sshd_config");
    fs::write(&config, server_config(server, here)).during("sshd_config")?;
    let sshd = Process::start(
        "sshd",
        here,
        process::clean(sshd).args(["-D", "-e", "-f"]).arg(&config),
    )?;
    process::until("sshd", PATIENCE, || Ok(TcpStream::connect(server).ok()))?;
    let user = process::output(process::clean(process::find("id")?).arg("-un"), "")?;
    let known = format!("UserKnownHostsFile={}", here.join("known").display());
    let ssh = Process::start(
        "ssh",
        here,
        process::clean(ssh)
            .args(["-N", "-F", "none", "-D", &entry.to_string()])
            .args(["-p", &server.port().to_string(), "-i"])
            .arg(here.join("client"))
            .args(["-o", "StrictHostKeyChecking=accept-new", "-o", &known])
            .args(["-o", "Ciphers=aes128-gcm@openssh.com"])
            .args(["-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"])
            .arg(format!("{}@{}", user.trim(), server.ip())),
    )?;
    Ok(Parts {
        entry: Entry::Socks(entry, place.target()?),
        // The session is a child of sshd, counted with it.
        carriers: vec![ssh, sshd],
        apart: Vec::new(),
    })
}

/// The longest until sshd listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// Only the key made for it opens this server, and only from this machine.
fn server_config(listen: SocketAddr, here: &Path) -> String {
    let (host_key, authorized) = (here.join("host"), here.join("authorized"));
    format!(
        "ListenAddress {listen}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         StrictModes no\nMaxSessions 10\n",
        host_key.display(),
        authorized.display()
    )
}
