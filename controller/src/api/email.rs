//! Decides which texts are email addresses. Only mail that is sent shows whether an address works.

use super::problem::Refusal;

/// Returns an email address in lower case.
pub(super) fn valid_email(text: &str) -> Result<String, Refusal> {
    let email = text.trim().to_lowercase();
    match email_objection(&email) {
        None => Ok(email),
        Some(objection) => {
            let shown: String = email.chars().take(EMAIL_MAX).collect();
            Err(Refusal::bad_request(format!(
                "{shown:?} is not an email address: {objection}; it has the form you@example.com"
            )))
        }
    }
}

/// Returns the objection to a text that is not an email address.
fn email_objection(email: &str) -> Option<&'static str> {
    if email.chars().count() > EMAIL_MAX {
        return Some("it is longer than 254 characters");
    }
    if email.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("it contains a space");
    }
    match email.split_once('@') {
        None => Some("it has no @"),
        Some(("", _)) => Some("there is nothing before its @"),
        Some((_, "")) => Some("there is nothing after its @"),
        Some((_, host)) if host.contains('@') => Some("it has more than one @"),
        Some(_) => None,
    }
}

/// Longest email, characters (RFC 5321).
const EMAIL_MAX: usize = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_that_is_refused_is_told_what_is_wrong_with_it() {
        for (email, objection) in [
            ("", "it has no @"),
            ("nobody", "it has no @"),
            ("@example.com", "there is nothing before its @"),
            ("you@", "there is nothing after its @"),
            ("you@a@b", "it has more than one @"),
            ("you @example.com", "it contains a space"),
            ("you@exam\nple.com", "it contains a space"),
        ] {
            assert_eq!(email_objection(email), Some(objection), "{email:?}");
        }
        let long = format!("{}@example.com", "a".repeat(EMAIL_MAX));
        assert!(email_objection(&long).is_some());
        assert_eq!(valid_email(" You@Example.com ").unwrap(), "you@example.com");
    }
}
