//! The Secret that delivers a key: written with plaintext, and read back without keeping more of it
//! than one [`Secret`].

use http::{Request, header};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};

use super::failure::Failure;
use super::ledger::{Uid, Version};
use super::observed::{Bytes, PresentSecret};
use super::status::version;
use crate::api::AccessKey;
use crate::clock::Moment;
use crate::key::Secret;

/// The type of the Secrets that the controller makes.
pub const SECRET_TYPE: &str = "keyward.dev/access-key";

/// What writes of this controller are signed with.
pub const FIELD_MANAGER: &str = "keyward";

/// What every Secret that is written says of itself beside key and secret, by the Service Binding
/// specification. A Secret without is as good: nothing reads them.
const SELF_DESCRIPTION: [(&str, &str); 2] = [("type", "keyward"), ("provider", "keyward")];

/// What a Secret of ours was found to hold.
pub struct Contents {
    /// The entry for the public identifier.
    pub key: String,
    /// The entry for the secret.
    pub secret: Secret,
}

/// Creates the Secret, or replaces exactly the one in `over`. The answer is asked for without the
/// data, so that no plaintext comes back.
pub async fn publish(
    client: &Client,
    owner: &AccessKey,
    key: &str,
    secret: &Secret,
    over: Option<&(Uid, Version)>,
) -> Result<(Uid, Version), Failure> {
    let name = owner.secret_name();
    let path = KubeSecret::url_path(&(), owner.metadata.namespace.as_deref());
    let body =
        serde_json::to_vec(&manifest(owner, key, secret, over)).map_err(|_| Failure::Garbled)?;
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let requests = kube::core::Request::new(path);
    let request = match over {
        None => requests.create(&params, body),
        Some(_) => requests.replace(name, &params, body),
    };
    let request = request.map_err(|_| Failure::Garbled)?;
    let answer = client
        .request::<PartialObjectMeta<KubeSecret>>(metadata_only(request))
        .await;
    written(&answer.map_err(about(name))?.metadata)
}

fn metadata_only(mut request: Request<Vec<u8>>) -> Request<Vec<u8>> {
    let accept = header::HeaderValue::from_static(
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    );
    request.headers_mut().insert(header::ACCEPT, accept);
    request
}

fn written(meta: &ObjectMeta) -> Result<(Uid, Version), Failure> {
    let uid = meta.uid.as_deref().map(|uid| Uid(uid.into()));
    uid.zip(version(meta.resource_version.as_deref()))
        .ok_or(Failure::Garbled)
}

fn manifest(
    owner: &AccessKey,
    key: &str,
    secret: &Secret,
    over: Option<&(Uid, Version)>,
) -> KubeSecret {
    let template = &owner.spec.secret;
    let mut labels = template.labels.clone();
    labels.insert(
        "app.kubernetes.io/managed-by".to_owned(),
        FIELD_MANAGER.to_owned(),
    );
    let entries = [
        (template.keys.key.as_str(), key),
        (&template.keys.secret, secret.expose()),
    ];
    let entries = SELF_DESCRIPTION.into_iter().chain(entries);
    KubeSecret {
        metadata: ObjectMeta {
            name: Some(owner.secret_name().to_owned()),
            namespace: owner.metadata.namespace.clone(),
            uid: over.map(|(uid, _)| uid.0.to_string()),
            resource_version: over.map(|(_, version)| version.0.to_string()),
            labels: Some(labels),
            annotations: Some(template.annotations.clone())
                .filter(|annotations| !annotations.is_empty()),
            owner_references: owner
                .controller_owner_ref(&())
                .map(|reference| vec![reference]),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(
            entries
                .map(|(name, text)| (name.to_owned(), ByteString(text.into())))
                .collect(),
        ),
        ..KubeSecret::default()
    }
}

/// Reads the Secret's metadata, and nothing else.
pub async fn read_metadata(
    secrets: &Api<KubeSecret>,
    owner: &AccessKey,
    begun: Moment,
) -> Result<Option<PresentSecret>, Failure> {
    let name = owner.secret_name();
    let found = secrets.get_metadata(name).await.map_err(about(name));
    Failure::or_absent(found)?
        .map(|found| present(&found.metadata, owner, Bytes::Unread, begun))
        .transpose()
}

/// Reads the whole Secret. Contents are none if it does not hold what Keyward writes.
pub async fn read(
    secrets: &Api<KubeSecret>,
    owner: &AccessKey,
    begun: Moment,
) -> Result<Option<(PresentSecret, Option<Contents>)>, Failure> {
    let name = owner.secret_name();
    let found = secrets.get(name).await.map_err(about(name));
    let Some(found) = Failure::or_absent(found)? else {
        return Ok(None);
    };
    let present = present(&found.metadata, owner, Bytes::Read, begun)?;
    Ok(Some((present, contents(&found, owner))))
}

fn contents(found: &KubeSecret, owner: &AccessKey) -> Option<Contents> {
    let names = &owner.spec.secret.keys;
    let entry = |name: &str| std::str::from_utf8(&found.data.as_ref()?.get(name)?.0).ok();
    let secret = entry(&names.secret)?;
    // Of a key that was made elsewhere somebody may have put the secret there.
    let secret = match owner.spec.existing {
        Some(_) => Secret::foreign(secret).ok()?,
        None => Secret::parse(secret).ok()?,
    };
    Some(Contents {
        key: entry(&names.key)?.to_owned(),
        secret,
    })
}

fn present(
    meta: &ObjectMeta,
    owner: &AccessKey,
    bytes: Bytes,
    at: Moment,
) -> Result<PresentSecret, Failure> {
    let (uid, version) = written(meta)?;
    // What is written to an object that is being deleted goes with it.
    let going = meta.deletion_timestamp.is_some();
    let controller = meta
        .owner_references
        .iter()
        .flatten()
        .find(|reference| is_access_key(reference));
    Ok(PresentSecret {
        uid,
        version,
        owner: controller
            .filter(|_| !going)
            .map(|reference| Uid(reference.uid.as_str().into())),
        namesake: going
            || controller
                .is_some_and(|reference| owner.metadata.name.as_ref() == Some(&reference.name)),
        bytes,
        at,
    })
}

fn is_access_key(reference: &OwnerReference) -> bool {
    let group = reference
        .api_version
        .split_once('/')
        .map(|(group, _)| group);
    reference.controller == Some(true)
        && reference.kind == "AccessKey"
        && group == Some(crate::api::GROUP)
}

/// Deletes exactly this Secret, or none.
pub async fn delete(
    secrets: &Api<KubeSecret>,
    name: &str,
    uid: &Uid,
    version: Version,
) -> Result<(), Failure> {
    let preconditions = Preconditions {
        uid: Some(uid.0.to_string()),
        resource_version: Some(version.0.to_string()),
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    let deleted = secrets.delete(name, &params).await;
    deleted.map(drop).map_err(about(name))
}

fn about(name: &str) -> impl Fn(kube::Error) -> Failure {
    move |error| Failure::about::<KubeSecret>(error, name)
}
