//! Schemas of shared Kubernetes types, with the bounds that CEL's cost budget needs and the checks
//! that the types alone do not carry.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Shape of a device ID: what MQTT topics, file names and NATS subjects can all carry.
pub const DEVICE_ID: &str = "^[A-Za-z0-9_-]{1,64}$";

/// A CEL rule for a list of topic filters: levels without `*`, `>` and braces but those of
/// `{device}`, or `+` alone, and `#` alone as the last; no `$` at the beginning.
pub fn topic_filters() -> &'static str {
    "self.all(f, f.matches(r'^(#|(\\+|((\\{device\\}|[^$+#*>/{}\\x00])(\\{device\\}|[^+#*>/{}\\x00])*)?)\
     (/(\\+|(\\{device\\}|[^+#*>/{}\\x00])*))*(/#)?)$'))"
}

/// What to say where the rule does not hold.
pub const TOPIC_FILTERS: &str = "each entry must be a topic filter: levels between slashes, + for any \
    one level, # as the last for all below; no * or >, no braces but {device}, no $ at the beginning";

/// A CEL rule for a time: later ones cannot be read everywhere.
pub const BEFORE_THE_END_OF_TIME: &str = "self < timestamp('9999-12-30T00:00:00Z')";

/// A CEL rule for what has a verifier: what of the caps of [`crate::verifier`] a pattern can say.
pub fn verifier() -> &'static str {
    "self.verifier.matches(r'^\\$argon2id\\$v=19\\$m=([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]\
     |6553[0-6]),t=([1-9]|10),p=[1-4]\\$[A-Za-z0-9+/]{22,86}\\$[A-Za-z0-9+/]{43}$')"
}

/// What to say where the rule does not hold.
pub const VERIFIER: &str = "existing.verifier must be an argon2id hash as a PHC string, \
    $argon2id$v=19$m=..,t=..,p=..$salt$tag, with m at most 65536, t at most 10 and p at most 4: \
    make it with keyward hash";

/// A `metav1.LabelSelector` that selects something: not empty, and made of valid parts.
pub fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-validations": [{
            "rule": "(has(self.matchLabels) && size(self.matchLabels) > 0) \
                     || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            "message": "deviceSelector is empty and would match every Device: add matchLabels or \
                        matchExpressions, or use allDevices: true",
        }],
        "properties": {
            "matchLabels": {
                "description": "Labels and the value that each must have. All of them must match. \
                                At most 64.",
                "type": "object",
                "maxProperties": 64,
                "additionalProperties": { "type": "string", "maxLength": 63 },
                "x-kubernetes-validations": label_rules("deviceSelector.matchLabels"),
            },
            "matchExpressions": {
                "description": "Requirements on labels. All of them must match. At most 64.",
                "type": "array",
                "maxItems": 64,
                "x-kubernetes-list-type": "atomic",
                "items": selector_requirement(),
            },
        },
    })
}

/// One entry of `matchExpressions`.
fn selector_requirement() -> Schema {
    json_schema!({
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": {
                "description": "The label that the requirement is about, such as `site` or \
                                `example.com/site`.",
                "type": "string",
                "minLength": 1,
                "maxLength": 317,
                "x-kubernetes-validations": [{
                    "rule": "!format.qualifiedName().validate(self).hasValue()",
                    "message": "key must be a valid label key: up to 63 letters, digits, '-', '_' \
                                or '.', with an optional DNS prefix and '/' before it",
                }],
            },
            "operator": {
                "description": "`In` and `NotIn` compare the label with `values`; `Exists` and \
                                `DoesNotExist` ask only whether the label is there. `NotIn` and \
                                `DoesNotExist` also match Devices without the label.",
                "type": "string",
                "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
            },
            "values": {
                "description": "The values for `In` and `NotIn`: 1 to 100, each a valid label \
                                value. Absent for `Exists` and `DoesNotExist`.",
                "type": "array",
                "maxItems": 100,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "string",
                    "maxLength": 63,
                    "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
                },
            },
        },
        "x-kubernetes-validations": [{
            "rule": "self.operator in ['In', 'NotIn'] \
                     ? has(self.values) && size(self.values) > 0 \
                     : !has(self.values) || size(self.values) == 0",
            "message": "values must hold at least one value for the operators In and NotIn, and be \
                        absent for Exists and DoesNotExist",
        }],
    })
}

/// The labels that a delivered Secret carries.
pub fn secret_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "x-kubernetes-validations": concat(
            label_rules("secret.labels"),
            not_reserved("secret.labels"),
        ),
    })
}

/// The annotations that a delivered Secret carries.
pub fn secret_annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 2048 },
        "x-kubernetes-validations": concat(
            qualified_keys("secret.annotations"),
            not_reserved("secret.annotations"),
        ),
    })
}

/// The conditions of a status, bounded as the API conventions bound them.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What the condition is about, such as `Ready`.",
                    "type": "string",
                    "maxLength": 316,
                },
                "status": {
                    "description": "`True`, `False` or `Unknown`.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, as one CamelCase word for programs.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why, and what to do about it, for people.",
                    "type": "string",
                    "maxLength": 32768,
                },
                "lastTransitionTime": {
                    "description": "When `status` last changed.",
                    "type": "string",
                    "format": "date-time",
                },
                "observedGeneration": {
                    "description": "The `metadata.generation` that the condition is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
            },
        },
    })
}

fn label_rules(field: &str) -> Vec<serde_json::Value> {
    concat(
        qualified_keys(field),
        vec![serde_json::json!({
            "rule": "self.all(k, !format.labelValue().validate(self[k]).hasValue())",
            "message": format!(
                "{field}: each value must be a valid label value: empty, or up to 63 letters, \
                 digits, '-', '_' or '.', beginning and ending with a letter or digit"
            ),
        })],
    )
}

fn qualified_keys(field: &str) -> Vec<serde_json::Value> {
    vec![serde_json::json!({
        "rule": "self.all(k, !format.qualifiedName().validate(k).hasValue())",
        "message": format!(
            "{field}: each key must be up to 63 letters, digits, '-', '_' or '.', with an optional \
             lower-case DNS prefix and '/' before it"
        ),
    })]
}

/// Keys that steer Kubernetes or Keyward stay out of the hands of whoever writes an AccessKey:
/// the controller writes them with rights that the writer may not have.
fn not_reserved(field: &str) -> Vec<serde_json::Value> {
    vec![serde_json::json!({
        "rule": "self.all(k, !k.matches('^(([^/]*[.])?(kubernetes|k8s)[.]io|([^/]*[.])?keyward[.]dev)/') \
                 || (k.startsWith('app.kubernetes.io/') && k != 'app.kubernetes.io/managed-by'))",
        "message": format!(
            "{field}: keys under kubernetes.io/, k8s.io/ and keyward.dev/ and their subdomains are \
             reserved, but for app.kubernetes.io/ (other than managed-by): use your own prefix"
        ),
    })]
}

fn concat(
    mut first: Vec<serde_json::Value>,
    second: Vec<serde_json::Value>,
) -> Vec<serde_json::Value> {
    first.extend(second);
    first
}
