# shellcheck shell=bash
# How images are built without a daemon. Read by build, and by what builds others, after lib.sh and prerequisites.
#
# Reads to, the folder into which all is written, and version.

: "${to:?} ${version:?}"

# Files in images are as old as the last change of the sources. It is SOURCE_DATE_EPOCH for single commands alone: programs
# of C would be built anew with it, for the images and then for all else.
changed=$(git log -1 --format=%ct 2>/dev/null || echo 0)

# The files of Debian's packages, and of those that they need: libraries, and the programs that are named.
debian() { # TAR PACKAGES PROGRAM...
  say "fetching Debian's ${2//,/, }"
  local program
  local -a only=(
    --dpkgopt='path-exclude=/bin/*' --dpkgopt='path-exclude=/sbin/*' --dpkgopt='path-exclude=/usr/bin/*'
    --dpkgopt='path-exclude=/usr/sbin/*' --dpkgopt='path-exclude=/etc/*' --dpkgopt='path-exclude=/usr/share/*'
    --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-exclude=/usr/lib/*/gconv/*'
  )
  for program in "${@:3}"; do only+=(--dpkgopt="path-include=$program"); done
  # What is taken from this machine is no part of the packages.
  # shellcheck disable=SC2016 # the hook's own shell expands it
  SOURCE_DATE_EPOCH=$changed mmdebstrap --quiet --variant=extract --include="$2" --skip=output/dev "${only[@]}" \
    --customize-hook='rm -rf "$1"/etc "$1"/tmp "$1"/var/cache "$1"/var/lib/apt "$1"/var/log' \
    "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$1"
}

# Builds $to/NAME by a Dockerfile into $to/NAME.tar, and writes down the digest.
image() { # NAME DOCKERFILE
  say "building the image $1:$version"
  rm -f -- "$to/$1.tar"
  storage=$(mktemp -d)
  in_storage build --isolation chroot --timestamp "$changed" --build-arg "VERSION=$version" --quiet \
    --file "$2" --iidfile "$storage/id" "$to/$1" >/dev/null
  in_storage push --quiet --digestfile "$to/$1.digest" "$(<"$storage/id")" "docker-archive:$to/$1.tar:$1:$version"
  rm -rf -- "$storage"
  say "$to/$1.tar: $(du --apparent-size -k "$to/$1.tar" | cut -f 1) KiB, $(<"$to/$1.digest")"
}

in_storage() {
  buildah --storage-driver vfs --root "$storage/images" --runroot "$storage/run" "$@"
}

cleanup() { [[ ! ${storage-} ]] || rm -rf -- "$storage"; }
cleanup_at_exit
