//! What people are told: conditions, Events and log lines, each text in one place.

use super::existing;
use super::failure::Failure;
use super::step::Situation;
use super::view::View;
use crate::api::{AccessKey, AccessKeyStatus};

/// What is to be said about an AccessKey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    finding: Finding,
    secret: String,
    namespace: String,
}

/// What is the case, as far as people care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Everything asked for is issued.
    Issued,
    /// A key that was made elsewhere, this one, is accepted with its own secret.
    TakenOver(String),
    /// Asked to do nothing, with something left to do.
    Suspended,
    /// A secret is being issued.
    Issuing,
    /// A backup tool may still write the status.
    AwaitingRestore,
    /// The rotation waits for what an earlier one left open.
    AwaitingSweep,
    /// No further attempt can be made yet.
    TooManyAttempts,
    /// The Secret of an AccessKey of this name that is gone will be collected.
    PredecessorSecret,
    /// A ResourceQuota refuses the Secret.
    QuotaExceeded,
    /// A Secret that is not ours has the name.
    SecretExists,
    /// Our Secret was edited.
    SecretModified,
    /// Our Secret cannot be replaced.
    SecretImmutable,
    /// The status lost its verifiers.
    VerifierLost,
    /// The controller may not write Secrets here.
    NamespaceNotServed,
    /// An admission policy refuses the Secret.
    AdmissionRefused,
    /// This key belongs to another AccessKey, the name of which comes second.
    KeyConflict(String, String),
    /// The key that was made elsewhere cannot be taken over, in these words.
    NotTakenOver(String),
    /// The API server refuses the Secret because of these fields of it.
    InvalidSpec(String),
}

/// The fields of a Secret that the API server refuses to change: of an immutable one, or always.
const IMMUTABLE: [&str; 4] = ["data", "stringData", "immutable", "type"];

/// Does a further attempt leave what this status says of the issue? Whatever refused the last one mostly refuses it, too:
/// to take it back each time would be a write more for every try, and news to whoever watches.
pub fn is_said_until_it_changes(status: &AccessKeyStatus) -> bool {
    let mut said = status.conditions.iter();
    said.any(|condition| {
        condition.type_ == "Ready" && REFUSALS.contains(&condition.reason.as_str())
    })
}

/// The reasons that a publish was refused for.
const REFUSALS: [&str; 5] = [
    "AdmissionRefused",
    "InvalidSpec",
    "NamespaceNotServed",
    "QuotaExceeded",
    "SecretImmutable",
];

#[derive(PartialEq)]
enum Standing {
    Ready,
    Idle,
    Working,
    Stalled,
}

impl Verdict {
    /// What a run that rested is to say; None: what was said before still holds. In a conflict
    /// `rival` is the AccessKey that has the key.
    pub fn of(key: &AccessKey, view: &View, situation: Situation, rival: &str) -> Option<Verdict> {
        let finding = match situation {
            Situation::Deleted | Situation::Behind | Situation::Issuing => return None,
            Situation::Settled => Finding::settled(key),
            Situation::Suspended
                if view.ledger.accepted.is_empty() || view.wanted > view.ledger.requested =>
            {
                Finding::Suspended
            }
            Situation::Suspended => Finding::settled(key),
            Situation::AwaitingRestore => Finding::AwaitingRestore,
            Situation::AwaitingSweep => Finding::AwaitingSweep,
            Situation::TooManyAttempts => Finding::TooManyAttempts,
            Situation::PredecessorSecret => Finding::PredecessorSecret,
            Situation::SecretExists => Finding::SecretExists,
            Situation::SecretModified => Finding::SecretModified,
            Situation::VerifierLost => Finding::VerifierLost,
            Situation::KeyConflict => Finding::KeyConflict(public(key), rival.to_owned()),
            Situation::NotTakenOver => Finding::not_taken_over(key)?,
        };
        Some(Verdict::new(key, finding))
    }

    /// What a failure on the way to the Secret is to say; None: nothing that a person could change.
    pub fn of_failure(key: &AccessKey, failure: &Failure, replacing: bool) -> Option<Verdict> {
        let finding = match failure {
            Failure::Forbidden => Finding::NamespaceNotServed,
            Failure::QuotaExceeded => Finding::QuotaExceeded,
            Failure::AdmissionRefused => Finding::AdmissionRefused,
            Failure::Invalid { fields }
                if replacing && fields.split(", ").any(|field| IMMUTABLE.contains(&field)) =>
            {
                Finding::SecretImmutable
            }
            Failure::Invalid { fields } => Finding::InvalidSpec(fields.clone()),
            _ => return None,
        };
        Some(Verdict::new(key, finding))
    }

    /// A verdict on this AccessKey.
    pub fn new(key: &AccessKey, finding: Finding) -> Verdict {
        let namespace = key.metadata.namespace.clone().unwrap_or_default();
        Verdict {
            finding,
            secret: key.secret_name().to_owned(),
            namespace,
        }
    }

    /// Condition `Ready`.
    pub fn is_ready(&self) -> bool {
        self.standing() == Standing::Ready
    }

    /// Condition `Reconciling`.
    pub fn is_reconciling(&self) -> bool {
        self.standing() == Standing::Working
    }

    /// Condition `Stalled`: a person has to act.
    pub fn is_stalled(&self) -> bool {
        self.standing() == Standing::Stalled
    }

    /// The key belongs to another AccessKey.
    pub fn is_conflict(&self) -> bool {
        matches!(self.finding, Finding::KeyConflict(..))
    }

    fn standing(&self) -> Standing {
        match self.finding {
            Finding::Issued | Finding::TakenOver(_) => Standing::Ready,
            Finding::Suspended => Standing::Idle,
            Finding::Issuing
            | Finding::AwaitingRestore
            | Finding::AwaitingSweep
            | Finding::TooManyAttempts
            | Finding::PredecessorSecret
            | Finding::QuotaExceeded => Standing::Working,
            Finding::SecretExists
            | Finding::SecretModified
            | Finding::SecretImmutable
            | Finding::VerifierLost
            | Finding::NamespaceNotServed
            | Finding::AdmissionRefused
            | Finding::KeyConflict(..)
            | Finding::NotTakenOver(_)
            | Finding::InvalidSpec(_) => Standing::Stalled,
        }
    }

    /// The reason of conditions and Events.
    pub fn reason(&self) -> &'static str {
        match self.finding {
            Finding::Issued => "Issued",
            Finding::TakenOver(_) => "TakenOver",
            Finding::Suspended => "Suspended",
            Finding::Issuing => "Issuing",
            Finding::AwaitingRestore => "AwaitingRestore",
            Finding::AwaitingSweep => "AwaitingSweep",
            Finding::TooManyAttempts => "TooManyAttempts",
            Finding::PredecessorSecret | Finding::SecretExists => "SecretExists",
            Finding::QuotaExceeded => "QuotaExceeded",
            Finding::SecretModified => "SecretModified",
            Finding::SecretImmutable => "SecretImmutable",
            Finding::VerifierLost => "VerifierLost",
            Finding::NamespaceNotServed => "NamespaceNotServed",
            Finding::AdmissionRefused => "AdmissionRefused",
            Finding::KeyConflict(..) => "KeyConflict",
            Finding::NotTakenOver(_) | Finding::InvalidSpec(_) => "InvalidSpec",
        }
    }

    /// One or two sentences for people: what is the case, and what to change. The same for the same
    /// case, so that saying it again is no write.
    pub fn message(&self) -> String {
        let Verdict {
            secret, namespace, ..
        } = self;
        match &self.finding {
            Finding::Issued => format!("The key was issued and delivered in Secret {secret}."),
            Finding::TakenOver(key) => format!(
                "The key {key} was taken over with the secret that its devices have: no Secret is made."
            ),
            Finding::Suspended => "Nothing is issued while spec.suspend is true.".to_owned(),
            Finding::Issuing => format!("A secret is being issued, to be delivered in Secret {secret}."),
            Finding::AwaitingRestore => {
                "A backup tool made this object: its status is waited for before a new key is issued.".to_owned()
            }
            Finding::AwaitingSweep => {
                "The rotation begins once no request of the issue before it can still arrive.".to_owned()
            }
            Finding::TooManyAttempts => {
                "Eight attempts were made: the next one waits until the oldest of them can be ruled out.".to_owned()
            }
            Finding::PredecessorSecret => format!(
                "Secret {secret} is being deleted, or belongs to an AccessKey of this name that is gone: issuing goes \
                 on once it is gone, too."
            ),
            Finding::QuotaExceeded => format!(
                "A ResourceQuota of namespace {namespace} refuses Secret {secret}: raise it, or delete Secrets."
            ),
            Finding::SecretExists => format!(
                "Secret {secret} exists and holds no key of this AccessKey, so it is left alone: delete it and issuing \
                 goes on by itself, or create an AccessKey with another secret.name."
            ),
            Finding::SecretModified => format!(
                "Secret {secret} was edited and holds no secret of this key, so it is left alone: delete it and the \
                 rotation goes on by itself."
            ),
            Finding::SecretImmutable => format!(
                "Secret {secret} is immutable or of another type and cannot be replaced: delete it and the rotation \
                 goes on by itself."
            ),
            Finding::VerifierLost => {
                "The status lost the verifier of the key, so no secret is accepted: raise rotation.revision to issue \
                 a new one."
                    .to_owned()
            }
            Finding::NamespaceNotServed => format!(
                "The controller may not write Secrets in namespace {namespace}: run kubectl apply -n {namespace} -f \
                 deploy/namespace.yaml."
            ),
            Finding::AdmissionRefused => format!(
                "An admission policy or webhook of the cluster refuses Secret {secret}: ask its owner to admit \
                 Secrets of type keyward.dev/access-key from the controller."
            ),
            Finding::KeyConflict(key, rival) => format!(
                "AccessKey {rival} has the key {key} too, and had it first, so this one admits nobody: delete one of \
                 the two, or create this one anew with another key."
            ),
            Finding::NotTakenOver(why) => why.clone(),
            Finding::InvalidSpec(fields) => format!(
                "The API server refuses Secret {secret} because of its {fields}: change spec.secret accordingly."
            ),
        }
    }
}

impl Finding {
    /// All that was asked for is done.
    pub fn settled(key: &AccessKey) -> Finding {
        let is_delivered = key
            .status
            .as_ref()
            .is_some_and(|status| status.secret.is_some());
        match &key.spec.existing {
            Some(existing) if !is_delivered => Finding::TakenOver(existing.key.clone()),
            _ => Finding::Issued,
        }
    }

    fn not_taken_over(key: &AccessKey) -> Option<Finding> {
        let why = existing::of(key)?.err()?;
        let name = key.metadata.name.as_deref().unwrap_or_default();
        Some(Finding::NotTakenOver(format!("AccessKey {name} {why}.")))
    }
}

/// The public key that is its own, or that it asks for.
fn public(key: &AccessKey) -> String {
    let held = key.status.as_ref().and_then(|status| status.key.as_ref());
    let asked = key.spec.existing.as_ref().map(|existing| &existing.key);
    held.or(asked).cloned().unwrap_or_default()
}
