//! The OpenAPI 3.1 document, made from the table of routes. Decides which answers a route
//! documents; every other answer is a fault.

use std::sync::LazyLock;

use axum::http::{Method, StatusCode};
use overlan_protocol::api::{PROBLEM_TYPE, Problem};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::body::Json;
use super::describe::Description;
use super::endpoint::{Access, Endpoint};
use super::{idempotency, table};

/// Returns the OpenAPI document of this version's API.
pub fn openapi() -> Value {
    DOCUMENT.clone()
}

pub(super) async fn read() -> Json<Value> {
    Json(DOCUMENT.clone())
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

fn document() -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.answers.subschema_for::<Problem>();
    let mut paths = Map::new();
    for endpoint in table::all() {
        let methods = paths.entry(endpoint.path.clone()).or_insert(json!({}));
        methods[endpoint.method.as_str().to_lowercase()] = operation(&endpoint, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Overlan controller",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.answers.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "The request is refused (RFC 9457).",
                    "content": { PROBLEM_TYPE: { "schema": problem } },
                },
            },
            "securitySchemes": {
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A session of a person, ovs_…",
                },
                "channel-proof": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "authorization",
                    "description": "A signature by the key of a device or a relay that is valid \
                                    on one TLS connection",
                },
            },
        },
    })
}

const INTRODUCTION: &str = "The API of people and their programs is below /api/v1. Requests and \
    answers are JSON; refusals are problem documents (RFC 9457). The routes below /v1 are those of \
    devices and relays; docs/protocol.md describes their bodies. Those below /sso are pages. \
    Each operation names the permission that it needs in x-overlan-access.";

/// The makers of schemas: answers share theirs by name, and each body of a request has its own,
/// because a field that an answer always has may be left out of a request.
struct Schemas {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = |settings: SchemaSettings| {
            settings.with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = "/components/schemas".into();
            })
        };
        let answers = settings(SchemaSettings::draft2020_12().for_serialize());
        let requests = settings(SchemaSettings::draft2020_12().for_deserialize());
        let requests = requests.with(|settings| settings.inline_subschemas = true);
        Self {
            answers: answers.into_generator(),
            requests: requests.into_generator(),
        }
    }
}

fn operation(endpoint: &Endpoint, schemas: &mut Schemas) -> Value {
    let names = path_parts(&endpoint.path);
    let mut parameters: Vec<Value> = names.iter().map(|name| path_parameter(name)).collect();
    let mut operation = json!({
        "x-overlan-access": endpoint.access.name(),
        "security": security(endpoint.access),
    });
    let Some(description) = &endpoint.description else {
        operation["parameters"] = parameters.into();
        let (tag, about) = match endpoint.path.starts_with("/v1/") {
            true => ("devices and relays", "See docs/protocol.md."),
            false => ("browsers", "A page for a person."),
        };
        operation["tags"] = json!([tag]);
        operation["responses"] = json!({ "default": { "description": about } });
        return operation;
    };
    let (module, verb) = handler_names(description.handler);
    operation["operationId"] = format!("{module}.{verb}").into();
    operation["tags"] = json!([module]);
    if let Some(query) = description.query {
        parameters.extend(query_parameters(query(&mut schemas.requests).as_value()));
    }
    if endpoint.has_key() {
        parameters.push(json!({
            "in": "header",
            "name": idempotency::HEADER.as_str(),
            "required": false,
            "schema": { "type": "string", "minLength": 1, "maxLength": idempotency::KEY_MAX },
        }));
    }
    operation["parameters"] = parameters.into();
    if let Some(body) = description.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body(&mut schemas.requests) } },
        });
    }
    let mut responses = Map::new();
    let answer = (description.answer)(&mut schemas.answers);
    let done = json!({
        "description": "Done.",
        "content": { "application/json": { "schema": answer } },
    });
    responses.insert("200".to_owned(), done);
    if endpoint.method == Method::GET {
        let known = json!({ "description": "If-None-Match names the present answer." });
        responses.insert("304".to_owned(), known);
    }
    for status in refusals(endpoint, description) {
        let problem = json!({ "$ref": "#/components/responses/Problem" });
        responses.insert(status.as_u16().to_string(), problem);
    }
    operation["responses"] = responses.into();
    operation
}

/// Lists the statuses with which a route may refuse.
fn refusals(endpoint: &Endpoint, description: &Description) -> Vec<StatusCode> {
    let mut statuses = vec![
        StatusCode::BAD_REQUEST,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let has_credential = endpoint.access != Access::Anybody;
    let has_body = description.body.is_some();
    if has_credential || has_body {
        statuses.extend([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]);
        statuses.push(StatusCode::TOO_MANY_REQUESTS);
    }
    if has_body {
        statuses.extend([
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // A question to somebody else, such as the issuer of a token, stays without answer.
            StatusCode::BAD_GATEWAY,
        ]);
    }
    let names_things = endpoint.path.contains('{') || description.query.is_some();
    if has_body || names_things {
        statuses.push(StatusCode::NOT_FOUND);
    }
    if endpoint.method != Method::GET {
        statuses.push(StatusCode::CONFLICT);
    }
    statuses.sort();
    statuses
}

fn security(access: Access) -> Value {
    match access {
        Access::Anybody => json!([]),
        Access::OwnAccount | Access::May(_) => json!([{ "session": [] }]),
        Access::Device | Access::Relay => json!([{ "channel-proof": [] }]),
    }
}

/// Returns the last two words of a handler's full name: its module and its own name.
fn handler_names(handler: &str) -> (&str, &str) {
    let mut words = handler.rsplit("::");
    let verb = words.next().unwrap_or_default();
    (words.next().unwrap_or_default(), verb)
}

/// Returns the names of the parts of a path that differ.
fn path_parts(path: &str) -> Vec<&str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .collect()
}

fn path_parameter(name: &str) -> Value {
    json!({
        "in": "path",
        "name": name,
        "required": true,
        "schema": { "type": "string", "minLength": 1 },
    })
}

/// Returns a parameter for each field of a query.
fn query_parameters(query: &Value) -> Vec<Value> {
    let required = query["required"].as_array().cloned().unwrap_or_default();
    let fields = query["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        json!({
            "in": "query",
            "name": name,
            "required": required.contains(&json!(name)),
            "schema": schema,
        })
    };
    fields.map(parameter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every value of a field anywhere in a document.
    fn all<'a>(name: &str, value: &'a Value, into: &mut Vec<&'a Value>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get(name));
                fields.values().for_each(|value| all(name, value, into));
            }
            Value::Array(values) => values.iter().for_each(|value| all(name, value, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn each_route_is_in_the_document_with_its_right_and_its_answers() {
        let document = document();
        let mut routes = 0;
        for endpoint in table::all() {
            let method = endpoint.method.as_str().to_lowercase();
            let operation = &document["paths"][&endpoint.path][&method];
            assert_eq!(operation["x-overlan-access"], endpoint.access.name());
            let documented = operation["parameters"].as_array().unwrap();
            let in_path = documented.iter().filter(|it| it["in"] == "path").count();
            assert_eq!(
                in_path,
                path_parts(&endpoint.path).len(),
                "{}",
                endpoint.path
            );
            let has_answer = operation["responses"]["200"].is_object();
            assert_eq!(
                has_answer,
                endpoint.description.is_some(),
                "{}",
                endpoint.path
            );
            let of_people = endpoint.path.starts_with("/api/v1/");
            assert_eq!(of_people, has_answer, "{}", endpoint.path);
            routes += 1;
        }
        let paths = document["paths"].as_object().unwrap().values();
        let methods = paths.map(|methods| methods.as_object().unwrap().len());
        assert_eq!(methods.sum::<usize>(), routes, "and nothing else is");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = document();
        let mut references = Vec::new();
        all("$ref", &document, &mut references);
        assert!(references.len() > 100);
        for reference in references {
            let target = reference.as_str().unwrap().trim_start_matches('#');
            assert!(document.pointer(target).is_some(), "{reference}");
        }
        let mut names = Vec::new();
        all("operationId", &document, &mut names);
        let unique: std::collections::BTreeSet<&str> =
            names.iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(unique.len(), names.len());
    }
}
