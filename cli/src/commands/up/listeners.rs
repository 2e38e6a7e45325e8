//! The flags for the listeners of `up`, and what they mean for the daemon. Decides nothing about
//! which addresses are allowed.

use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use overlan::program::listeners::{
    DnsPlace, ForwardPlace, ListenerSettings, Listeners, ListenersError, ProxyPlace,
};
use overlan::program::proxy::{ProxyConfig, ProxyCredentials};
use overlan::program::splice::Patience;

use crate::commands::duration;
use crate::commands::exit::{Code, Failure};
use crate::commands::secret::SecretSource;

#[derive(Debug, Args)]
pub(crate) struct ListenerArgs {
    /// Address of the SOCKS5 and HTTP proxy for programs: ADDRESS:PORT, unix:PATH, or off; may be
    /// repeated
    #[arg(
        long,
        env = "OVERLAN_SOCKS",
        default_value = "127.0.0.1:1080",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    socks: Vec<ProxyPlace>,
    /// Permissions of the socket of --socks unix:PATH, octal: a user who may write it may connect
    #[arg(
        long,
        env = "OVERLAN_SOCKS_UNIX_MODE",
        value_name = "MODE",
        default_value = "0600",
        value_parser = mode,
    )]
    socks_unix_mode: u32,
    /// Address of the DNS resolver for names of the overlay, over UDP and TCP: ADDRESS:PORT, or off
    #[arg(
        long,
        env = "OVERLAN_DNS",
        default_value = "127.0.0.1:1053",
        value_name = "ADDR"
    )]
    dns: DnsPlace,
    /// Resolver of this host's network to which foreign names are forwarded: ADDRESS[:PORT], or
    /// off; may be repeated
    #[arg(
        long,
        env = "OVERLAN_DNS_FORWARD",
        default_value = "off",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    dns_forward: Vec<ForwardPlace>,
    /// User name that proxy clients must give
    #[arg(
        long,
        env = "OVERLAN_SOCKS_USER",
        value_name = "NAME",
        requires = "socks_password_file"
    )]
    socks_user: Option<String>,
    /// File with the password that proxy clients must give; - is standard input
    #[arg(
        long,
        env = "OVERLAN_SOCKS_PASSWORD_FILE",
        value_name = "PATH",
        requires = "socks_user"
    )]
    socks_password_file: Option<SecretSource>,
    /// Allow an address in --socks that other hosts reach; needs --socks-user
    #[arg(
        long,
        env = "OVERLAN_SOCKS_PUBLIC",
        value_parser = BoolishValueParser::new(),
        requires = "socks_user",
    )]
    socks_public: bool,
    /// End connections through the proxy on which no byte moves for this time: seconds, or with a
    /// unit (15m) [default: never]
    #[arg(
        long,
        env = "OVERLAN_SOCKS_IDLE_TIMEOUT",
        value_name = "TIME",
        value_parser = duration::within::<u64>(duration::SOME),
    )]
    socks_idle_timeout: Option<u64>,
    /// End connections of which one side has closed and on which no byte moves for this time, also
    /// those of forwards and served ports: seconds, or with a unit (5m); 0 = never
    #[arg(
        long,
        env = "OVERLAN_HALF_CLOSED_TIMEOUT",
        value_parser = duration::within::<u64>(duration::ANY),
        value_name = "TIME",
        default_value = "300"
    )]
    half_closed_timeout: u64,
    /// Time that a request waits for a device that is not ready: seconds, or with a unit (1m); 0 =
    /// refuse at once
    #[arg(
        long,
        env = "OVERLAN_HOLD",
        value_parser = duration::within::<u64>(duration::ANY),
        value_name = "TIME",
        default_value = "10"
    )]
    hold: u64,
    /// Connect to foreign destinations from this host instead of refusing them
    #[arg(long, env = "OVERLAN_PROXY_DIRECT", value_parser = BoolishValueParser::new())]
    proxy_direct: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        Ok(_) | Err(_) => Err("give octal permissions such as 0600 or 0660".to_owned()),
    }
}

impl ListenerArgs {
    /// Opens the listeners; no connection is answered yet. Those of `before` that stay keep their
    /// ports.
    pub(super) async fn open(&self, before: Option<&Listeners>) -> Result<Listeners, Failure> {
        let settings = self.settings(before.map(|before| &before.proxy.config))?;
        Ok(Listeners::open(settings, before).await?)
    }

    fn settings(&self, before: Option<&ProxyConfig>) -> Result<ListenerSettings, Failure> {
        let credentials = self.credentials(before)?;
        Ok(ListenerSettings {
            proxy: self.socks.clone(),
            unix_mode: self.socks_unix_mode,
            is_public: self.socks_public,
            config: self.proxy_config(credentials),
            dns: self.dns,
            dns_forwards: self.dns_forward.clone(),
        })
    }

    /// Returns the credentials that clients must give. Standard input is read at the start only.
    fn credentials(
        &self,
        before: Option<&ProxyConfig>,
    ) -> Result<Option<ProxyCredentials>, Failure> {
        match (&self.socks_user, &self.socks_password_file, before) {
            (Some(_), Some(SecretSource::Stdin), Some(before)) => Ok(before.credentials.clone()),
            (Some(user), Some(source), _) => {
                let password = source.read("SOCKS password")?;
                let credentials = ProxyCredentials::new(user.clone(), password);
                Ok(Some(
                    credentials.map_err(|error| Failure::new(Code::Usage, error))?,
                ))
            }
            (None, ..) | (_, None, _) => Ok(None),
        }
    }

    fn proxy_config(&self, credentials: Option<ProxyCredentials>) -> ProxyConfig {
        ProxyConfig {
            // A client with the password may be another user, such as the one of a container beside
            // this one.
            same_user: credentials.is_none(),
            credentials,
            direct: self.proxy_direct,
            hold: Duration::from_secs(self.hold),
            idle_timeout: self.socks_idle_timeout.map(Duration::from_secs),
            half_closed_timeout: self.half_closed_timeout(),
            ..ProxyConfig::default()
        }
    }

    fn half_closed_timeout(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.half_closed_timeout)).filter(|timeout| !timeout.is_zero())
    }

    /// Returns how long connections of forwards and served ports may go without a byte.
    pub(super) fn patience(&self) -> Patience {
        Patience {
            half_closed: self.half_closed_timeout(),
            ..Patience::default()
        }
    }
}

impl From<ListenersError> for Failure {
    fn from(error: ListenersError) -> Self {
        let code = match error.is_usage() {
            true => Code::Usage,
            false => Code::Other,
        };
        let next = error.next_step();
        Self::new(code, error).next_if(next)
    }
}

#[cfg(test)]
mod tests;
