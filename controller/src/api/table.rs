//! The table of all routes: method, path, who may call it, and the handler. Decides nothing else; a
//! new route is one line here.

use axum::http::Method;
use overlan_protocol::api::Permission::{
    AuthKeysRead, AuthKeysWrite, DevicesRead, DevicesWrite, DnsRead, DnsWrite,
    IdentityProviderRead, IdentityProviderWrite, InvitationsRead, InvitationsWrite, NetworksRead,
    NetworksWrite, OrganisationRead, OrganisationWrite, PeopleRead, PeopleWrite, PolicyRead,
    PolicyWrite, RelaysRead, RelaysWrite, RoutesRead, RoutesWrite, TrustRulesRead, TrustRulesWrite,
};
use overlan_protocol::api::path;

use super::endpoint::Access::{Anybody, Device, May, OwnAccount, Relay};
use super::endpoint::{Endpoint, below, delete, get, post};
use super::{
    api_tokens, auth_keys, certificates, closing, device, device_changes, device_networks, devices,
    dns, enrol, identity_provider, invitations, keys, login_requests, members, networks, openapi,
    organisations, people, policy, relay, relay_tokens, relays, resets, routes, sessions, setup,
    signup, sso, trust_rules,
};

/// Lists every route, those of people first.
pub(super) fn all() -> impl Iterator<Item = Endpoint> {
    [own(), people(), organisation(), policies(), machines()]
        .into_iter()
        .flatten()
}

/// The routes of a person's own account, and those before a login.
fn own() -> Vec<Endpoint> {
    let api_token = below(path::API_TOKENS, "{id}");
    vec![
        get(path::HEALTH, Anybody, setup::health),
        post(path::SETUP, Anybody, setup::setup),
        post(path::LOGIN, Anybody, sessions::login),
        get(path::OPENAPI, Anybody, openapi::read),
        get(path::NAMES_CA, Anybody, certificates::names_ca),
        post(path::PASSWORD, OwnAccount, sessions::change_password),
        delete(path::SESSION, OwnAccount, sessions::logout),
        get(path::SESSIONS, OwnAccount, sessions::list),
        delete(path::SESSIONS, OwnAccount, sessions::end_others),
        delete(below(path::SESSIONS, "{id}"), OwnAccount, sessions::end),
        get(path::API_TOKENS, OwnAccount, api_tokens::list),
        post(path::API_TOKENS, OwnAccount, api_tokens::make),
        delete(api_token, OwnAccount, api_tokens::revoke),
        post(path::PASSWORD_RESET, Anybody, resets::set),
        post(path::INVITATION_LOOK, Anybody, invitations::look),
        post(path::INVITATION_ACCEPT, Anybody, invitations::accept),
        post(path::SIGN_UP, Anybody, signup::sign_up),
        post(path::LOGIN_SSO, Anybody, sso::begin),
        Endpoint::bare(GET, path::SSO_START, Anybody, sso::start),
        Endpoint::bare(GET, path::SSO_GO, Anybody, sso::go),
        Endpoint::bare(GET, path::SSO_CALLBACK, Anybody, sso::callback),
        post(path::LOGIN_BEGIN, Anybody, login_requests::begin_by_code),
        post(path::LOGIN_POLL, Anybody, login_requests::poll),
        post(path::LOGIN_CANCEL, Anybody, login_requests::cancel),
        post(path::LOGIN_LOOK, OwnAccount, login_requests::look),
        post(path::LOGIN_APPROVE, OwnAccount, login_requests::approve),
        post(path::LOGIN_DENY, OwnAccount, login_requests::deny),
    ]
}

/// The routes of an organisation's people.
fn people() -> Vec<Endpoint> {
    let person = |rest: &str| format!("{}/{{id}}/{rest}", path::PEOPLE);
    let invitation = below(path::INVITATIONS, "{id}");
    let provider = path::IDENTITY_PROVIDER;
    vec![
        get(path::PEOPLE, May(PeopleRead), people::list),
        post(person("role"), May(PeopleWrite), people::set_role),
        post(person("remove"), May(PeopleWrite), people::remove),
        get(person("sessions"), May(PeopleRead), people::list_sessions),
        delete(person("sessions"), May(PeopleWrite), people::end_sessions),
        delete(
            person("sessions/{session}"),
            May(PeopleWrite),
            people::end_session,
        ),
        post(person("password-reset"), May(PeopleWrite), resets::make),
        get(
            path::ORGANISATION,
            May(OrganisationRead),
            organisations::show,
        ),
        post(
            path::ORGANISATION,
            May(OrganisationWrite),
            organisations::rename,
        ),
        post(
            path::ORGANISATION_DELETE,
            May(OrganisationWrite),
            closing::delete,
        ),
        post(
            below(path::ORGANISATION, "leave"),
            OwnAccount,
            people::leave,
        ),
        get(provider, May(IdentityProviderRead), identity_provider::show),
        post(provider, May(IdentityProviderWrite), identity_provider::set),
        delete(
            provider,
            May(IdentityProviderWrite),
            identity_provider::remove,
        ),
        post(
            below(provider, "test"),
            May(IdentityProviderRead),
            identity_provider::test,
        ),
        get(path::KEYS, May(OrganisationRead), keys::list),
        post(path::KEYS_ROTATE, May(OrganisationWrite), keys::rotate),
        get(path::INVITATIONS, May(InvitationsRead), invitations::list),
        post(path::INVITATIONS, May(InvitationsWrite), invitations::make),
        delete(invitation, May(InvitationsWrite), invitations::revoke),
    ]
}

/// The routes of what belongs to an organisation.
fn organisation() -> Vec<Endpoint> {
    let network = below(path::NETWORKS, "{label}");
    let members = below(&network, "devices");
    let device = below(path::DEVICES, "{id}");
    let of = |what: &str| below(&device, what);
    let approve = of("approve");
    let auth_key = below(path::AUTH_KEYS, "{id}");
    let trust_rule = below(path::TRUST_RULES, "{name}");
    let relay = below(path::RELAYS, "{name}");
    let relay_token = below(path::RELAY_TOKENS, "{id}");
    vec![
        get(path::NETWORKS, May(NetworksRead), networks::list),
        post(path::NETWORKS, May(NetworksWrite), networks::create),
        delete(&network, May(NetworksWrite), networks::remove),
        post(
            below(&network, "rename"),
            May(NetworksWrite),
            networks::rename,
        ),
        post(&members, May(DevicesWrite), members::add),
        delete(
            below(&members, "{id}"),
            May(DevicesWrite),
            members::take_out,
        ),
        get(path::DEVICES, May(DevicesRead), devices::list),
        get(&device, May(DevicesRead), devices::show),
        delete(&device, May(DevicesWrite), devices::remove),
        post(of("tags"), May(DevicesWrite), device_changes::tag),
        post(of("rename"), May(DevicesWrite), device_changes::rename),
        post(of("disable"), May(DevicesWrite), device_changes::disable),
        post(of("enable"), May(DevicesWrite), device_changes::enable),
        post(of("expire"), May(DevicesWrite), device_changes::expire),
        post(approve, May(DevicesWrite), devices::approve),
        get(path::ROUTES, May(RoutesRead), routes::list),
        post(path::ROUTES, May(RoutesWrite), routes::approve),
        get(path::AUTH_KEYS, May(AuthKeysRead), auth_keys::list),
        post(path::AUTH_KEYS, May(AuthKeysWrite), auth_keys::make),
        delete(auth_key, May(AuthKeysWrite), auth_keys::revoke),
        get(path::TRUST_RULES, May(TrustRulesRead), trust_rules::list),
        post(path::TRUST_RULES, May(TrustRulesWrite), trust_rules::make),
        delete(trust_rule, May(TrustRulesWrite), trust_rules::remove),
        post(
            path::TRUST_RULES_TEST,
            May(TrustRulesRead),
            trust_rules::test,
        ),
        get(path::RELAYS, May(RelaysRead), relays::list),
        delete(relay, May(RelaysWrite), relays::remove),
        get(path::RELAY_TOKENS, May(RelaysRead), relay_tokens::list),
        post(path::RELAY_TOKENS, May(RelaysWrite), relay_tokens::make),
        delete(relay_token, May(RelaysWrite), relay_tokens::revoke),
        get(path::DNS, May(DnsRead), dns::list),
        post(path::DNS_RECORDS, May(DnsWrite), dns::add_record),
        post(path::DNS_RECORDS_REMOVE, May(DnsWrite), dns::remove_records),
        post(path::DNS_ZONES, May(DnsWrite), dns::set_zone),
        post(path::DNS_ZONES_REMOVE, May(DnsWrite), dns::remove_zone),
    ]
}

/// The routes of the policies of networks.
fn policies() -> Vec<Endpoint> {
    let policy = below(path::NETWORKS, "{label}/policy");
    let history = below(&policy, "history");
    let numbered = below(&history, "{number}");
    let asks = |word| below(&policy, word);
    vec![
        post(asks("preview"), May(PolicyRead), policy::preview),
        post(asks("explain"), May(PolicyRead), policy::explain),
        post(asks("rollback"), May(PolicyWrite), policy::rollback),
        get(history, May(PolicyRead), policy::history),
        get(numbered, May(PolicyRead), policy::show_numbered),
        get(&policy, May(PolicyRead), policy::show),
        post(&policy, May(PolicyWrite), policy::set),
    ]
}

/// The routes of devices and relays, with a key, a token or proof of their own key.
fn machines() -> Vec<Endpoint> {
    let network = below(path::DEVICE_NETWORKS, "{label}");
    vec![
        Endpoint::bare(POST, path::ENROL, Anybody, enrol::enrol),
        Endpoint::bare(POST, path::DEVICE_TICKET, Device, device::ticket),
        Endpoint::bare(GET, path::DEVICE_NETMAP, Device, device::netmap),
        Endpoint::bare(POST, path::DEVICE_REPORT, Device, device::report),
        Endpoint::bare(POST, path::DEVICE_APPLIED, Device, device::applied),
        Endpoint::bare(DELETE, path::DEVICE, Device, device::remove),
        Endpoint::bare(POST, path::DEVICE_ROUTES, Device, routes::offer),
        Endpoint::bare(POST, path::DEVICE_CERTIFICATES, Device, certificates::issue),
        Endpoint::bare(GET, path::DEVICE_NETWORKS, Device, device_networks::choices),
        Endpoint::bare(POST, path::DEVICE_NETWORKS, Device, device_networks::join),
        Endpoint::bare(DELETE, &network, Device, device_networks::leave),
        Endpoint::bare(POST, path::RELAY_REGISTER, Anybody, relay::register),
        Endpoint::bare(POST, path::RELAY_HEARTBEAT, Relay, relay::heartbeat),
    ]
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const DELETE: Method = Method::DELETE;
