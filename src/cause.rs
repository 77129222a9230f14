//! Why a request failed, in the words of the system.

use std::error::Error;

/// The last cause says what happened ("connection refused"); those around it say that it happened to a client.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
