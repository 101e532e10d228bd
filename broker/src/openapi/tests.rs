//! The document is held to the sources.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_route_is_in_the_document_and_no_other() {
    let source = include_str!("../app.rs");
    let table = source
        .split("pub fn routes")
        .nth(1)
        .unwrap()
        .split("fn resource")
        .next()
        .unwrap();
    let mut routes = BTreeSet::new();
    for route in table.split("resource(\"").skip(1) {
        let (path, rest) = route.split_once('"').unwrap();
        let methods = rest
            .split("web::")
            .skip(1)
            .filter_map(|call| call.split_once("()"))
            .map(|(name, _)| name);
        let methods = methods.filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase()));
        routes.extend(methods.map(|method| (path, method)));
    }
    assert!(
        routes.len() > 20,
        "read {routes:?} from the source: has its shape changed?"
    );
    assert_eq!(
        OPERATIONS
            .iter()
            .map(|operation| (operation.path, operation.method))
            .collect::<BTreeSet<_>>(),
        routes
    );
    let ids: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), OPERATIONS.len(), "two operations with one id");
}

#[test]
fn the_code_of_every_problem_is_in_the_document_and_no_other() {
    let source = include_str!("../error.rs");
    let table = source
        .split("fn answer(&self)")
        .nth(1)
        .unwrap()
        .split("pub fn code")
        .next()
        .unwrap();
    let codes: BTreeSet<_> = table.split('"').skip(1).step_by(2).collect();
    assert!(
        codes.len() > 30,
        "read {codes:?} from the source: has its shape changed?"
    );
    assert_eq!(CODES.iter().copied().collect::<BTreeSet<_>>(), codes);
    let document = describe(true);
    assert_eq!(
        document.pointer("/components/schemas/Problem/properties/code/enum"),
        Some(&json!(CODES))
    );
}

#[test]
fn a_type_that_is_both_asked_and_told_has_one_schema_and_every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = describe(true);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        assert!(
            document.pointer(reference.trim_start_matches('#')).is_some(),
            "{reference}"
        );
    }
}

#[test]
fn the_document_says_whether_credentials_are_needed() {
    let security = |anonymous| describe(anonymous).pointer("/paths/~1v1~1me/get/security").cloned();
    assert_eq!(security(true), Some(json!([{ "bearer": [] }, {}])));
    assert_eq!(security(false), Some(json!([{ "bearer": [] }])));
    assert_eq!(describe(false).pointer("/paths/~1healthz/get/security"), None);
}

#[test]
fn schemas_say_what_the_code_refuses() {
    let document = describe(true);
    let at = |pointer: &str| document.pointer(&format!("/components/schemas/{pointer}")).cloned();
    assert_eq!(at("CreateUpload/additionalProperties"), Some(json!(false)));
    assert_eq!(
        at("SignParts/properties/parts/maxItems"),
        Some(json!(shared::api::MAX_PARTS_PER_SIGN))
    );
    assert_eq!(at("PartNumber/maximum"), Some(json!(shared::PartNumber::MAX)));
    assert_eq!(
        at("UploadStatus/properties/part_count/type"),
        Some(json!("integer")),
        "never null"
    );
}
