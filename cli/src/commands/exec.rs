//! `exec`: runs a program whose connections go through the overlay, by the variables that programs
//! know. Decides what the program finds in its environment; child modules hold its proxy, its
//! signals and its end. Its rooms: `child`, `private_proxy`, `ephemeral`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::commands::exit::Failure;
use crate::commands::forward::Spec;
use crate::commands::secret::Variable;
use crate::commands::{StateArgs, duration, running, upstream, wait};

use child::{ChildProgram, Forwarded};
use ephemeral::EphemeralArgs;
use private_proxy::{PrivateProxy, ProxyWish};

pub(crate) use child::StartArgs;
pub(crate) use child::start;

mod child;

mod private_proxy;

mod ephemeral;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "PROGRAM"
    )]
    command: Vec<OsString>,
    /// Time to wait until peers can be reached: seconds, or with a unit (2m); 0 = no limit
    #[arg(
        long,
        env = "OVERLAN_EXEC_TIMEOUT",
        default_value_t = 60,
        value_parser = duration::within::<u32>(duration::ANY),
        value_name = "TIME"
    )]
    timeout: u32,
    /// Forward a local port to a peer while the program runs, in the form of ssh:
    /// [BIND:]PORT:HOST:PORT or /PATH:HOST:PORT; may be repeated
    #[arg(
        short = 'L',
        long = "local",
        env = "OVERLAN_EXEC_LOCAL",
        value_delimiter = ',',
        value_name = "FORWARD"
    )]
    forwards: Vec<Spec>,
    /// Connect to foreign destinations from this host instead of refusing them
    #[arg(long, env = "OVERLAN_PROXY_DIRECT", value_parser = BoolishValueParser::new())]
    proxy_direct: bool,
    /// Name a SOCKS5 proxy in ALL_PROXY instead of an HTTP proxy, for programs that know only
    /// SOCKS5
    #[arg(long, env = "OVERLAN_EXEC_SOCKS", value_parser = BoolishValueParser::new())]
    socks: bool,
    #[command(flatten, next_help_heading = "A device for this program alone")]
    own: EphemeralArgs,
    #[command(flatten, next_help_heading = "Without --ephemeral")]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan exec curl http://web.home.overlan.internal/
  overlan exec -L 5432:db:5432 psql -h 127.0.0.1 -U app
  overlan exec --timeout 120 git clone http://git.home.overlan.internal/repo
  overlan exec --proxy-direct npm install      from registries in the overlay and outside
  overlan exec --ephemeral --server JOIN --auth-key-file key.txt -- make deploy
  overlan exec --ephemeral --oidc --server JOIN -- make deploy      in a CI job, by its own token
  overlan exec -- sh -c 'dig @$OVERLAN_DNS_HOST -p $OVERLAN_DNS_PORT web.home.overlan.internal'

The program finds ALL_PROXY, HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in both cases,
NODE_USE_ENV_PROXY, OVERLAN_DNS_HOST and OVERLAN_DNS_PORT, and OVERLAN_FORWARD_1 and so on with
the addresses of -L. The proxy is for this program alone: its URL holds a password that ends with
it, so children that change their user can use it, too. Secrets such as OVERLAN_AUTH_KEY are taken
out, and so is the variable of --oidc-variable. Programs that know none of these variables
(psql, redis-cli, mysql) reach a peer by -L; that port is open to your user and root.
The program gets SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 of this one, and SIGTERM if
this one is killed.
Exit codes: the program's; 128 + N if signal N killed it; 126 and 127 as in a shell if it cannot
be started; before it starts 3 no `overlan up` runs, 4 not enrolled any more or no valid key, 8 no
controller, 9 no relay.";

/// `overlan exec`.
pub(crate) async fn run(args: ExecArgs) -> Result<ExitCode, Failure> {
    let mut program = ChildProgram::new(args.command)?;
    // Before anything starts, so that no signal is missed.
    let mut signals = Forwarded::listen()?;
    let proxy = PrivateProxy::open(ProxyWish {
        forwards: args.forwards,
        direct: args.proxy_direct,
        socks: args.socks,
    })?;
    for secret in Variable::ALL {
        program.without(secret.name());
    }
    program.without(args.own.token_variable());
    // `overlan` inside of the program uses the upstream proxy of this command, not its proxy.
    program.with("OVERLAN_UPSTREAM_PROXY", upstream::name());
    for (name, value) in proxy.variables() {
        program.with(&name, value);
    }
    if args.own.ephemeral {
        let device = tokio::select! {
            device = args.own.up(args.timeout) => device?,
            signal = signals.asked() => return Ok(child::killed_by(signal)),
        };
        for (name, value) in resolver(device.dns) {
            program.with(name, value);
        }
        let ended = match proxy.served_by(&device.node).await {
            Ok(serving) => serving.during(signals.run(program)).await,
            Err(failure) => Err(failure),
        };
        device.close().await;
        return ended;
    }
    wait::until_ready(&args.state, args.timeout).await?;
    let status = running::ask_status(&args.state).await?;
    if let Some(dns) = status.dns {
        for (name, value) in resolver(dns) {
            program.with(name, value);
        }
    }
    if let Some(state) = &args.state.state_dir {
        // `overlan` inside of the program asks the same `overlan up`.
        program.with("OVERLAN_STATE_DIR", std::path::absolute(state)?);
    }
    let control = args.state.open()?.socket_path();
    let serving = proxy.served_by_running(&control).await?;
    serving.during(signals.run(program)).await
}

/// Returns the variables with the address of the resolver.
fn resolver(dns: std::net::SocketAddr) -> [(&'static str, String); 2] {
    [
        ("OVERLAN_DNS_HOST", dns.ip().to_string()),
        ("OVERLAN_DNS_PORT", dns.port().to_string()),
    ]
}
