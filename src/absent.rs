//! What the API server says about an object that it did not give or change.
//!
//! Much follows from an object's absence: a Secret that is not there was consumed, or is still to be
//! published. So it is believed of a `Status` that names the object asked for, and of nothing else:
//! the page of a proxy, a path that is not served, or a namespace that is missing have the same
//! code, and say nothing about the object. The same holds for conflicts.

use kube::Resource;
use kube::core::Status;
use kube::core::response::reason;

/// Why an object was not given or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is not there.
    Absent,
    /// It is there already, or is another than the request was for.
    Taken,
}

/// What an error says about the object `name`, if it is about that.
pub fn said_of<K: Resource<DynamicType = ()>>(error: &kube::Error, name: &str) -> Option<Said> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    let said = match (status.code, status.reason.as_str()) {
        (404, reason::NOT_FOUND) => Said::Absent,
        (409, reason::ALREADY_EXISTS | reason::CONFLICT) => Said::Taken,
        _ => return None,
    };
    (status.is_failure() && names::<K>(status, name)).then_some(said)
}

/// Did the API server itself say this? Of anything else kube makes a Status, too.
pub fn is_proper(status: &Status) -> bool {
    status.is_failure() && reason::is_known(&status.reason)
}

fn names<K: Resource<DynamicType = ()>>(status: &Status, name: &str) -> bool {
    status.details.as_ref().is_some_and(|details| {
        details.name == name && details.kind == K::plural(&()) && details.group == K::group(&())
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::AccessKey;

    #[test]
    fn absence_and_conflict_are_said_of_the_object_that_was_asked_for() {
        let key = json!({ "name": "pump", "group": "keyward.dev", "kind": "accesskeys" });
        let secret = json!({ "name": "pump", "kind": "secrets" });
        assert_eq!(said(404, "NotFound", &key), [Some(Said::Absent), None]);
        assert_eq!(said(404, "NotFound", &secret), [None, Some(Said::Absent)]);
        for reason in ["AlreadyExists", "Conflict"] {
            assert_eq!(said(409, reason, &key), [Some(Said::Taken), None]);
            assert_eq!(said(409, reason, &secret), [None, Some(Said::Taken)]);
        }
    }

    #[test]
    fn nothing_else_says_anything() {
        let secret = json!({ "name": "pump", "kind": "secrets" });
        let rows = [
            (404, "NotFound", Value::Null),
            (404, "NotFound", json!({})),
            (
                404,
                "NotFound",
                json!({ "name": "plant", "kind": "namespaces" }),
            ),
            (
                404,
                "NotFound",
                json!({ "name": "valve", "kind": "secrets" }),
            ),
            (
                404,
                "NotFound",
                json!({ "name": "pump", "kind": "configmaps" }),
            ),
            (
                404,
                "NotFound",
                json!({ "name": "pump", "kind": "secrets", "group": "example.com" }),
            ),
            (404, "Failed to parse error data", secret.clone()),
            (404, "", secret.clone()),
            (404, "Conflict", secret.clone()),
            (409, "NotFound", secret.clone()),
            (409, "", secret.clone()),
            (
                409,
                "Conflict",
                json!({ "name": "few-secrets", "kind": "resourcequotas" }),
            ),
            (0, "NotFound", secret.clone()),
            (403, "Forbidden", secret),
        ];
        for (code, reason, details) in rows {
            assert_eq!(
                said(code, reason, &details),
                [None, None],
                "{code} {reason} {details}"
            );
        }
        let other = kube::Error::LinesCodecMaxLineLengthExceeded;
        assert_eq!(said_of::<Secret>(&other, "pump"), None);
    }

    #[test]
    fn a_status_that_says_success_says_nothing() {
        let details = json!({ "name": "pump", "kind": "secrets" });
        let status =
            json!({ "status": "Success", "code": 404, "reason": "NotFound", "details": details });
        assert_eq!(said_of::<Secret>(&error(status), "pump"), None);
    }

    /// Of an AccessKey and of a Secret named `pump`.
    fn said(code: u16, reason: &str, details: &Value) -> [Option<Said>; 2] {
        let status =
            json!({ "status": "Failure", "code": code, "reason": reason, "details": details });
        let error = error(status);
        [
            said_of::<AccessKey>(&error, "pump"),
            said_of::<Secret>(&error, "pump"),
        ]
    }

    fn error(status: Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(status).expect("a status")))
    }
}
