//! Every route and every caller: who is let in and who is not, by the table of routes as the
//! OpenAPI document shows it. A new route is in here without a line.

use overlan_protocol::api::{
    ApiTokenRequest, ApiTokenResponse, AuthKeyRequest, LoginResponse, NetworkRequest,
    NetworkSummary, Permission, Problem, ProblemKind, RelayTokenSummary, Role, SessionSummary,
    path,
};
use overlan_protocol::key::Secret;
use overlan_transport::https::{Connection, HttpsError};
use serde_json::{Value, json};

use crate::lab::{Device, Lab, Relay, WITHIN};
use crate::shape::objections;
use crate::tenants::{colleague, second_tenant};

/// One line of the table of routes.
#[derive(Debug)]
struct Line {
    method: String,
    path: String,
    access: String,
    operation: Value,
}

impl Line {
    /// Says whether it ends what its caller is known by.
    fn ends_caller(&self) -> bool {
        self.method == "DELETE" && [path::SESSION, path::DEVICE].contains(&self.path.as_str())
    }
}

async fn table(lab: &Lab) -> Vec<Line> {
    let mut connection = lab.connect().await;
    let document: Value = connection.get(path::OPENAPI, WITHIN).await.unwrap();
    assert_eq!(document, overlan_controller::openapi());
    let mut lines = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            lines.push(Line {
                method: method.to_uppercase(),
                path: path.clone(),
                access: operation["x-overlan-access"].as_str().unwrap().to_owned(),
                operation: operation.clone(),
            });
        }
    }
    assert!(lines.len() > 40, "{lines:?}");
    lines.sort_by_key(Line::ends_caller);
    lines
}

enum Who<'a> {
    Nobody,
    Person(Role, &'a LoginResponse),
    Token(Permission, Secret),
    Device(&'a Device),
    Relay(&'a Relay),
}

impl Who<'_> {
    async fn connect(&self, lab: &Lab) -> Connection {
        match self {
            Self::Nobody => lab.connect().await,
            Self::Person(_, session) => lab.person(session).await,
            Self::Token(_, token) => {
                let mut connection = lab.connect().await;
                connection.bearer(token);
                connection
            }
            Self::Device(device) => device.connect(lab).await,
            Self::Relay(relay) => relay.connect(lab).await,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::Person(role, _) => role.to_string(),
            Self::Token(scope, _) => format!("a token for {scope}"),
            Self::Device(_) => "a device".to_owned(),
            Self::Relay(_) => "a relay".to_owned(),
        }
    }

    /// Returns how the gate answers this caller at a route.
    fn expected(&self, access: &str) -> Gate {
        let let_in = |yes| if yes { Gate::Open } else { Gate::Forbidden };
        match (access, self) {
            ("anybody", _) => Gate::Open,
            ("device", Self::Device(_)) | ("relay", Self::Relay(_)) => Gate::Open,
            ("device" | "relay", _) => Gate::Unknown,
            ("own account", Self::Person(..)) => Gate::Open,
            ("own account", Self::Token(..)) => Gate::Forbidden,
            (permission, Self::Person(role, _)) => let_in(has(*role, permission)),
            (permission, Self::Token(scope, _)) => let_in(scope.name() == permission),
            (_, Self::Nobody | Self::Device(_) | Self::Relay(_)) => Gate::Unknown,
        }
    }
}

/// Says what a role has, written down a second time.
fn has(role: Role, permission: &str) -> bool {
    let permission: Permission = permission.parse().unwrap();
    match role {
        Role::Owner => true,
        Role::Admin => !matches!(
            permission,
            Permission::OrganisationWrite | Permission::IdentityProviderWrite
        ),
        Role::Auditor => permission.name().ends_with(":read"),
        Role::Member => {
            [Permission::NetworksRead, Permission::OrganisationRead].contains(&permission)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Unknown,
    Forbidden,
}

fn gate(result: &Result<Value, HttpsError>) -> Gate {
    match result {
        Err(HttpsError::Problem(problem)) => match problem {
            Problem { status: 500.., .. } => panic!("a fault of the controller: {problem:?}"),
            _ if problem.kind == ProblemKind::NotAuthenticated => Gate::Unknown,
            Problem {
                status: 403, title, ..
            } if is_of_gate(title) => Gate::Forbidden,
            _ => Gate::Open,
        },
        Ok(_) => Gate::Open,
        Err(other) => panic!("no answer: {other}"),
    }
}

fn is_of_gate(title: &str) -> bool {
    ["the role ", "this API token does", "an API token cannot"]
        .iter()
        .any(|start| title.starts_with(start))
}

async fn ask(
    connection: &mut Connection,
    line: &Line,
    path: &str,
    body: &Value,
) -> Result<Value, HttpsError> {
    match line.method.as_str() {
        "GET" => connection.get(path, WITHIN).await,
        "POST" => connection.post(path, body, WITHIN).await,
        "DELETE" => connection.delete(path, WITHIN).await.map(|()| Value::Null),
        other => panic!("teach this test to send {other}"),
    }
}

/// A path with something in it that nobody has.
fn nowhere(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => "00112233445566778899aabbccddeeff",
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

async fn token(lab: &Lab, owner: &LoginResponse, scope: Permission) -> Secret {
    let request = ApiTokenRequest {
        name: scope.to_string(),
        scopes: vec![scope.to_string()],
        expires_in_secs: None,
    };
    let mut person = lab.person(owner).await;
    let made: ApiTokenResponse = person
        .post(path::API_TOKENS, &request, WITHIN)
        .await
        .unwrap();
    made.token
}

#[tokio::test]
async fn every_route_lets_in_whom_its_line_admits_and_nobody_else() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let device = lab.enrol(&key, "web").await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let mut everybody = vec![Who::Nobody, Who::Relay(&relay), Who::Device(&device)];
    for scope in Permission::ALL {
        everybody.push(Who::Token(scope, token(&lab, &owner, scope).await));
    }
    let mut colleagues = Vec::new();
    for role in Role::ALL {
        colleagues.push((role, colleague(&lab, role).await));
    }
    everybody.extend(colleagues.iter().map(|(role, it)| Who::Person(*role, it)));

    let (table, mut seen) = (table(&lab).await, 0);
    for who in &everybody {
        let mut connection = who.connect(&lab).await;
        for line in &table {
            let expected = who.expected(&line.access);
            // A stranger has only a few requests, and the stream of a device never ends.
            if expected != Gate::Forbidden && !matches!(who, Who::Person(..) | Who::Token(..)) {
                connection = who.connect(&lab).await;
            }
            if line.path == path::DEVICE_NETMAP && expected == Gate::Open {
                connection.lines(&line.path, WITHIN).await.unwrap();
                connection = who.connect(&lab).await;
                continue;
            }
            let path = nowhere(&line.path);
            let result = ask(&mut connection, line, &path, &json!({})).await;
            let (method, name) = (&line.method, who.name());
            assert_eq!(
                gate(&result),
                expected,
                "{method} {path} by {name}: {result:?}"
            );
            match &result {
                Err(HttpsError::Problem(problem)) => documented(line, problem),
                Ok(answer) => right(line, answer),
                Err(_) => {}
            }
            seen += 1;
        }
    }
    assert!(seen > 1_000, "{seen}");
}

/// Holds a refusal against the document.
#[track_caller]
fn documented(line: &Line, problem: &Problem) {
    let responses = line.operation["responses"].as_object().unwrap();
    let status = problem.status.to_string();
    let known = responses.contains_key(&status) || responses.contains_key("default");
    assert!(known, "{} {}: {problem:?}", line.method, line.path);
    assert!(!problem.title.is_empty());
}

/// Holds an answer against the document.
#[track_caller]
fn right(line: &Line, answer: &Value) {
    let schema = &line.operation["responses"]["200"]["content"]["application/json"]["schema"];
    // A DELETE is not read to its end here, and the document of devices' routes is another one.
    if schema.is_null() || line.method == "DELETE" {
        return;
    }
    let wrong = objections(&overlan_controller::openapi(), schema, answer);
    assert!(
        wrong.is_empty(),
        "{} {}: {wrong:#?}",
        line.method,
        line.path
    );
}

#[tokio::test]
async fn what_a_full_organisation_reads_is_as_the_document_says() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let ours = Ours::made(&lab, &owner).await;
    let mut connection = lab.person(&owner).await;
    let mut seen = 0;
    for line in table(&lab).await {
        // Pages for browsers have no document.
        let is_page = line.operation["responses"]["200"].is_null();
        if line.method == "GET" && !is_page {
            let path = ours.path(&line.path);
            let answer = ask(&mut connection, &line, &path, &Value::Null).await;
            right(&line, &answer.unwrap());
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen}");
}

/// The things of the first organisation, by the word before each in a path, and by the field that
/// names it in a body.
struct Ours {
    things: Vec<(&'static str, String)>,
}

impl Ours {
    async fn made(lab: &Lab, owner: &LoginResponse) -> Self {
        let mut person = lab.person(owner).await;
        let network = NetworkRequest {
            name: "acme".to_owned(),
        };
        let _: NetworkSummary = person.post(path::NETWORKS, &network, WITHIN).await.unwrap();
        let request = AuthKeyRequest {
            networks: vec!["acme".to_owned()],
            ..AuthKeyRequest::default()
        };
        let key = lab.auth_key(owner, request).await;
        let device = lab.enrol(&key.key, "web").await;
        lab.relay(owner, "ams-1", 443).await;
        let tokens: Vec<RelayTokenSummary> = person.get(path::RELAY_TOKENS, WITHIN).await.unwrap();
        let sessions: Vec<SessionSummary> = person.get(path::SESSIONS, WITHIN).await.unwrap();
        token(lab, owner, Permission::DevicesRead).await;
        let api_tokens: Vec<Value> = person.get(path::API_TOKENS, WITHIN).await.unwrap();
        let people: Vec<Value> = person.get(path::PEOPLE, WITHIN).await.unwrap();
        let things = vec![
            ("people", people[0]["id"].to_string()),
            ("networks", "acme".to_owned()),
            ("network", "acme".to_owned()),
            ("history", "0".to_owned()),
            ("devices", device.id().to_string()),
            ("device", device.id().to_string()),
            ("auth-keys", key.summary.id),
            ("relays", "ams-1".to_owned()),
            ("relay-tokens", tokens[0].id.clone()),
            ("sessions", sessions[0].id.clone()),
            (
                "api-tokens",
                api_tokens[0]["id"].as_str().unwrap().to_owned(),
            ),
            // Fields that are more than a text.
            ("type", "A".to_owned()),
            ("value", "10.1.2.3".to_owned()),
            ("route", "10.1.0.0/16".to_owned()),
        ];
        Self { things }
    }

    fn named(&self, word: &str) -> Option<&str> {
        let found = self.things.iter().find(|(known, _)| *known == word);
        found.map(|(_, thing)| thing.as_str())
    }

    /// Fills a path with things of ours; one of which nothing is known here gets a strange value.
    fn path(&self, template: &str) -> String {
        let mut parts = Vec::new();
        let mut before = "";
        for part in template.split('/') {
            match part.starts_with('{') {
                true => parts.push(self.named(before).unwrap_or("001122334455")),
                false => parts.push(part),
            }
            before = part;
        }
        parts.join("/")
    }

    /// Makes a body that fits its schema and names things of ours.
    fn body(&self, schema: &Value) -> Value {
        let field = |(name, schema): (&String, &Value)| {
            let value = match self.named(name) {
                Some(thing) if schema["type"] == "string" && schema["enum"].is_null() => {
                    json!(thing)
                }
                Some(_) | None => self.value(schema),
            };
            (name.clone(), value)
        };
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let fields = schema["properties"].as_object().into_iter().flatten();
        let fields = fields.filter(|(name, _)| required.contains(&json!(name)));
        Value::Object(fields.map(field).collect())
    }

    fn value(&self, schema: &Value) -> Value {
        for choice in ["oneOf", "anyOf"] {
            if let Some(first) = schema[choice].get(0) {
                return self.value(first);
            }
        }
        if let Some(first) = schema["enum"].get(0) {
            return first.clone();
        }
        if !schema["const"].is_null() {
            return schema["const"].clone();
        }
        match schema["type"].as_str() {
            Some("boolean") => json!(true),
            Some("integer") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            Some("array") => json!([]),
            Some("object") => self.body(schema),
            _ => json!("some-text"),
        }
    }
}

#[tokio::test]
async fn what_belongs_to_another_organisation_is_not_there() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let foreign = second_tenant(&lab).await;
    let ours = Ours::made(&lab, &owner).await;
    let before = lab.texts(EVERYTHING).await;
    let mut connection = lab.person(&foreign).await;
    let mut seen = 0;
    for line in table(&lab).await {
        if ["anybody", "device", "relay"].contains(&line.access.as_str()) {
            continue;
        }
        let path = ours.path(&line.path);
        let schema = &line.operation["requestBody"]["content"]["application/json"]["schema"];
        let names_ours = line.path.contains('{')
            || ["network", "device"].iter().any(|field| {
                schema["required"]
                    .as_array()
                    .is_some_and(|it| it.contains(&json!(field)))
            });
        if names_ours {
            let result = ask(&mut connection, &line, &path, &ours.body(schema)).await;
            let Err(HttpsError::Problem(problem)) = result else {
                panic!("{} {path}: {result:?}", line.method);
            };
            assert_eq!(problem.status, 404, "{} {path}: {problem:?}", line.method);
            seen += 1;
        } else if line.method == "GET" {
            let list = ask(&mut connection, &line, &path, &Value::Null).await;
            let list = list.unwrap().to_string();
            for (_, thing) in &ours.things {
                let quoted = format!("\"{thing}\"");
                assert!(!list.contains(&quoted), "{path}: {list}");
            }
        }
    }
    assert!(seen > 10, "{seen}");
    assert_eq!(lab.texts(EVERYTHING).await, before, "nothing was changed");
}

/// The rows that a stranger must not change.
const EVERYTHING: &str = "SELECT 'device ' || id || ' ' || org_id FROM devices
    UNION ALL SELECT 'network ' || name || ' ' || org_id FROM networks
    UNION ALL SELECT 'member ' || device_id || ' ' || network_id FROM members
    UNION ALL SELECT 'key ' || id || ' ' || coalesce(revoked, '') FROM auth_keys
    UNION ALL SELECT 'relay ' || name || ' ' || org_id FROM relays
    UNION ALL SELECT 'relay token ' || id FROM relay_tokens
    UNION ALL SELECT 'session ' || id FROM sessions
    UNION ALL SELECT 'api token ' || id FROM api_tokens
    ORDER BY 1";
