//! People of one organisation and of several: who may do what to whom, how they come in and how
//! they go.

use overlan_controller::{ResetError, recover_owner};
use overlan_protocol::api::{
    AuthKeyRequest, AuthKeySummary, Credential, DeviceSummary, DevicesOfPerson,
    InvitationAcceptRequest, InvitationInfo, InvitationLookRequest, InvitationRequest,
    InvitationResponse, InvitationState, InvitationSummary, LoginRequest, LoginResponse,
    NetworkSummary, OrganisationRequest, OrganisationSummary, PasswordResetRequest,
    PasswordResetResponse, PersonRemoved, PersonSummary, ProblemKind, RemovePersonRequest, Role,
    RoleRequest, SessionSummary, SessionsEnded, SetupResponse, SignUpRequest, path,
};
use overlan_protocol::key::Secret;
use overlan_protocol::netmap::Owner;
use overlan_transport::https::HttpsError;
use serde_json::{Value, json};

use crate::lab::{Device, EMAIL, Lab, PASSWORD, WITHIN, peer, refused};

const ANNA: &str = "anna@example.org";
const BEN: &str = "ben@example.org";
const ANOTHER: &str = "another battery, another horse";

async fn invited(lab: &Lab, by: &LoginResponse, email: &str, role: Role) -> InvitationResponse {
    try_invite(lab, by, email, role).await.unwrap()
}

async fn try_invite(
    lab: &Lab,
    by: &LoginResponse,
    email: &str,
    role: Role,
) -> Result<InvitationResponse, HttpsError> {
    let request = InvitationRequest {
        email: email.to_owned(),
        role,
        expires_in_secs: None,
    };
    let mut person = lab.person(by).await;
    person.post(path::INVITATIONS, &request, WITHIN).await
}

async fn accept(lab: &Lab, token: &Secret, password: &str) -> Result<LoginResponse, HttpsError> {
    let request = InvitationAcceptRequest {
        token: token.clone(),
        password: Secret::new(password),
    };
    let mut stranger = lab.connect().await;
    let accepted = stranger.post(path::INVITATION_ACCEPT, &request, WITHIN);
    accepted.await
}

/// A new person of the organisation, with an account of their own.
async fn joined(lab: &Lab, by: &LoginResponse, email: &str, role: Role) -> LoginResponse {
    let invitation = invited(lab, by, email, role).await;
    accept(lab, &invitation.token, PASSWORD).await.unwrap()
}

async fn people(lab: &Lab, by: &LoginResponse) -> Vec<PersonSummary> {
    lab.person(by)
        .await
        .get(path::PEOPLE, WITHIN)
        .await
        .unwrap()
}

async fn person(lab: &Lab, by: &LoginResponse, email: &str) -> PersonSummary {
    let people = people(lab, by).await;
    people.into_iter().find(|it| it.email == email).unwrap()
}

async fn set_role(lab: &Lab, by: &LoginResponse, id: u64, role: Role) -> Result<Value, HttpsError> {
    let path = format!("{}/{id}/role", path::PEOPLE);
    let mut person = lab.person(by).await;
    person.post(&path, &RoleRequest { role }, WITHIN).await
}

async fn remove(
    lab: &Lab,
    by: &LoginResponse,
    id: u64,
    devices: DevicesOfPerson,
) -> Result<PersonRemoved, HttpsError> {
    let path = format!("{}/{id}/remove", path::PEOPLE);
    let mut person = lab.person(by).await;
    person
        .post(&path, &RemovePersonRequest { devices }, WITHIN)
        .await
}

async fn login(
    lab: &Lab,
    email: &str,
    organisation: Option<&str>,
) -> Result<LoginResponse, HttpsError> {
    let request = LoginRequest {
        email: email.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: organisation.map(str::to_owned),
    };
    let mut connection = lab.connect().await;
    connection.post(path::LOGIN, &request, WITHIN).await
}

pub(crate) async fn signed_up(lab: &Lab, email: &str, organisation: &str) -> LoginResponse {
    try_sign_up(lab, email, organisation).await.unwrap().session
}

async fn try_sign_up(
    lab: &Lab,
    email: &str,
    organisation: &str,
) -> Result<SetupResponse, HttpsError> {
    let request = SignUpRequest {
        email: email.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: organisation.to_owned(),
        network: "lab".to_owned(),
    };
    let mut connection = lab.connect().await;
    connection.post(path::SIGN_UP, &request, WITHIN).await
}

async fn works(lab: &Lab, session: &LoginResponse) -> bool {
    let mut person = lab.person(session).await;
    let networks = person.get::<Vec<NetworkSummary>>(path::NETWORKS, WITHIN);
    networks.await.is_ok()
}

#[tokio::test]
async fn an_organisation_cannot_lose_its_last_owner() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let own = person(&lab, &owner, EMAIL).await;
    assert!(
        own.you && own.role == Role::Owner && own.logins == 1,
        "{own:?}"
    );
    for role in [Role::Admin, Role::Auditor, Role::Member] {
        let demoted = set_role(&lab, &owner, own.id, role).await;
        assert_eq!(refused(demoted), ProblemKind::Forbidden, "{role}");
    }
    let gone = remove(&lab, &owner, own.id, DevicesOfPerson::Keep).await;
    assert_eq!(refused(gone), ProblemKind::Forbidden);

    let anna = joined(&lab, &owner, ANNA, Role::Owner).await;
    set_role(&lab, &owner, own.id, Role::Admin).await.unwrap();
    let hers = person(&lab, &anna, ANNA).await;
    // The session of the former owner is that of an admin now.
    let risen = set_role(&lab, &owner, own.id, Role::Owner).await;
    assert_eq!(refused(risen), ProblemKind::Forbidden);
    let deposed = set_role(&lab, &owner, hers.id, Role::Member).await;
    assert_eq!(refused(deposed), ProblemKind::Forbidden);
    let thrown_out = remove(&lab, &owner, hers.id, DevicesOfPerson::Keep).await;
    assert_eq!(refused(thrown_out), ProblemKind::Forbidden);
    let last = remove(&lab, &anna, hers.id, DevicesOfPerson::Keep).await;
    assert_eq!(refused(last), ProblemKind::Forbidden);
}

#[tokio::test]
async fn an_invitation_makes_one_account_once() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let invitation = invited(&lab, &owner, "Anna@Example.org", Role::Auditor).await;
    let mut stranger = lab.connect().await;
    let look = InvitationLookRequest {
        token: invitation.token.clone(),
    };
    let info: InvitationInfo = stranger
        .post(path::INVITATION_LOOK, &look, WITHIN)
        .await
        .unwrap();
    assert_eq!((info.email.as_str(), info.role), (ANNA, Role::Auditor));
    assert_eq!(
        (info.organisation.as_str(), info.account),
        ("Example", false)
    );
    let weak = accept(&lab, &invitation.token, "too short").await;
    assert_eq!(refused(weak), ProblemKind::BadRequest);

    let racing = (0..4).map(|_| accept(&lab, &invitation.token, PASSWORD));
    let racing = futures_util::future::join_all(racing).await;
    let mut accepted: Vec<_> = racing.into_iter().flatten().collect();
    assert_eq!(accepted.len(), 1, "one of them wins");
    let anna = accepted.remove(0);
    assert_eq!(
        (anna.email.as_str(), anna.organisation.as_str()),
        (ANNA, "Example")
    );
    let hers = person(&lab, &owner, ANNA).await;
    assert_eq!(hers.role, Role::Auditor);
    let again = accept(&lab, &invitation.token, PASSWORD).await;
    assert_eq!(refused(again), ProblemKind::KeyUnknown);
    let twice = try_invite(&lab, &owner, ANNA, Role::Member).await;
    assert_eq!(refused(twice), ProblemKind::NameTaken);

    let revoked = invited(&lab, &owner, BEN, Role::Member).await;
    let mut connection = lab.person(&owner).await;
    let path = format!("{}/{}", path::INVITATIONS, revoked.summary.id);
    connection.delete(&path, WITHIN).await.unwrap();
    let refusal = accept(&lab, &revoked.token, PASSWORD).await;
    assert_eq!(refused(refusal), ProblemKind::KeyUnknown);
    let expired = invited(&lab, &owner, BEN, Role::Member).await;
    lab.sql("UPDATE invitations SET expires = 1 WHERE revoked IS NULL AND accepted IS NULL")
        .await;
    let refusal = accept(&lab, &expired.token, PASSWORD).await;
    assert_eq!(refused(refusal), ProblemKind::KeyUnknown);
    let known: Vec<InvitationSummary> = connection.get(path::INVITATIONS, WITHIN).await.unwrap();
    let state = |id: &str| known.iter().find(|it| it.id == id).unwrap().state;
    assert_eq!(state(&invitation.summary.id), InvitationState::Accepted);
    assert_eq!(state(&revoked.summary.id), InvitationState::Revoked);
    assert_eq!(state(&expired.summary.id), InvitationState::Expired);
    assert_eq!(known[0].by.as_deref(), Some(EMAIL));
}

#[tokio::test]
async fn an_invitation_gives_no_more_than_its_maker_may_give_when_it_is_accepted() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let anna = joined(&lab, &owner, ANNA, Role::Owner).await;
    let invitation = invited(&lab, &anna, BEN, Role::Owner).await;
    let hers = person(&lab, &owner, ANNA).await;
    set_role(&lab, &owner, hers.id, Role::Admin).await.unwrap();
    let refusal = accept(&lab, &invitation.token, PASSWORD).await;
    assert_eq!(refused(refusal), ProblemKind::KeyUnknown);
    let too_high = try_invite(&lab, &anna, BEN, Role::Owner).await;
    assert_eq!(refused(too_high), ProblemKind::Forbidden);
    let fitting = invited(&lab, &anna, BEN, Role::Member).await;
    remove(&lab, &owner, hers.id, DevicesOfPerson::Keep)
        .await
        .unwrap();
    let refusal = accept(&lab, &fitting.token, PASSWORD).await;
    assert_eq!(refused(refusal), ProblemKind::KeyUnknown);
}

#[tokio::test]
async fn an_account_joins_a_second_organisation_and_each_login_is_for_one() {
    let lab = Lab::start_with_sign_up().await;
    let owner = lab.set_up().await;
    let anna = signed_up(&lab, ANNA, "Other").await;
    let invitation = invited(&lab, &owner, ANNA, Role::Member).await;
    let wrong = accept(&lab, &invitation.token, ANOTHER).await;
    assert_eq!(refused(wrong), ProblemKind::WrongPassword);
    let second = accept(&lab, &invitation.token, PASSWORD).await.unwrap();
    assert_eq!(second.organisation, "Example");

    let unnamed = login(&lab, ANNA, None).await;
    assert_eq!(refused(unnamed), ProblemKind::ChooseOrganisation);
    let foreign = login(&lab, ANNA, Some("Elsewhere")).await;
    assert_eq!(refused(foreign), ProblemKind::ChooseOrganisation);
    let first = login(&lab, ANNA, Some("other")).await.unwrap();
    for (session, role, network) in [
        (&anna, Role::Owner, "lab"),
        (&first, Role::Owner, "lab"),
        (&second, Role::Member, "demo"),
    ] {
        let mut person = lab.person(session).await;
        let shown: Vec<NetworkSummary> = person.get(path::NETWORKS, WITHIN).await.unwrap();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].name, network);
        let shown = person.get::<OrganisationSummary>(path::ORGANISATION, WITHIN);
        if role == Role::Owner {
            assert_eq!(shown.await.unwrap().role, role);
        }
    }
    let mut person_of_both = lab.person(&anna).await;
    let sessions: Vec<SessionSummary> = person_of_both.get(path::SESSIONS, WITHIN).await.unwrap();
    let of_other = sessions.iter().filter(|it| it.organisation == "Other");
    assert_eq!((sessions.len(), of_other.count()), (3, 2));
    // An admin of one organisation sees and ends the logins to that one.
    let hers = person(&lab, &owner, ANNA).await;
    assert_eq!(hers.logins, 1);
    let path = format!("{}/{}/sessions", path::PEOPLE, hers.id);
    let mut connection = lab.person(&owner).await;
    let seen: Vec<SessionSummary> = connection.get(&path, WITHIN).await.unwrap();
    assert_eq!(seen.len(), 1);
    connection.delete(&path, WITHIN).await.unwrap();
    assert!(works(&lab, &anna).await && !works(&lab, &second).await);
    // Out of one, still in the other.
    let gone = remove(&lab, &owner, hers.id, DevicesOfPerson::Keep).await;
    assert!(!gone.unwrap().account_deleted);
    login(&lab, ANNA, None).await.unwrap();
}

#[tokio::test]
async fn sign_up_is_closed_unless_the_operator_opens_it() {
    let lab = Lab::start().await;
    lab.set_up().await;
    let closed = try_sign_up(&lab, ANNA, "Other").await;
    assert_eq!(refused(closed), ProblemKind::Forbidden);

    let lab = Lab::start_with_sign_up().await;
    let early = try_sign_up(&lab, ANNA, "Other").await;
    assert_eq!(
        refused(early),
        ProblemKind::Forbidden,
        "the operator comes first"
    );
    let owner = lab.set_up().await;
    let anna = signed_up(&lab, ANNA, "Other").await;
    assert_eq!(people(&lab, &anna).await.len(), 1);
    let key = lab.reusable_key(&anna).await;
    let device = lab.enrol(&key, "first").await;
    assert_eq!(device.enrolled().network, "lab");
    let mut other = lab.person(&owner).await;
    let devices: Vec<DeviceSummary> = other.get(path::DEVICES, WITHIN).await.unwrap();
    assert!(devices.is_empty(), "they are strangers");
    // Whoever has an account makes a further organisation by its password.
    signed_up(&lab, ANNA, "Third").await;
    let mut wrong = SignUpRequest {
        email: ANNA.to_owned(),
        password: Secret::new(ANOTHER),
        organisation: "Fourth".to_owned(),
        network: "lab".to_owned(),
    };
    let refusal = lab
        .connect()
        .await
        .post::<_, Value>(path::SIGN_UP, &wrong, WITHIN)
        .await;
    assert_eq!(refused(refusal), ProblemKind::WrongPassword);
    wrong.email = BEN.to_owned();
    wrong.password = Secret::new("too short");
    let refusal = lab
        .connect()
        .await
        .post::<_, Value>(path::SIGN_UP, &wrong, WITHIN)
        .await;
    assert_eq!(refused(refusal), ProblemKind::BadRequest);
}

#[tokio::test]
async fn people_of_another_organisation_are_not_there() {
    let lab = Lab::start_with_sign_up().await;
    let owner = lab.set_up().await;
    let anna = signed_up(&lab, ANNA, "Other").await;
    let foreign = person(&lab, &owner, EMAIL).await;
    let invitation = invited(&lab, &owner, BEN, Role::Member).await;
    let mut hers = lab.person(&anna).await;
    for (rest, body) in [
        ("role", json!({ "role": "member" })),
        ("remove", json!({ "devices": "remove" })),
        ("password-reset", json!({})),
    ] {
        let path = format!("{}/{}/{rest}", path::PEOPLE, foreign.id);
        let result = hers.post::<_, Value>(&path, &body, WITHIN).await;
        assert_eq!(refused(result), ProblemKind::NotFound, "{rest}");
    }
    let sessions = format!("{}/{}/sessions", path::PEOPLE, foreign.id);
    let listed = hers.get::<Value>(&sessions, WITHIN).await;
    assert_eq!(refused(listed), ProblemKind::NotFound);
    assert_eq!(
        refused(hers.delete(&sessions, WITHIN).await),
        ProblemKind::NotFound
    );
    let path = format!("{}/{}", path::INVITATIONS, invitation.summary.id);
    assert_eq!(
        refused(hers.delete(&path, WITHIN).await),
        ProblemKind::NotFound
    );
    let own = person(&lab, &anna, ANNA).await;
    let to_stranger = remove(&lab, &anna, own.id, DevicesOfPerson::HandTo(foreign.id)).await;
    assert_eq!(
        refused(to_stranger),
        ProblemKind::Forbidden,
        "she is the last owner"
    );
    assert!(works(&lab, &owner).await);
    for id in ["x", "-1", "99999999999999999999", "9223372036854775807"] {
        let path = format!("{}/{id}/role", path::PEOPLE);
        let body = json!({ "role": "member" });
        let result = hers.post::<_, Value>(&path, &body, WITHIN).await;
        assert_eq!(refused(result), ProblemKind::NotFound, "{id}");
    }
}

/// A person with a login, a key, a device by each, and another person's device that watches.
struct Leaving {
    lab: Lab,
    owner: LoginResponse,
    anna: LoginResponse,
    id: u64,
    by_login: Device,
    by_key: Device,
    key: String,
}

impl Leaving {
    async fn start() -> Self {
        let lab = Lab::start().await;
        let owner = lab.set_up().await;
        let anna = joined(&lab, &owner, ANNA, Role::Admin).await;
        let by_login = Device::new();
        let credential = Credential::Session(anna.session.clone());
        let by_login = by_login.enrol(&lab, credential, "laptop").await.unwrap();
        let request = AuthKeyRequest {
            reusable: true,
            ..AuthKeyRequest::default()
        };
        let made = lab.auth_key(&anna, request).await;
        let by_key = lab.enrol(&made.key, "server").await;
        lab.relay_token(&anna, "ams-1").await;
        let id = person(&lab, &owner, ANNA).await.id;
        Self {
            lab,
            owner,
            anna,
            id,
            by_login,
            by_key,
            key: made.summary.id,
        }
    }

    async fn devices(&self) -> Vec<String> {
        let mut owner = self.lab.person(&self.owner).await;
        let devices: Vec<DeviceSummary> = owner.get(path::DEVICES, WITHIN).await.unwrap();
        devices.into_iter().map(|device| device.label).collect()
    }
}

#[tokio::test]
async fn offboarding_ends_everything_that_the_person_could_come_back_by() {
    let leaving = Leaving::start().await;
    let Leaving {
        lab,
        owner,
        anna,
        id,
        ..
    } = &leaving;
    invited(lab, anna, BEN, Role::Member).await;
    let _online = leaving.by_key.stream(lab).await;
    let mut stream = leaving.by_login.stream(lab).await;
    stream.until_online("server", true).await;
    let removed = remove(lab, owner, *id, DevicesOfPerson::Remove)
        .await
        .unwrap();
    assert_eq!(removed.email, ANNA);
    assert_eq!(removed.logins, 1);
    assert_eq!(removed.auth_keys, std::slice::from_ref(&leaving.key));
    assert_eq!(removed.relay_tokens.len(), 1);
    assert_eq!(removed.invitations.len(), 1);
    assert_eq!(removed.devices_removed, ["laptop.demo"]);
    assert_eq!(removed.devices_by_keys, ["server.demo"]);
    assert_eq!(removed.still_connected, ["server.demo"]);
    assert!(removed.account_deleted);

    assert!(!works(lab, anna).await);
    assert_eq!(
        refused(login(lab, ANNA, None).await),
        ProblemKind::WrongPassword
    );
    assert_eq!(leaving.devices().await, ["server"]);
    let mut connection = lab.person(owner).await;
    let keys: Vec<AuthKeySummary> = connection.get(path::AUTH_KEYS, WITHIN).await.unwrap();
    assert!(keys.iter().all(|key| key.revoked));
    let again = remove(lab, owner, *id, DevicesOfPerson::Keep).await;
    assert_eq!(refused(again), ProblemKind::NotFound);
    while stream.next().await.is_some() {}
}

#[tokio::test]
async fn devices_stay_or_go_to_a_colleague_by_choice() {
    let leaving = Leaving::start().await;
    let Leaving { lab, owner, id, .. } = &leaving;
    let removed = remove(lab, owner, *id, DevicesOfPerson::Keep)
        .await
        .unwrap();
    assert_eq!(removed.devices_kept, ["laptop.demo"]);
    assert!(removed.still_connected.is_empty(), "{removed:?}");
    assert!(!removed.account_deleted, "the device names the person");
    assert_eq!(leaving.devices().await, ["laptop", "server"]);
    let out = login(lab, ANNA, None).await;
    assert_eq!(refused(out), ProblemKind::Forbidden, "in no organisation");

    let leaving = Leaving::start().await;
    let Leaving { lab, owner, id, .. } = &leaving;
    joined(lab, owner, BEN, Role::Member).await;
    let ben = person(lab, owner, BEN).await.id;
    let to_self = remove(lab, owner, *id, DevicesOfPerson::HandTo(*id)).await;
    assert_eq!(refused(to_self), ProblemKind::BadRequest);
    let mut watching = leaving.by_key.stream(lab).await;
    let handed = remove(lab, owner, *id, DevicesOfPerson::HandTo(ben)).await;
    assert_eq!(handed.unwrap().devices_handed, ["laptop.demo"]);
    watching
        .until("the new owner", |map| {
            peer(map, "laptop").is_some_and(|peer| peer.owner == Owner::Person(BEN.to_owned()))
        })
        .await;
    assert_eq!(person(lab, owner, BEN).await.devices, 1);
}

#[tokio::test]
async fn a_member_leaves_with_the_own_devices_and_the_last_owner_does_not() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let anna = joined(&lab, &owner, ANNA, Role::Member).await;
    let credential = Credential::Session(anna.session.clone());
    let laptop = Device::new().enrol(&lab, credential, "laptop").await;
    laptop.unwrap();
    let path = format!("{}/leave", path::ORGANISATION);
    let leave = async |session: &LoginResponse, devices: DevicesOfPerson| {
        let request = RemovePersonRequest { devices };
        let mut person = lab.person(session).await;
        person
            .post::<_, PersonRemoved>(&path, &request, WITHIN)
            .await
    };
    let kept = leave(&anna, DevicesOfPerson::Keep).await;
    assert_eq!(refused(kept), ProblemKind::BadRequest);
    let left = leave(&anna, DevicesOfPerson::Remove).await.unwrap();
    assert_eq!(left.devices_removed, ["laptop.demo"]);
    assert!(left.account_deleted && !works(&lab, &anna).await);
    assert_eq!(
        refused(leave(&owner, DevicesOfPerson::Remove).await),
        ProblemKind::Forbidden
    );
    assert_eq!(people(&lab, &owner).await.len(), 1);
}

#[tokio::test]
async fn a_lost_password_is_reset_once_by_whoever_manages_the_person() {
    let lab = Lab::start_with_sign_up().await;
    let owner = lab.set_up().await;
    let anna = joined(&lab, &owner, ANNA, Role::Admin).await;
    let ben = joined(&lab, &owner, BEN, Role::Member).await;
    let (own, his) = (
        person(&lab, &owner, EMAIL).await.id,
        person(&lab, &owner, BEN).await.id,
    );
    let reset = async |by: &LoginResponse, id: u64| {
        let path = format!("{}/{id}/password-reset", path::PEOPLE);
        let mut person = lab.person(by).await;
        person
            .post::<_, PasswordResetResponse>(&path, &json!({}), WITHIN)
            .await
    };
    assert_eq!(refused(reset(&anna, own).await), ProblemKind::Forbidden);
    let older = reset(&anna, his).await.unwrap();
    let newer = reset(&anna, his).await.unwrap();
    let set = async |token: &Secret, new: &str| {
        let request = PasswordResetRequest {
            token: token.clone(),
            new: Secret::new(new),
        };
        let mut stranger = lab.connect().await;
        stranger
            .post::<_, SessionsEnded>(path::PASSWORD_RESET, &request, WITHIN)
            .await
    };
    assert_eq!(
        refused(set(&older.token, ANOTHER).await),
        ProblemKind::KeyUnknown
    );
    assert_eq!(
        refused(set(&newer.token, "short").await),
        ProblemKind::BadRequest
    );
    assert_eq!(set(&newer.token, ANOTHER).await.unwrap().ended, 1);
    assert_eq!(
        refused(set(&newer.token, ANOTHER).await),
        ProblemKind::KeyUnknown
    );
    assert!(!works(&lab, &ben).await);
    let old = login(&lab, BEN, None).await;
    assert_eq!(refused(old), ProblemKind::WrongPassword);

    // Her password opens another organisation as well, and is not for this one to set.
    signed_up(&lab, ANNA, "Other").await;
    let hers = person(&lab, &owner, ANNA).await.id;
    assert_eq!(refused(reset(&owner, hers).await), ProblemKind::Forbidden);
}

#[tokio::test]
async fn guessed_tokens_are_slowed_down() {
    let lab = Lab::start().await;
    lab.set_up().await;
    let request = InvitationLookRequest {
        token: Secret::new("ovi_001122334455_guess"),
    };
    let mut refusals = Vec::new();
    for _ in 0..200 {
        let mut stranger = lab.connect().await;
        let look = stranger.post::<_, Value>(path::INVITATION_LOOK, &request, WITHIN);
        refusals.push(refused(look.await));
        if refusals.last() == Some(&ProblemKind::TooMany) {
            break;
        }
    }
    assert_eq!(refusals.last(), Some(&ProblemKind::TooMany));
    let guesses = refusals.len() - 1;
    assert!(
        refusals[..guesses]
            .iter()
            .all(|it| *it == ProblemKind::KeyUnknown)
    );
}

#[tokio::test]
async fn an_organisation_is_renamed_by_its_owner() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let mut connection = lab.person(&owner).await;
    let request = OrganisationRequest {
        name: " Acme Ltd ".to_owned(),
    };
    let renamed: OrganisationSummary = connection
        .post(path::ORGANISATION, &request, WITHIN)
        .await
        .unwrap();
    assert_eq!(renamed.name, "Acme Ltd");
    assert_eq!(renamed.owners, [EMAIL]);
    assert_eq!(
        (renamed.people, renamed.networks, renamed.devices),
        (1, 1, 0)
    );
    let request = OrganisationRequest {
        name: "two\nlines".to_owned(),
    };
    let refusal = connection
        .post::<_, Value>(path::ORGANISATION, &request, WITHIN)
        .await;
    assert_eq!(refused(refusal), ProblemKind::BadRequest);
    assert_eq!(
        login(&lab, EMAIL, None).await.unwrap().organisation,
        "Acme Ltd"
    );
}

#[tokio::test]
async fn a_locked_out_owner_comes_back_on_the_controllers_own_machine() {
    let lab = Lab::start_with_sign_up().await;
    let owner = lab.set_up().await;
    let anna = joined(&lab, &owner, ANNA, Role::Owner).await;
    // A thief of the owner's colleague throws the owner out.
    let own = person(&lab, &owner, EMAIL).await.id;
    remove(&lab, &anna, own, DevicesOfPerson::Keep)
        .await
        .unwrap();
    assert!(!works(&lab, &owner).await);
    let new = Secret::new(PASSWORD);
    let data_dir = lab.data_dir();
    let recovered = recover_owner(&data_dir, "Owner@Example.org", None, &new).await;
    let recovered = recovered.unwrap();
    assert!(recovered.is_new, "the account was gone, too");
    assert_eq!(recovered.organisation, "Example");
    let owner = login(&lab, EMAIL, None).await.unwrap();
    let hers = person(&lab, &owner, ANNA).await.id;
    set_role(&lab, &owner, hers, Role::Member).await.unwrap();

    signed_up(&lab, BEN, "Other").await;
    let which = recover_owner(&data_dir, ANNA, None, &new)
        .await
        .unwrap_err();
    assert!(matches!(which, ResetError::Organisation(_)), "{which}");
    assert!(
        which.to_string().contains("\"Other\" (number 2)"),
        "{which}"
    );
    let weak = recover_owner(&data_dir, ANNA, Some("1"), &Secret::new("short")).await;
    assert!(matches!(weak, Err(ResetError::Password(_))));
    let back = recover_owner(&data_dir, ANNA, Some("1"), &new)
        .await
        .unwrap();
    assert!(!back.is_new && back.ended == 1, "{back:?}");
    assert_eq!(person(&lab, &owner, ANNA).await.role, Role::Owner);
}
