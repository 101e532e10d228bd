//! `/openapi.json`: the routes of `operations`, and the schemas that the wire types themselves give, as OpenAPI 3.1.
//!
//! Tests hold the routes to the route table and the codes to the errors; `tests/clients/openapi.py` holds the document to what
//! a running broker does.

mod forms;
mod operations;

use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use shared::api::Problem;

use self::operations::{Body, OPERATIONS, Operation};

/// Gives the schema of a type, by reference where it has a name.
type SchemaOf = fn(&mut SchemaGenerator) -> schemars::Schema;

/// The code of every problem.
const CODES: &[&str] = &[
    "acl_not_granted",
    "bad_request",
    "batch_size",
    "body_incomplete",
    "body_timeout",
    "body_too_large",
    "content_encoding",
    "cross_origin",
    "downloads_not_granted",
    "empty_file",
    "empty_part",
    "file_too_large",
    "interrupted",
    "invalid_credential",
    "invalid_digest",
    "invalid_field",
    "invalid_form",
    "invalid_json",
    "invalid_key",
    "invalid_name",
    "invalid_part_number",
    "invalid_part_size",
    "invalid_query",
    "issuer_unavailable",
    "key_taken",
    "ledger_unavailable",
    "method_not_allowed",
    "missing_field",
    "no_credentials",
    "no_parts",
    "no_parts_in_batch",
    "no_such_destination",
    "no_such_object",
    "no_such_route",
    "no_such_ticket",
    "no_such_upload",
    "not_granted",
    "not_small",
    "object_wrong",
    "part_gap",
    "part_not_planned",
    "part_size",
    "part_twice",
    "parts_missing",
    "parts_unplanned",
    "parts_wrong",
    "quota_exceeded",
    "size_changed",
    "size_needed",
    "store_refused",
    "store_unavailable",
    "ticket_used_up",
    "too_many_parts",
    "too_many_parts_planned",
    "too_many_requests",
    "type_not_granted",
    "unauthenticated",
    "unsupported_media_type",
    "upload_busy",
    "upload_ended",
    "upload_lost",
];

/// The document of a broker that serves requests without credentials, or does not.
pub fn document(anonymous: bool) -> &'static str {
    static OPEN: LazyLock<String> = LazyLock::new(|| describe(true).to_string());
    static KNOWN: LazyLock<String> = LazyLock::new(|| describe(false).to_string());
    if anonymous { &OPEN } else { &KNOWN }
}

fn describe(anonymous: bool) -> Value {
    let settings =
        || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut asked = settings().for_deserialize().into_generator();
    let mut told = settings().for_serialize().into_generator();
    let problem = told.subschema_for::<Problem>();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let described = operation.describe(anonymous, &mut asked, &mut told, problem.as_value());
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            methods.insert(operation.method.to_owned(), described);
        }
    }
    let mut schemas = asked.take_definitions(true);
    for (name, schema) in told.take_definitions(true) {
        let mut schema = schema;
        never_null(&mut schema);
        schemas.insert(name, schema);
    }
    if let Some(Value::Object(code)) = schemas
        .get_mut("Problem")
        .and_then(|problem| problem.pointer_mut("/properties/code"))
    {
        code.insert("enum".to_owned(), json!(CODES));
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Upload broker",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "Admits uploads, signs a URL for each part, and has the store join the parts. The bytes go to those URLs. \
                Answers may have more fields than are told here. A ticket may stand in front of each path, as /t/TICKET, in place \
                of the header.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "description": "A token or a ticket." } },
        },
    });
    for_readers_of_json(&mut document);
    document
}

/// In answers a field that has nothing to say is absent.
fn never_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [kind] = kinds.as_slice() {
                    let kind = kind.clone();
                    fields.insert("type".to_owned(), kind);
                }
            }
            if let Some(Value::Array(either)) = fields.get_mut("anyOf") {
                either.retain(|kind| kind != &json!({ "type": "null" }));
            }
            fields.values_mut().for_each(never_null);
        }
        Value::Array(items) => items.iter_mut().for_each(never_null),
        _ => {}
    }
}

/// Descriptions come from comments, whose links lead to code.
fn for_readers_of_json(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => {
                        *text = text
                            .replace("[`", "`")
                            .replace("`]", "`")
                            .replace("(crate::PartSizes::Growing)", "")
                            .replace("(super::MAX_PAGE)", "");
                    }
                    value => for_readers_of_json(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(for_readers_of_json),
        _ => {}
    }
}

impl Operation {
    fn describe(
        &self,
        anonymous: bool,
        asked: &mut SchemaGenerator,
        told: &mut SchemaGenerator,
        problem: &Value,
    ) -> Value {
        let mut parameters = Vec::new();
        if self.path.contains("{id}") {
            // Any other text is as unknown as an id that nobody has.
            parameters.push(
                json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }),
            );
        }
        if let Some(query) = self.query {
            parameters.extend(query_parameters(query(asked).to_value()));
        }
        let mut responses = Map::new();
        for answer in self.answers {
            let mut response = json!({ "description": answer.says, "headers": headers(answer.headers) });
            if let (Some(schema), Value::Object(response)) = (answer.body, &mut response) {
                response.insert(
                    "content".to_owned(),
                    json!({ "application/json": { "schema": schema(told) } }),
                );
            }
            responses.insert(answer.status.to_string(), response);
        }
        for status in self.problems() {
            let mut named: Vec<&str> = Vec::new();
            named.extend((status == 401).then_some("www-authenticate"));
            named.extend(matches!(status, 409 | 429 | 503).then_some("retry-after"));
            responses.entry(status.to_string()).or_insert_with(|| {
                json!({
                    "description": "A problem.",
                    "headers": headers(&named),
                    "content": { "application/problem+json": { "schema": problem } },
                })
            });
        }
        let mut described = json!({ "operationId": self.id, "summary": self.summary, "responses": responses });
        if let Value::Object(described) = &mut described {
            if !parameters.is_empty() {
                described.insert("parameters".to_owned(), json!(parameters));
            }
            let body = match self.body {
                Body::None => None,
                Body::Json(schema) => Some(("application/json", true, schema)),
                Body::JsonOrNone(schema) => Some(("application/json", false, schema)),
                Body::Form(schema) => Some(("application/x-www-form-urlencoded", true, schema)),
            };
            if let Some((media_type, required, schema)) = body {
                let content = json!({ media_type: { "schema": schema(asked) } });
                described.insert(
                    "requestBody".to_owned(),
                    json!({ "required": required, "content": content }),
                );
            }
            if self.of_caller {
                let security = if anonymous {
                    json!([{ "bearer": [] }, {}])
                } else {
                    json!([{ "bearer": [] }])
                };
                described.insert("security".to_owned(), security);
            }
        }
        described
    }

    /// The statuses with which it answers a problem.
    fn problems(&self) -> Vec<u16> {
        let mut statuses = self.problems.to_vec();
        // Who asks is looked up in the ledger.
        statuses.extend(if self.of_caller {
            [401, 403, 429, 503].as_slice()
        } else {
            &[]
        });
        statuses.extend(if self.path.contains("{id}") {
            [404].as_slice()
        } else {
            &[]
        });
        statuses.extend(if self.query.is_some() { [400].as_slice() } else { &[] });
        statuses.extend(match self.body {
            Body::None => [].as_slice(),
            Body::Json(_) | Body::JsonOrNone(_) | Body::Form(_) => &[400, 408, 413, 415],
        });
        statuses
    }
}

/// A parameter for each property.
fn query_parameters(schema: Value) -> Vec<Value> {
    let mut schema = schema;
    never_null(&mut schema);
    let required: Vec<Value> = schema
        .get("required")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let Some(Value::Object(properties)) = schema.get("properties").cloned() else {
        return Vec::new();
    };
    let parameters = properties.into_iter().map(|(name, schema)| {
        json!({ "required": required.contains(&json!(name)), "name": name, "in": "query", "schema": schema })
    });
    parameters.collect()
}

/// Headers of an answer, beside the one that all have.
fn headers(named: &[&str]) -> Value {
    let mut headers = Map::new();
    for name in ["x-request-id"].iter().chain(named) {
        headers.insert(
            (*name).to_owned(),
            json!({ "required": *name != "retry-after", "schema": { "type": "string" } }),
        );
    }
    Value::Object(headers)
}

#[cfg(test)]
mod tests;
