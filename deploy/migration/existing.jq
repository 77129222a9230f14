# From AccessKeys as one cluster has them, makes such as take over their keys in another: devices notice
# nothing. See README.md beside this file. All or none: what cannot be moved is named.

def valid: map(select(.validUntil == null or (.validUntil | fromdateiso8601) > now));

def problem:
  "AccessKey \(.metadata.name)" as $name
  | (.status.verifiers // [] | valid) as $verifiers
  | if .status.issuance then "\($name): a secret is being issued: try again in a moment"
    elif $verifiers == [] then "\($name): nothing was issued that could be moved: leave it out, and apply it anew"
    elif ($verifiers | length) > 1 then
      "\($name): devices may still use the secret from before its rotation, until \($verifiers[-2].validUntil): "
      + "only the newest can be moved, so wait until then"
    else empty end;

def moved:
  {
    apiVersion,
    kind,
    metadata: {
      name: .metadata.name,
      labels: (.metadata.labels // {}),
      annotations: (.metadata.annotations // {} | del(."kubectl.kubernetes.io/last-applied-configuration"))
    },
    spec: (.spec + {existing: {key: .status.key, verifier: .status.verifiers[-1].verifier}})
  }
  # Revisions are counted anew: a higher one would say that this secret was replaced.
  | .spec.rotation.revision = 1;

[if .kind == "List" then .items[] else . end]
| [.[] | problem] as $problems
| if $problems != [] then error($problems | join("\n")) else . end
| {apiVersion: "v1", kind: "List", items: map(moved)}
