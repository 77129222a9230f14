# shellcheck shell=bash disable=SC2154
# The part of the demo that speaks MQTT: mosquitto with Keyward's plugin, and mosquitto's own clients as devices. To be
# sourced by `demo`, which sets what is not set here.

speak_mqtt() {
  tell "Devices speak MQTT, too. On again, and mosquitto, as deploy/brokers/mosquitto/mosquitto.conf has it: its plugin" \
    "watches as a gateway does, and decides in the broker itself."
  patch Active
  start_mosquitto
  write_login

  tell "pump-1 tells its state, and pump-2, which the same key admits, sees it."
  subscribe pump-2 'devices/+/state' -C 1
  publish pump-1 devices/pump-1/state '{"running": true}'
  wait "$subscriber"
  indent <"$scratch/pump-2.heard"

  tell "pump-1 waits for commands. It gets one from pump-2."
  subscribe pump-1 devices/pump-1/command
  publish pump-2 devices/pump-1/command stop
  heard pump-1 stop
  indent <"$scratch/pump-1.heard"
  cut
}

cut() {
  local before
  tell "Switch the key off while pump-1 is connected."
  patch Inactive
  before=$(now)
  while kill -0 "$subscriber" 2>/dev/null; do
    (($(now) - before < 10000)) || die "pump-1 is still connected after 10 seconds: it should not be."
    sleep 0.02
  done
  sed 's/^/  pump-1: /' "$scratch/pump-1.said"
  echo "  $(($(now) - before)) ms after kubectl had its answer pump-1 was cut, had tried to come back, and was refused"
}

# The broker's user is its own, and has to read what only this user may.
start_mosquitto() {
  local _ socket=$scratch/mosquitto.sock target
  target=$(dirname "$(type -P keyward)")
  write_kubeconfig gateway
  sed -e "s|^listener .*|listener 0 $socket|" -e "s|^persistence_location .*|persistence_location $scratch/|" \
    -e "s|^plugin .*|plugin $target/libkeyward_mosquitto.so|" \
    -e "s|^plugin_opt_namespace .*|plugin_opt_namespace $namespace|" \
    deploy/brokers/mosquitto/mosquitto.conf >"$scratch/mosquitto.conf"
  # Whoever subscribes is logged then.
  echo "log_type all" >>"$scratch/mosquitto.conf"
  ((EUID != 0)) || echo "user root" >>"$scratch/mosquitto.conf"
  note "mosquitto -c mosquitto.conf &"
  KUBECONFIG=$scratch/gateway.kubeconfig setpriv --pdeathsig TERM -- mosquitto -c "$scratch/mosquitto.conf" \
    </dev/null >"$scratch/mosquitto.log" 2>&1 &
  for _ in {1..300}; do
    ! grep --quiet "are listed" "$scratch/mosquitto.log" || return 0
    sleep 0.1
  done
  cat "$scratch/mosquitto.log" >&2
  die "mosquitto does not start, or its plugin does not: see above."
}

# Key and secret, where mosquitto's clients look for options: in a command they would be there for all to see.
write_login() {
  printf '%s\n' "--unix $scratch/mosquitto.sock" "-u $key" "-P $(<"$scratch/secret")" >"$scratch/mosquitto_sub"
  cp "$scratch/mosquitto_sub" "$scratch/mosquitto_pub"
}

# Begins to listen as this device, and waits until it does.
subscribe() { # DEVICE FILTER [OPTION...]
  local _ device=$1 filter=$2
  shift 2
  note "mosquitto_sub -u KEY -P SECRET -i $device -t '$filter' -v${*:+ $*} &"
  XDG_CONFIG_HOME=$scratch setpriv --pdeathsig TERM -- mosquitto_sub -i "$device" -t "$filter" -q 1 -v "$@" \
    </dev/null >"$scratch/$device.heard" 2>"$scratch/$device.said" &
  subscriber=$!
  for _ in {1..100}; do
    ! grep --quiet "^[0-9]*: $device 1 $filter$" "$scratch/mosquitto.log" || return 0
    kill -0 "$subscriber" 2>/dev/null || break
    sleep 0.1
  done
  cat "$scratch/$device.said" "$scratch/mosquitto.log" >&2
  die "$device should have been let in: see above."
}

publish() { # DEVICE TOPIC MESSAGE
  note "mosquitto_pub -u KEY -P SECRET -i $1 -t $2 -m '$3'"
  XDG_CONFIG_HOME=$scratch mosquitto_pub -i "$1" -t "$2" -q 1 -m "$3"
}

heard() { # DEVICE WORD
  local _
  for _ in {1..100}; do
    ! grep --quiet "$2" "$scratch/$1.heard" || return 0
    sleep 0.1
  done
  die "$1 should have got the message $2."
}
