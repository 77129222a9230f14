# shellcheck shell=bash disable=SC2034
# (the script that sources this reads its variables, and sets -e)
# A node beside the control plane, and the namespaces in which both live. Read by cluster, after instance.sh.
#
# There is one process outside, unshare, and one inside that starts all others. If either ends, all that was started
# inside ends, containers included, and with it all that is mounted and all networks: the kernel sees to that. Only the
# cgroups of Pods stay, and are removed by name.

: "${here:?source lib.sh first}"

# Outside; what runs inside is the kernel's to end.
servers=(node relay)
more_binaries=(kubelet kube-proxy kube-scheduler)
cni=/usr/lib/cni
address=10.77.0.1
port=6443
for_pods=(
  --advertise-address="$address" --kubelet-preferred-address-types=InternalIP
  --kubelet-client-certificate=pki/kubelet-client.crt --kubelet-client-key=pki/kubelet-client.key
)
pod_addresses=10.244.0.0/24
# Kubelet, containerd and CNI write there, wherever they are told to: inside, these are empty.
own_folders=(/opt /run /var/lib /var/log)
images=()

# Says whether a node can run here, and has its folder dir if that is named; why_not is a sentence if not.
can_run_a_node() {
  local folder
  why_not=
  [[ $EUID == 0 ]] || why_not="A node takes root: run this as root."
  [[ $why_not ]] || unshare --net --mount --pid --fork mount -t tmpfs tmpfs /run 2>/dev/null ||
    why_not="A node takes namespaces of its own, which this machine does not let root make: run this where unshare(1) works."
  [[ $why_not ]] || can_make_groups ||
    why_not="A node takes cgroups of its own, which this machine does not let root make: run this where /sys/fs/cgroup can be written."
  for folder in "${own_folders[@]}"; do
    [[ $why_not || $(realpath -m -- "${dir:-${TMPDIR:-/tmp}}")/ != "$folder"/* ]] ||
      why_not="A node hides what is in $folder: name a folder elsewhere with --dir DIR."
  done
  [[ ! $why_not ]]
}

can_make_groups() {
  local tree=/sys/fs/cgroup/memory
  [[ ! -e /sys/fs/cgroup/cgroup.controllers ]] || tree=/sys/fs/cgroup
  mkdir "$tree/keyward-check-$$" 2>/dev/null && rmdir "$tree/keyward-check-$$"
}

# Installs and builds what a node takes.
prepare_node() {
  can_run_a_node || die "$why_not"
  "$here/prerequisites" cc containerd containernetworking-plugins ip ipset iptables openssl runc setpriv setsid socat \
    tar unshare >&2
  "$here/build" "${more_binaries[@]}" >/dev/null
  "$here/go-tool" network-policies >/dev/null
}

# Makes the folder and starts all; dir is then a ready cluster.
make_node() {
  prepare_node
  make_folder
  find_binaries
  find_network_policies
  make_pause
  images=("$dir/pause.tar" "${images[@]}")
  printf '%s\n' "${images[@]}" >"$dir/images"
  umask 077
  make_keys
  make_node_keys
  start_node
}

# What enforces NetworkPolicies. Inside, the folder where it was built may not be seen.
find_network_policies() {
  local program
  program=$("$here/go-tool" network-policies)
  ln -- "$program" "$dir/network-policies" 2>/dev/null || cp -- "$program" "$dir/network-policies"
}

# The image of what each Pod's namespaces belong to: a process that waits. There is none to pull.
make_pause() {
  local folder=$dir/pause layer config
  local -a as_nobodys=(--sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner)
  mkdir "$folder"
  cc -x c -Os -static -o "$folder/pause" - >"$dir/logs/pause.log" 2>&1 <<<'#include <unistd.h>
int main(void) { for (;;) pause(); }' || die_with_log pause "cannot be built"
  tar --create --file "$folder/layer.tar" "${as_nobodys[@]}" -C "$folder" pause
  layer=$(sha256sum <"$folder/layer.tar")
  config='{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}'
  # shellcheck disable=SC2059 # a template
  printf "$config" "$(dpkg --print-architecture)" "${layer%% *}" >"$folder/config.json"
  echo '[{"Config":"config.json","RepoTags":["keyward.local/pause:1"],"Layers":["layer.tar"]}]' >"$folder/manifest.json"
  tar --create --file "$dir/pause.tar" "${as_nobodys[@]}" -C "$folder" config.json layer.tar manifest.json
  rm -rf -- "$folder"
}

# The tokens of the node's parts, and by what the API server shows itself to the kubelet.
make_node_keys() {
  local name
  local -A token
  for name in kubelet kube-proxy kube-scheduler; do
    token[$name]=$(random_token)
    write_kubeconfig "$dir/pki/$name.kubeconfig" "${token[$name]}"
  done
  # shellcheck disable=SC2154 # make_keys has made them
  write_kubeconfig "$dir/pki/controller-manager.kubeconfig" "$manager_token"
  # shellcheck disable=SC2154
  write_kubeconfig "$dir/inside.kubeconfig" "$admin_token"
  cat >>"$dir/pki/tokens.csv" <<END
${token[kubelet]},system:node:node,node,"system:nodes"
${token[kube-proxy]},system:kube-proxy,kube-proxy
${token[kube-scheduler]},system:kube-scheduler,kube-scheduler
END
  cd "$dir/pki" || exit
  printf 'basicConstraints = critical, CA:FALSE\nextendedKeyUsage = clientAuth\n' >client.ext
  {
    openssl ecparam -name prime256v1 -genkey -noout -out kubelet-client.key &&
      openssl req -new -key kubelet-client.key -subj /CN=kube-apiserver -out kubelet-client.csr &&
      openssl x509 -req -sha256 -days 365 -in kubelet-client.csr -CA ca.crt -CAkey ca.key -set_serial 3 \
        -extfile client.ext -out kubelet-client.crt
  } >"$dir/logs/openssl.log" 2>&1 || die_with_log openssl "cannot make the certificates"
}

# Starts everything inside, and what leads there from this machine. Then the cluster is ready.
start_node() {
  local since=$SECONDS
  rm -f -- "$dir/ready" "$dir/api.sock"
  say "starting a cluster in $dir"
  "${tether[@]}" unshare --net --mount --pid --fork --mount-proc --kill-child=KILL -- \
    "$here/cluster" inside "$dir" </dev/null >"$dir/logs/node.log" 2>&1 &
  last=$!
  echo "$last $(identity "$last" || true)" >"$dir/pids/node"
  until [[ -e $dir/ready ]]; do
    identity "$last" >/dev/null || die_with_log node "ended while it started"
    ((SECONDS - since < 180)) || die_with_log node "is not ready after three minutes"
    sleep 0.1
  done
  remember_inside
  relay_from_this_machine
  say "ready at https://127.0.0.1:$port after $((SECONDS - since)) s"
}

# The process that is number 1 there: by it the namespaces are entered.
remember_inside() {
  local pid
  pid=$(first_inside_of "$last") || die_with_log node "ended while it started"
  echo "$pid $(identity "$pid")" >"$dir/pids/inside"
}

# What was started by the tether, or by unshare itself.
first_inside_of() {
  local child
  for child in $(<"/proc/$1/task/$1/children"); do
    if grep -qs $'^NSpid:.*\t1$' "/proc/$child/status"; then
      echo "$child"
      return
    fi
    ! first_inside_of "$child" || return 0
  done 2>/dev/null
  return 1
}

# By a socket in the folder, which has no address: nothing else inside is reached from here.
relay_from_this_machine() {
  local try outside=
  [[ ! -s $dir/relay.port ]] || outside=$(<"$dir/relay.port")
  for try in {1..10}; do
    [[ $try == 1 && $outside ]] || outside=$((20000 + SRANDOM % 12000))
    "${tether[@]}" socat "TCP-LISTEN:$outside,bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$dir/api.sock" \
      </dev/null >"$dir/logs/relay.log" 2>&1 &
    last=$!
    echo "$last $(identity "$last" || true)" >"$dir/pids/relay"
    sed "s|server: .*|server: https://127.0.0.1:$outside|" "$dir/inside.kubeconfig" >"$dir/kubeconfig"
    echo "$outside" >"$dir/relay.port"
    port=$outside
    wait_for relay /readyz && return
  done
  die_with_log relay "has found no free port"
}

# Undoes what this process has done, however far it has come.
stop_node() {
  [[ ! $claimed ]] || end_node || true
  stop_instance
}

# Ends all that runs inside, and the way there. Returns 1 if nothing ran.
end_node() {
  local found='' group _
  if stop_servers "$dir"; then found=yes; fi
  # Containers are in groups of their own, which nobody removes who has died. What is in them may take a moment to end.
  for _ in {1..50}; do
    for group in /sys/fs/cgroup/*/"$(cgroup)" /sys/fs/cgroup/"$(cgroup)"; do
      [[ ! -d $group ]] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || continue 2
    done
    break
  done
  [[ $found ]]
}

cgroup() { echo "keyward-$(sha256sum <<<"$dir" | cut -c1-12)"; }

# Inside, as process 1.
inside() {
  local folder since
  trap 'exit 0' TERM
  umask 077
  tether=(setsid)
  cd "$dir" || exit
  make_network
  for folder in "${own_folders[@]}"; do mount -t tmpfs tmpfs "$folder"; done
  start_etcd
  start_apiserver
  wait_inside kube-apiserver get_inside /readyz
  start_server kube-controller-manager --kubeconfig=pki/controller-manager.kubeconfig \
    --secure-port=0 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file=pki/service-accounts.key --root-ca-file=pki/ca.crt
  start_server kube-scheduler --kubeconfig=pki/kube-scheduler.kubeconfig --leader-elect=false --secure-port=0
  start_server kube-proxy --kubeconfig=pki/kube-proxy.kubeconfig --hostname-override=node --proxy-mode=iptables \
    --cluster-cidr="$pod_addresses" --conntrack-max-per-core=0 --bind-address="$address"
  start_containerd
  load_images
  since=$(date -u +%FT%TZ)
  start_kubelet
  wait_inside kubelet node_is_ready "$since"
  # Without it there are no Pods in a namespace; the controllers work once they have made this.
  wait_inside kube-controller-manager get_inside /api/v1/namespaces/default/serviceaccounts/default
  start_network_policies
  "${tether[@]}" socat "UNIX-LISTEN:api.sock,fork,mode=600" "TCP:$address:$port" </dev/null >logs/relay-inside.log 2>&1 &
  until [[ -S api.sock ]]; do sleep 0.1; done
  : >ready
  # It also inherits what others leave, and waits for them.
  while true; do wait -n 2>/dev/null || sleep 1; done
}

start_network_policies() {
  : >logs/network-policies.log
  "${tether[@]}" ./network-policies --kubeconfig inside.kubeconfig --node node --services 10.96.0.0/16 \
    </dev/null >>logs/network-policies.log 2>&1 &
  last=$!
  wait_inside network-policies iptables -n -L KUBE-ROUTER-FORWARD
}

make_network() {
  ip link set lo up
  # Both ends stay here. What has an address other than a loopback one is reached by Pods, too.
  ip link add uplink type veth peer name uplink-end
  ip link set uplink up && ip link set uplink-end up
  ip address add "$address/24" dev uplink
  # Addresses of Services lead nowhere else, but only what has a route is sent at all.
  ip route add default dev uplink
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

get_inside() { bin/kubectl --kubeconfig=inside.kubeconfig get --request-timeout=2s --raw "$1" >/dev/null 2>&1; }

# What it said before a restart may still stand there.
node_is_ready() { # SINCE
  local said
  said=$(bin/kubectl --kubeconfig=inside.kubeconfig get node node --request-timeout=2s \
    -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end}' 2>/dev/null) || return 1
  [[ $said == "True "* && ! ${said#True } < $1 ]]
}

wait_inside() { # NAME COMMAND...: until it succeeds, as long as the server lives that was started last
  local name=$1 since=$SECONDS
  shift
  until "$@"; do
    identity "$last" >/dev/null || { say "$name ended: see $dir/logs/$name.log" && exit 1; }
    ((SECONDS - since < 120)) || { say "$name is not ready after two minutes: see $dir/logs/$name.log" && exit 1; }
    sleep 0.2
  done
}

start_containerd() {
  mkdir -p containerd cni
  # Containers are others' processes, and their files are as this process would make them.
  umask 022
  choose_snapshotter
  cat >containerd/config.toml <<END
version = 2
root = "$dir/containerd/root"
state = "/run/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "keyward.local/pause:1"
  # It takes a right (CAP_SYS_RESOURCE) that not every machine gives to its root.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$cni"
    conf_dir = "$dir/cni"
END
  # Each Pod by a link of its own: what goes from one to another passes the rules by which Services are found.
  cat >cni/10-pods.conflist <<END
{ "cniVersion": "0.4.0", "name": "pods", "plugins": [
  { "type": "ptp", "ipMasq": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "$pod_addresses" }]], "routes": [{ "dst": "0.0.0.0/0" }],
              "dataDir": "/run/cni-addresses" } }
] }
END
  : >logs/containerd.log
  "${tether[@]}" containerd --config containerd/config.toml </dev/null >>logs/containerd.log 2>&1 &
  last=$!
  wait_inside containerd ctr -a /run/containerd.sock version
}

# Where the folder is on an overlay itself, as in a container, the layers of images are copied.
choose_snapshotter() {
  local try=containerd/try
  snapshotter=native
  mkdir -p $try/{lower,upper,work,merged}
  ! mount -t overlay -o lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work overlay $try/merged 2>/dev/null || {
    umount $try/merged
    snapshotter=overlayfs
  }
}

load_images() {
  local image
  while read -r image; do
    ctr -a /run/containerd.sock -n k8s.io images import --snapshotter "$snapshotter" "$image"
  done < <(cat images)
}

start_kubelet() {
  local group groups=(/sys/fs/cgroup/*/)
  mkdir -p kubelet pod-logs
  # Of the second version there is one tree.
  [[ ! -e /sys/fs/cgroup/cgroup.controllers ]] || groups=(/sys/fs/cgroup)
  for group in "${groups[@]}"; do
    [[ ! -e $group/cgroup.procs ]] || mkdir -p "$group/$(cgroup)"
  done
  cat >kubelet/config.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: false }
  x509: { clientCAFile: $dir/pki/ca.crt }
authorization: { mode: AlwaysAllow }
cgroupDriver: cgroupfs
cgroupRoot: /$(cgroup)
containerRuntimeEndpoint: unix:///run/containerd.sock
failCgroupV1: false
failSwapOn: false
podLogsDir: $dir/pod-logs
resolvConf: ""
# How long it may take until a Pod sees what has changed in a Secret; a minute if nothing is said.
syncFrequency: 5s
# The disk is the developer's, and may be as full as it is.
evictionHard: { memory.available: 100Mi }
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
END
  start_server kubelet --kubeconfig=pki/kubelet.kubeconfig --config=kubelet/config.yaml --root-dir="$dir/kubelet" \
    --hostname-override=node --node-ip="$address" --cert-dir="$dir/kubelet/pki"
}
