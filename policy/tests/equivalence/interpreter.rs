//! The meaning of a policy in its plainest form: each question goes through every rule, and each
//! word is looked up. Slow, short, and written without a look at the compiler.

use overlan_policy::{Document, Party, Rule, World, WorldDevice, WorldPerson};
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{Protocol, RuleId};

use super::random::{self, NOW};

/// The first rule that allows it.
pub(super) fn rule<'d>(
    document: &'d Document,
    world: &World,
    (from, to): (&WorldDevice, &WorldDevice),
    asked: (Protocol, u16),
) -> Option<&'d RuleId> {
    let mut live = document.rules.iter().filter(|rule| is_live(rule));
    let allows = |rule: &&Rule| {
        leads(document, world, rule, from, to)
            && rule.services.iter().any(|it| it.matches(asked.0, asked.1))
    };
    live.find(allows).map(|rule| &rule.id)
}

/// True if a rule lets it open that port of that host.
pub(super) fn host_rule(
    document: &Document,
    world: &World,
    from: &WorldDevice,
    host: &str,
    port: u16,
) -> bool {
    document.rules.iter().any(|rule| {
        is_live(rule)
            && dials(document, world, rule, from)
            && rule
                .services
                .iter()
                .any(|it| it.matches(Protocol::Tcp, port))
            && rule.to.iter().any(|party| match party {
                Party::Hosts => true,
                Party::Host(name) => {
                    let mut routes = document.hosts[name].iter();
                    routes.any(|route| route.covers_host(random::host(host)))
                }
                _ => false,
            })
    })
}

/// True if one of them may dial the other, or a host through it.
pub(super) fn sees(
    document: &Document,
    world: &World,
    one: &WorldDevice,
    other: &WorldDevice,
) -> bool {
    let reaches = |from: &WorldDevice, to: &WorldDevice| {
        document.rules.iter().any(|rule| {
            is_live(rule)
                && (leads(document, world, rule, from, to)
                    || dials(document, world, rule, from) && leads_out(document, rule, to))
        })
    };
    reaches(one, other) || reaches(other, one)
}

/// True if the only test is true of all devices that its words mean.
pub(super) fn test_holds(document: &Document, world: &World) -> bool {
    let test = &document.tests[0];
    let pairs = || {
        let from = world
            .devices
            .iter()
            .filter(|it| means(document, world, &test.from, it));
        from.flat_map(|from| {
            let others = world.devices.iter().filter(move |it| it.host != from.host);
            others.map(move |to| (from, to))
        })
    };
    let meant = |(from, to): &(&WorldDevice, &WorldDevice)| match test.to {
        Party::Own => is_same_person(world, from, to),
        _ => means(document, world, &test.to, to),
    };
    pairs().filter(meant).all(|pair| {
        let reached = |service: &overlan_protocol::policy::Service| {
            let (first, last) = service.ports.unwrap_or((1, 65_535));
            let protocol = service.protocol.unwrap_or(Protocol::Tcp);
            [first, last].map(|port| rule(document, world, pair, (protocol, port)).is_some())
        };
        let all = test.allow.iter().all(|it| reached(it) == [true, true]);
        let none = test.deny.iter().all(|it| reached(it) == [false, false]);
        all && none
    })
}

/// True if both are devices of one person.
pub(super) fn is_same_person(world: &World, one: &WorldDevice, other: &WorldDevice) -> bool {
    let (one, other) = (person(world, one), person(world, other));
    one.is_some() && one == other
}

fn is_live(rule: &Rule) -> bool {
    rule.until.is_none_or(|until| until > NOW)
}

fn leads(
    document: &Document,
    world: &World,
    rule: &Rule,
    from: &WorldDevice,
    to: &WorldDevice,
) -> bool {
    dials(document, world, rule, from)
        && rule.to.iter().any(|party| match party {
            Party::Own => is_same_person(world, from, to),
            party => means(document, world, party, to),
        })
}

fn dials(document: &Document, world: &World, rule: &Rule, from: &WorldDevice) -> bool {
    rule.from
        .iter()
        .any(|party| means(document, world, party, from))
}

/// True if some host of the rule is one that the device leads to.
fn leads_out(document: &Document, rule: &Rule, gateway: &WorldDevice) -> bool {
    let meets = |one: &GatewayRoute, other: &GatewayRoute| {
        one.includes_hosts_of(other) || other.includes_hosts_of(one)
    };
    gateway.routes.iter().any(|route| {
        rule.to.iter().any(|party| match party {
            Party::Hosts => true,
            Party::Host(name) => document.hosts[name].iter().any(|host| meets(host, route)),
            _ => false,
        })
    })
}

fn person<'w>(world: &'w World, device: &WorldDevice) -> Option<&'w WorldPerson> {
    let email = device.owner.as_ref().filter(|_| device.tags.is_empty())?;
    world.people.iter().find(|person| person.email == *email)
}

fn means(document: &Document, world: &World, party: &Party, device: &WorldDevice) -> bool {
    match party {
        Party::Any => true,
        Party::Tagged => !device.tags.is_empty(),
        Party::Tag(tag) => device.tags.contains(tag),
        Party::Device(label) => device.label == *label,
        Party::Own | Party::Host(_) | Party::Hosts => false,
        people => person(world, device).is_some_and(|person| is(document, people, person)),
    }
}

fn is(document: &Document, people: &Party, person: &WorldPerson) -> bool {
    match people {
        Party::Members => true,
        Party::Person(email) => person.email == *email,
        Party::Role(role) => person.role == *role,
        Party::Directory(group) => person.groups.contains(group),
        Party::Group(name) => document.groups[name]
            .iter()
            .any(|it| is(document, it, person)),
        _ => false,
    }
}
