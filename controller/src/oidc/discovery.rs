//! The address of an issuer, and the document in which it says where its keys are (OpenID Connect
//! Discovery). Decides which addresses and documents are right; fetches none.

use http::Uri;
use overlan_protocol::HostPort;
use serde::Deserialize;

/// An address that an issuer or its keys have: `https://host[:port][/path]`, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IssuerUrl {
    text: String,
    server: HostPort,
    path: String,
}

/// The reason why a text is not the address of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssuerUrlError {
    /// Anybody on the way could answer.
    #[error("it must begin with https://")]
    NotHttps,
    /// The rest is not an address.
    #[error("it must be https://HOST, with a port and a path at most")]
    NotAddress,
    /// It is longer than any.
    #[error("it must have at most {URL_MAX} characters")]
    TooLong,
}

impl IssuerUrl {
    /// Reads an address.
    pub(crate) fn parse(text: &str) -> Result<Self, IssuerUrlError> {
        if text.len() > URL_MAX {
            return Err(IssuerUrlError::TooLong);
        }
        if !text.starts_with("https://") {
            return Err(IssuerUrlError::NotHttps);
        }
        let wrong = IssuerUrlError::NotAddress;
        if text.contains(['?', '#', '@', '\\', ' ']) {
            return Err(wrong);
        }
        let uri: Uri = text.parse().map_err(|_| wrong)?;
        let authority = uri.authority().ok_or(wrong)?.as_str();
        let server = HostPort::parse_or(authority, HTTPS).map_err(|_| wrong)?;
        Ok(Self {
            text: text.to_owned(),
            server,
            path: uri.path().to_owned(),
        })
    }

    /// Returns the text as it was written: an issuer is compared by it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the server's host and port.
    pub(crate) fn server(&self) -> &HostPort {
        &self.server
    }

    /// Returns the path on the server.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the address of the document in which this issuer says where its keys are.
    pub(super) fn discovery(&self) -> Self {
        let below = |base: &str| format!("{}{WELL_KNOWN}", base.trim_end_matches('/'));
        Self {
            text: below(&self.text),
            server: self.server.clone(),
            path: below(&self.path),
        }
    }
}

/// The reason why a document does not say where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// It is not such a document.
    #[error("its document has no \"issuer\" and \"jwks_uri\"")]
    Form,
    /// It belongs to another issuer.
    #[error("its document is that of another issuer, {0:?}")]
    OtherIssuer(String),
    /// The address of the keys cannot be used.
    #[error("its jwks_uri cannot be used: {0}")]
    KeysUrl(IssuerUrlError),
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Returns where the keys of `issuer` are, by its document.
pub(super) fn keys_url(issuer: &IssuerUrl, document: &[u8]) -> Result<IssuerUrl, DiscoveryError> {
    let read = serde_json::from_slice(document);
    let Document {
        issuer: is,
        jwks_uri,
    } = read.map_err(|_| DiscoveryError::Form)?;
    if is != issuer.text {
        return Err(DiscoveryError::OtherIssuer(is.escape_debug().to_string()));
    }
    IssuerUrl::parse(&jwks_uri).map_err(DiscoveryError::KeysUrl)
}

/// Path of the document below an issuer's address.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// The port of HTTPS.
const HTTPS: u16 = 443;

/// Longest address of an issuer, bytes.
const URL_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_https_address_and_nothing_else() {
        for (text, server, discovery) in [
            (
                "https://token.actions.githubusercontent.com",
                "token.actions.githubusercontent.com:443",
                "https://token.actions.githubusercontent.com/.well-known/openid-configuration",
            ),
            (
                "https://gitlab.example:8443/git/",
                "gitlab.example:8443",
                "https://gitlab.example:8443/git/.well-known/openid-configuration",
            ),
            (
                "https://[::1]:9",
                "[::1]:9",
                "https://[::1]:9/.well-known/openid-configuration",
            ),
        ] {
            let issuer = IssuerUrl::parse(text).unwrap();
            assert_eq!(issuer.text(), text);
            assert_eq!(issuer.server().to_string(), server);
            assert_eq!(issuer.discovery().text(), discovery);
            assert!(discovery.ends_with(issuer.discovery().path()));
        }
        for wrong in ["http://a", "ftp://a", "a", "", "HTTPS://a"] {
            assert_eq!(IssuerUrl::parse(wrong), Err(IssuerUrlError::NotHttps));
        }
        for wrong in [
            "https://",
            "https:///a",
            "https://user@a",
            "https://user:secret@a/b",
            "https://a?b=c",
            "https://a#b",
            "https://a:0",
            "https://a:99999",
            "https://a b",
            "https://a/\n",
            "https://127.0.0.1\\@b",
        ] {
            let read = IssuerUrl::parse(wrong);
            assert_eq!(read, Err(IssuerUrlError::NotAddress), "{wrong}");
        }
        let long = format!("https://{}", "a".repeat(URL_MAX));
        assert_eq!(IssuerUrl::parse(&long), Err(IssuerUrlError::TooLong));
    }

    #[test]
    fn a_document_of_another_issuer_leads_nowhere() {
        let issuer = IssuerUrl::parse("https://issuer.example").unwrap();
        let keys = |text: &str| keys_url(&issuer, text.as_bytes());
        let good = r#"{"issuer":"https://issuer.example","jwks_uri":"https://k.example/j"}"#;
        assert_eq!(keys(good).unwrap().text(), "https://k.example/j");
        let other = r#"{"issuer":"https://issuer.example/","jwks_uri":"https://k.example/j"}"#;
        assert!(matches!(keys(other), Err(DiscoveryError::OtherIssuer(_))));
        let plain = r#"{"issuer":"https://issuer.example","jwks_uri":"http://k.example/j"}"#;
        let not_https = DiscoveryError::KeysUrl(IssuerUrlError::NotHttps);
        assert_eq!(keys(plain), Err(not_https));
        for wrong in ["", "{}", "<html>", r#"{"issuer":"https://issuer.example"}"#] {
            assert_eq!(keys(wrong), Err(DiscoveryError::Form));
        }
    }
}
