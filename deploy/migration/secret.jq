# From the Secret of an AccessKey in one cluster, makes that of the AccessKey with this $uid, which took
# its key over in another: the next rotation replaces it in place.

{
  apiVersion,
  kind,
  type,
  data,
  metadata: {
    name: .metadata.name,
    labels: .metadata.labels,
    ownerReferences: [.metadata.ownerReferences[] | select(.kind == "AccessKey") | .uid = $uid]
  }
}
