# A bill of materials in CycloneDX 1.5, from what `cargo metadata` says: the packages from which the programs are built.
# Those that only tests and build scripts use are not in it.

(.packages | map({ key: .id, value: . }) | from_entries) as $packages
| (.resolve.nodes | map({ key: .id, value: . }) | from_entries) as $nodes
| ([.packages[] | select(.source == null) | .id]) as $own
| def linked: [.deps[] | select(any(.dep_kinds[]; .kind == null)) | .pkg];
  # All that the ones in $found depend on, and they themselves.
  def closure($found; $next):
    if $next == [] then $found
    else ($next | map($nodes[.] | linked) | add | unique - $found) as $more
      | closure($found + $more; $more)
    end;
  closure($own; $own) as $all
| {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {
      component: { type: "application", name: "keyward", version: $version, "bom-ref": "keyward",
                   licenses: [{ expression: "Apache-2.0" }] }
    },
    components: [
      $all[] | $packages[.] | select(.source != null)
      | { type: "library", name, version, "bom-ref": "pkg:cargo/\(.name)@\(.version)",
          purl: "pkg:cargo/\(.name)@\(.version)" }
        + (if .license then { licenses: [{ expression: (.license | gsub("/"; " OR ")) }] } else {} end)
    ] | sort_by(.purl),
  }
