//! A relay token gives one relay once, and a repeat only reads: every state of the token, in every
//! state of the relay that asks.

use overlan_protocol::api::{LoginResponse, ProblemKind, RelaySummary, path};
use overlan_protocol::key::RelayId;

use crate::lab::{Lab, Relay, WITHIN, fast, refused};

/// The state of the token that the relay presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenState {
    /// One for the same name that nobody used yet.
    Fresh,
    /// One for another name that nobody used yet.
    OtherName,
    /// The one that made the relay; for a new relay, one that made another.
    Used,
    /// The same, past its time.
    Expired,
    /// The same, revoked by an admin.
    Revoked,
}

/// The state of the relay that registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has seen its identity.
    New,
    Online,
    /// It was silent for too long.
    Offline,
    /// Another one took its name.
    Replaced,
    /// An admin removed it.
    Removed,
    /// An admin removed it, and made another of its name.
    Followed,
}

const TOKENS: [TokenState; 5] = [
    TokenState::Fresh,
    TokenState::OtherName,
    TokenState::Used,
    TokenState::Expired,
    TokenState::Revoked,
];

const STATES: [State; 6] = [
    State::New,
    State::Online,
    State::Offline,
    State::Replaced,
    State::Removed,
    State::Followed,
];

struct Relays {
    lab: Lab,
    owner: LoginResponse,
}

impl Relays {
    /// Everything that people see, and that only the database says: pins, keys and which tokens are
    /// used up.
    async fn all(&self) -> (Vec<RelaySummary>, Vec<String>) {
        let mut person = self.lab.person(&self.owner).await;
        let seen = person.get(path::RELAYS, WITHIN).await.unwrap();
        let kept = self
            .lab
            .texts(
                "SELECT id || name || identity || addresses || pins || online FROM relays
                 UNION ALL SELECT id || name || coalesce(used, '') || coalesce(relay_id, '')
                 FROM relay_tokens",
            )
            .await;
        (seen, kept)
    }

    async fn remove(&self, name: &str) {
        let mut person = self.lab.person(&self.owner).await;
        let path = format!("{}/{name}", path::RELAYS);
        person.delete(&path, WITHIN).await.unwrap();
    }

    async fn case(&self, token_state: TokenState, state: State) {
        let case = format!("{token_state:?} token, relay {state:?}");
        let name = "ams-1";
        self.lab.sql("DELETE FROM relay_tokens").await;
        self.lab.sql("DELETE FROM relays").await;
        let mut token = self.lab.relay_token(&self.owner, name).await;
        let mut relay = Relay::new(1_000);
        let mut before: Option<RelayId> = None;
        match state {
            State::New => {
                Relay::new(999).register(&self.lab, &token).await.unwrap();
                self.lab.sql("UPDATE relays SET online = 0").await;
            }
            State::Online | State::Offline | State::Replaced | State::Removed | State::Followed => {
                relay = relay.register(&self.lab, &token).await.unwrap().0;
                before = Some(relay.id);
            }
        }
        match state {
            State::New | State::Online => {}
            State::Offline => self.lab.sql("UPDATE relays SET online = 0").await,
            State::Replaced => {
                self.lab.sql("UPDATE relays SET online = 0").await;
                self.lab.relay(&self.owner, name, 1_001).await;
            }
            State::Removed => self.remove(name).await,
            State::Followed => {
                self.remove(name).await;
                self.lab.relay(&self.owner, name, 1_001).await;
            }
        }
        match token_state {
            TokenState::Used => {}
            TokenState::Fresh => {
                // A token for a relay that is online is refused; there may be one from before.
                let was_online = matches!(state, State::Online | State::Replaced | State::Followed);
                self.lab.sql("UPDATE relays SET online = 0").await;
                token = self.lab.relay_token(&self.owner, name).await;
                if was_online {
                    self.lab.sql("UPDATE relays SET online = 1").await;
                }
            }
            TokenState::OtherName => {
                token = self.lab.relay_token(&self.owner, "fra-1").await;
            }
            TokenState::Expired => self.lab.sql("UPDATE relay_tokens SET expires = 1").await,
            TokenState::Revoked => self.lab.sql("DELETE FROM relay_tokens").await,
        }
        let untouched = self.all().await;
        // It says something else than it did, so that a write shows.
        relay.addresses = vec!["127.0.0.1:2000".to_owned()];
        let asked = relay.register(&self.lab, &token).await;
        let is_same = self.all().await == untouched;

        let expected: Result<Option<RelayId>, ProblemKind> = match (state, token_state) {
            (_, TokenState::Revoked) => Err(ProblemKind::KeyUnknown),
            // With the relay its tokens went.
            (State::Removed | State::Followed, TokenState::Used | TokenState::Expired) => {
                Err(ProblemKind::KeyUnknown)
            }
            (State::Online | State::Offline, TokenState::OtherName) => Err(ProblemKind::Forbidden),
            (State::Online | State::Offline, _) => Ok(before),
            (State::Replaced | State::Followed, TokenState::Fresh) => Err(ProblemKind::NameTaken),
            (State::New | State::Replaced, TokenState::Used | TokenState::Expired) => {
                Err(ProblemKind::KeyUsed)
            }
            (_, TokenState::Fresh | TokenState::OtherName) => Ok(None),
        };
        match expected {
            Err(kind) => {
                assert_eq!(refused(asked.map(|(relay, _)| relay.id)), kind, "{case}");
                assert!(is_same, "{case}: a refusal changes nothing");
            }
            Ok(Some(id)) => {
                let (relay, orders) = asked.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(relay.id, id, "{case}: it is what it was");
                assert_eq!(orders.ticket_keys.len(), 1, "{case}");
                assert!(
                    is_same,
                    "{case}: a repeat changes nothing and uses nothing up"
                );
            }
            Ok(None) => {
                let (relay, _) = asked.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_ne!(Some(relay.id), before, "{case}: another relay");
                assert!(!is_same, "{case}");
                let again = Relay::new(2_001).register(&self.lab, &token).await;
                assert_eq!(refused(again.map(|_| ())), ProblemKind::KeyUsed, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_gives_one_relay_once_and_a_repeat_nothing() {
    let mut timings = fast();
    // States are set by the test alone.
    timings.relay_lost_after = WITHIN * 10;
    let lab = Lab::start_with(timings).await;
    let owner = lab.set_up().await;
    let relays = Relays { lab, owner };
    for state in STATES {
        for token in TOKENS {
            relays.case(token, state).await;
        }
    }
}
