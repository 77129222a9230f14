//! `keyward check`: would a gateway admit this device, with this key and secret?
//!
//! The answer comes from the live objects, by the function that gateways use ([`crate::policy`]).
//! The secret is read from standard input, or asked for at a terminal: arguments and environment
//! variables can be read by other processes, and end up in histories.
//!
//! | exit code | standard output | standard error |
//! |---|---|---|
//! | 0 | `Allow` | |
//! | 1 | `Deny: ` and the reason | |
//! | 2 | | what keeps it from telling, and what to change |
//!
//! Of two AccessKeys with one key the older has it, as at gateways.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::absent::{Said, said_of};
use crate::api::{AccessKey, Device};
use crate::cause::innermost;
use crate::devices::{Claim, elect};
use crate::input::{self, UnreadableInput};
use crate::key::Secret;
use crate::policy::{
    AcceptedVerifier, Decision, DeviceRecord, KeyRecord, Known, Presented, Reason, UnreadableKey,
    decide,
};

mod problem;

use problem::CannotTell;

/// Tells whether a gateway would admit a device with this key and a secret, which is read from
/// standard input. Exit code 0: Allow; 1: Deny; 2: it cannot tell.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The namespace of the access key and the device.
    #[arg(long, env = "KEYWARD_NAMESPACE", value_name = "NS", value_parser = namespace_name)]
    pub namespace: String,

    /// The device ID.
    #[arg(long, env = "KEYWARD_DEVICE", value_name = "ID")]
    pub device: String,

    /// The key, the public part of the access key; the secret is read from standard input.
    #[arg(long, env = "KEYWARD_KEY", value_name = "KEY")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub key: String,

    /// The address that the device comes from; without it a key that is limited to some addresses
    /// refuses.
    #[arg(long, env = "KEYWARD_SOURCE", value_name = "ADDR")]
    pub source: Option<IpAddr>,
}

/// Answers on standard output and standard error, and by the exit code.
///
/// `client` is awaited once the secret was read. It must not retry by itself
/// (`Config::default_retry`): each call has 10 seconds.
pub async fn run<E: Display>(
    args: CheckArgs,
    client: impl Future<Output = Result<Client, E>>,
) -> ExitCode {
    let answer = answer(&args, input::secret, client).await;
    report(answer, &args.key, &mut io::stdout(), &mut io::stderr())
}

async fn answer<E: Display>(
    args: &CheckArgs,
    read_secret: impl FnOnce() -> Result<Zeroizing<String>, UnreadableInput>,
    client: impl Future<Output = Result<Client, E>>,
) -> Result<Decision, CannotTell> {
    refuse_secrets_in_arguments(args)?;
    let secret = read_secret()?;
    let presented = Presented {
        namespace: &args.namespace,
        key: &args.key,
        device_id: &args.device,
        secret: &secret,
        source: args.source,
    };
    if is_malformed(&presented) {
        return Ok(Decision::Deny(Reason::Malformed));
    }
    let client = client
        .await
        .map_err(|error| CannotTell::Client(error.to_string()))?;
    Cluster {
        client,
        namespace: &args.namespace,
        deadline: DEADLINE,
    }
    .decide(&presented)
    .await
}

fn report(
    answer: Result<Decision, CannotTell>,
    key: &str,
    out: &mut impl Write,
    err: &mut impl Write,
) -> ExitCode {
    // The exit code is the answer, also where nobody reads the words.
    let (code, _) = match answer {
        Ok(Decision::Allow(_)) => (ALLOW, writeln!(out, "Allow")),
        Ok(Decision::Deny(reason)) => (DENY, writeln!(out, "Deny: {reason}")),
        Ok(Decision::Unavailable) => (CANNOT_TELL, writeln!(err, "{}", printable(&under_way(key)))),
        Err(problem) => (
            CANNOT_TELL,
            writeln!(err, "{}", printable(&problem.to_string())),
        ),
    };
    ExitCode::from(code)
}

/// The live objects of one namespace.
struct Cluster<'a> {
    client: Client,
    namespace: &'a str,
    deadline: Duration,
}

impl Cluster<'_> {
    async fn decide(&self, presented: &Presented<'_>) -> Result<Decision, CannotTell> {
        let record = self.access_key(presented.key).await?;
        let device = self.device(presented.device_id).await?;
        let known = Known {
            key: record.as_ref(),
            device: device.as_ref(),
            requires_registration: false,
        };
        let now = Timestamp::now();
        Ok(decide(known, presented, now, AcceptedVerifier::verifies))
    }

    async fn access_key(&self, key: &str) -> Result<Option<KeyRecord>, CannotTell> {
        let mut found = self.list::<AccessKey>("status.key", key).await?;
        found.retain(|object| is_live(object) && object.data["status"]["key"] == key);
        let Some(object) = elected(&found, key, |object| claim(object, key)) else {
            return Ok(None);
        };
        let access_key: AccessKey = read(object)?;
        KeyRecord::of(&access_key)
            .map_err(|error: UnreadableKey| unreadable::<AccessKey>(object, error))
    }

    async fn device(&self, id: &str) -> Result<Option<DeviceRecord>, CannotTell> {
        let mut found = self.list::<Device>("spec.deviceId", id).await?;
        // One that leaves the field out has its name for an ID.
        found.extend(self.get::<Device>(id).await?);
        found.retain(is_live);
        let object = elected(&found, id, |device| claim(device, device_id(device)));
        object
            .map(|object| read::<Device>(object).map(|device| DeviceRecord::of(&device)))
            .transpose()
    }

    /// The objects come as they are, so that one that cannot be read does not hide the others.
    fn objects<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.client.clone(),
            self.namespace,
            &ApiResource::erase::<K>(&()),
        )
    }

    async fn list<K: Resource<DynamicType = ()>>(
        &self,
        field: &str,
        value: &str,
    ) -> Result<Vec<DynamicObject>, CannotTell> {
        let params = ListParams::default().fields(&format!("{field}={}", escape(value)));
        Ok(self
            .call::<K, _>(self.objects::<K>().list(&params))
            .await?
            .items)
    }

    async fn get<K: Resource<DynamicType = ()>>(
        &self,
        name: &str,
    ) -> Result<Option<DynamicObject>, CannotTell> {
        let request = async {
            match self.objects::<K>().get(name).await {
                Err(error) if said_of::<K>(&error, name) == Some(Said::Absent) => Ok(None),
                answer => answer.map(Some),
            }
        };
        self.call::<K, _>(request).await
    }

    async fn call<K: Resource<DynamicType = ()>, T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CannotTell> {
        let what = format!(
            "{}.{} in namespace {:?}",
            K::plural(&()),
            K::group(&()),
            self.namespace
        );
        match timeout(self.deadline, request).await {
            Ok(answer) => answer.map_err(|error| CannotTell::because(what, error)),
            Err(_) => Err(CannotTell::Late {
                what,
                limit: self.deadline,
            }),
        }
    }
}

fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(
    object: &DynamicObject,
) -> Result<K, CannotTell> {
    object
        .clone()
        .try_parse()
        .map_err(|error| unreadable::<K>(object, innermost(&error)))
}

fn unreadable<K: Resource<DynamicType = ()>>(
    object: &DynamicObject,
    error: impl Display,
) -> CannotTell {
    CannotTell::Unreadable {
        kind: K::kind(&()).into_owned(),
        name: name_of(object),
        error: error.to_string(),
    }
}

fn under_way(key: &str) -> String {
    format!(
        "a secret of the key {key} is being issued right now, and this is it: try again in a few \
         seconds, and if that does not help see the conditions of its AccessKey"
    )
}

/// What a terminal shows as it is. Names, arguments and messages hold what others chose: anything
/// else in them is written as its code.
fn printable(text: &str) -> String {
    let shown = |char: char| match char {
        '"' | '\'' | '\\' => char.to_string(),
        other => other.escape_debug().to_string(),
    };
    text.chars().map(shown).collect()
}

/// An object that is being deleted counts as deleted.
fn is_live(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_none()
}

fn name_of(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

/// The object whose claim to this ID stands.
fn elected<'a>(
    objects: &'a [DynamicObject],
    id: &str,
    claim: impl Fn(&'a DynamicObject) -> Claim<'a>,
) -> Option<&'a DynamicObject> {
    let winners = elect(objects.iter().map(claim));
    let winner = winners.get(id)?;
    objects
        .iter()
        .find(|object| object.metadata.name.as_deref() == Some(winner.name))
}

fn claim<'a>(object: &'a DynamicObject, id: &'a str) -> Claim<'a> {
    let created = object.metadata.creation_timestamp.as_ref();
    Claim {
        created: created.map_or(Timestamp::MAX, |time| time.0),
        name: object.metadata.name.as_deref().unwrap_or_default(),
        id,
    }
}

fn device_id(device: &DynamicObject) -> &str {
    let name = device.metadata.name.as_deref().unwrap_or_default();
    device.data["spec"]["deviceId"].as_str().unwrap_or(name)
}

/// In a field selector `,`, `=` and `\` mean something.
fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace(',', r"\,")
        .replace('=', r"\=")
}

fn is_malformed(presented: &Presented<'_>) -> bool {
    let nothing = Known::default();
    let without_objects = decide(nothing, presented, Timestamp::UNIX_EPOCH, |_, _| false);
    without_objects == Decision::Deny(Reason::Malformed)
}

fn refuse_secrets_in_arguments(args: &CheckArgs) -> Result<(), CannotTell> {
    for (flag, value) in [("key", &args.key), ("device", &args.device)] {
        if Secret::parse(value).is_ok() {
            return Err(CannotTell::SecretInArgument(flag));
        }
    }
    Ok(())
}

/// A namespace's name ends up in a path.
fn namespace_name(text: &str) -> Result<String, &'static str> {
    let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=63).contains(&text.len()) && text.bytes().all(lawful) {
        Ok(text.to_owned())
    } else {
        Err("a namespace's name has 1 to 63 lower-case letters, digits and '-'")
    }
}

const ALLOW: u8 = 0;
const DENY: u8 = 1;
const CANNOT_TELL: u8 = 2;

/// For each call to the API server.
const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
