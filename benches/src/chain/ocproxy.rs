//! openconnect with ocproxy, a SOCKS5 proxy on lwIP, to an ocserv of its own: TLS only, AES-128-GCM
//! where both agree, no relay. The server's end is a TUN and the kernel's TCP, so it needs the
//! right to make one; the client's end needs none.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use overlan_protocol::HostPort;

use super::{Entry, Parts, Place, free_address};
use crate::hop::self_signed_pem;
use crate::process::{self, Process};
use crate::trouble::{During, Result, Trouble};

pub(super) fn start(place: &Place<'_>) -> Result<Parts> {
    if place.round_trip.is_some() {
        return Err(Trouble::Absent("ocproxy has no relay".to_owned()));
    }
    let [ocserv, ocpasswd, openconnect, ocproxy] =
        ["ocserv", "ocpasswd", "openconnect", "ocproxy"].map(process::find);
    let (ocserv, ocpasswd) = (ocserv?, ocpasswd?);
    let (openconnect, ocproxy) = (openconnect?, ocproxy?);
    let here = place.directory;
    let certificate = here.join("server.pem");
    fs::write(&certificate, self_signed_pem(NAME)?).during("certificate")?;
    process::output(
        process::clean(ocpasswd)
            .arg("-c")
            .arg(here.join("users"))
            .arg(USER),
        &format!("{PASSWORD}\n{PASSWORD}\n"),
    )?;
    let (server, entry) = (free_address()?, free_address()?);
    let config = here.join("ocserv.conf");
    fs::write(&config, server_config(server, here)).during("ocserv.conf")?;
    let ocserv = Process::start(
        "ocserv",
        here,
        process::clean(ocserv)
            .args(["--foreground", "--config"])
            .arg(&config),
    )?;
    process::until("ocserv", PATIENCE, || Ok(TcpStream::connect(server).ok()))?;
    let login = || {
        let mut command = process::clean(&openconnect);
        command
            .args(["--protocol=anyconnect", "--no-dtls", "--no-system-trust"])
            .arg(format!("--resolve={NAME}:{}", server.ip()))
            .arg(format!("--cafile={}", certificate.display()));
        command
    };
    let address = format!("https://{NAME}:{}", server.port());
    let answer = process::output(
        login()
            .args(["--authenticate", "--passwd-on-stdin", "--user", USER])
            .arg(&address),
        &format!("{PASSWORD}\n"),
    )?;
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("COOKIE=")?.split('\'').nth(1))
        .ok_or_else(|| Trouble::failed("ocserv gave openconnect no session cookie"))?;
    let openconnect = Process::start(
        "openconnect",
        here,
        login()
            .arg(format!("--cookie={cookie}"))
            .args(["--script-tun", "--script"])
            .arg(format!("{} -D {}", ocproxy.display(), entry.port()))
            .arg(&address),
    )?;
    Ok(Parts {
        entry: Entry::Socks(
            entry,
            HostPort::new(GATEWAY, place.setting.target.port()).during("address of the target")?,
        ),
        // ocproxy is a child of openconnect, the session one of ocserv: both are counted with them.
        carriers: vec![openconnect, ocserv],
        apart: Vec::new(),
    })
}

/// The longest until ocserv listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server's name in its certificate.
const NAME: &str = "ocserv.bench.example";

/// User and password of the tunnel. Only this chain's server, in the suite's own network namespace,
/// knows them.
const USER: &str = "bench";
const PASSWORD: &str = "bench";

/// The server's end of the tunnel.
const GATEWAY: &str = "192.168.77.1";

fn server_config(listen: SocketAddr, here: &Path) -> String {
    let (host, port, here) = (listen.ip(), listen.port(), here.display());
    format!(
        "auth = \"plain[passwd={here}/users]\"\nlisten-host = {host}\ntcp-port = {port}\n\
         run-as-user = root\nrun-as-group = root\n\
         socket-file = {here}/socket\npid-file = {here}/pid\n\
         server-cert = {here}/server.pem\nserver-key = {here}/server.pem\n\
         tls-priorities = \"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM\"\n\
         isolate-workers = false\nmax-clients = 4\nmax-same-clients = 4\ndevice = ocbench\n\
         ipv4-network = 192.168.77.0\nipv4-netmask = 255.255.255.0\nmtu = 1400\n\
         try-mtu-discovery = false\nkeepalive = 3600\ncookie-timeout = 300\n\
         rekey-time = 172800\nuse-occtl = false\n"
    )
}
