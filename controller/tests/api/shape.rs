//! Holds answers against the schemas of the OpenAPI document: as far as its schemas go, and a field
//! that no schema names is wrong.

use serde_json::Value;

/// Returns what is wrong with `value`, by the place where.
pub(crate) fn objections(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    judge(document, schema, value, "answer", &mut wrong);
    wrong
}

fn judge(document: &Value, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        let target = document.pointer(target.trim_start_matches('#'));
        let target = target.unwrap_or_else(|| panic!("{schema} leads nowhere"));
        return judge(document, target, value, place, wrong);
    }
    for choices in ["oneOf", "anyOf"] {
        let Some(choices) = schema[choices].as_array() else {
            continue;
        };
        let fits = |choice| objections(document, choice, value).is_empty();
        // What all choices share stands beside them.
        if schema["properties"].is_null() && !choices.iter().any(fits) {
            wrong.push(format!("{place}: {value} fits no choice of {schema}"));
        }
    }
    if let Some(known) = schema["enum"].as_array()
        && !known.contains(value)
    {
        wrong.push(format!("{place}: {value} is not among {known:?}"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        wrong.push(format!("{place}: {value} is not {schema}"));
    }
    if let Some(types) = schema.get("type")
        && !has_type(types, value)
    {
        wrong.push(format!("{place}: {value} is not of type {types}"));
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, value) in values.iter().enumerate() {
            judge(document, items, value, &format!("{place}[{index}]"), wrong);
        }
    }
    let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object())
    else {
        return;
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            wrong.push(format!("{place} has no {name}"));
        }
    }
    let is_flat = !schema["oneOf"].is_null() || !schema["anyOf"].is_null();
    for (name, value) in fields {
        match properties.get(name) {
            Some(schema) => judge(document, schema, value, &format!("{place}.{name}"), wrong),
            None if is_flat || schema.get("additionalProperties").is_some() => {}
            None => wrong.push(format!("{place}.{name} is not documented")),
        }
    }
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no type is called {other}"),
    };
    match types.as_array() {
        Some(types) => types.iter().any(|name| is(name.as_str().unwrap())),
        None => is(types.as_str().unwrap()),
    }
}
