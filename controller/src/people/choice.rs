//! Decides which of its organisations an account logs in to. Knows no password.

use crate::store::people::Home;

/// The reason why a login is for no organisation. One variant per thing the person does
/// differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChoiceError {
    /// The account is in none.
    #[error("the account is in no organisation any more")]
    None,
    /// The account is in several, and none was named.
    #[error("the account is in several organisations: {0}")]
    Several(String),
    /// The account is in none of that name or number.
    #[error("the account is not in an organisation {wanted:?}; it is in: {known}")]
    Unknown {
        /// The name or number that was given.
        wanted: String,
        /// The organisations of the account.
        known: String,
    },
    /// Several organisations of the account have that name.
    #[error("several organisations of the account have that name: {0}")]
    Ambiguous(String),
}

/// Returns the organisation that a login names by its name, in any case of letters, or by its
/// number; without a name the only one.
pub(crate) fn of_login<'a>(
    homes: &'a [Home],
    wanted: Option<&str>,
) -> Result<&'a Home, ChoiceError> {
    let Some(wanted) = wanted else {
        return match homes {
            [] => Err(ChoiceError::None),
            [only] => Ok(only),
            several => Err(ChoiceError::Several(listed(several.iter()))),
        };
    };
    let wanted = wanted.trim();
    // Before names: an organisation that is called like the number of another one cannot hide it.
    if let Some(numbered) = homes.iter().find(|home| home.org.0.to_string() == wanted) {
        return Ok(numbered);
    }
    let is_meant = |home: &&Home| home.name.to_lowercase() == wanted.to_lowercase();
    let mut named = homes.iter().filter(is_meant);
    match (named.next(), named.next()) {
        _ if homes.is_empty() => Err(ChoiceError::None),
        (Some(home), None) => Ok(home),
        (Some(_), Some(_)) => {
            let named = homes.iter().filter(is_meant);
            Err(ChoiceError::Ambiguous(listed(named)))
        }
        (None, _) => Err(ChoiceError::Unknown {
            wanted: wanted.chars().take(WANTED_SHOWN).collect(),
            known: listed(homes.iter()),
        }),
    }
}

/// Returns the organisations by name, with the numbers that tell those of one name apart.
pub(crate) fn listed<'a>(homes: impl Iterator<Item = &'a Home>) -> String {
    let names = homes.map(|home| format!("{:?} (number {})", home.name, home.org.0));
    names.collect::<Vec<_>>().join(", ")
}

/// Characters of a name that is repeated to the person who gave it.
const WANTED_SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netmaps::OrgId;

    fn homes(names: &[&str]) -> Vec<Home> {
        let numbered = names.iter().zip(1..);
        let home = |(name, number): (&&str, i64)| Home {
            org: OrgId(number),
            name: (*name).to_owned(),
        };
        numbered.map(home).collect()
    }

    fn chosen(names: &[&str], wanted: Option<&str>) -> Result<i64, ChoiceError> {
        of_login(&homes(names), wanted).map(|home| home.org.0)
    }

    #[test]
    fn the_only_organisation_needs_no_name_and_one_of_several_does() {
        assert_eq!(chosen(&["Acme"], None), Ok(1));
        assert_eq!(chosen(&[], None), Err(ChoiceError::None));
        assert_eq!(chosen(&[], Some("Acme")), Err(ChoiceError::None));
        let several = chosen(&["Acme", "Home"], None).unwrap_err();
        let text = several.to_string();
        assert!(
            text.contains("\"Acme\" (number 1), \"Home\" (number 2)"),
            "{text}"
        );
    }

    #[test]
    fn an_organisation_is_named_by_its_name_or_its_number() {
        let names = ["Acme", "Home", "home"];
        assert_eq!(chosen(&names, Some(" acme ")), Ok(1));
        assert_eq!(chosen(&names, Some("3")), Ok(3));
        let twice = chosen(&names, Some("home"));
        assert!(matches!(twice, Err(ChoiceError::Ambiguous(_))));
        let unknown = chosen(&names, Some("\u{1b}[2JOther")).unwrap_err();
        assert!(!unknown.to_string().contains('\u{1b}'), "names are inert");
        // The number counts, whatever somebody called an organisation.
        assert_eq!(chosen(&["2", "Home"], Some("2")), Ok(2));
    }
}
