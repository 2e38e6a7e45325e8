//! The upstream proxy of this program: by flags, or by the variables that other programs read, too.
//! Decides which of them counts.

use std::net::SocketAddr;

use clap::Args;
use overlan_transport::outgoing::{Outgoing, UpstreamProxy};
use parking_lot::RwLock;

use crate::commands::exit::Failure;
use crate::commands::output;
use crate::commands::secret::SecretSource;

#[derive(Debug, Clone, Args)]
pub(crate) struct UpstreamArgs {
    /// Upstream proxy through which controller and relays are reached: http://[USER@]HOST:PORT,
    /// socks5://[USER@]HOST:PORT, or none
    /// [default: $HTTPS_PROXY or $ALL_PROXY, except for the hosts in $NO_PROXY]
    #[arg(
        long,
        global = true,
        env = "OVERLAN_UPSTREAM_PROXY",
        hide_short_help = true,
        hide_env_values = true,
        value_name = "URL"
    )]
    upstream_proxy: Option<String>,
    /// File with the password for the upstream proxy; - is standard input
    #[arg(
        long,
        global = true,
        env = "OVERLAN_UPSTREAM_PROXY_PASSWORD_FILE",
        hide_short_help = true,
        value_name = "PATH"
    )]
    upstream_proxy_password_file: Option<SecretSource>,
}

/// The decision of [`decide`], for all connections of this process.
static WAY: RwLock<Option<Outgoing>> = parking_lot::const_rwlock(None);

/// Decides it once, before any command runs.
pub(crate) fn decide(args: &UpstreamArgs) -> Result<(), Failure> {
    let password = match &args.upstream_proxy_password_file {
        Some(source) => Some(source.read("proxy password")?),
        None => None,
    };
    let way = match &args.upstream_proxy {
        Some(text) => by_flag(text)?,
        None => by_environment(&variable)?,
    };
    let way = match (way, password) {
        (Some(proxy), Some(password)) => Some(proxy.with_password(password)),
        (way, None) => way,
        (None, Some(_)) => {
            return Err(Failure::usage(
                "a password for an upstream proxy is given without a proxy",
            )
            .next("Give --upstream-proxy http://USER@HOST:PORT."));
        }
    };
    set(way.map(|proxy| proxy.except(&variable("no_proxy").unwrap_or_default())));
    Ok(())
}

/// A proxy that is one of our own doors leads in a circle: `HTTPS_PROXY` was set for other programs
/// then.
pub(crate) fn leave_out(doors: &[SocketAddr]) {
    let way = outgoing();
    if let Some(proxy) = way.proxy()
        && doors.iter().any(|door| proxy.is_at(*door))
    {
        output::note(&format!(
            "The upstream proxy {proxy} is this program itself; it is left out."
        ));
        set(None);
    }
}

/// Returns how this process reaches controller and relays.
pub(crate) fn outgoing() -> Outgoing {
    WAY.read().clone().unwrap_or_default()
}

/// Returns the value of `--upstream-proxy` that means the same, without a password.
pub(crate) fn name() -> String {
    outgoing()
        .proxy()
        .map_or_else(|| NONE.to_owned(), ToString::to_string)
}

fn set(proxy: Option<UpstreamProxy>) {
    let way = proxy.map_or_else(Outgoing::direct, Outgoing::through);
    *WAY.write() = Some(way);
}

fn by_flag(text: &str) -> Result<Option<UpstreamProxy>, Failure> {
    if text == NONE || text.is_empty() {
        return Ok(None);
    }
    let proxy: UpstreamProxy = text
        .parse()
        .map_err(|error| Failure::usage(format!("--upstream-proxy: {error}")))?;
    if proxy.has_password() {
        return Err(Failure::usage(
            "a password in --upstream-proxy could be read by every user of this host",
        )
        .next(
            "Give the user only, and the password by --upstream-proxy-password-file, or both by \
        $HTTPS_PROXY.",
        ));
    }
    Ok(Some(proxy))
}

fn by_environment(
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<UpstreamProxy>, Failure> {
    for name in ["https_proxy", "all_proxy"] {
        if let Some(text) = variable(name) {
            // The text may hold a password.
            let proxy: UpstreamProxy = text
                .parse()
                .map_err(|error| Failure::usage(format!("${}: {error}", name.to_uppercase())))?;
            return Ok(Some(proxy.not_for_loopback()));
        }
    }
    Ok(None)
}

/// As other programs read it: small letters first; empty is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "these variables belong to all programs, not to a flag of ours"
)]
fn variable(name: &str) -> Option<String> {
    let read = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    read(name).or_else(|| read(&name.to_uppercase()))
}

/// Instead of a URL.
const NONE: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::exit::Code;

    #[test]
    fn a_flag_names_a_proxy_or_none_and_never_a_password() {
        assert!(by_flag("none").unwrap().is_none());
        let proxy = by_flag("http://me@proxy:3128").unwrap().unwrap();
        assert_eq!(proxy.to_string(), "http://proxy:3128");
        for wrong in ["http://me:secret@proxy:3128", "proxy.example:x", "ftp://x"] {
            let failure = by_flag(wrong).unwrap_err();
            assert_eq!(failure.code(), Code::Usage, "{wrong}");
            assert!(!failure.to_string().contains("secret"), "{failure}");
        }
    }

    #[test]
    fn the_environment_is_read_as_other_programs_read_it() {
        let chosen = |variables: &'static [(&str, &str)]| {
            by_environment(&|wanted| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, text)| (*text).to_owned())
            })
        };
        assert!(chosen(&[]).unwrap().is_none());
        assert!(
            chosen(&[("http_proxy", "http://plain:1")])
                .unwrap()
                .is_none()
        );
        let both = &[
            ("all_proxy", "socks5://a:1"),
            ("https_proxy", "http://u:p@b:2"),
        ];
        assert_eq!(chosen(both).unwrap().unwrap().to_string(), "http://b:2");
        let failure = chosen(&[("all_proxy", "https://u:secret@b:2")]).unwrap_err();
        assert!(failure.to_string().starts_with("$ALL_PROXY"), "{failure}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }
}
