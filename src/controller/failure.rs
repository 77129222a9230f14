//! Why a step failed, in words that hold nothing of what the API server sent: its texts can quote
//! an object.

use std::time::Duration;

use kube::Resource;
use kube::core::Status;
use thiserror::Error;

use crate::absent::{Said, said_of};
use crate::cause::innermost;
use crate::key::EntropyError;
use crate::verifier::HashError;

/// Why a step failed. Each text continues "could not ...: ".
#[derive(Debug, Error)]
pub enum Failure {
    /// No answer within the deadline: the request may have been carried out, or may be still.
    #[error("no answer from the API server within {0:?}")]
    Deadline(Duration),
    /// The connection failed.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// The answer is not what the API promises. Its text is not repeated: it may hold plaintext.
    #[error("the API server's answer cannot be read")]
    Garbled,
    /// Someone else wrote in between, or the name is taken.
    #[error("it changed in between")]
    Conflict,
    /// The object is not there.
    #[error("it is gone")]
    NotFound,
    /// The controller may not do this in the object's namespace.
    #[error("the controller's ServiceAccount may not do this in the namespace")]
    Forbidden,
    /// A ResourceQuota is used up.
    #[error("a ResourceQuota of the namespace is used up")]
    QuotaExceeded,
    /// An admission policy or webhook said no.
    #[error("an admission policy of the cluster refuses it")]
    AdmissionRefused,
    /// The namespace is being deleted.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The API server refuses the object because of these fields.
    #[error("the API server refuses the field {fields}")]
    Invalid {
        /// Paths, separated by commas.
        fields: String,
    },
    /// Any other refusal.
    #[error("the API server answered {code} {reason}")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// The API's reason, a word such as `TooManyRequests`.
        reason: String,
    },
    /// No secret could be generated.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// No verifier could be made.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The process is ending.
    #[error("the controller is stopping")]
    Stopping,
}

impl From<kube::Error> for Failure {
    /// Of a request that was about no object in particular. See [`Failure::about`].
    fn from(error: kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) => Failure::refused(&status),
            kube::Error::HyperError(error) => Failure::Unreachable(innermost(&error)),
            kube::Error::Service(error) => Failure::Unreachable(innermost(error.as_ref())),
            kube::Error::ReadEvents(error) => Failure::Unreachable(innermost(&error)),
            _ => Failure::Garbled,
        }
    }
}

impl Failure {
    /// Is the API server to blame, and not the object?
    pub fn is_outage(&self) -> bool {
        match self {
            Failure::Deadline(_) | Failure::Unreachable(_) => true,
            Failure::Refused { code, .. } => *code >= 500,
            _ => false,
        }
    }

    /// Of a request that was about the object `name`. Only this can be an absence or a conflict.
    pub fn about<K: Resource<DynamicType = ()>>(error: kube::Error, name: &str) -> Failure {
        let said = said_of::<K>(&error, name);
        match (Failure::from(error), said) {
            (Failure::AdmissionRefused, _) => Failure::AdmissionRefused,
            (_, Some(Said::Absent)) => Failure::NotFound,
            (_, Some(Said::Taken)) => Failure::Conflict,
            (other, None) => other,
        }
    }

    /// What was asked for, or none if it is not there.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn or_absent<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match answer {
            Err(Failure::NotFound) => Ok(None),
            other => other.map(Some),
        }
    }

    fn refused(status: &Status) -> Failure {
        // A webhook chooses the code of its refusal itself; 400 if it gives none.
        if status.message.starts_with("admission webhook ") {
            return Failure::AdmissionRefused;
        }
        match status.code {
            403 => Failure::forbidden(status),
            // Validation names fields. An admission policy does not, and its refusal is "Invalid"
            // unless it says.
            422 => fields(status).map_or(Failure::AdmissionRefused, |fields| Failure::Invalid {
                fields,
            }),
            code => Failure::Refused {
                code,
                reason: word(&status.reason),
            },
        }
    }

    /// The API gives a cause for a terminating namespace only; the other refusals differ in their
    /// text alone.
    fn forbidden(status: &Status) -> Failure {
        let terminating =
            |cause: &kube::core::response::StatusCause| cause.reason == "NamespaceTerminating";
        if status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .any(terminating)
        {
            Failure::NamespaceTerminating
        } else if status.message.contains("exceeded quota") {
            Failure::QuotaExceeded
        } else if status.message.contains("cannot") && status.message.contains("in API group") {
            Failure::Forbidden
        } else {
            Failure::AdmissionRefused
        }
    }
}

/// The paths of the fields that are refused, separated by commas; none if the API server names
/// none.
fn fields(status: &Status) -> Option<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let paths: Vec<&str> = causes
        .map(|cause| cause.field.as_str())
        .filter(|path| !path.is_empty())
        .collect();
    (!paths.is_empty()).then(|| paths.join(", "))
}

/// A reason of the API is one word; anything else is not repeated.
fn word(reason: &str) -> String {
    reason
        .chars()
        .take(64)
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_refusal_is_told_from_the_others_whatever_its_code() {
        let policy = "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no";
        let webhook = "admission webhook \"w.example.com\" denied the request: no";
        let rbac = "secrets is forbidden: User \"u\" cannot create resource \"secrets\" in API group \"\" in the namespace";
        let quota = "secrets \"a\" is forbidden: exceeded quota: q, requested: secrets=1";
        let too_long = json!([{ "reason": "FieldValueTooLong", "field": "metadata.annotations", "message": "no" }]);
        let rows = [
            (
                422,
                policy,
                json!([{ "message": "no" }]),
                "an admission policy of the cluster refuses it",
            ),
            (
                403,
                policy,
                json!([]),
                "an admission policy of the cluster refuses it",
            ),
            (
                400,
                webhook,
                json!([]),
                "an admission policy of the cluster refuses it",
            ),
            (
                409,
                webhook,
                json!([]),
                "an admission policy of the cluster refuses it",
            ),
            (
                403,
                rbac,
                json!([]),
                "the controller's ServiceAccount may not do this in the namespace",
            ),
            (
                403,
                quota,
                json!([]),
                "a ResourceQuota of the namespace is used up",
            ),
            (
                422,
                "Secret \"a\" is invalid",
                too_long,
                "the API server refuses the field metadata.annotations",
            ),
            (
                404,
                "not found, but who knows what",
                json!([]),
                "the API server answered 404 Word",
            ),
            (
                429,
                "slow down",
                json!([]),
                "the API server answered 429 Word",
            ),
        ];
        for (code, message, causes, expected) in rows {
            assert_eq!(
                failure(code, message, causes).to_string(),
                expected,
                "{code} {message}"
            );
        }
    }

    #[test]
    fn an_outage_is_told_from_what_an_object_is_refused_for() {
        let is_outage = |code| failure(code, "no", json!([])).is_outage();
        let outages = [500, 502, 503, 504].map(is_outage);
        assert_eq!(outages, [true; 4]);
        let refusals = [400, 401, 403, 404, 409, 422, 429].map(is_outage);
        assert_eq!(refusals, [false; 7]);
        assert!(Failure::Unreachable("connection refused".to_owned()).is_outage());
        assert!(Failure::Deadline(Duration::from_secs(1)).is_outage());
        assert!(!Failure::Garbled.is_outage());
    }

    #[test]
    fn only_of_the_object_asked_for_is_it_said_that_it_is_gone_or_changed() {
        let webhook = "admission webhook \"w.example.com\" denied the request: no";
        let rows = [
            (404, "NotFound", "gone", "it is gone"),
            (409, "Conflict", "changed", "it changed in between"),
            (409, "AlreadyExists", "taken", "it changed in between"),
            (
                409,
                "Conflict",
                webhook,
                "an admission policy of the cluster refuses it",
            ),
        ];
        for (code, reason, message, expected) in rows {
            let error = || {
                let details = json!({ "name": "pump", "kind": "secrets" });
                let status = json!({
                    "status": "Failure", "code": code, "reason": reason, "message": message, "details": details,
                });
                let status = serde_json::from_value(status).expect("a status");
                kube::Error::Api(Box::new(status))
            };
            let of = |name| Failure::about::<Secret>(error(), name).to_string();
            assert_eq!(of("pump"), expected);
            assert_eq!(of("valve") == expected, message == webhook, "{message}");
        }
    }

    fn failure(code: u16, message: &str, causes: Value) -> Failure {
        let status = json!({
            "status": "Failure", "code": code, "message": message, "reason": "Word", "details": { "causes": causes },
        });
        let status = serde_json::from_value(status).expect("a status");
        kube::Error::Api(Box::new(status)).into()
    }
}
