//! The claims of a token: finds one by its name, and reads times, texts and the audience strictly.
//! Decides which values count as which; believes nothing, and holds no key.

use overlan_protocol::UnixTime;
use serde_json::{Map, Value};

use super::refusal::TokenRefusal;

/// The claims of one token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// Returns the value of a claim as text: a text itself, or a whole number or a truth value as
    /// JSON writes it. `kubernetes.io/serviceaccount/uid` names a field within a claim.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let found = match self.0.get(name) {
            Some(whole) => whole,
            None => {
                let mut parts = name.split('/');
                let mut inner = self.0.get(parts.next()?)?;
                for part in parts {
                    inner = inner.as_object()?.get(part)?;
                }
                inner
            }
        };
        match found {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Returns a claim that must be a text.
    pub(crate) fn text(&self, claim: &'static str) -> Result<&str, TokenRefusal> {
        match self.0.get(claim) {
            None => Err(TokenRefusal::Missing { claim }),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(TokenRefusal::NotText { claim }),
        }
    }

    /// Returns the texts of a claim that is a list of them, or one; others count as none.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self.0.get(name) {
            Some(Value::Array(several)) => several.iter().filter_map(text).collect(),
            Some(one) => text(one).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Returns a claim that is a time. A value of another kind is refused: it must not count as
    /// absent, since an absent time limits nothing.
    pub(super) fn time(&self, claim: &'static str) -> Result<Option<UnixTime>, TokenRefusal> {
        let Some(value) = self.0.get(claim) else {
            return Ok(None);
        };
        let fraction = || value.as_f64().filter(|secs| (0.0..LATEST).contains(secs));
        let secs = value
            .as_u64()
            .or_else(|| fraction().map(|secs| secs as u64));
        match secs {
            Some(secs) => Ok(Some(UnixTime::from_secs(secs))),
            None => Err(TokenRefusal::NotTime { claim }),
        }
    }

    /// Returns the one audience. A token for several could be used here by any of the others.
    pub(super) fn audience(&self) -> Result<&str, TokenRefusal> {
        let claim = "aud";
        match self.0.get(claim) {
            None => Err(TokenRefusal::Missing { claim }),
            Some(Value::String(one)) => Ok(one),
            Some(Value::Array(several)) => match several.as_slice() {
                [Value::String(one)] => Ok(one),
                [_, _, ..] => Err(TokenRefusal::SeveralAudiences),
                _ => Err(TokenRefusal::NotText { claim }),
            },
            Some(_) => Err(TokenRefusal::NotText { claim }),
        }
    }
}

/// Times with a fraction are below this, seconds: every whole number up to it is exact.
const LATEST: f64 = (1u64 << 53) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        Claims::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn numbers_and_texts_of_the_same_id_are_equal() {
        let claims = claims(
            r#"{"a": "74", "b": 74, "c": 74.0, "d": null, "e": true, "f": ["74"],
                "kubernetes.io": {"serviceaccount": {"uid": "u"}}, "x/y": "whole"}"#,
        );
        let value = |name| claims.value(name);
        assert_eq!(value("a"), value("b"));
        assert_eq!(value("e").as_deref(), Some("true"));
        for none in [
            "c",
            "d",
            "f",
            "g",
            "a/b",
            "",
            "/",
            "kubernetes.io",
            "kubernetes.io/",
        ] {
            assert_eq!(value(none), None, "{none}");
        }
        let uid = value("kubernetes.io/serviceaccount/uid");
        assert_eq!(uid.as_deref(), Some("u"));
        assert_eq!(value("x/y").as_deref(), Some("whole"));
    }

    #[test]
    fn a_time_of_another_kind_is_not_an_absent_one() {
        let claims = claims(
            r#"{"whole": 5, "part": 5.9, "text": "5", "null": null, "minus": -5, "huge": 1e300}"#,
        );
        let five = UnixTime::from_secs(5);
        assert_eq!(claims.time("whole"), Ok(Some(five)));
        assert_eq!(claims.time("part"), Ok(Some(five)));
        assert_eq!(claims.time("absent"), Ok(None));
        for claim in ["text", "null", "minus", "huge"] {
            assert_eq!(claims.time(claim), Err(TokenRefusal::NotTime { claim }));
        }
    }

    #[test]
    fn a_token_has_one_audience() {
        let audience = |json| claims(json).audience().map(str::to_owned);
        assert_eq!(audience(r#"{"aud": "a"}"#).unwrap(), "a");
        assert_eq!(audience(r#"{"aud": ["a"]}"#).unwrap(), "a");
        let several = audience(r#"{"aud": ["a", "b"]}"#);
        assert_eq!(several, Err(TokenRefusal::SeveralAudiences));
        let claim = "aud";
        for wrong in [
            r#"{"aud": []}"#,
            r#"{"aud": [1]}"#,
            r#"{"aud": 1}"#,
            r#"{"aud": null}"#,
        ] {
            assert_eq!(audience(wrong), Err(TokenRefusal::NotText { claim }));
        }
        assert_eq!(audience("{}"), Err(TokenRefusal::Missing { claim }));
    }
}
