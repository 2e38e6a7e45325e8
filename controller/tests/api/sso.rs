//! Logins by an identity provider, from its settings to the end of a group there.

use overlan_protocol::api::{
    Credential, IdentityProviderRequest, IdentityProviderState, IdentityProviderTest,
    InvitationRequest, InvitationResponse, LoginBeginRequest, LoginPolled, LoginResponse,
    LoginSecret, PersonSummary, PolicyRequest, PolicySet, ProblemKind, Role, SingleSignOnRequest,
    SingleSignOnResponse, path,
};
use overlan_protocol::key::Secret;
use overlan_transport::https::HttpsError;
use serde_json::{Value, json};

use crate::lab::{Device, EMAIL, Lab, WITHIN, peer, refused};
use crate::provider::{Browser, CLIENT, Message, Provider, SECRET};
use crate::tenants::{colleague, second_tenant};

const ANA: &str = "ana@example.org";

/// A deployment with one organisation that has an identity provider.
struct Signed {
    lab: Lab,
    owner: LoginResponse,
    provider: Provider,
}

impl Signed {
    async fn start() -> Self {
        let lab = Lab::start().await;
        let owner = lab.set_up().await;
        let provider = Provider::start();
        let signed = Self {
            lab,
            owner,
            provider,
        };
        signed.set(&["example.org"]).await.unwrap();
        signed
    }

    fn request(&self, domains: &[&str]) -> IdentityProviderRequest {
        IdentityProviderRequest {
            issuer: self.provider.url.clone(),
            client_id: CLIENT.to_owned(),
            client_secret: Some(Secret::new(SECRET)),
            domains: domains.iter().map(ToString::to_string).collect(),
            groups_claim: String::new(),
            issuer_ca: Some(self.provider.ca.clone()),
        }
    }

    async fn set(&self, domains: &[&str]) -> Result<IdentityProviderState, HttpsError> {
        let request = self.request(domains);
        let mut owner = self.lab.person(&self.owner).await;
        owner.post(path::IDENTITY_PROVIDER, &request, WITHIN).await
    }

    async fn begin(&self) -> SingleSignOnResponse {
        begin(&self.lab, None).await.unwrap()
    }

    async fn poll(&self, begun: &SingleSignOnResponse) -> LoginPolled {
        let secret = begun.request.secret.clone();
        let mut stranger = self.lab.connect().await;
        let request = LoginSecret { secret };
        let polled = stranger.post(path::LOGIN_POLL, &request, WITHIN).await;
        polled.unwrap()
    }

    /// Goes to the provider and back with a browser; returns the last page.
    async fn browse(&self, begun: &SingleSignOnResponse) -> Message {
        let mut browser = Browser::new(&self.lab.join, &self.provider);
        let (url, code) = (begun.url.clone(), begun.request.code.clone());
        aside(move || {
            let page = browser.open(&url);
            assert!(page.body.contains(&code), "{page:?}");
            browser.follow(&page)
        })
        .await
    }

    /// Goes to the provider with a browser, and not back: returns the page that it came by, and the
    /// address to which the provider sends it.
    async fn away(&self, begun: &SingleSignOnResponse) -> (Browser, Message, String) {
        let mut browser = Browser::new(&self.lab.join, &self.provider);
        let url = begun.url.clone();
        aside(move || {
            let page = browser.open(&url);
            let callback = browser.to_callback(&page);
            (browser, page, callback)
        })
        .await
    }

    /// The whole login, which succeeds.
    async fn log_in(&self) -> LoginResponse {
        let begun = self.begin().await;
        let page = self.browse(&begun).await;
        assert_eq!(page.status(), 200, "{page:?}");
        let polled = self.poll(&begun).await;
        let LoginPolled::Approved { login } = polled else {
            panic!("{polled:?}");
        };
        login
    }

    /// A login that is refused: returns the reason that the program is told.
    async fn refused(&self) -> String {
        let begun = self.begin().await;
        let page = self.browse(&begun).await;
        assert!(page.status() >= 400, "{page:?}");
        let polled = self.poll(&begun).await;
        let LoginPolled::Denied { reason } = polled else {
            panic!("{polled:?}");
        };
        reason
    }

    async fn people(&self) -> Vec<PersonSummary> {
        let mut owner = self.lab.person(&self.owner).await;
        owner.get(path::PEOPLE, WITHIN).await.unwrap()
    }

    async fn invite(&self, email: &str, role: Role) {
        let request = InvitationRequest {
            email: email.to_owned(),
            role,
            expires_in_secs: None,
        };
        let mut owner = self.lab.person(&self.owner).await;
        let made = owner.post(path::INVITATIONS, &request, WITHIN).await;
        let _: InvitationResponse = made.unwrap();
    }
}

/// Runs what blocks, so that the controller of this process goes on.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn begin(lab: &Lab, organisation: Option<&str>) -> Result<SingleSignOnResponse, HttpsError> {
    let request = SingleSignOnRequest {
        asker: LoginBeginRequest {
            program: "overlan login".to_owned(),
            host: "laptop".to_owned(),
        },
        organisation: organisation.map(str::to_owned),
    };
    let mut stranger = lab.connect().await;
    stranger.post(path::LOGIN_SSO, &request, WITHIN).await
}

#[tokio::test]
async fn a_person_logs_in_by_the_provider_and_stays_the_same_person() {
    let signed = Signed::start().await;
    let begun = signed.begin().await;
    let waiting = signed.poll(&begun).await;
    assert!(matches!(waiting, LoginPolled::Pending { .. }));
    let page = signed.browse(&begun).await;
    assert_eq!(page.status(), 200, "{page:?}");
    assert!(page.body.contains("You may close this window"), "{page:?}");
    let polled = signed.poll(&begun).await;
    let LoginPolled::Approved { login } = polled else {
        panic!("{polled:?}");
    };
    assert_eq!(login.email, ANA);
    assert_eq!(login.organisation, "Example");
    let ana = signed.people().await.into_iter().find(|it| it.email == ANA);
    assert_eq!(ana.as_ref().unwrap().role, Role::Member);

    // A new key at the provider, and another email: the subject is the same person.
    signed.provider.rotate();
    signed.provider.known().person["email"] = json!("ana.maria@example.org");
    let again = signed.log_in().await;
    assert_eq!(again.email, ANA);
    assert_eq!(signed.people().await.len(), 2);
    let asked = std::mem::take(&mut signed.provider.known().asked);
    let documents = asked.iter().filter(|path| path.contains("well-known"));
    assert!(documents.count() <= 3, "{asked:?}");
    // Neither secret nor tokens can be read in the database.
    let sealed = "SELECT count(*) || '' FROM identity_providers
                  WHERE instr(client_secret, CAST('the secret' AS BLOB)) > 0";
    assert_eq!(signed.lab.texts(sealed).await, ["0"]);
}

#[tokio::test]
async fn tokens_that_name_nobody_are_refused_with_the_claim() {
    let signed = Signed::start().await;
    for (twisted, reason) in [
        (
            json!({"nonce": "another"}),
            "claim nonce is not that of this login",
        ),
        (json!({"aud": "another"}), "claim aud is \"another\""),
        (json!({"azp": "another"}), "claim azp is \"another\""),
        (json!({"iss": "https://evil.example"}), "claim iss is"),
        (json!({"exp": 1_000}), "claim exp: the token expired"),
        (json!({"sub": ""}), "claim sub"),
        (
            json!({"email_verified": false}),
            "does not say that an email is verified",
        ),
        (
            json!({"email": "eve@elsewhere.example"}),
            "in none of the domains",
        ),
    ] {
        signed.provider.known().twisted = twisted;
        let told = signed.refused().await;
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(signed.people().await.len(), 1, "nobody came in");
    // An issuer that is mixed up with another one.
    signed.provider.known().twisted = json!({});
    signed.provider.known().answers_as = Some("https://evil.example".to_owned());
    let told = signed.refused().await;
    assert!(told.contains("another issuer answered"), "{told}");
    signed.provider.known().answers_as = None;
    signed.log_in().await;
}

#[tokio::test]
async fn a_login_is_good_once_and_in_one_browser() {
    let signed = Signed::start().await;
    let begun = signed.begin().await;
    let (browser, page, callback) = signed.away(&begun).await;
    let pages = aside({
        let mut other = browser.clone();
        let (browser, callback) = (browser.clone(), callback.clone());
        let link = browser.link(&page);
        move || {
            other.cookie = None;
            let without_cookie = other.get(&callback);
            let skipped = other.get(&link);
            other.cookie = Some(format!("__Host-overlan-login={}", "a".repeat(43)));
            let other_browser = other.get(&callback);
            let other_link = other.get(&link);
            let state = callback.split("state=").nth(1).unwrap();
            let state = state.split('&').next().unwrap();
            let wrong_state = browser.get(&callback.replace(state, "wrong"));
            let right = browser.get(&callback);
            let replayed = browser.get(&callback);
            let all = [
                without_cookie,
                skipped,
                other_browser,
                other_link,
                wrong_state,
                right,
                replayed,
            ];
            all.map(|page| page.status())
        }
    });
    assert_eq!(pages.await, [400, 400, 400, 400, 400, 200, 400]);
    let polled = signed.poll(&begun).await;
    assert!(matches!(polled, LoginPolled::Approved { .. }), "{polled:?}");
}

#[tokio::test]
async fn a_code_is_worth_nothing_without_its_verifier_and_only_once() {
    let signed = Signed::start().await;
    // The verifier of this login does not fit the challenge that the provider saw.
    let begun = signed.begin().await;
    let (mut browser, _, callback) = signed.away(&begun).await;
    signed
        .lab
        .sql("UPDATE sign_ons SET verifier = 'another'")
        .await;
    let page = aside({
        let (browser, callback) = (browser.clone(), callback.clone());
        move || browser.get(&callback)
    });
    assert_eq!(page.await.status(), 403);
    let polled = signed.poll(&begun).await;
    assert!(matches!(polled, LoginPolled::Denied { .. }), "{polled:?}");
    assert_eq!(signed.provider.known().refused, ["another verifier"]);

    // The code of one login in another one.
    let begun = signed.begin().await;
    let url = begun.url.clone();
    let used = callback.split("code=").nth(1).unwrap();
    let used = used.split('&').next().unwrap().to_owned();
    let page = aside(move || {
        let page = browser.open(&url);
        let fresh = browser.to_callback(&page);
        let code = fresh.split("code=").nth(1).unwrap();
        let code = code.split('&').next().unwrap().to_owned();
        browser.get(&fresh.replace(&code, &used))
    });
    assert_eq!(page.await.status(), 403);
    let refused = signed.provider.known().refused.clone();
    assert_eq!(refused, ["another verifier", "unknown code"]);
}

#[tokio::test]
async fn an_email_leads_to_an_account_of_this_organisation_alone() {
    let signed = Signed::start().await;
    // The account of another organisation.
    let foreign = second_tenant(&signed.lab).await;
    signed.provider.known().person["email"] = json!(foreign.email);
    signed.set(&["example.org", "example.com"]).await.unwrap();
    let told = signed.refused().await;
    assert!(
        told.contains("an account in another organisation"),
        "{told}"
    );

    // A colleague with a password is bound at the first login, and to one subject only.
    let member = colleague(&signed.lab, Role::Auditor).await;
    signed.provider.known().person["email"] = json!(member.email);
    signed.set(&[]).await.unwrap();
    let login = signed.log_in().await;
    assert_eq!(login.email, member.email);
    signed.provider.known().person["sub"] = json!("u-8");
    let told = signed.refused().await;
    assert!(told.contains("bound to another person"), "{told}");

    // Without domains only invited people come in, with the role of the invitation.
    signed.provider.known().person["email"] = json!("ben@example.org");
    let told = signed.refused().await;
    assert!(told.contains("has no open invitation"), "{told}");
    signed.invite("ben@example.org", Role::Admin).await;
    signed.log_in().await;
    let people = signed.people().await;
    let ben = people.iter().find(|it| it.email == "ben@example.org");
    assert_eq!(ben.unwrap().role, Role::Admin);
    let owner = people.iter().find(|it| it.email == EMAIL).unwrap();
    assert_eq!(owner.role, Role::Owner);
}

#[tokio::test]
async fn a_provider_that_is_down_or_unknown_says_so() {
    let signed = Signed::start().await;
    let mut owner = signed.lab.person(&signed.owner).await;
    let test = format!("{}/test", path::IDENTITY_PROVIDER);
    let found = owner.post(&test, &json!({}), WITHIN).await;
    let found: IdentityProviderTest = found.unwrap();
    assert_eq!(
        found.scopes,
        ["openid", "email", "groups", "offline_access"]
    );
    assert_eq!(found.warnings, [""; 0]);
    signed.provider.known().is_down = true;
    signed
        .lab
        .sql("UPDATE identity_providers SET issuer = issuer || '/x'")
        .await;
    let down: Result<Value, _> = owner.post(&test, &json!({}), WITHIN).await;
    assert_eq!(refused(down), ProblemKind::IssuerUnreachable);

    let unknown = begin(&signed.lab, Some("Nobody")).await;
    assert_eq!(refused(unknown), ProblemKind::NotFound);
    begin(&signed.lab, Some(" example ")).await.unwrap();
    begin(&signed.lab, Some("1")).await.unwrap();
    owner.delete(path::IDENTITY_PROVIDER, WITHIN).await.unwrap();
    assert_eq!(
        refused(begin(&signed.lab, None).await),
        ProblemKind::NotFound
    );
    let state: IdentityProviderState = owner.get(path::IDENTITY_PROVIDER, WITHIN).await.unwrap();
    assert_eq!(state.provider, None);
    assert!(state.redirect_uri.ends_with("/sso/callback"), "{state:?}");

    // A secret is needed once for each client.
    let mut request = signed.request(&[]);
    request.client_secret = None;
    let bare: Result<Value, _> = owner.post(path::IDENTITY_PROVIDER, &request, WITHIN).await;
    assert_eq!(refused(bare), ProblemKind::BadRequest);
    signed.set(&[]).await.unwrap();
    let same: Result<Value, _> = owner.post(path::IDENTITY_PROVIDER, &request, WITHIN).await;
    same.unwrap();
}

#[tokio::test]
async fn a_lost_group_cuts_reach_and_a_revoked_login_ends() {
    let signed = Signed::start().await;
    let login = signed.log_in().await;
    let session = Credential::Session(login.session.clone());
    let laptop = Device::new().enrol(&signed.lab, session, "laptop").await;
    let laptop = laptop.unwrap();
    let key = signed.lab.reusable_key(&signed.owner).await;
    signed.lab.enrol(&key, "db").await;
    let mut owner = signed.lab.person(&signed.owner).await;
    let policy = PolicyRequest {
        text: "[[rules]]\nid = 'eng'\nfrom = 'idp:engineers'\nto = 'any'\nservices = 'any'\n"
            .to_owned(),
        ..serde_json::from_value(json!({"text": ""})).unwrap()
    };
    let path = format!("{}/demo/policy", path::NETWORKS);
    let _: PolicySet = owner.post(&path, &policy, WITHIN).await.unwrap();
    let mut stream = laptop.stream(&signed.lab).await;
    let sees_db = |map: &overlan_protocol::netmap::Netmap| peer(map, "db").is_some();
    stream.until("an engineer sees the database", sees_db).await;

    // Refresh tokens are used once, so many of them came and went meanwhile.
    signed.provider.known().person["groups"] = json!(["cooks"]);
    let blind = |map: &overlan_protocol::netmap::Netmap| !sees_db(map);
    stream.until("a cook does not see it", blind).await;
    signed.provider.known().person["groups"] = json!(["engineers"]);
    stream.until("an engineer again", sees_db).await;

    // Nothing changes while the provider is silent; then it ends the login.
    signed.provider.known().is_down = true;
    signed.provider.known().has_revoked = true;
    let mut person = signed.lab.person(&login).await;
    let _: Value = person.get(path::NETWORKS, WITHIN).await.unwrap();
    signed.provider.known().is_down = false;
    stream.until("the groups end", blind).await;
    let ended: Result<Value, _> = person.get(path::NETWORKS, WITHIN).await;
    assert_eq!(refused(ended), ProblemKind::NotAuthenticated);
}
