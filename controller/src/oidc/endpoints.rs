//! The document in which an identity provider says how people log in by it (OpenID Connect
//! Discovery). Decides whether it can be used, and which scopes are asked for; fetches nothing.

use serde::Deserialize;

use super::discovery::{DiscoveryError, IssuerUrl, IssuerUrlError};

/// The addresses of an identity provider, and how it wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// People log in there.
    pub(crate) authorization: IssuerUrl,
    /// Codes become tokens there.
    pub(crate) token: IssuerUrl,
    /// It says who somebody is, by that person's token.
    pub(crate) userinfo: Option<IssuerUrl>,
    /// The scopes that are asked for.
    pub(crate) scopes: Vec<String>,
    /// The provider names itself when it sends a browser back (RFC 9207).
    pub(crate) names_itself: bool,
    /// The client's secret goes with the form, and not in a header.
    pub(crate) secret_in_form: bool,
    /// The provider says that it checks the proof that goes with a code (RFC 7636).
    pub(crate) has_pkce: bool,
}

/// The reason why nobody can log in by a provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointsError {
    /// It is not such a document, or that of another issuer.
    #[error(transparent)]
    Document(#[from] DiscoveryError),
    /// The provider knows no logins of people.
    #[error("its document has no {0}")]
    Missing(&'static str),
    /// An address cannot be used.
    #[error("its {name} cannot be used: {error}")]
    Address {
        name: &'static str,
        error: IssuerUrlError,
    },
    /// The provider answers in no way that we understand.
    #[error("it does not support {0}")]
    Unsupported(&'static str),
}

#[derive(Deserialize)]
struct ProviderDocument {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    response_types_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Endpoints {
    /// Reads the document of `issuer`.
    pub(super) fn parse(issuer: &IssuerUrl, text: &[u8]) -> Result<Self, EndpointsError> {
        let read: Result<ProviderDocument, _> = serde_json::from_slice(text);
        let document = read.map_err(|_| DiscoveryError::Form)?;
        if document.issuer != issuer.text() {
            let other = document.issuer.escape_debug().to_string();
            return Err(DiscoveryError::OtherIssuer(other).into());
        }
        let responses = document.response_types_supported.unwrap_or_default();
        if !responses.is_empty() && !responses.iter().any(|it| it == "code") {
            return Err(EndpointsError::Unsupported("response type \"code\""));
        }
        let methods = document.token_endpoint_auth_methods_supported;
        // Without a list there is the one of the standard.
        let methods = methods.unwrap_or_else(|| vec![BASIC.to_owned()]);
        let has_method = |method: &str| methods.iter().any(|known| known == method);
        if !has_method(BASIC) && !has_method(IN_FORM) {
            return Err(EndpointsError::Unsupported(
                "client_secret_basic or client_secret_post",
            ));
        }
        let offered = document.scopes_supported.unwrap_or_default();
        let wanted = OPTIONAL_SCOPES.into_iter();
        let wanted = wanted.filter(|scope| offered.iter().any(|offered| offered == scope));
        let challenges = document.code_challenge_methods_supported;
        let challenges = challenges.unwrap_or_default();
        Ok(Self {
            authorization: address("authorization_endpoint", document.authorization_endpoint)?,
            token: address("token_endpoint", document.token_endpoint)?,
            userinfo: match document.userinfo_endpoint {
                None => None,
                some => Some(address("userinfo_endpoint", some)?),
            },
            scopes: SCOPES
                .into_iter()
                .chain(wanted)
                .map(str::to_owned)
                .collect(),
            names_itself: document.authorization_response_iss_parameter_supported,
            secret_in_form: !has_method(BASIC),
            has_pkce: challenges.iter().any(|method| method == "S256"),
        })
    }

    /// Returns what works and should be otherwise, for people.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let has = |scope: &str| self.scopes.iter().any(|known| known == scope);
        let mut warnings = Vec::new();
        if !self.has_pkce {
            warnings.push(
                "it does not say that it checks PKCE (S256); the proof is sent anyway".to_owned(),
            );
        }
        if !has("offline_access") {
            warnings.push(
                "it offers no offline_access: without a refresh token the groups of a person end \
                 an hour after the login, and an end of the account there is not heard"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn address(name: &'static str, text: Option<String>) -> Result<IssuerUrl, EndpointsError> {
    let text = text.ok_or(EndpointsError::Missing(name))?;
    let address = IssuerUrl::parse(&text);
    address.map_err(|error| EndpointsError::Address { name, error })
}

/// The scopes that every provider has: an ID token, and the email in it.
const SCOPES: [&str; 2] = ["openid", "email"];

/// The scopes that are asked for where a provider offers them; others refuse what they do not
/// know.
const OPTIONAL_SCOPES: [&str; 2] = ["groups", "offline_access"];

/// The ways in which the client proves who it is.
const BASIC: &str = "client_secret_basic";
const IN_FORM: &str = "client_secret_post";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        json!({
            "issuer": "https://id.example",
            "authorization_endpoint": "https://id.example/authorize",
            "token_endpoint": "https://id.example/token",
            "jwks_uri": "https://id.example/jwks",
        })
    }

    fn parsed(document: &Value) -> Result<Endpoints, EndpointsError> {
        let issuer = IssuerUrl::parse("https://id.example").unwrap();
        Endpoints::parse(&issuer, document.to_string().as_bytes())
    }

    #[test]
    fn a_provider_that_says_little_is_asked_for_little() {
        let endpoints = parsed(&document()).unwrap();
        assert_eq!(endpoints.scopes, ["openid", "email"]);
        assert!(!endpoints.names_itself && !endpoints.secret_in_form);
        assert_eq!(endpoints.userinfo, None);
        assert_eq!(endpoints.warnings().len(), 2);

        let mut rich = document();
        rich["scopes_supported"] = json!(["openid", "profile", "offline_access", "groups"]);
        rich["userinfo_endpoint"] = json!("https://id.example/me");
        rich["code_challenge_methods_supported"] = json!(["plain", "S256"]);
        rich["authorization_response_iss_parameter_supported"] = json!(true);
        rich["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
        let endpoints = parsed(&rich).unwrap();
        let scopes = ["openid", "email", "groups", "offline_access"];
        assert_eq!(endpoints.scopes, scopes);
        assert!(endpoints.names_itself && endpoints.secret_in_form);
        assert_eq!(endpoints.warnings(), [""; 0]);
    }

    #[test]
    fn documents_by_which_nobody_can_log_in_say_why() {
        let with = |field: &str, value: Value| {
            let mut changed = document();
            changed[field] = value;
            parsed(&changed).unwrap_err().to_string()
        };
        for (field, value, why) in [
            ("issuer", json!("https://evil.example"), "another issuer"),
            (
                "token_endpoint",
                json!("http://id.example/token"),
                "its token_endpoint cannot be used: it must begin with https://",
            ),
            (
                "authorization_endpoint",
                Value::Null,
                "its document has no authorization_endpoint",
            ),
            (
                "response_types_supported",
                json!(["id_token"]),
                "does not support response type",
            ),
            (
                "token_endpoint_auth_methods_supported",
                json!(["private_key_jwt"]),
                "does not support client_secret_basic",
            ),
            ("userinfo_endpoint", json!("me"), "its userinfo_endpoint"),
        ] {
            let error = with(field, value);
            assert!(error.contains(why), "{field}: {error}");
        }
        let nothing = parsed(&json!([]));
        assert_eq!(nothing, Err(DiscoveryError::Form.into()));
    }
}
