# shellcheck shell=bash
# What build, up, down, run, servers and test share: words to the user, and a way to
# tell a process from another one that got its pid later.

# shellcheck disable=SC2034 # read by the scripts
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

# The words must never stop the work: whoever reads them may have gone away.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2 || true; }

die() {
  say "$@"
  exit 1
}

# The comment at the top of a script is its manual.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# The folder, outside the checkout, of what is built or installed once.
cache_folder() {
  local folder=${KEYWARD_CACHE:-${XDG_CACHE_HOME:-${HOME:?names no folder for the cache: set HOME or KEYWARD_CACHE}/.cache}/keyward}
  [[ $folder == /* ]] || folder=$PWD/$folder
  echo "$folder"
}

make_cache_folder() { # FOLDER
  mkdir -p "$1" 2>/dev/null || die "$1 cannot be written: make it writable, or set KEYWARD_CACHE to a folder that is."
}

# A reader that has gone away is no reason to die halfway through a cleanup;
# a trap, unlike an ignored signal, is not handed on to the children.
trap : PIPE

# Has "cleanup" run once, however the script ends.
cleanup_at_exit() {
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'clean_up_and_exit "$?"' EXIT
}

# Nothing interrupts it, and no failure on the way leaves the rest undone.
clean_up_and_exit() {
  trap '' HUP INT TERM
  set +e
  cleanup
  exit "$1"
}

# Prints what tells a process from any other, before or after it, that has the
# same pid: the boot and the tick it was started at. Fails if it has ended; a
# zombie has, and may stay for ever where process 1 does not reap.
identity() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The name in parentheses may contain anything: the fields start behind it.
  read -ra stat <<<"${stat##*) }"
  [[ ${stat[0]} != [ZX] ]] && echo "$(</proc/sys/kernel/random/boot_id) ${stat[19]}"
}

# Ends a process that was started through setsid, and what it has started:
# asks it to (or sends the signal $2), and after 10 seconds does not ask any more.
stop_group() {
  local pid=$1 signal=${2-TERM} _
  # It may not have reached its setsid yet, then there is no group of that name.
  kill -s "$signal" -- "-$pid" 2>/dev/null || kill -s "$signal" "$pid" 2>/dev/null
  for _ in {1..100}; do
    identity "$pid" >/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$pid" 2>/dev/null || true
}
