//! An offered route, with or without a name in the network for its one host. The controller decides
//! whether the host gets that name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{GatewayRoute, RouteTextError};
use crate::name::is_label;

/// A route and the wanted name of its host: `10.1.0.0/16`, `db.internal:5432 as db`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OfferedRoute {
    route: GatewayRoute,
    name: Option<String>,
}

/// The reason why a text is not an offer. One variant per thing that the writer corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferTextError {
    /// The route is wrong.
    #[error(transparent)]
    Route(#[from] RouteTextError),
    /// The name is not a label.
    #[error("a name in the network has 1 to 63 lower-case letters, digits and hyphens")]
    Name,
    /// One name stands for many hosts.
    #[error("only one host can have a name: ADDRESS or NAME, with :PORT or without")]
    Many,
}

impl OfferedRoute {
    /// Returns an offer of `route`, whose one host gets the name `name` in the network.
    ///
    /// # Errors
    /// If the name is not a label, or the route leads to more than one host.
    pub fn named(route: GatewayRoute, name: &str) -> Result<Self, OfferTextError> {
        if !is_label(name) {
            return Err(OfferTextError::Name);
        }
        if route.one_host().is_none() {
            return Err(OfferTextError::Many);
        }
        let name = Some(name.to_owned());
        Ok(Self { route, name })
    }

    /// The route that is offered.
    #[must_use]
    pub fn route(&self) -> &GatewayRoute {
        &self.route
    }

    /// The label that is wanted for its host.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl From<GatewayRoute> for OfferedRoute {
    fn from(route: GatewayRoute) -> Self {
        Self { route, name: None }
    }
}

impl FromStr for OfferedRoute {
    type Err = OfferTextError;

    fn from_str(text: &str) -> Result<Self, OfferTextError> {
        match text.split_once(" as ") {
            Some((route, name)) => Self::named(route.parse()?, name.trim()),
            None => Ok(text.parse::<GatewayRoute>()?.into()),
        }
    }
}

impl fmt::Display for OfferedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} as {name}", self.route),
            None => self.route.fmt(f),
        }
    }
}

impl TryFrom<String> for OfferedRoute {
    type Error = OfferTextError;

    fn try_from(text: String) -> Result<Self, OfferTextError> {
        text.parse()
    }
}

impl From<OfferedRoute> for String {
    fn from(offer: OfferedRoute) -> Self {
        offer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn an_offer_reads_back_as_it_is_written_and_only_one_host_has_a_name() {
        for text in [
            "10.1.0.0/16",
            "db.internal:5432 as db",
            "10.1.2.3 as printer",
            "[fd12::1]:80 as web",
        ] {
            let offer: OfferedRoute = text.parse().unwrap();
            assert_eq!(offer.to_string(), text);
        }
        for (wrong, why) in [
            ("10.1.0.0/16 as net", OfferTextError::Many),
            ("*.corp.internal as corp", OfferTextError::Many),
            ("db.internal as a.b", OfferTextError::Name),
            ("db.internal as -", OfferTextError::Name),
            ("db.internal as ", OfferTextError::Name),
            (" as db", OfferTextError::Route(RouteTextError::Form)),
        ] {
            assert_eq!(wrong.parse::<OfferedRoute>(), Err(why), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back(
            text in "[ a-z0-9.:*/-]{0,40}( as [ a-z0-9.-]{0,20})?",
        ) {
            if let Ok(offer) = text.parse::<OfferedRoute>() {
                prop_assert_eq!(offer.to_string().parse(), Ok(offer));
            }
        }
    }
}
