//! Decides how many people and invitations an organisation may have, and how many organisations a
//! controller. Counts nothing: the numbers come in.

/// A number that is reached. The text says which and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoomFor {
    /// People of the organisation.
    #[error("the organisation has {PEOPLE_MAX} people, which is the most it may have")]
    Person,
    /// Invitations of the organisation.
    #[error("the organisation has {INVITATIONS_MAX} invitations, which is the most it may have")]
    Invitation,
    /// Organisations of the controller.
    #[error("the controller has {ORGANISATIONS_MAX} organisations, which is the most it may have")]
    Organisation,
    /// Organisations of the account.
    #[error("the account is in {HOMES_MAX} organisations, which is the most that may sign up")]
    Home,
}

/// Decides whether a controller with `known` organisations may let strangers make one more.
pub(crate) fn one_more_organisation(known: u32) -> Result<(), NoRoomFor> {
    match known < ORGANISATIONS_MAX {
        true => Ok(()),
        false => Err(NoRoomFor::Organisation),
    }
}

/// Decides whether an account in `known` organisations may make one more by signing up.
pub(crate) fn one_more_home(known: usize) -> Result<(), NoRoomFor> {
    match known < HOMES_MAX {
        true => Ok(()),
        false => Err(NoRoomFor::Home),
    }
}

/// Decides whether an organisation with `known` people may take in one more.
pub(crate) fn one_more_person(known: u32) -> Result<(), NoRoomFor> {
    match known < PEOPLE_MAX {
        true => Ok(()),
        false => Err(NoRoomFor::Person),
    }
}

/// Decides whether an organisation with `known` invitations, ended ones among them, may make one
/// more.
pub(crate) fn one_more_invitation(known: u32) -> Result<(), NoRoomFor> {
    match known < INVITATIONS_MAX {
        true => Ok(()),
        false => Err(NoRoomFor::Invitation),
    }
}

/// Most people of an organisation: as many as one list shows.
const PEOPLE_MAX: u32 = 10_000;

/// Most invitations of an organisation: more than are open at once anywhere, and few enough that
/// one organisation cannot fill the disk of all.
const INVITATIONS_MAX: u32 = 1_000;

/// Most organisations of a controller that strangers sign up to: each has a network of its own, and
/// together they stay far below the 16 million numbers of networks.
const ORGANISATIONS_MAX: u32 = 10_000;

/// Most organisations of an account that signs up for another one.
const HOMES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_given_and_none_after_it() {
        assert_eq!(one_more_person(PEOPLE_MAX - 1), Ok(()));
        assert_eq!(one_more_person(PEOPLE_MAX), Err(NoRoomFor::Person));
        assert_eq!(one_more_invitation(INVITATIONS_MAX - 1), Ok(()));
        let full = one_more_invitation(INVITATIONS_MAX);
        assert_eq!(full, Err(NoRoomFor::Invitation));
        assert_eq!(one_more_organisation(ORGANISATIONS_MAX - 1), Ok(()));
        let full = one_more_organisation(ORGANISATIONS_MAX);
        assert_eq!(full, Err(NoRoomFor::Organisation));
        assert_eq!(one_more_home(HOMES_MAX - 1), Ok(()));
        assert_eq!(one_more_home(HOMES_MAX), Err(NoRoomFor::Home));
    }
}
