//! Keyward: device access keys for Kubernetes.
//!
//! An `AccessKey` asks for a public `key` and a `secret`. The [`controller`] makes both, delivers them once in a Secret,
//! and keeps an argon2id hash of the secret, the *verifier*, in the AccessKey's status. Whoever asks whether a device is
//! admitted gets the answer from [`policy`], which knows verifiers and never plaintext.
//!
//! A [`gateway`] knows all AccessKeys and Devices, and answers for devices, brokers and services.
//!
//! Read [`controller::step`] and [`policy`] first: what is decided stands there, in plain functions.
//!
//! | module | what it holds | imports a Kubernetes client or tokio |
//! |---|---|---|
//! | [`api`], [`crds`] | the resources, their schema and rules | no |
//! | [`key`], [`verifier`] | key, secret, check; hashes | no |
//! | [`text`] | short texts | no |
//! | [`policy`], [`devices`] | who is admitted; which Device speaks for an ID | no |
//! | [`topics`], [`sources`] | what a session may send and receive; from where a key may be used | no |
//! | [`controller::step`], [`controller::observed`], [`controller::view`], [`controller::memory`], [`controller::ledger`], [`controller::rotation`] | the issuing protocol | no |
//! | [`controller`], the rest of it | watch, queue, take steps, report | yes |
//! | [`gateway`] | its directory, decisions, tokens and HTTP | tokio; [`gateway::feed`] both |
//! | [`check`] | `keyward check` | yes |
//! | [`hash`] | `keyward hash` | no |
//! | [`admin`], [`backoff`], [`clock`], [`listener`], [`metrics`], [`shutdown`], [`telemetry`], [`tls`] | the process | tokio |
//!
//! # The contract
//!
//! If an AccessKey stops changing, the controller eventually delivers what it asks for and then leaves it alone, despite
//! crashes, lost requests and a second controller. On the way and afterwards **at most one secret per revision is ever
//! accepted**, and a secret that was accepted and that nobody took away is still in its Secret.
//!
//! # Issuing
//!
//! ```text
//!             commit                    publish                   confirm
//!  pending ------------> an attempt ------------> in the Secret ------------> accepted --(overlap)--> retired
//!             status,                   create, or                status,
//!             compare-and-swap          replace one exact         compare-and-swap
//!                                       Secret
//! ```
//!
//! Three writes, each one request. A secret counts only once it is confirmed; its plaintext lives in one process,
//! between commit and publish. The rules, which the code calls by their numbers:
//!
//! 1. Commit before publish. After a failed or unknown commit the plaintext is dropped; it lives a fifth of the grace at
//!    most. The commit that opens an issue records for which object and which `rotation.revision` it is, and clears
//!    `nextRotation`: one due time, one issue. A rotation inspects before it commits, and an issue under way is finished
//!    before the next one begins.
//! 2. After anything but a clean first answer to publish, **inspect**: read the Secret (its bytes only if it is ours),
//!    *then* the AccessKey, live, and decide on that pair, in this order: an attempt of ours that is neither under way
//!    nor accepted is dead, and a Secret that holds it is deleted; nothing to do: stop; no Secret: publish what is held,
//!    or commit to a new attempt; not ours: say so and touch nothing; it holds an attempt under way: confirm that,
//!    whoever made it; it holds an older revision's accepted secret: replace it; anything else: look once more, and if
//!    nothing has changed call a person.
//! 3. At most eight attempts. One is dropped by a later commit if it was older than the grace when the Secret was read
//!    and did not hold it: none of its requests can be alive then.
//! 4. A confirm leaves a mark (`unsettled`) unless the issue had one attempt and this process got the clean answer to
//!    its publish. After the grace a **sweep** deletes a Secret of ours that holds one of the attempts that lost, and
//!    clears the mark. It runs before the next revision begins, and shows in no condition.
//! 5. Nothing depends on there being one controller. A look at a cached object that is older than this process's own
//!    last answer waits for 5 seconds and then reads live; if that is older too, etcd was restored, and the answer is
//!    forgotten. Failures wait 1 to 60 seconds.
//! 6. Issued, and no Secret: it was consumed. It is never made again; only a higher `rotation.revision` makes a new
//!    secret, for the same key. A rotation that is due by `rotation.every` is left out then, and `nextRotation` set anew.
//! 7. Deleting the AccessKey removes its Secret, by its ownerReference. An AccessKey of the same name is a new key.
//! 8. A restored object whose status came back keeps working under its new uid, and owns its restored Secret again. One
//!    that a backup tool has just made waits one grace for its status.
//!
//! A key that was made elsewhere (`spec.existing`) has no first issue: its verifier is accepted by one write, and nothing
//! is delivered. From then on it is as any other. It is not taken over where `rotation.revision` is higher than 1, since
//! that says that its secret was replaced: a status that is lost never brings a retired secret back. Nor is it while
//! another AccessKey of the namespace has its key; of two that have it the older counts, as at gateways.
//!
//! The **grace** (`--grace`) is longer than any request can live. Ages are measured on the process's monotonic clock from
//! when it first saw a thing; the times in a status are for people. One hole is left: a process that is paused for
//! longer than the grace exactly between commit and publish can leave a Secret that was never accepted. It admits nobody.
//!
//! # What is defended, and how
//!
//! | against | by |
//! |---|---|
//! | a second secret, or a lost one, after a crash | the rules above, explored as a model (`tests/model.rs`), and every fault at every request (`tests/faults.rs`) |
//! | a Secret put there by someone else | its bytes must verify; name, labels and ownerReference prove nothing |
//! | plaintext in logs, Events, status, errors | [`key::Secret`] cannot be printed or copied; [`telemetry`] silences what repeats bodies; [`controller::failure`] never repeats what the API server said |
//! | a controller that mints ServiceAccount tokens | an admission policy, `deploy/install.yaml` |
//! | a costly hash planted in a status | caps in [`verifier`] |
//! | restrictions that admit more than they say | required and never empty; what cannot be read admits nobody |

mod absent;
pub mod admin;
pub mod api;
pub mod backoff;
pub mod brokers;
mod cause;
pub mod check;
pub mod clock;
pub mod conditions;
pub mod controller;
pub mod crds;
pub mod devices;
mod flags;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod hash;
mod input;
pub mod key;
pub mod listener;
pub mod metrics;
#[cfg(doctest)]
mod plaintext;
pub mod policy;
mod punctual;
pub mod shutdown;
pub mod sources;
pub mod telemetry;
pub mod text;
pub mod tls;
pub mod topics;
pub mod verifier;
