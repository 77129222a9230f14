# A bill of materials in CycloneDX 1.5, of what `cargo tree --prefix depth --format '{p}|{l}'` prints. $linked is what it prints
# without macros: those write code while the programs are built, and are not in them. $lock is Cargo.lock.

def packages:
  [ split("\n")[] | select(. != "")
    | capture("^(?<depth>[0-9]+)(?<name>[^ ]+) v(?<version>[^ ]+)(?<source>[^|]*)\\|(?<license>.*?)( \\(\\*\\))?$")
    | .depth |= tonumber
    # What lies in this repository is the subject.
    | .own = (.source | contains("(/"))
    | .ref = if .own then "keyward" else "pkg:cargo/\(.name)@\(.version | @uri)" end
  ];

# Those that depend on another, with it: each is printed below the one that needs it.
def edges:
  reduce .[] as $package ({ path: [], edges: [] };
    .path = .path[:$package.depth] + [$package.ref]
    | if $package.depth > 0 then .edges += [{ from: .path[-2], to: .path[-1] }] else . end)
  | .edges | map(select(.from != .to)) | unique;

def licenses: [{ expression: (.license | gsub("/"; " OR ")) }];

packages as $all
| ($all | edges) as $edges
| ($linked | packages | map({ key: .ref, value: true }) | from_entries) as $linked
| ($lock | split("\n\n") | map(capture("name = \"(?<name>.+)\"\nversion = \"(?<version>.+)\"\nsource = .+\nchecksum = \"(?<value>.+)\""))
  | map(.key = "\(.name) \(.version)") | from_entries) as $checksums
| {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {
      component: (first($all[] | select(.own)) | { type: "application", name: .ref, version, "bom-ref": .ref, licenses: licenses })
    },
    components: [
      $all | map(select(.own | not)) | unique_by(.ref)[]
      | { type: "library", name, version, "bom-ref": .ref, purl: .ref, licenses: licenses,
          hashes: [{ alg: "SHA-256", content: ($checksums["\(.name) \(.version)"] // error("no checksum of \(.ref)")) }] }
        + if $linked[.ref] then {} else { scope: "excluded" } end
    ],
    dependencies: [
      [$all[].ref] | unique[] | . as $ref
      | { ref: $ref, dependsOn: [$edges[] | select(.from == $ref) | .to] }
    ]
  }
