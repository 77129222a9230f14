//! The OpenAPI documents and what is served are one.

use std::collections::BTreeSet;

use http::Method;

use super::*;
use crate::gateway::http::scopes::KNOWN;
use crate::gateway::token::{DEFAULT_TTL, LONGEST_TTL};

/// Those that OpenAPI has names for.
const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// A part of a document, or what it refers to.
fn followed<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str() {
        Some(place) => document
            .pointer(place.trim_start_matches('#'))
            .expect("it is there"),
        None => part,
    }
}

/// The paths and methods of a document.
fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let item = followed(document, item);
        let methods = METHODS.into_iter().filter(|method| !item[method].is_null());
        operations.extend(methods.map(|method| (path.clone(), method.to_owned())));
    }
    operations
}

/// Panics if an answer is not what the document of its path says. Of what is no operation it says
/// nothing.
pub(super) fn says(method: &Method, path: &str, answer: &Answer) {
    let path = match path.strip_prefix("/ext-authz/") {
        Some(rest) if !rest.is_empty() => "/ext-authz/{path}",
        _ => path,
    };
    let method = method.as_str().to_lowercase();
    for document in [parsed(FOR_DEVICES), parsed(FOR_BROKERS)] {
        let operation = &followed(&document, &document["paths"][path])[&method];
        if operation.is_null() {
            continue;
        }
        let said = &operation["responses"][answer.status.to_string()];
        assert!(!said.is_null(), "{path}: {} is not said", answer.status);
        let said = followed(&document, said);
        let content = answer.header("content-type").map(|kind| json!([kind]));
        let kinds = said["content"].as_object();
        let kinds = kinds.map(|kinds| json!(kinds.keys().collect::<Vec<_>>()));
        assert_eq!(content, kinds, "{path}: {}", answer.status);
        headers_are_said(&document, said, answer);
        return;
    }
}

fn headers_are_said(document: &Value, said: &Value, answer: &Answer) {
    let none = serde_json::Map::new();
    let said = said["headers"].as_object().unwrap_or(&none);
    for name in answer.headers.keys() {
        let known = said
            .keys()
            .any(|known| known.eq_ignore_ascii_case(name.as_str()));
        let of_http = ["content-type", "content-length"].contains(&name.as_str());
        assert!(known || of_http, "{name} is not said");
    }
    for (name, header) in said {
        let required = followed(document, header)["required"] == true;
        assert!(!required || answer.header(name).is_some(), "no {name}");
    }
}

#[tokio::test]
async fn the_routes_and_methods_are_those_of_the_documents() {
    let gateway = Gateway::new();
    for (router, routes, text) in [
        (gateway.api.devices(), devices(), FOR_DEVICES),
        (gateway.api.brokers(), brokers(), FOR_BROKERS),
    ] {
        let mut served = BTreeSet::new();
        for (route, _) in routes {
            for method in METHODS {
                let request = Request::builder().method(method.to_uppercase().as_str());
                let request = request.uri(route.replace("{*path}", "a/b"));
                let request = request.body(Body::empty()).expect("a request");
                let answer = gateway.ask(router.clone(), request).await;
                if answer.status != 405 {
                    served.insert((route.replace("{*path}", "{path}"), method.to_owned()));
                }
            }
        }
        let documented = operations(&parsed(text));
        // HTTP has HEAD wherever there is GET, and so nobody says so.
        let is_said =
            |path: &str, method: &str| documented.contains(&(path.to_owned(), method.to_owned()));
        served.retain(|(path, method)| {
            method != "head" || is_said(path, "head") || !is_said(path, "get")
        });
        assert_eq!(served, documented);
    }
}

#[tokio::test]
async fn each_listener_serves_its_document() {
    let gateway = Gateway::new();
    for (router, text) in [
        (gateway.api.devices(), FOR_DEVICES),
        (gateway.api.brokers(), FOR_BROKERS),
    ] {
        let request = Request::get("/openapi.json").body(Body::empty());
        let answer = gateway.ask(router, request.expect("a request")).await;
        assert_eq!((answer.status, answer.json()), (200, parsed(text)));
    }
}

#[test]
fn the_documents_say_the_limits_of_the_code() {
    let document = parsed(FOR_DEVICES);
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Scope"]["enum"], json!(KNOWN));
    let ttl = &schemas["DeviceCredentials"]["properties"]["tokenTTL"];
    assert_eq!(
        (&ttl["minimum"], &ttl["default"], &ttl["maximum"]),
        (&json!(1), &json!(DEFAULT_TTL), &json!(LONGEST_TTL))
    );
    let longest = &schemas["AccessToken"]["properties"]["expires_in"]["maximum"];
    assert_eq!(longest, &json!(DEFAULT_TTL));
    for text in [FOR_DEVICES, FOR_BROKERS] {
        assert!(text.contains(&format!("at most {LARGEST_BODY} bytes")));
    }
}
