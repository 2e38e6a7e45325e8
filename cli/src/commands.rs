//! The command line: the commands and flags that exist, and the module that runs each. Every flag
//! is also an environment variable. People come in by `login` and `signup`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::exit::{Code, Failure};

pub(crate) use state_dir::StateArgs;

pub(crate) mod exit;

pub(crate) mod log;

pub(crate) mod output;

mod secret;

mod environment;

mod reaper;

mod api;

mod state_dir;

mod stop;

mod up;

mod upstream;

mod login;

mod memory;

mod running;

mod serve;

mod session;

mod signup;

mod perf;

mod nc;

mod dns;

mod enrol;

mod exec;

mod forward;

mod bugreport;

mod ca;

mod config;

mod duration;

mod help;

mod man;

mod netcheck;

mod network;

mod ping;

mod port;

mod prompt;

mod wait;

mod terminal;

mod waiting;

mod words;

mod admin;

#[cfg(feature = "server")]
mod controller;

#[cfg(feature = "server")]
mod relay;

#[cfg(feature = "server")]
mod demo;

/// A VPN that needs no root and no TUN device.
#[derive(Debug, Parser)]
#[command(name = "overlan", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Level of the log on standard error: error, warn, info, debug, trace, or a list such as
    /// warn,overlan=debug
    #[arg(
        long,
        global = true,
        env = "OVERLAN_LOG",
        hide_short_help = true,
        default_value = "warn",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
    /// Format of the log
    #[arg(
        long,
        global = true,
        env = "OVERLAN_LOG_FORMAT",
        hide_short_help = true,
        default_value = "text",
        value_enum
    )]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    config: config::ConfigArgs,
    #[command(flatten)]
    upstream: upstream::UpstreamArgs,
    #[command(flatten)]
    token: api::TokenArgs,
    #[command(subcommand)]
    command: Command,
}

/// The reason for which there is no command to run.
pub(crate) enum NotRead {
    /// Help was asked for, or the line is wrong.
    Line(clap::Error),
    /// The configuration file cannot be used.
    Config(Failure),
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring this device into its networks and stay until Ctrl-C, SIGTERM or `overlan down`
    Up(Box<up::UpArgs>),
    /// Log in to a controller as a person, for admin commands and for enrolling this device
    Login(login::LoginArgs),
    /// Make an account with an organisation of its own, where the controller takes strangers
    Signup(signup::SignUpArgs),
    /// Change the password of the account that is logged in
    Password(session::PasswordArgs),
    /// Show and end the logins of this account
    #[command(subcommand, alias = "sessions")]
    Session(session::SessionCommand),
    /// Remove this device, its login and its services, here and at the controller
    #[command(after_help = LOGOUT_EXAMPLES)]
    Logout(StateArgs),
    /// Stop the running `overlan up`
    #[command(after_help = DOWN_EXAMPLES)]
    Down(StateArgs),
    /// Show this device, its peers and its connections
    Status(running::StatusArgs),
    /// Show the overlay addresses of this device or of a peer
    Ip(running::IpArgs),
    /// Serve ports of this host to peers; peers reach nothing that is not named here
    #[command(subcommand, after_help = serve::EXAMPLES)]
    Serve(serve::ServeCommand),
    /// Measure throughput and latency to a peer, and what limits them
    Perf(perf::PerfArgs),
    /// Connect standard input and output to a port of a peer, for ProxyCommand of ssh and the like
    Nc(nc::NcArgs),
    /// Make ports of peers reachable on this host, like ssh -L
    Forward(forward::ForwardArgs),
    /// Run a program whose connections go through the overlay
    Exec(exec::ExecArgs),
    /// Become the program that `exec` runs
    #[command(hide = true)]
    ExecProgram(exec::StartArgs),
    /// Write a report for finding a problem, without secrets
    Bugreport(bugreport::BugreportArgs),
    /// Check whether this host reaches the controller and the relays
    Netcheck(netcheck::NetcheckArgs),
    /// Print the CA of device names, for `curl --cacert` and the like
    Ca(ca::CaArgs),
    /// Ask a peer for echoes through the overlay
    Ping(ping::PingArgs),
    /// Show the device that has an overlay address
    Whois(ping::WhoisArgs),
    /// Show how names are resolved
    #[command(subcommand, after_help = dns::EXAMPLES)]
    Dns(dns::DnsCommand),
    /// Show, join and leave networks
    #[command(subcommand, alias = "networks")]
    Network(network::NetworkCommand),
    /// Wait until this device can be reached, or until a peer is online
    Wait(wait::WaitArgs),
    /// Manage people, devices, networks, keys and relays (needs `overlan login`)
    #[command(subcommand, after_help = admin::EXAMPLES)]
    Admin(admin::AdminCommand),
    /// Run or set up a controller
    #[cfg(feature = "server")]
    #[command(subcommand)]
    Controller(controller::ControllerCommand),
    /// Run a relay
    #[cfg(feature = "server")]
    #[command(subcommand)]
    Relay(relay::RelayCommand),
    /// Try it: controller, relays and two devices on this machine
    #[cfg(feature = "server")]
    Demo(demo::DemoArgs),
    /// Show the settings in effect and where they come from
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Write manual pages
    Man(man::ManArgs),
    /// Write a completion script for a shell to standard output
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Returns true if it connects to a controller or a relay itself. Other commands ask a running
    /// `up`, or nothing: a proxy that cannot be used must not make them fail.
    fn leaves_the_host(&self) -> bool {
        match self {
            Self::Up(_)
            | Self::Login(_)
            | Self::Signup(_)
            | Self::Password(_)
            | Self::Session(_)
            | Self::Logout(_)
            | Self::Network(_)
            | Self::Admin(_)
            | Self::Netcheck(_)
            | Self::Ca(_)
            | Self::Exec(_) => true,
            #[cfg(feature = "server")]
            Self::Controller(_) | Self::Relay(_) => true,
            #[cfg(feature = "server")]
            Self::Demo(_) => false,
            Self::Down(_)
            | Self::Status(_)
            | Self::Ip(_)
            | Self::Serve(_)
            | Self::Perf(_)
            | Self::Nc(_)
            | Self::Forward(_)
            | Self::Bugreport(_)
            | Self::Ping(_)
            | Self::Whois(_)
            | Self::Dns(_)
            | Self::Wait(_)
            | Self::Config(_)
            | Self::Man(_)
            | Self::ExecProgram(_)
            | Self::Completion { .. } => false,
        }
    }
}

impl Cli {
    /// Reads the command line, what the configuration file adds to it, and the environment.
    pub(crate) fn read(line: Vec<OsString>) -> Result<Self, NotRead> {
        let mut command = Self::command();
        command.build();
        let line = words::in_full(&command, line);
        let line = config::with_file(&mut command, line).map_err(NotRead::Config)?;
        let parse = || {
            let command = help::laid_out(environment::without_empty(Self::command()));
            let matches = command.try_get_matches_from(line)?;
            Self::from_arg_matches(&matches)
        };
        parse().map_err(NotRead::Line)
    }

    /// Returns the log file of a client in the background.
    pub(crate) fn log_file(&self) -> Option<PathBuf> {
        let Command::Up(args) = &self.command else {
            return None;
        };
        args.log_file()
    }

    /// Returns the number of threads for the command's work.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        match &self.command {
            Command::Up(args) => args.threads(),
            #[cfg(feature = "server")]
            Command::Relay(command) => command.threads(),
            // A password hash or a query of one person does not hold up the others.
            #[cfg(feature = "server")]
            Command::Controller(_) | Command::Demo(_) => cores(),
            Command::Login(_)
            | Command::Signup(_)
            | Command::Password(_)
            | Command::Session(_)
            | Command::Logout(_)
            | Command::Down(_)
            | Command::Status(_)
            | Command::Ip(_)
            | Command::Perf(_)
            | Command::Nc(_)
            | Command::Forward(_)
            | Command::Exec(_)
            | Command::ExecProgram(_)
            | Command::Netcheck(_)
            | Command::Ca(_)
            | Command::Bugreport(_)
            | Command::Ping(_)
            | Command::Whois(_)
            | Command::Dns(_)
            | Command::Network(_)
            | Command::Wait(_)
            | Command::Serve(_)
            | Command::Admin(_)
            | Command::Config(_)
            | Command::Man(_)
            | Command::Completion { .. } => NonZeroUsize::MIN,
        }
    }
}

/// Returns the number of cores that this process may use.
#[cfg(feature = "server")]
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Runs one command.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    // `exec` reaps all children itself.
    if !reaper::is_due() || matches!(cli.command, Command::Exec(_)) {
        return carry_out(cli).await;
    }
    tokio::select! {
        done = carry_out(cli) => done,
        failed = reaper::run() => match failed? {},
    }
}

/// Runs the command itself. Only `exec` has an exit code of its own when nothing failed here.
async fn carry_out(cli: Cli) -> Result<ExitCode, Failure> {
    if cli.command.leaves_the_host() {
        upstream::decide(&cli.upstream)?;
        api::decide(&cli.token)?;
    }
    let done = match cli.command {
        Command::Exec(args) => return exec::run(args).await,
        Command::ExecProgram(args) => return Ok(exec::start(&args)),
        Command::Up(args) => up::up(*args).await,
        Command::Login(args) => login::login(args).await,
        Command::Signup(args) => signup::run(args).await,
        Command::Password(args) => session::password(&args).await,
        Command::Session(command) => session::run(command).await,
        Command::Logout(args) => login::logout(&args).await,
        Command::Down(args) => running::down(&args).await,
        Command::Status(args) => running::status(&args).await,
        Command::Ip(args) => running::ip(&args).await,
        Command::Serve(command) => serve::run(command).await,
        Command::Perf(args) => perf::run(args).await,
        Command::Nc(args) => nc::run(args).await,
        Command::Forward(args) => forward::run(args).await,
        Command::Bugreport(args) => bugreport::run(args).await,
        Command::Netcheck(args) => netcheck::run(args).await,
        Command::Ca(args) => ca::run(args).await,
        Command::Ping(args) => ping::ping(args).await,
        Command::Whois(args) => ping::whois(args).await,
        Command::Dns(command) => dns::run(command).await,
        Command::Network(command) => network::run(command).await,
        Command::Wait(args) => wait::wait(args).await,
        Command::Admin(command) => admin::run(command).await,
        #[cfg(feature = "server")]
        Command::Relay(command) => relay::run(command).await,
        #[cfg(feature = "server")]
        Command::Controller(command) => controller::run(command).await,
        #[cfg(feature = "server")]
        Command::Demo(args) => demo::run(args).await,
        Command::Config(command) => config::run(Cli::command(), cli.config, command),
        Command::Man(args) => man::run(help::laid_out(Cli::command()), &args),
        Command::Completion { shell } => completion(shell),
    };
    done.map(|()| Code::Ok.into())
}

fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "overlan", &mut script);
    output::answer(&String::from_utf8_lossy(&script))
}

const EXAMPLES: &str = "\
Examples:
  overlan demo                                   try it on this machine
  overlan up --server \"$JOIN\" --auth-key-file key.txt    join a network
  overlan status                                 see who is there
  overlan exec curl http://web.home.overlan.internal/
  curl -x socks5h://127.0.0.1:1080 http://web.home.overlan.internal/
  overlan serve 3000                             serve port 3000 of this host to peers

Exit codes: 0 ok, 1 other, 2 usage, 3 not running, 4 needs login,
5 pending approval, 6 denied, 7 timeout, 8 controller unreachable,
9 relay unreachable.";

const LOGOUT_EXAMPLES: &str = "\
Examples:
  overlan logout
  overlan logout --state-dir ~/.local/state/overlan-acme    one of several devices on this host";

const DOWN_EXAMPLES: &str = "\
Examples:
  overlan down
  overlan down --state-dir ~/.local/state/overlan-acme      one of several on this host

The device stays enrolled: `overlan up` alone brings it back. `overlan logout` removes it.";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  overlan completion bash > ~/.local/share/bash-completion/completions/overlan
  overlan completion zsh > ~/.zfunc/_overlan
  overlan completion fish > ~/.config/fish/completions/overlan.fish";

#[cfg(test)]
mod tests;
