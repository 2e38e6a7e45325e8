//! A right that was used up or taken back gives nothing: every way in, in every state of the key
//! and of the device.

use overlan_protocol::api::{
    AuthKeyRequest, AuthKeySummary, Credential, DeviceSummary, EnrolResponse, JoinRequest,
    LoginResponse, MembershipSummary, NetworkRequest, NetworkSummary, ProblemKind, path,
};
use overlan_protocol::key::{DeviceId, Secret};
use overlan_transport::https::HttpsError;

use crate::lab::{Device, Lab, WITHIN, refused};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneOff,
    Reusable,
    Ephemeral,
    Approval,
}

/// The state of the key that the device presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyState {
    /// Another key of the same kind that nobody used yet.
    Fresh,
    Used,
    Expired,
    Revoked,
    /// The controller has forgotten it.
    Forgotten,
}

/// The state of the device that enrols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has seen its identity.
    New,
    In,
    /// An admin took it out of one of its two networks.
    TakenOut,
    /// An admin took it out of both.
    Nowhere,
    /// An admin removed it for good.
    Removed,
    /// Nobody approved it yet.
    Waiting,
}

struct Rights {
    lab: Lab,
    owner: LoginResponse,
}

impl Rights {
    async fn start() -> Self {
        let lab = Lab::start().await;
        let owner = lab.set_up().await;
        let name = "acme".to_owned();
        let mut person = lab.person(&owner).await;
        let _: NetworkSummary = person
            .post(path::NETWORKS, &NetworkRequest { name }, WITHIN)
            .await
            .unwrap();
        Self { lab, owner }
    }

    async fn key(&self, kind: Kind) -> (String, Secret) {
        let request = AuthKeyRequest {
            networks: vec!["acme".to_owned(), "demo".to_owned()],
            reusable: kind != Kind::OneOff,
            ephemeral: kind == Kind::Ephemeral,
            approval: kind == Kind::Approval,
            ..AuthKeyRequest::default()
        };
        let made = self.lab.auth_key(&self.owner, request).await;
        (made.summary.id, made.key)
    }

    async fn enrol(
        &self,
        device: &Device,
        credential: Credential,
        hostname: &str,
    ) -> Result<EnrolResponse, HttpsError> {
        let mut connection = self.lab.connect().await;
        let mut request = device.request(&connection, credential, hostname);
        request.networks = vec!["all".to_owned()];
        if matches!(request.credential, Credential::Session(_)) {
            request.networks = vec!["acme".to_owned(), "demo".to_owned()];
        }
        connection.post(path::ENROL, &request, WITHIN).await
    }

    async fn approve(&self, id: DeviceId) -> Result<Vec<MembershipSummary>, HttpsError> {
        let mut person = self.lab.person(&self.owner).await;
        let path = format!("{}/{id}/approve", path::DEVICES);
        person.post(&path, &serde_json::json!({}), WITHIN).await
    }

    async fn take_out(&self, network: &str, id: DeviceId) {
        let mut person = self.lab.person(&self.owner).await;
        let path = format!("{}/{network}/devices/{id}", path::NETWORKS);
        person.delete(&path, WITHIN).await.unwrap();
    }

    /// Brings a device that was enrolled into this state.
    async fn bring(&self, state: State, id: DeviceId, waits: bool) {
        if waits && state != State::Waiting {
            self.approve(id).await.unwrap();
        }
        match state {
            State::New | State::In | State::Waiting => {}
            State::TakenOut => self.take_out("acme", id).await,
            State::Nowhere => {
                self.take_out("acme", id).await;
                self.take_out("demo", id).await;
            }
            State::Removed => {
                let mut person = self.lab.person(&self.owner).await;
                let path = format!("{}/{id}", path::DEVICES);
                person.delete(&path, WITHIN).await.unwrap();
            }
        }
    }

    /// Lists what the owner sees of a device: its networks, and those that it waits for.
    async fn places(&self, id: DeviceId) -> (Vec<String>, Vec<String>) {
        let mut person = self.lab.person(&self.owner).await;
        let devices: Vec<DeviceSummary> = person.get(path::DEVICES, WITHIN).await.unwrap();
        let device = devices.into_iter().find(|device| device.id == id).unwrap();
        let networks = device.networks.into_iter().map(|place| place.network);
        (networks.collect(), device.waiting)
    }

    async fn uses(&self, id: &str) -> Option<u32> {
        let mut person = self.lab.person(&self.owner).await;
        let keys: Vec<AuthKeySummary> = person.get(path::AUTH_KEYS, WITHIN).await.unwrap();
        keys.iter().find(|key| key.id == id).map(|key| key.uses)
    }

    async fn join_itself(&self, device: &Device, network: &str) -> Result<(), HttpsError> {
        let request = JoinRequest {
            network: network.to_owned(),
        };
        let mut connection = device.connect(&self.lab).await;
        connection
            .post::<_, MembershipSummary>(path::DEVICE_NETWORKS, &request, WITHIN)
            .await
            .map(|_| ())
    }

    /// A device in this state which was enrolled by a key of this kind, and asks again by a key in
    /// that state.
    async fn case(&self, kind: Kind, key_state: KeyState, state: State) {
        let case = format!("{kind:?} key, {key_state:?}, device {state:?}");
        let (mut key_id, mut key) = self.key(kind).await;
        let mut device = Device::new();
        let credential = || Credential::AuthKey(key.clone());
        if state == State::New {
            // Somebody else used the key.
            self.enrol(&Device::new(), credential(), "somebody")
                .await
                .unwrap();
        } else {
            device.enrolled = Some(self.enrol(&device, credential(), "asks").await.unwrap());
            self.bring(state, device.id(), kind == Kind::Approval).await;
        }
        match key_state {
            KeyState::Fresh => (key_id, key) = self.key(kind).await,
            KeyState::Used => {}
            KeyState::Expired => self.lab.sql("UPDATE auth_keys SET expires = 1").await,
            KeyState::Forgotten => self.lab.sql("DELETE FROM auth_keys").await,
            KeyState::Revoked => {
                let mut person = self.lab.person(&self.owner).await;
                let path = format!("{}/{key_id}", path::AUTH_KEYS);
                person.delete(&path, WITHIN).await.unwrap();
            }
        }
        let is_known = !matches!(state, State::New | State::Removed);
        let before = match is_known {
            true => Some(self.places(device.id()).await),
            false => None,
        };
        let uses = self.uses(&key_id).await;

        let repeated = self
            .enrol(&device, Credential::AuthKey(key.clone()), "asks")
            .await;

        let works = match key_state {
            KeyState::Fresh => true,
            KeyState::Used => kind != Kind::OneOff,
            KeyState::Expired | KeyState::Revoked | KeyState::Forgotten => false,
        };
        match (is_known, key_state) {
            (_, KeyState::Forgotten) => {
                assert_eq!(refused(repeated), ProblemKind::KeyUnknown, "{case}");
            }
            (false, _) if works => {
                let enrolled = repeated.unwrap_or_else(|error| panic!("{case}: {error}"));
                let places = self.places(enrolled.device).await;
                let all = vec!["acme".to_owned(), "demo".to_owned()];
                let expected = match kind {
                    Kind::Approval => (Vec::new(), all),
                    Kind::OneOff | Kind::Reusable | Kind::Ephemeral => (all, Vec::new()),
                };
                assert_eq!(places, expected, "{case}");
                if state == State::Removed {
                    assert_ne!(enrolled.device, device.id(), "{case}: another device");
                }
            }
            // The answer names its use first.
            (false, KeyState::Expired) if kind != Kind::OneOff => {
                assert_eq!(refused(repeated), ProblemKind::KeyExpired, "{case}");
            }
            (false, KeyState::Revoked) => {
                assert_eq!(refused(repeated), ProblemKind::KeyRevoked, "{case}");
            }
            (false, KeyState::Fresh | KeyState::Used | KeyState::Expired) => {
                assert_eq!(refused(repeated), ProblemKind::KeyUsed, "{case}");
            }
            (true, _) if state == State::Nowhere => {
                assert_eq!(refused(repeated), ProblemKind::Forbidden, "{case}");
            }
            (true, _) => {
                let enrolled = repeated.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(enrolled.device, device.id(), "{case}: it is what it was");
            }
        }
        if is_known {
            let after = Some(self.places(device.id()).await);
            assert_eq!(after, before, "{case}: a repeat joins nothing");
            assert_eq!(
                self.uses(&key_id).await,
                uses,
                "{case}: and uses nothing up"
            );
            let outside = match state {
                State::TakenOut => &["acme"][..],
                State::Nowhere | State::Waiting => &["acme", "demo"],
                State::New | State::In | State::Removed => &[],
            };
            for network in outside {
                let joined = self.join_itself(&device, network).await;
                assert_eq!(
                    refused(joined),
                    ProblemKind::Forbidden,
                    "{case}: it joins {network} by itself"
                );
            }
            if state != State::Waiting {
                let approved = self.approve(device.id()).await;
                assert_eq!(refused(approved), ProblemKind::NotFound, "{case}");
            }
        }
    }
}

const KEY_STATES: [KeyState; 5] = [
    KeyState::Fresh,
    KeyState::Used,
    KeyState::Expired,
    KeyState::Revoked,
    KeyState::Forgotten,
];

const STATES: [State; 5] = [
    State::New,
    State::In,
    State::TakenOut,
    State::Nowhere,
    State::Removed,
];

#[tokio::test]
async fn a_key_gives_what_it_may_give_now_and_a_repeat_nothing() {
    let rights = Rights::start().await;
    for kind in [
        Kind::OneOff,
        Kind::Reusable,
        Kind::Ephemeral,
        Kind::Approval,
    ] {
        for key_state in KEY_STATES {
            for state in STATES {
                rights.case(kind, key_state, state).await;
            }
            if kind == Kind::Approval {
                rights.case(kind, key_state, State::Waiting).await;
            }
        }
    }
}

#[tokio::test]
async fn a_person_who_repeats_an_enrolment_puts_nothing_back() {
    let rights = Rights::start().await;
    let by_person = || Credential::Session(rights.owner.session.clone());
    for state in STATES {
        let mut device = Device::new();
        if state != State::New {
            device.enrolled = Some(rights.enrol(&device, by_person(), "asks").await.unwrap());
            rights.bring(state, device.id(), false).await;
        }
        let is_known = !matches!(state, State::New | State::Removed);
        let before = match is_known {
            true => Some(rights.places(device.id()).await),
            false => None,
        };
        let repeated = rights.enrol(&device, by_person(), "asks").await;
        match state {
            State::Nowhere => assert_eq!(refused(repeated), ProblemKind::Forbidden, "{state:?}"),
            State::New | State::In | State::TakenOut | State::Removed | State::Waiting => {
                assert!(repeated.is_ok(), "{state:?}");
            }
        }
        if is_known {
            assert_eq!(Some(rights.places(device.id()).await), before, "{state:?}");
        }
    }
    // A session that was ended opens nothing, not even what is.
    let mut device = Device::new();
    device.enrolled = Some(rights.enrol(&device, by_person(), "last").await.unwrap());
    let mut person = rights.lab.person(&rights.owner).await;
    person.delete(path::SESSION, WITHIN).await.unwrap();
    let ended = rights.enrol(&device, by_person(), "last").await;
    assert_eq!(refused(ended), ProblemKind::NotAuthenticated);
}
