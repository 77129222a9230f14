//! What is asked about, as it stands in the cluster.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, Time,
};
use keyward::api;
use keyward::key::{Check, Secret};

use super::gateway::{KEY, now};
use super::world::{
    Class, Device, Filter, Key, Life, Requirement, Restrictions, SECRETS, Verifier,
};

/// The hashes of the secrets, which nobody computes: that it is known which is which is enough.
static HASHES: LazyLock<[String; 4]> = LazyLock::new(|| {
    let hash = |letter: &str| {
        let tag = letter.repeat(42);
        format!("$argon2id$v=19$m=1024,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA${tag}A")
    };
    ["A", "B", "C", "D"].map(hash)
});

pub fn hash(secret: usize) -> &'static str {
    &HASHES[secret]
}

/// The check that stands beside a hash of a secret that was generated.
static CHECKS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let secrets = [SECRETS[0], SECRETS[1], SECRETS[2]];
    secrets.map(|text| {
        let secret = Secret::parse(text).expect("well formed");
        Check::of(KEY, &secret).as_str().to_owned()
    })
});

fn time(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

impl Key {
    /// What stands in the cluster.
    pub fn manifest(&self) -> api::AccessKey {
        let mut key = api::AccessKey::new("fleet", self.spec());
        key.metadata.deletion_timestamp = (self.life == Life::Deleted).then(|| Time(now()));
        key.status = Some(api::AccessKeyStatus {
            key: (self.life != Life::NotIssued).then(|| KEY.to_owned()),
            verifiers: self.verifiers.iter().map(Verifier::manifest).collect(),
            issuance: (!self.under_way.is_empty()).then(|| self.issuance()),
            ..api::AccessKeyStatus::default()
        });
        key
    }

    fn spec(&self) -> api::AccessKeySpec {
        let [publish, subscribe] = self.topics.lists.clone();
        api::AccessKeySpec {
            state: match self.is_inactive {
                true => api::KeyState::Inactive,
                false => api::KeyState::Active,
            },
            restrictions: self.restrictions.manifest(),
            sources: api::Sources {
                filter: match self.sources.filter {
                    Filter::None | Filter::All => api::SourceFilter::All,
                    Filter::Allow => api::SourceFilter::AllowList,
                    Filter::Deny => api::SourceFilter::DenyList,
                },
                cidrs: self.sources.lists[0].clone(),
            },
            topics: api::Topics {
                filter: match self.topics.filter {
                    Filter::None => api::TopicFilter::None,
                    Filter::All => api::TopicFilter::All,
                    Filter::Allow => api::TopicFilter::AllowList,
                    Filter::Deny => api::TopicFilter::DenyList,
                },
                publish,
                subscribe,
            },
            not_before: self.not_before.map(|seconds| Time(time(seconds))),
            expires_at: self.expires_at.map(|seconds| Time(time(seconds))),
            ..api::AccessKeySpec::default()
        }
    }

    fn issuance(&self) -> api::Issuance {
        let attempt = |secret: &usize| api::Attempt {
            verifier: hash(*secret).to_owned(),
            check: CHECKS[*secret].clone(),
            at: Time(now()),
        };
        api::Issuance {
            revision: 9,
            attempts: self.under_way.iter().map(attempt).collect(),
        }
    }
}

impl Verifier {
    fn manifest(&self) -> api::AcceptedVerifier {
        api::AcceptedVerifier {
            revision: self.revision,
            verifier: hash(self.of).to_owned(),
            check: self.check_of.map(|secret| CHECKS[secret].clone()),
            issued_at: Time(now()),
            valid_until: self.valid_until.map(|seconds| Time(time(seconds))),
        }
    }
}

impl Restrictions {
    fn manifest(&self) -> api::Restrictions {
        let owned = |text: &Option<&str>| text.map(str::to_owned);
        let tags = self.tags.as_ref().map(|tags| {
            let pair = |(key, value): &(_, _)| api::TagPair {
                key: owned(key),
                value: owned(value),
            };
            tags.iter().map(pair).collect()
        });
        let ids = self
            .ids
            .as_ref()
            .map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        api::Restrictions {
            all_devices: self.all,
            device_ids: ids,
            device_tags: tags,
            device_selector: self.labels.as_deref().map(selector),
        }
    }
}

/// What asks for one value is written as people write it.
fn selector(requirements: &[Requirement]) -> LabelSelector {
    let is_plain = |(_, operator, values): &&Requirement| *operator == "In" && values.len() == 1;
    let (plain, others): (Vec<_>, Vec<_>) = requirements.iter().partition(is_plain);
    let of = |(key, operator, values): &Requirement| LabelSelectorRequirement {
        key: (*key).to_owned(),
        operator: (*operator).to_owned(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    let mut expressions: Vec<_> = others.into_iter().map(of).collect();
    let mut labels = BTreeMap::new();
    for requirement in plain {
        // A label may be asked for twice, which a map cannot say.
        if labels.contains_key(requirement.0) {
            expressions.push(of(requirement));
        } else {
            labels.insert(requirement.0.to_owned(), requirement.2[0].to_owned());
        }
    }
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: Some(expressions),
    }
}

impl Device {
    pub fn manifest(&self) -> api::Device {
        let tag = |(key, value): &(&str, &str)| api::Tag {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let labels = self.labels.iter();
        let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let spec = api::DeviceSpec {
            device_id: Some(self.id.to_owned()),
            tags: self.tags.iter().map(tag).collect(),
            class: match self.class {
                Class::Standalone => api::DeviceClass::Standalone,
                Class::Gateway => api::DeviceClass::Gateway,
                Class::Peripheral => api::DeviceClass::Peripheral,
                Class::System => api::DeviceClass::System,
            },
            gateway: self.gateway.map(str::to_owned),
            disabled: self.is_disabled,
            ..api::DeviceSpec::default()
        };
        let mut device = api::Device::new("one", spec);
        device.metadata.labels = Some(labels.collect());
        device
    }
}
