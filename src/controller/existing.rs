//! `spec.existing`: a key that was made elsewhere, and whether it can be taken over.

use thiserror::Error;

use crate::api::{AccessKey, ExistingKey};
use crate::verifier::{UnusableVerifier, Verifier};

/// The key to take over; none if a new one is asked for.
///
/// A higher revision than the first says that the secret was replaced by another since. Where a
/// status was lost, or objects were made anew from a repository, taking the key over would bring
/// back a secret that somebody wanted to be over: so a person is asked.
pub fn of(key: &AccessKey) -> Option<Result<&ExistingKey, Unusable>> {
    let existing = key.spec.existing.as_ref()?;
    let revision = key.spec.rotation.revision;
    Some(match Verifier::parse(&existing.verifier) {
        _ if revision > 1 => Err(Unusable::Replaced(revision)),
        Ok(_) => Ok(existing),
        Err(why) => Err(Unusable::Verifier(why)),
    })
}

/// Why a key cannot be taken over. The API server refuses most of these verifiers already.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Unusable {
    /// The hash cannot be checked, or would cost too much.
    #[error(
        "is not taken over, since {0}: delete it, and create it with a verifier that keyward hash \
         prints"
    )]
    Verifier(UnusableVerifier),
    /// There is a newer secret.
    #[error(
        "is not taken over, since its rotation.revision {0} says that the secret was replaced: \
         delete it, and create it with rotation.revision 1 and the verifier of the present secret"
    )]
    Replaced(i32),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VERIFIER: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn key(verifier: &str, revision: i32) -> AccessKey {
        let key = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": "pump" },
            "spec": {
                "restrictions": { "allDevices": true },
                "existing": { "key": "k", "verifier": verifier },
                "rotation": { "revision": revision },
            },
        });
        serde_json::from_value(key).expect("an AccessKey")
    }

    #[test]
    fn only_a_usable_verifier_of_the_first_revision_is_taken_over() {
        let usable = key(VERIFIER, 1);
        let found = of(&usable)
            .expect("one is asked for")
            .expect("it is usable");
        assert_eq!((&*found.key, &*found.verifier), ("k", VERIFIER));

        let dear = VERIFIER.replace("p=1", "p=4").replace("m=19456", "m=31");
        let rows = [
            (key(&dear, 1), "m at least 8 times p"),
            (key("hunter2", 1), "no PHC string"),
            (
                key(VERIFIER, 2),
                "rotation.revision 2 says that the secret was replaced",
            ),
            (
                key("hunter2", 2),
                "rotation.revision 2 says that the secret was replaced",
            ),
        ];
        for (key, words) in rows {
            let why = of(&key).expect("one is asked for").expect_err("unusable");
            assert!(why.to_string().contains(words), "{why}");
            assert!(!why.to_string().contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn without_it_a_new_key_is_asked_for() {
        let mut key = key(VERIFIER, 1);
        key.spec.existing = None;
        assert_eq!(of(&key), None);
    }
}
