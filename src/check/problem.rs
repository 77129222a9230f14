//! What keeps the command from telling.

use std::time::Duration;

use thiserror::Error;

use crate::absent::is_proper;
use crate::cause::innermost;
use crate::input::UnreadableInput;

/// Why there is no answer, and what to change.
#[derive(Debug, Error)]
pub enum CannotTell {
    #[error(
        "the value of --{0} is a secret, which others may have seen now: rotate it, and pass it \
         on standard input only"
    )]
    SecretInArgument(&'static str),
    #[error(transparent)]
    Input(#[from] UnreadableInput),
    #[error(
        "cannot make a client for the API server: {0}; set KUBECONFIG to a file that names one"
    )]
    Client(String),
    #[error(
        "the API server did not answer within {limit:?} when asked for {what}: check that it runs \
         and that KUBECONFIG names the right one"
    )]
    Late { what: String, limit: Duration },
    #[error(
        "cannot reach the API server to ask for {what}: {error}; check that it runs and that \
         KUBECONFIG names the right one"
    )]
    Unreachable { what: String, error: String },
    #[error(
        "the API server does not accept the credentials it was asked for {what} with: log in \
         again, or set KUBECONFIG"
    )]
    Unauthorized { what: String },
    #[error(
        "the API server refuses to give {what}: ask for a role with the verbs get and list on \
         accesskeys and devices of keyward.dev"
    )]
    Forbidden { what: String },
    #[error(
        "the API server does not know {what}, or not the field they are looked up by: apply the \
         crds/ of this version"
    )]
    NoDefinition { what: String },
    #[error("the API server cannot give {what} now: {message}; try again once it is in order")]
    Refused { what: String, message: String },
    #[error(
        "the answer to the question for {what} is not one of an API server ({code}): check that \
         KUBECONFIG names one, and not something in front of it"
    )]
    NotAnApiServer { what: String, code: u16 },
    #[error(
        "the answer to the question for {what} cannot be read: check that KUBECONFIG names an API \
         server, and not something in front of it"
    )]
    Garbled { what: String },
    #[error("cannot read {kind} {name:?}: {error}; correct it, or apply the crds/ of this version")]
    Unreadable {
        kind: String,
        name: String,
        error: String,
    },
}

impl CannotTell {
    /// Why the API server did not give `what`.
    pub fn because(what: String, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthorized { what },
                403 => Self::Forbidden { what },
                400 | 404 => Self::NoDefinition { what },
                _ if is_proper(&status) => Self::Refused {
                    what,
                    message: status.message,
                },
                // Its text may be a page of anything.
                code => Self::NotAnApiServer { what, code },
            },
            kube::Error::Service(error) => Self::Unreachable {
                what,
                error: innermost(error.as_ref()),
            },
            kube::Error::HyperError(error) => Self::Unreachable {
                what,
                error: innermost(&error),
            },
            // Their texts repeat the answer.
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Garbled { what },
            error => Self::Unreachable {
                what,
                error: error.to_string(),
            },
        }
    }
}
