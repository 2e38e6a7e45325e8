//! A policy as it was written: groups, tags, services, hosts, rules and tests, with the places
//! where they stand. Every name in it is one that exists; who bears the names is the world's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use overlan_protocol::UnixTime;
use overlan_protocol::api::Role;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::name::is_label;
use overlan_protocol::policy::{RuleId, Service};

use crate::finding::Place;

/// A document that was read and whose names fit together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Groups of people, by name. Members are people, roles, groups of the identity provider and
    /// other groups, never in a circle.
    pub groups: BTreeMap<String, Vec<Party>>,
    /// Tags by name, with the people who may set them besides owners and admins.
    pub tags: BTreeMap<String, Vec<Party>>,
    /// Sets of services, by name.
    pub services: BTreeMap<String, Vec<Service>>,
    /// Hosts of gateways, by name.
    pub hosts: BTreeMap<String, Vec<GatewayRoute>>,
    /// The rules, in the order of the text. No two have the same id.
    pub rules: Vec<Rule>,
    /// The tests, which must hold, in the order of the text.
    pub tests: Vec<Expectation>,
}

/// One rule: those on the left may open these services of those on the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its id: given, or made from what it says.
    pub id: RuleId,
    /// Those that may dial.
    pub from: Vec<Party>,
    /// Those that may be dialled.
    pub to: Vec<Party>,
    /// The services, names resolved.
    pub services: Vec<Service>,
    /// The rule counts before this time only.
    pub until: Option<UnixTime>,
    /// The writer's reason.
    pub comment: Option<String>,
    /// The place where it begins.
    pub place: Place,
}

/// One test: what these must reach there, and what they must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Those that dial.
    pub from: Party,
    /// Those that are dialled.
    pub to: Party,
    /// Services that must be allowed as a whole.
    pub allow: Vec<Service>,
    /// Services of which nothing may be allowed.
    pub deny: Vec<Service>,
    /// The place where it begins.
    pub place: Place,
}

/// Those that a word of the document means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// `any`: every device of the network.
    Any,
    /// `members`: the devices of people. A device with a tag is no longer somebody's.
    Members,
    /// `self`: as a destination, the devices of the same person.
    Own,
    /// `ana@example.com`: the devices of one person.
    Person(String),
    /// `role:admin`: the devices of people with this role.
    Role(Role),
    /// `group:dev`: the devices of a group's people.
    Group(String),
    /// `idp:platform`: the devices of people who are in this group of the identity provider.
    Directory(String),
    /// `tag:db`: devices with this tag.
    Tag(String),
    /// `tag:*`: devices with any tag.
    Tagged,
    /// `device:web-1`: the device with this label.
    Device(String),
    /// `host:printer`: as a destination, hosts of gateways by the name that the document gives.
    Host(String),
    /// `host:*`: as a destination, all hosts of gateways.
    Hosts,
}

impl Party {
    /// Returns whether the word means people, so that a group can have it as a member.
    #[must_use]
    pub fn is_people(&self) -> bool {
        match self {
            Self::Person(_) | Self::Role(_) | Self::Group(_) | Self::Directory(_) => true,
            Self::Any
            | Self::Members
            | Self::Own
            | Self::Tag(_)
            | Self::Tagged
            | Self::Device(_)
            | Self::Host(_)
            | Self::Hosts => false,
        }
    }

    /// The name of the group, if it is one of the document.
    pub(crate) fn group(&self) -> Option<&str> {
        if let Self::Group(name) = self {
            Some(name)
        } else {
            None
        }
    }

    /// Returns whether the word means something only where it is dialled.
    #[must_use]
    pub fn is_destination_only(&self) -> bool {
        matches!(self, Self::Own | Self::Host(_) | Self::Hosts)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Members => f.write_str("members"),
            Self::Own => f.write_str("self"),
            Self::Person(email) => f.write_str(email),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Directory(name) => write!(f, "idp:{name}"),
            Self::Tag(name) => write!(f, "tag:{name}"),
            Self::Tagged => f.write_str("tag:*"),
            Self::Device(label) => write!(f, "device:{label}"),
            Self::Host(name) => write!(f, "host:{name}"),
            Self::Hosts => f.write_str("host:*"),
        }
    }
}

/// The reason why a text means nobody, with the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartyTextError {
    /// It has none of the forms.
    Form,
    /// The name after the colon is not a label.
    Label,
    /// There is no such role.
    Role,
    /// It is not an email.
    Email,
    /// The name of a group of the identity provider is empty, too long or not printed.
    Directory,
}

impl PartyTextError {
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Form => {
                "write any, members, self, an email, group:NAME, idp:NAME, role:NAME, tag:NAME, \
                 tag:*, device:NAME, host:NAME or host:*"
            }
            Self::Label => {
                "a name has 1 to 63 lower-case letters, digits and hyphens, no hyphen at an end"
            }
            Self::Role => "the roles are owner, admin, auditor and member",
            Self::Email => "write a whole email, such as ana@example.com",
            Self::Directory => "write the group as the identity provider names it",
        }
    }
}

impl fmt::Display for PartyTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())
    }
}

impl std::error::Error for PartyTextError {}

impl FromStr for Party {
    type Err = PartyTextError;

    fn from_str(text: &str) -> Result<Self, PartyTextError> {
        match text {
            "any" => return Ok(Self::Any),
            "members" => return Ok(Self::Members),
            "self" => return Ok(Self::Own),
            "tag:*" => return Ok(Self::Tagged),
            "host:*" => return Ok(Self::Hosts),
            _ => {}
        }
        let label = |name: &str| match is_label(name) {
            true => Ok(name.to_owned()),
            false => Err(PartyTextError::Label),
        };
        match text.split_once(':') {
            Some(("group", name)) => Ok(Self::Group(label(name)?)),
            Some(("tag", name)) => Ok(Self::Tag(label(name)?)),
            Some(("device", name)) => Ok(Self::Device(label(name)?)),
            Some(("host", name)) => Ok(Self::Host(label(name)?)),
            Some(("role", name)) => match name.parse() {
                Ok(role) => Ok(Self::Role(role)),
                Err(_) => Err(PartyTextError::Role),
            },
            Some(("idp", name)) => match is_directory_group(name) {
                true => Ok(Self::Directory(name.to_owned())),
                false => Err(PartyTextError::Directory),
            },
            _ if text.contains('@') => match is_email(text) {
                true => Ok(Self::Person(text.to_lowercase())),
                false => Err(PartyTextError::Email),
            },
            _ => Err(PartyTextError::Form),
        }
    }
}

fn is_directory_group(name: &str) -> bool {
    !name.is_empty() && name.len() <= WORD_MAX && !name.chars().any(char::is_control)
}

fn is_email(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    text.len() <= WORD_MAX
        && text
            .split_once('@')
            .is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty())
        && !text.chars().any(odd)
}

/// Bytes of an email (RFC 5321, section 4.5.3.1.3), and of the name of a provider's group.
const WORD_MAX: usize = 254;
