//! Decides whose login it is when an identity provider has said who somebody is: that of a person
//! whom it has named before, that of a person with the email, or that of a new one. Believes no
//! token; what is known comes in.
//!
//! ```text
//! subject known ──> that account
//! verified email ─┬─ of a person here, not bound yet ──> bound from now on
//!                 ├─ of an open invitation ────────────> comes in, with its role
//!                 └─ of a domain of the provider ──────> comes in, as a member
//! ```
//!
//! The provider of an organisation speaks for that organisation alone: an account of others is
//! never touched, and an email that nobody checked is none.

use overlan_protocol::api::Role;

/// The account that has the email.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmailHolder {
    pub(crate) account: i64,
    /// It is in the organisation of the provider.
    pub(crate) is_here: bool,
    /// The provider has named it by another subject.
    pub(crate) is_bound: bool,
}

/// Everything that is known of somebody who comes from the provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comer<'a> {
    /// The person of the organisation that the provider named by this subject before.
    pub(crate) bound: Option<i64>,
    pub(crate) verified_email: Option<&'a str>,
    pub(crate) holder: Option<EmailHolder>,
    /// The role of an open invitation for the email.
    pub(crate) invited_as: Option<Role>,
    /// The domains whose people become members; none if only invited ones do.
    pub(crate) domains: &'a [String],
}

/// The login that somebody from the provider gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignIn {
    /// That of a person whom the provider named before.
    Known(i64),
    /// That of a person who is bound to the subject from now on.
    Bind(i64),
    /// That of a new person.
    Join {
        role: Role,
        /// The role is that of an invitation, which is used up.
        invited: bool,
    },
}

/// The reason why somebody from the provider gets no login. One variant per thing that is done
/// about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignInError {
    /// Emails of others could be taken.
    #[error("the identity provider does not say that an email is verified for this person")]
    NoVerifiedEmail,
    /// The provider does not speak for the email.
    #[error("{0} is in none of the domains that the organisation's identity provider speaks for")]
    Domain(String),
    /// Only invited people come in.
    #[error("{0} is not in the organisation, and has no open invitation")]
    NotInvited(String),
    /// The account is one of other organisations.
    #[error("{0} has an account in another organisation of this controller")]
    Elsewhere(String),
    /// The account is bound.
    #[error("{0} is bound to another person at the identity provider")]
    OtherSubject(String),
}

/// Decides whose login it is.
pub(crate) fn decide(comer: &Comer<'_>) -> Result<SignIn, SignInError> {
    if let Some(account) = comer.bound {
        return Ok(SignIn::Known(account));
    }
    let email = comer.verified_email.ok_or(SignInError::NoVerifiedEmail)?;
    let named = || email.to_owned();
    let domain = email.rsplit_once('@').map(|(_, domain)| domain);
    let is_spoken_for = comer.domains.iter().any(|own| Some(own.as_str()) == domain);
    match (comer.holder, comer.invited_as) {
        (Some(EmailHolder { is_here: false, .. }), _) => Err(SignInError::Elsewhere(named())),
        (Some(EmailHolder { is_bound: true, .. }), _) => Err(SignInError::OtherSubject(named())),
        (Some(holder), _) => match comer.domains.is_empty() || is_spoken_for {
            true => Ok(SignIn::Bind(holder.account)),
            false => Err(SignInError::Domain(named())),
        },
        (None, Some(role)) => Ok(SignIn::Join {
            role,
            invited: true,
        }),
        (None, None) if is_spoken_for => Ok(SignIn::Join {
            role: Role::Member,
            invited: false,
        }),
        (None, None) if comer.domains.is_empty() => Err(SignInError::NotInvited(named())),
        (None, None) => Err(SignInError::Domain(named())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANA: &str = "ana@example.com";

    fn comer(domains: &[String]) -> Comer<'_> {
        Comer {
            bound: None,
            verified_email: Some(ANA),
            holder: None,
            invited_as: None,
            domains,
        }
    }

    fn here(account: i64) -> Option<EmailHolder> {
        Some(EmailHolder {
            account,
            is_here: true,
            is_bound: false,
        })
    }

    #[test]
    fn a_subject_that_is_known_needs_no_email() {
        let known = Comer {
            bound: Some(7),
            verified_email: None,
            ..comer(&[])
        };
        assert_eq!(decide(&known), Ok(SignIn::Known(7)));
    }

    #[test]
    fn a_domain_makes_members_and_an_invitation_makes_what_it_says() {
        let domains = ["example.com".to_owned()];
        let mut ana = comer(&domains);
        let member = SignIn::Join {
            role: Role::Member,
            invited: false,
        };
        assert_eq!(decide(&ana), Ok(member));
        ana.invited_as = Some(Role::Admin);
        let admin = SignIn::Join {
            role: Role::Admin,
            invited: true,
        };
        assert_eq!(decide(&ana), Ok(admin));
        ana.holder = here(7);
        assert_eq!(decide(&ana), Ok(SignIn::Bind(7)));
        for not_ours in ["ana@example.com.evil", "ana@evil", "example.com"] {
            let eve = Comer {
                verified_email: Some(not_ours),
                ..comer(&domains)
            };
            assert_eq!(decide(&eve), Err(SignInError::Domain(not_ours.to_owned())));
        }
    }

    #[test]
    fn without_domains_only_known_and_invited_people_come_in() {
        let mut ana = comer(&[]);
        assert_eq!(decide(&ana), Err(SignInError::NotInvited(ANA.to_owned())));
        ana.holder = here(7);
        assert_eq!(decide(&ana), Ok(SignIn::Bind(7)));
    }

    proptest! {
        /// Without a known subject nobody gets a login by an email that nobody checked, that of an
        /// account of others, or one that is bound to another subject.
        #[test]
        fn nobody_takes_over_an_account(
            has_email in any::<bool>(),
            holder in prop::option::of((1i64..5, any::<bool>(), any::<bool>())),
            invited in any::<bool>(),
            domain in any::<bool>(),
        ) {
            let domains = ["example.com".to_owned()];
            let holder = holder.map(|(account, is_here, is_bound)| EmailHolder {
                account,
                is_here,
                is_bound,
            });
            let decided = decide(&Comer {
                bound: None,
                verified_email: has_email.then_some(ANA),
                holder,
                invited_as: invited.then_some(Role::Member),
                domains: if domain { &domains } else { &[] },
            });
            match decided {
                Ok(SignIn::Known(_)) => prop_assert!(false, "nobody is bound"),
                Ok(SignIn::Bind(account)) => {
                    let holder = holder.unwrap();
                    prop_assert!(has_email && holder.is_here && !holder.is_bound);
                    prop_assert_eq!(holder.account, account);
                }
                Ok(SignIn::Join { .. }) => {
                    prop_assert!(has_email && holder.is_none() && (invited || domain));
                }
                Err(_) => {}
            }
        }
    }
}
