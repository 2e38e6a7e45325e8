//! Paths of the API. `GET` reads, `POST` changes, `PUT` replaces, `DELETE` removes.
//!
//! People and their programs call what is below `/api/v1`, devices and relays what is below `/v1`.
//! The controller's table of routes says who may call each of them.

/// GET: [`super::Health`]. No authentication.
pub const HEALTH: &str = "/api/v1/health";
/// GET: the OpenAPI 3.1 document of all that is below `/api/v1`. No authentication.
pub const OPENAPI: &str = "/api/v1/openapi.json";
/// POST [`super::SetupRequest`] → [`super::SetupResponse`]. Authenticated by the setup token in
/// the body.
pub const SETUP: &str = "/api/v1/setup";
/// POST [`super::LoginRequest`] → [`super::LoginResponse`]. With a device proof as well if a
/// device of the person asks.
pub const LOGIN: &str = "/api/v1/login";
/// POST [`super::LoginBeginRequest`] → [`super::LoginBegun`]. No authentication.
pub const LOGIN_BEGIN: &str = "/api/v1/login/begin";
/// POST [`super::LoginSecret`] → [`super::LoginPolled`]. Authenticated by the secret in the body.
pub const LOGIN_POLL: &str = "/api/v1/login/poll";
/// POST [`super::LoginSecret`] → `{}`: ends the request. Authenticated by the secret in the body.
pub const LOGIN_CANCEL: &str = "/api/v1/login/cancel";
/// POST [`super::LoginCode`] → [`super::LoginAsked`]. Session.
pub const LOGIN_LOOK: &str = "/api/v1/login/look";
/// POST [`super::LoginCode`] → [`super::LoginAsked`]: the machine that asked is logged in as the
/// person who grants it, to the organisation of the session.
pub const LOGIN_APPROVE: &str = "/api/v1/login/approve";
/// POST [`super::LoginCode`] → [`super::LoginAsked`]. Session.
pub const LOGIN_DENY: &str = "/api/v1/login/deny";
/// POST [`super::PasswordRequest`] → [`super::SessionsEnded`]. Session.
pub const PASSWORD: &str = "/api/v1/password";
/// DELETE: ends the session that asks.
pub const SESSION: &str = "/api/v1/session";
/// GET: list of [`super::SessionSummary`]; DELETE: ends all others → [`super::SessionsEnded`];
/// DELETE `/{id}`: ends one. Session.
pub const SESSIONS: &str = "/api/v1/sessions";
/// GET: list of [`super::ApiTokenSummary`]; POST [`super::ApiTokenRequest`] →
/// [`super::ApiTokenResponse`]; DELETE `/{id}`: revokes. Session.
pub const API_TOKENS: &str = "/api/v1/api-tokens";
/// GET: list of [`super::NetworkSummary`]; POST [`super::NetworkRequest`] →
/// [`super::NetworkSummary`]; DELETE `/{label}`: removes an empty one, with `?force` any but
/// the default one. Session.
///
/// POST `/{label}/rename` [`super::NetworkRename`] → [`super::NetworkSummary`].
///
/// POST `/{label}/devices` [`super::MemberRequest`] → [`super::MembershipSummary`]: puts a
/// device in; DELETE `/{label}/devices/{id}`: takes it out, so that it cannot come back by
/// itself.
///
/// Below `/{label}/policy`: GET [`super::PolicyDocument`], POST [`super::PolicyRequest`] →
/// [`super::PolicySet`]; GET `/history`: list of [`super::PolicyRevision`]; GET
/// `/history/{number}`: [`super::PolicyDocument`]; POST `/preview` [`super::PolicyText`] →
/// [`super::PolicyPreview`]; POST `/rollback` [`super::PolicyRollback`] → [`super::PolicySet`];
/// POST `/explain` [`super::ExplainRequest`] → [`super::Explanation`].
pub const NETWORKS: &str = "/api/v1/networks";
/// GET [`super::DeviceQuery`]: list of [`super::DeviceSummary`]; GET `/{id}`: one of them; DELETE
/// `/{id}`: removes a device for good → [`super::Removed`]; POST `/{id}/approve` `{}` → list of
/// [`super::MembershipSummary`]: lets a waiting device in. Session.
///
/// POST `/{id}/tags` [`super::TagRequest`], `/{id}/rename` [`super::DeviceRename`],
/// `/{id}/disable` `{}`, `/{id}/enable` `{}`, `/{id}/expire` [`super::DeviceExpiry`] →
/// [`super::DeviceSummary`].
pub const DEVICES: &str = "/api/v1/devices";
/// POST [`super::AuthKeyRequest`] → [`super::AuthKeyResponse`]; GET: list of
/// [`super::AuthKeySummary`]; DELETE `/{id}`: revokes. Session.
pub const AUTH_KEYS: &str = "/api/v1/auth-keys";
/// POST [`super::TrustRuleRequest`] → [`super::TrustRuleSummary`]; GET: list of
/// [`super::TrustRuleSummary`]; DELETE `/{name}`: removes a rule. Session.
pub const TRUST_RULES: &str = "/api/v1/trust-rules";
/// POST [`super::TokenTestRequest`] → [`super::TokenTestResponse`]. Session.
pub const TRUST_RULES_TEST: &str = "/api/v1/trust-rules-test";
/// GET: [`super::IdentityProviderState`]; POST [`super::IdentityProviderRequest`] →
/// [`super::IdentityProviderState`]; DELETE: removes it. POST `/test` `{}` →
/// [`super::IdentityProviderTest`]. Session.
pub const IDENTITY_PROVIDER: &str = "/api/v1/identity-provider";
/// POST [`super::SingleSignOnRequest`] → [`super::SingleSignOnResponse`]. No authentication.
pub const LOGIN_SSO: &str = "/api/v1/login/sso";
/// GET `?ticket=…`: the page that a person opens to log in by an identity provider.
pub const SSO_START: &str = "/sso/start";
/// GET: sends the browser of that page on to the provider.
pub const SSO_GO: &str = "/sso/go";
/// GET: the address to which the provider sends the browser back.
pub const SSO_CALLBACK: &str = "/sso/callback";
/// POST [`super::RelayTokenRequest`] → [`super::RelayTokenResponse`]; GET: list of
/// [`super::RelayTokenSummary`]; DELETE `/{id}`: revokes. Session.
pub const RELAY_TOKENS: &str = "/api/v1/relay-tokens";
/// GET: list of [`super::RelaySummary`]; DELETE `/{name}`: removes a relay for good. Session.
pub const RELAYS: &str = "/api/v1/relays";
/// GET `?network=<label>`: [`crate::api::dns::DnsSummary`]; without a network that of the
/// default one. Session.
pub const DNS: &str = "/api/v1/dns";
/// POST [`crate::api::dns::DnsRecordRequest`] → [`crate::api::dns::DnsRecordSummary`]. Session.
pub const DNS_RECORDS: &str = "/api/v1/dns/records";
/// POST [`crate::api::dns::DnsRecordRemoval`] → [`crate::api::dns::DnsRemoved`]. Session.
pub const DNS_RECORDS_REMOVE: &str = "/api/v1/dns/records/remove";
/// POST [`crate::api::dns::DnsZoneRequest`] → [`crate::api::dns::DnsZoneSummary`]. Session.
pub const DNS_ZONES: &str = "/api/v1/dns/zones";
/// POST [`crate::api::dns::DnsZoneRemoval`] → [`crate::api::dns::DnsRemoved`]. Session.
pub const DNS_ZONES_REMOVE: &str = "/api/v1/dns/zones/remove";
/// GET: list of [`super::PersonSummary`]; POST `/{id}/role` [`super::RoleRequest`] →
/// [`super::RoleSet`];
/// POST `/{id}/remove` [`super::RemovePersonRequest`] → [`super::PersonRemoved`]. GET
/// `/{id}/sessions`: list of [`super::SessionSummary`]; DELETE: ends all of them; DELETE
/// `/{id}/sessions/{session}`: ends one. POST `/{id}/password-reset` `{}` →
/// [`super::PasswordResetResponse`]. Session.
pub const PEOPLE: &str = "/api/v1/people";
/// GET: [`super::OrganisationSummary`]; POST [`super::OrganisationRequest`] →
/// [`super::OrganisationSummary`]; POST `/leave`
/// [`super::RemovePersonRequest`] → [`super::PersonRemoved`]: the person who asks leaves it.
/// Session.
pub const ORGANISATION: &str = "/api/v1/organisation";
/// POST [`super::OrganisationDelete`] → [`super::OrganisationDeleted`]. Session of an owner.
pub const ORGANISATION_DELETE: &str = "/api/v1/organisation/delete";
/// GET: list of [`super::DeploymentKeySummary`]. Session of the operator's organisation.
pub const KEYS: &str = "/api/v1/keys";
/// POST [`super::RotateRequest`] → [`super::DeploymentKeySummary`]. Session of an owner of the
/// operator's organisation.
pub const KEYS_ROTATE: &str = "/api/v1/keys/rotate";
/// GET: list of [`super::InvitationSummary`]; POST [`super::InvitationRequest`] →
/// [`super::InvitationResponse`]; DELETE `/{id}`: revokes. Session.
pub const INVITATIONS: &str = "/api/v1/invitations";
/// POST [`super::InvitationLookRequest`] → [`super::InvitationInfo`]. Authenticated by the
/// token in the body.
pub const INVITATION_LOOK: &str = "/api/v1/invitation/look";
/// POST [`super::InvitationAcceptRequest`] → [`super::LoginResponse`]. Authenticated by the
/// token and the password in the body; with a device proof as well if a device of the person
/// asks.
pub const INVITATION_ACCEPT: &str = "/api/v1/invitation/accept";
/// POST [`super::PasswordResetRequest`] → [`super::SessionsEnded`]. Authenticated by the token
/// in the body.
pub const PASSWORD_RESET: &str = "/api/v1/password/reset";
/// POST [`super::SignUpRequest`] → [`super::SetupResponse`]. No authentication.
pub const SIGN_UP: &str = "/api/v1/sign-up";
/// POST [`super::EnrolRequest`] → [`super::EnrolResponse`]. Authenticated by the credential in
/// the body.
pub const ENROL: &str = "/v1/enrol";
/// POST `{}` → [`super::TicketResponse`]. Device proof.
pub const DEVICE_TICKET: &str = "/v1/device/ticket";
/// GET: an endless stream of lines, each a [`crate::netmap::MapEvent`];
/// `?since=<version>&lineage=<lineage>` asks for deltas from there. Device proof. While the
/// stream is open the device counts as online.
pub const DEVICE_NETMAP: &str = "/v1/device/netmap";
/// POST [`super::DeviceReport`] → `{}`. Device proof.
pub const DEVICE_REPORT: &str = "/v1/device/report";
/// POST [`super::Confirmation`] → `{}`: the device has applied that version of its netmap, as
/// [`crate::netmap::Delta::confirm`] asks. Device proof.
pub const DEVICE_APPLIED: &str = "/v1/device/applied";
/// DELETE: removes the device that asks. Device proof.
pub const DEVICE: &str = "/v1/device";
/// POST [`super::OfferRequest`] → list of [`super::RouteSummary`]. Device proof.
pub const DEVICE_ROUTES: &str = "/v1/device/routes";
/// GET: list of [`super::RouteSummary`]; POST [`super::ApproveRequest`] →
/// [`super::RouteSummary`]. Session.
pub const ROUTES: &str = "/api/v1/routes";
/// GET: list of [`super::NetworkChoice`]; POST [`super::JoinRequest`] →
/// [`super::MembershipSummary`]; DELETE `/{label}`: the device leaves. Device proof.
pub const DEVICE_NETWORKS: &str = "/v1/device/networks";
/// POST [`super::CertificateRequest`] → [`super::CertificateResponse`]. Device proof.
pub const DEVICE_CERTIFICATES: &str = "/v1/device/certificates";
/// GET: [`super::NamesCaResponse`]. No authentication.
pub const NAMES_CA: &str = "/api/v1/names-ca";
/// POST [`super::RelayRegisterRequest`] → [`super::RelayRegisterResponse`]. Authenticated by
/// the relay token in the body.
pub const RELAY_REGISTER: &str = "/v1/relay/register";
/// POST [`super::RelayHeartbeat`] → [`super::RelayOrders`]. Relay proof.
pub const RELAY_HEARTBEAT: &str = "/v1/relay/heartbeat";
