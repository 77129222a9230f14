# shellcheck shell=bash disable=SC2034
# (the scripts that source this read its variables, and set -e)
# One instance: how its folder is made, its servers started, and how all of it
# goes away again. Read by up, down, run and servers, after lib.sh.
#
#   DIR/kubeconfig           the administrator's, mode 0600
#   DIR/bin                  a link to the binaries (kubectl among them)
#   DIR/audit.log            every request, see audit-policy.yaml
#   DIR/logs/NAME.log        what the servers say
#   DIR/pids/NAME            pid and identity of each server, and of run
#   DIR/commands/NAME        how each server was started
#   DIR/etcd, pki            data, keys and certificates
#   DIR/keyward-local        marks the folder as an instance

: "${here:?source lib.sh first}"

servers=(etcd kube-apiserver kube-controller-manager)
# Where the API server listens, and what it tells Pods of that: nothing, since from a loopback address none could come.
address=127.0.0.1
for_pods=(--endpoint-reconciler-type=none)
more_binaries=()
dir=
crds=
fsync=
command=()
building=
claimed=     # the folder is this process's own
keep_folder= # even if this process fails
# What each server is started through; tethered_to_this_process adds to it.
tether=(setsid)
tethered=

# Sets these variables from "[--dir DIR] [--crds PATH] [--fsync] [-- COMMAND...]".
read_arguments() {
  while (($#)); do
    case $1 in
      --dir) dir=${2-} && [[ $dir ]] || die "--dir needs a folder: write --dir DIR." && shift 2 ;;
      --dir=?*) dir=${1#--dir=} && shift ;;
      --crds) [[ -e ${2-} ]] || die "--crds needs a file or folder that exists: write --crds PATH." && crds=$(realpath -- "$2") && shift 2 ;;
      --fsync) fsync=yes && shift ;;
      -h | --help) usage && exit ;;
      --) shift && command=("$@") && break ;;
      *) die "does not know $1: see ${0##*/} --help." ;;
    esac
  done
}

# For what only the log can explain: the folder stays.
die_with_log() {
  keep_folder=yes
  die "$1 $2: see $dir/logs/$1.log, and then run $here/down $dir."
}

is_instance() { [[ -f $1/keyward-local ]]; }

# Makes the folder of a new instance and sets dir to its path. The pids folder
# is the claim: of two that start in one folder, only one can make it.
make_folder() {
  local free
  if [[ $dir ]]; then
    mkdir -p -- "$dir" 2>/dev/null || die "$dir cannot be made: name a folder that you may write to."
    [[ -w $dir ]] || die "$dir cannot be written: name a folder that you may write to."
    dir=$(cd -- "$dir" && pwd -P)
    [[ -z $(ls -A -- "$dir") ]] ||
      die "$dir is not empty: name a new or empty folder$(is_instance "$dir" && echo ", or end the instance there first ($here/down $dir)")."
  else
    dir=$(mktemp -d -t keyward.XXXXXX 2>/dev/null) ||
      die "No folder can be made in ${TMPDIR:-/tmp}: name one with --dir DIR."
  fi
  mkdir -- "$dir/pids" 2>/dev/null || die "$dir is being used by another instance: name another folder."
  claimed=yes
  [[ ! $tethered ]] || echo "$$ $(identity $$)" >"$dir/pids/run"
  : >"$dir/keyward-local"
  # etcd reserves 64 MB twice before the first write.
  free=$(df -Pk "$dir" | awk 'END { print int($4 / 1024) }')
  ((free >= 512)) || die "Only $free MiB are free where $dir is, and an instance needs 512: free some, or name another folder with --dir DIR."
  chmod 0700 "$dir"
  mkdir "$dir"/{commands,logs,pki}
  touch "$dir/audit.log"
}

# Sets bin to the folder with the binaries. In the background, because a trap
# waits for a command in the foreground, and this one may take minutes.
find_binaries() {
  setsid setpriv --pdeathsig TERM -- "$here/build" "${more_binaries[@]}" </dev/null >"$dir/bin.path" &
  building=$!
  wait "$building" || { building= && exit 1; }
  building=
  ln -s -- "$(<"$dir/bin.path")" "$dir/bin"
  rm -- "$dir/bin.path"
}

random_token() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# A kubeconfig, FILE TOKEN [ADDRESS], for the holder of a token. $port is not known before the server
# has got it, so this is called again when another is tried.
write_kubeconfig() {
  cat >"$1" <<END
apiVersion: v1
kind: Config
current-context: keyward-local
contexts: [{name: keyward-local, context: {cluster: keyward-local, user: keyward-local}}]
clusters:
  - name: keyward-local
    cluster:
      server: https://${3-$address}:$port
      certificate-authority-data: $(base64 -w 0 "$dir/pki/ca.crt")
users: [{name: keyward-local, user: {token: $2}}]
END
  chmod 0600 "$1"
}

# An authority, the server's certificate and the key that signs ServiceAccount
# tokens. Two certificates, because some clients (rustls) refuse one that is
# authority and server at once; elliptic curves, because RSA keys take seconds.
make_keys() {
  cd "$dir/pki" || exit
  cat >server.ext <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost, IP:$address, IP:10.96.0.1, DNS:kubernetes.default.svc
END
  {
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key &&
      openssl ecparam -name prime256v1 -genkey -noout -out server.key &&
      openssl ecparam -name prime256v1 -genkey -noout -out service-accounts.key &&
      openssl req -x509 -new -key ca.key -sha256 -days 365 -subj /CN=keyward-local -out ca.crt &&
      openssl req -new -key server.key -subj /CN=kube-apiserver -out server.csr &&
      openssl x509 -req -sha256 -days 365 -in server.csr -CA ca.crt -CAkey ca.key -set_serial 2 \
        -extfile server.ext -out server.crt
  } >"$dir/logs/openssl.log" 2>&1 || die_with_log openssl "cannot make the certificates"
  admin_token=$(random_token)
  manager_token=$(random_token)
  cat >tokens.csv <<END
$admin_token,admin,admin,"system:masters"
$manager_token,system:kube-controller-manager,kube-controller-manager
END
}

# From now on, servers die with this process, even if it is killed. They look
# whether it is still there once the kernel has been told to watch it.
tethered_to_this_process() {
  tethered=yes
  # shellcheck disable=SC2016 # for the shell that is started
  tether=(setsid setpriv --pdeathsig KILL -- bash -c '[[ $PPID == "$0" ]] && exec "$@"' "$$")
}

# What servers were started through before holds for those that this process starts: nobody else is left to end them.
tethered_to_its_run() {
  local pid was
  read -r pid was 2>/dev/null <"$dir/pids/run" || return 0
  [[ $(identity "$pid") == "$was" ]] || die "The run that made $dir has ended: start another one."
  tethered_to "$pid"
}

# The same for the process with this pid, which is not the parent: something that
# looks for it once a second runs beside each server, in its process group.
tethered_to() {
  # shellcheck disable=SC2016 # for the shell that is started
  tether=(setsid bash -c '{ tail --pid="$0" -f /dev/null; kill -KILL -- "-$$"; } & exec "$@"' "$1")
}

# Starts a server in the instance's folder and writes down how, and which process
# it is.
start_server() {
  local name=$1
  shift
  printf '%s\0' "$@" >"$dir/commands/$name"
  : >"$dir/logs/$name.log"
  restart_server "$name"
}

# Starts a server as it was started before.
restart_server() {
  local name=$1 arguments
  mapfile -d '' -t arguments <"$dir/commands/$name"
  cd "$dir" || exit
  "${tether[@]}" "bin/$name" "${arguments[@]}" </dev/null >>"logs/$name.log" 2>&1 &
  last=$!
  echo "$last $(identity "$last" || true)" >"pids/$name"
}

start_etcd() {
  local durability=--unsafe-no-fsync
  [[ ! $fsync ]] || durability=
  # A socket in the folder needs no port, and nobody else on the machine can
  # read the cluster's Secrets through it. Nothing is reached by the names.
  start_server etcd --data-dir=etcd --log-level=warn --quota-backend-bytes=8589934592 $durability \
    --listen-client-urls=unix://etcd.sock --advertise-client-urls=http://localhost:2379 \
    --listen-peer-urls=unix://etcd-peer.sock
}

# How many requests it takes at once, and whom it serves first (API priority and
# fairness), are left as Kubernetes has them: Keyward is to live with that.
start_apiserver() {
  start_server kube-apiserver --etcd-servers=unix://etcd.sock \
    --bind-address="$address" --secure-port="$port" "${for_pods[@]}" \
    --tls-cert-file=pki/server.crt --tls-private-key-file=pki/server.key \
    --token-auth-file=pki/tokens.csv --authorization-mode=Node,RBAC \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=pki/service-accounts.key \
    --service-account-signing-key-file=pki/service-accounts.key \
    --service-cluster-ip-range=10.96.0.0/16 \
    --audit-policy-file="$here/audit-policy.yaml" --audit-log-path=audit.log \
    --audit-log-maxsize=1000000 # MB: kept in one file
}

# Garbage collection of thousands of objects is part of what the tests wait
# for, hence the limits. It serves nothing itself, so it needs no port.
start_controller_manager() {
  write_kubeconfig "$dir/pki/controller-manager.kubeconfig" "$manager_token"
  start_server kube-controller-manager --kubeconfig=pki/controller-manager.kubeconfig \
    --secure-port=0 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file=pki/service-accounts.key --root-ca-file=pki/ca.crt \
    --kube-api-qps=200 --kube-api-burst=400 --concurrent-gc-syncs=100
}

get() { "$dir/bin/kubectl" --kubeconfig="$dir/kubeconfig" get --request-timeout=2s --raw "$1" >/dev/null 2>&1; }

# Waits until the API server answers a path, as long as the server named NAME
# (the last started) lives. Returns 1 if it has ended.
wait_for() {
  local name=$1 path=$2 since=$SECONDS
  until get "$path"; do
    identity "$last" >/dev/null || return 1
    ((SECONDS - since < 120)) || die_with_log "$name" "is not ready after two minutes"
    sleep 0.1
  done
}

# The server's own bind decides whether a port is free, anything asked before
# might be wrong by then. Below the ports that the kernel gives to clients.
start_apiserver_on_free_port() {
  local ports=${KEYWARD_LOCAL_PORTS:-20000-32000} first size tries
  [[ $ports =~ ^([1-9][0-9]{0,4})-([1-9][0-9]{0,4})$ && ${BASH_REMATCH[1]} -le ${BASH_REMATCH[2]} ]] ||
    die "KEYWARD_LOCAL_PORTS is not a range of ports ($ports): write it like 20000-32000, or unset it."
  first=${BASH_REMATCH[1]}
  size=$((BASH_REMATCH[2] - first + 1))
  port=$((first + SRANDOM % size))
  for ((tries = size < 10 ? size : 10; tries > 0; tries--)); do
    write_kubeconfig "$dir/kubeconfig" "$admin_token"
    start_apiserver
    wait_for kube-apiserver /readyz && return
    grep -q 'address already in use' "$dir/logs/kube-apiserver.log" ||
      die_with_log kube-apiserver "ended while it started"
    port=$((first + (port - first + 1) % size))
  done
  die "No free port between $first and $((first + size - 1)): end what uses them, or name others with KEYWARD_LOCAL_PORTS=FIRST-LAST."
}

# The garbage collector learns of new kinds at its start, and then every 30
# seconds: what is there before it starts is collected at once from the outset.
install_crds() {
  {
    bin/kubectl --kubeconfig=kubeconfig apply --server-side -f "$crds" &&
      bin/kubectl --kubeconfig=kubeconfig wait --for=condition=Established --timeout=30s crd --all
  } >logs/crds.log 2>&1 || die_with_log crds "could not be installed"
}

# Makes the folder and starts the servers; dir is then a ready cluster.
start_instance() {
  local mask back=$PWD since
  "$here/prerequisites" setpriv setsid openssl >&2
  make_folder
  find_binaries
  mask=$(umask)
  umask 077
  since=$SECONDS
  say "starting a control plane in $dir"
  make_keys
  start_etcd
  start_apiserver_on_free_port
  [[ ! $crds ]] || install_crds
  start_controller_manager
  # The controllers work once they have made this.
  wait_for kube-controller-manager /api/v1/namespaces/default/serviceaccounts/default ||
    die_with_log kube-controller-manager "ended while it started"
  umask "$mask"
  cd "$back" || exit
  say "ready at https://127.0.0.1:$port after $((SECONDS - since)) s"
}

# Prints the pid of a server that the folder $1 names. Returns 1 if it has ended.
server_pid() {
  local pid was
  read -r pid was 2>/dev/null <"$1/pids/$2" || return 1
  [[ $pid && $was && $(identity "$pid") == "$was" ]] && echo "$pid"
}

# Ends the server $2 that the folder $1 names, by a signal. Returns 1 if it has
# ended before.
stop_server() {
  local pid
  pid=$(server_pid "$1" "$2") || return 1
  stop_group "$pid" "${3-TERM}"
}

# Ends the servers that the folder $1 names, the last started first. Returns 1
# if there was none.
stop_servers() {
  local found='' i
  for ((i = ${#servers[@]} - 1; i >= 0; i--)); do
    if stop_server "$1" "${servers[i]}"; then found=yes; fi
  done
  [[ $found ]]
}

# Undoes what this process has done, however far it has come.
stop_instance() {
  local pid
  [[ ! $building ]] || stop_group "$building"
  [[ $claimed ]] || return 0
  stop_servers "$dir"
  # A signal may have come between a start and writing it down.
  for pid in $(jobs -pr); do stop_group "$pid"; done
  [[ $keep_folder ]] || rm -rf -- "$dir"
}

# Runs a command with this kubeconfig, and exits as it does. In the background, because a trap waits for a command in
# the foreground; for one in the background the shell turns off its standard input and Ctrl-C.
run_command() { # KUBECONFIG COMMAND [ARG...]
  local status=0
  KUBECONFIG=$1 KEYWARD_LOCAL=$dir \
    env --default-signal=INT,QUIT,PIPE setpriv --pdeathsig TERM -- "${@:2}" <&0 &
  running=$!
  wait "$running" || status=$?
  running=
  exit "$status"
}
running=

stop_command() {
  local _
  [[ $running ]] || return 0
  kill -TERM "$running" 2>/dev/null
  for _ in {1..100}; do
    identity "$running" >/dev/null || break
    sleep 0.1
  done
  kill -KILL "$running" 2>/dev/null
}
