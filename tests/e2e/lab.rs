//! A deployment: a controller, relays and devices, each a process of the built binary, set up by
//! the commands that a user types.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, LONGEST, Outcome, Program, command, overlan, until};

/// A running deployment on loopback. Everything ends with it, its directory too.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The controller.
    pub(crate) controller: Controller,
    /// The relays that [`Lab::start`] started.
    pub(crate) relays: Vec<Relay>,
    // Below the programs: they end before their directory does.
    directory: TempDir,
    /// The log of the programs.
    log: &'static str,
}

/// A running `controller serve`.
#[derive(Debug)]
pub(crate) struct Controller {
    /// The process.
    pub(crate) program: Program,
    /// The address on which it listens.
    pub(crate) address: String,
    /// The join string.
    pub(crate) join: String,
}

/// A running `relay serve`.
#[derive(Debug)]
pub(crate) struct Relay {
    /// The process.
    pub(crate) program: Program,
    /// Its name at the controller.
    pub(crate) name: String,
    /// The address on which it listens.
    pub(crate) address: String,
}

/// The source of the auth key for `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyBy<'a> {
    /// `--auth-key-file PATH`.
    File(&'a str),
    /// `--auth-key-file -`.
    Stdin(&'a str),
    /// `$OVERLAN_AUTH_KEY`.
    Environment(&'a str),
    /// Not at all: the state directory holds an enrolled device, or a login.
    Nothing,
}

impl Lab {
    /// A controller with its owner logged in, and relays `relay-1` and `relay-2`.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_logging(LOG)
    }

    /// The same with another log filter for all programs that stay.
    #[track_caller]
    pub(crate) fn start_logging(log: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut controller = serve_controller(directory.path(), "127.0.0.1:0", log);
        let token = controller.program.line("setup token: ");
        let (owner, first) = (
            directory.path().join("owner"),
            directory.path().join("first-login"),
        );
        let init = [
            "controller",
            "init",
            "--organisation",
            "Acme",
            "--network",
            NETWORK,
            "--setup-token-file",
            "-",
            "--password-stdin",
        ];
        let server = ["--server", &controller.join, "--email", OWNER];
        process::run(
            overlan().args(init).args(server).args(state(&first)),
            &format!("{token}\n{PASSWORD}\n"),
        )
        .ok();
        process::run(
            overlan()
                .args(["login", "--password-stdin"])
                .args(server)
                .args(state(&owner)),
            &format!("{PASSWORD}\n"),
        )
        .ok();
        let mut lab = Self {
            controller,
            relays: Vec::new(),
            directory,
            log,
        };
        lab.relays = ["relay-1", "relay-2"]
            .map(|name| lab.new_relay(name))
            .into();
        lab
    }

    /// The path of `name` in this deployment; the state directory of the device with this name, for
    /// example.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the controller again with its stored state, where it was before. It must have ended.
    #[track_caller]
    pub(crate) fn restart_controller(&mut self) {
        self.controller =
            serve_controller(self.directory.path(), &self.controller.address, self.log);
    }

    /// Runs `overlan admin …` as the owner; its standard output.
    #[track_caller]
    pub(crate) fn admin(&self, args: &[&str]) -> String {
        process::run(&mut self.admin_command(args), "").ok()
    }

    /// `overlan admin …` as the owner, not started yet.
    pub(crate) fn admin_command(&self, args: &[&str]) -> Command {
        let mut command = overlan();
        command.arg("admin").args(args);
        command.args(state(&self.path("owner")));
        command
    }

    /// Makes an auth key; `args` are further flags of `admin auth-key create`.
    #[track_caller]
    pub(crate) fn auth_key(&self, args: &[&str]) -> String {
        self.admin(&[&["auth-key", "create"], args].concat())
    }

    /// Registers a relay and starts it.
    #[track_caller]
    pub(crate) fn new_relay(&self, name: &str) -> Relay {
        let token = self.path(&format!("{name}.token"));
        fs::write(&token, self.admin(&["relay-token", "create", name])).unwrap();
        let mut command = self.relay_command(name, "127.0.0.1:0");
        command.arg("--token-file").arg(token);
        self.start_relay(name, &mut command)
    }

    /// Starts a relay that ended, where it was before and without a token.
    #[track_caller]
    pub(crate) fn restart_relay(&self, ended: &Relay) -> Relay {
        self.start_relay(
            &ended.name,
            &mut self.relay_command(&ended.name, &ended.address),
        )
    }

    /// Enrols a device with a new one-off key in a file, and waits until peers can reach it.
    #[track_caller]
    pub(crate) fn up(&self, name: &str) -> Device {
        let key = self.auth_key(&[]);
        self.up_by(name, KeyBy::File(&key), &[])
    }

    /// The same in these networks, with commas between.
    #[track_caller]
    pub(crate) fn up_in(&self, name: &str, networks: &str, args: &[&str]) -> Device {
        let key = self.auth_key(&["--network", networks]);
        self.up_by(name, KeyBy::File(&key), args)
    }

    /// `gateway` offers a route, and the owner approves it.
    #[track_caller]
    pub(crate) fn lead(&self, gateway: &Device, route: &str) {
        gateway.run(&["serve", "route", route]).ok();
        self.approve_route(gateway, route);
    }

    /// Approves a route as soon as its offer is known.
    #[track_caller]
    pub(crate) fn approve_route(&self, gateway: &Device, route: &str) {
        let label = gateway.name.split('.').next().unwrap();
        until(format_args!("the offer of {route}"), LONGEST, || {
            let approve = ["route", "approve", label, route];
            let approved = process::run(&mut self.admin_command(&approve), "");
            (approved.code == Some(0)).then_some(())
        });
    }

    /// The devices `laptop` and `web`, in this order; the laptop sees that web is online.
    #[track_caller]
    pub(crate) fn pair(&self) -> (Device, Device) {
        let web = self.up("web");
        let laptop = self.up("laptop");
        laptop.sees(&web, true);
        (laptop, web)
    }

    /// Runs `up` for the state directory `name`, with `args` more, and waits until peers can reach
    /// it.
    #[track_caller]
    pub(crate) fn up_by(&self, name: &str, key: KeyBy<'_>, args: &[&str]) -> Device {
        let state_dir = self.path(name);
        let (mut command, stdin) = self.up_command(name, key);
        let program = Program::start(name, self.directory.path(), command.args(args), stdin);
        Device::ready(program, &state_dir)
    }

    /// `up` for the state directory `name`, and what its standard input must be.
    pub(crate) fn up_command<'a>(&self, name: &str, key: KeyBy<'a>) -> (Command, &'a str) {
        let mut command = overlan();
        command.args([
            "up",
            "--hostname",
            name,
            "--socks",
            "127.0.0.1:0",
            "--dns",
            "127.0.0.1:0",
            "--server",
            &self.controller.join,
        ]);
        command
            .args(state(&self.path(name)))
            .env("OVERLAN_LOG", self.log);
        match key {
            KeyBy::File(key) => {
                let file = self.path(&format!("{name}.key"));
                fs::write(&file, key).unwrap();
                command.arg("--auth-key-file").arg(file);
            }
            KeyBy::Stdin(key) => {
                command.args(["--auth-key-file", "-"]);
                return (command, key);
            }
            KeyBy::Environment(key) => {
                command.env("OVERLAN_AUTH_KEY", key);
            }
            KeyBy::Nothing => {}
        }
        (command, "")
    }

    fn relay_command(&self, name: &str, listen: &str) -> Command {
        let mut command = overlan();
        command.args([
            "relay",
            "serve",
            "--server",
            &self.controller.join,
            "--listen",
            listen,
        ]);
        command
            .args(state(&self.path(name)))
            .env("OVERLAN_LOG", self.log);
        command
    }

    #[track_caller]
    fn start_relay(&self, name: &str, command: &mut Command) -> Relay {
        let mut program = Program::start(name, self.directory.path(), command, "");
        let rest = program.line(&format!("relay {name} listens on "));
        let (address, _) = rest.split_once(',').unwrap();
        Relay {
            program,
            name: name.to_owned(),
            address: address.to_owned(),
        }
    }
}

/// A running `up`.
#[derive(Debug)]
pub(crate) struct Device {
    /// The process.
    pub(crate) program: Program,
    /// Its full name.
    pub(crate) name: String,
    /// Its IPv4 address in the overlay.
    pub(crate) address: String,
    /// The address of its SOCKS5 proxy.
    pub(crate) socks: SocketAddr,
    /// The address of its resolver.
    pub(crate) dns: SocketAddr,
    state_dir: PathBuf,
}

impl Device {
    /// Waits until `program`, an `up` for `state_dir` with both doors open, says that it is ready.
    #[track_caller]
    pub(crate) fn ready(mut program: Program, state_dir: &Path) -> Self {
        // "overlan is up: web.home.overlan.lan 100.64.0.1, socks5h://127.0.0.1:40001, dns
        // 127.0.0.1:40002"
        let line = program.line("overlan is up: ");
        let parts: Vec<&str> = line
            .split([' ', ','])
            .filter(|part| !part.is_empty())
            .collect();
        let &[name, address, socks, "dns", dns] = &parts[..] else {
            panic!("the line is not understood: {line}");
        };
        Self {
            program,
            name: name.to_owned(),
            address: address.to_owned(),
            socks: socks.strip_prefix("socks5h://").unwrap().parse().unwrap(),
            dns: dns.parse().unwrap(),
            state_dir: state_dir.to_owned(),
        }
    }

    /// Runs a command of the binary for this device's state directory.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        process::run(overlan().args(args).args(state(&self.state_dir)), "")
    }

    /// The same, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = overlan();
        command.args(args).args(state(&self.state_dir));
        command
    }

    /// Its state directory.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// curl with `args` through this device's SOCKS5 proxy, with names resolved there.
    #[track_caller]
    pub(crate) fn curl(&self, args: &[&str]) -> Outcome {
        process::run(command("curl").args(self.curl_args(args)), "")
    }

    /// The SOCKS reply that curl gets for `url`, which must not be reached.
    #[track_caller]
    pub(crate) fn socks_reply(&self, url: &str) -> String {
        let outcome = self.curl(&[url]);
        assert_eq!(outcome.code, Some(97), "{url}: {outcome:#?}");
        let (_, rest) = outcome.stderr.rsplit_once('(').unwrap();
        rest[..1].to_owned()
    }

    /// The arguments of curl that [`Device::curl`] gives.
    pub(crate) fn curl_args(&self, args: &[&str]) -> Vec<String> {
        let proxy = format!("socks5h://{}", self.socks);
        let first = [
            "--disable",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "30",
            "--proxy",
            &proxy,
        ];
        [&first, args]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// Serves `target` on `port`.
    #[track_caller]
    pub(crate) fn serve(&self, port: u16, target: SocketAddr) {
        self.run(&["serve", "tcp", &port.to_string(), &target.to_string()])
            .ok();
    }

    /// `status --json`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--json"]).ok()).unwrap()
    }

    /// Waits until the status is as `wanted` says; that status.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(format_args!("{what} at {}", self.name), LONGEST, || {
            Some(self.status()).filter(&wanted)
        })
    }

    /// Waits until a device called `label` is in a network of this one, or until there is none.
    #[track_caller]
    pub(crate) fn sees_label(&self, label: &str, there: bool) {
        self.until(&format!("{label} {there}"), |status| {
            let networks = status["networks"].as_array().into_iter().flatten();
            let mut peers =
                networks.flat_map(|network| network["peers"].as_array().into_iter().flatten());
            peers.any(|known| known["label"] == label) == there
        });
    }

    /// Waits until this device knows that a peer leads to `route`.
    #[track_caller]
    pub(crate) fn sees_route(&self, route: &str) {
        self.until(&format!("the route {route}"), |status| {
            status.to_string().contains(&format!("\"{route}"))
        });
    }

    /// Waits until this device sees `peer` online, or offline.
    #[track_caller]
    pub(crate) fn sees(&self, peer: &Self, online: bool) {
        let what = format!(
            "{} {}",
            peer.name,
            if online { "online" } else { "offline" }
        );
        self.until(&what, |status| {
            let networks = status["networks"].as_array().into_iter().flatten();
            let mut peers =
                networks.flat_map(|network| network["peers"].as_array().into_iter().flatten());
            peers.any(|known| known["name"] == peer.name.as_str() && known["online"] == online)
        });
    }
}

/// The deployment's domain.
pub(crate) const DOMAIN: &str = "overlan.lan";

/// The label of the first network.
pub(crate) const NETWORK: &str = "home";

/// The owner's account.
pub(crate) const OWNER: &str = "owner@acme.example";

/// The owner's password.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Shown when a test fails.
const LOG: &str = "info";

#[track_caller]
fn serve_controller(directory: &Path, listen: &str, log: &str) -> Controller {
    let mut command = overlan();
    command.args([
        "controller",
        "serve",
        "--listen",
        listen,
        "--domain",
        DOMAIN,
        "--data-dir",
    ]);
    command
        .arg(directory.join("controller"))
        // Issuers of tokens are on loopback, as everything in a test is.
        .env("OVERLAN_CONTROLLER_ISSUER_ADDRESSES", "127.0.0.1=127.0.0.1")
        .env("OVERLAN_LOG", log);
    let mut program = Program::start("controller", directory, &mut command, "");
    let address = program.line("controller listens on ");
    let join = program.line("join string: ");
    Controller {
        program,
        address,
        join,
    }
}

/// `--state-dir` with `directory`.
pub(crate) fn state(directory: &Path) -> [&std::ffi::OsStr; 2] {
    ["--state-dir".as_ref(), directory.as_os_str()]
}

mod tests;
