#!/usr/bin/env bash
# Plays a small cluster on one machine: N network namespaces ("hosts") with host names of their own, each on a
# rate-limited link to a switch, and runs one command on every host.
#
#   bench/netns/hosts.sh [options] -- COMMAND [ARGS...]
#     --hosts N        how many (2)
#     --rate RATE      of every link, each direction, as tc writes it (1gbit); "none" leaves links unlimited
#     --mtu BYTES      (1500)
#     --burst BYTES    what the token bucket lets through at once (128kb)
#     --queue TIME     how long a packet may wait for the link before it is dropped (10ms)
#     --lane K:RATE    the link of host K has another rate (may be repeated)
#     --stats          prints what went through each link afterwards, on stderr
#     --timeout SEC    ends everything after so long (300)
#     --check          says whether this machine can do it (exit 0) or why not (exit 77)
#
# The command is run by bash -c on each host, with
#   HOST_RANK 0..N-1    HOSTS N    HOST_ADDRESS 10.77.0.(1+rank)    MAIN_ADDRESS 10.77.0.1
#   HOST_INTERFACE eth0    HOST_NAME wh<rank>    HOSTS_PID of this script
# Exit status: the first one that is not 0, by rank. Output of all hosts is mixed, as it comes.
#
# Everything lives in namespaces named weft-<pid of this script>-*: nothing of the machine's own network is touched.
# They go when the script ends; what a killed one left goes when the next one starts (--clean does only that).
set -uo pipefail

hosts=2 rate=1gbit mtu=1500 burst=128kb queue=10ms timeout=300 stats= check= clean=
declare -A lane_rate=()
usage() { sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; }
refuse() { echo "netns: $*" >&2; exit 2; }
while (($#)); do
  case $1 in
    --hosts|--rate|--mtu|--burst|--queue|--timeout|--lane)
      (($# > 1)) || refuse "$1 needs a value"
      if [[ $1 == --lane ]]; then lane_rate[${2%%:*}]=${2#*:}; else printf -v "${1#--}" %s "$2"; fi
      shift 2 ;;
    --stats) stats=1; shift ;;
    --check) check=1; shift ;;
    --clean) clean=1; shift ;;
    --) shift; break ;;
    -h|--help) usage; exit 0 ;;
    *) refuse "what is '$1'? See --help" ;;
  esac
done
[[ $hosts =~ ^[0-9]+$ ]] && ((hosts >= 1 && hosts <= 200)) || refuse "--hosts: 1 to 200"

cannot() { echo "netns: $*" >&2; exit 77; }
for tool in ip tc unshare setpriv; do command -v $tool >/dev/null || cannot "there is no $tool here (apt install iproute2 util-linux)"; done
[[ $(id -u) == 0 ]] || cannot "network namespaces need root"

# Namespaces of scripts that are gone: whoever is still in them goes first.
remove() {
  local ns
  for ns in "$@"; do
    ip netns pids "$ns" 2>/dev/null | xargs -r kill -KILL 2>/dev/null
    ip netns del "$ns" 2>/dev/null
  done
}
for ns in $(ip netns list 2>/dev/null | awk '$1 ~ /^weft-[0-9]+-/ {print $1}'); do
  pid=${ns#weft-}; pid=${pid%%-*}
  kill -0 "$pid" 2>/dev/null || remove "$ns"
done
[[ -z $clean ]] || exit 0

me=weft-$$
names=()
children=()
cleanup() {
  local status=$?
  trap - EXIT
  ((${#children[@]})) && kill -KILL "${children[@]}" 2>/dev/null
  remove "${names[@]}" "$me-sw"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

limit() {  # NAMESPACE DEVICE RATE
  [[ $3 == none ]] && return 0
  ip netns exec "$1" tc qdisc add dev "$2" root tbf rate "$3" burst "$burst" latency "$queue"
}
build() {
  ip netns add "$me-sw" && ip -n "$me-sw" link add br0 mtu "$mtu" type bridge && ip -n "$me-sw" link set br0 up || return 1
  local i ns
  for ((i = 0; i < hosts; ++i)); do
    ns=$me-h$i
    names+=("$ns")
    ip netns add "$ns" && ip -n "$ns" link set lo up &&
      ip -n "$ns" link add eth0 mtu "$mtu" type veth peer name "port$i" mtu "$mtu" netns "$me-sw" &&
      ip -n "$ns" addr add "10.77.0.$((i + 1))/24" dev eth0 &&
      ip -n "$me-sw" link set "port$i" master br0 up && ip -n "$ns" link set eth0 up &&
      limit "$ns" eth0 "${lane_rate[$i]:-$rate}" && limit "$me-sw" "port$i" "${lane_rate[$i]:-$rate}" || return 1
  done
}
if ! build; then
  cannot "this machine's kernel or its limits do not let us make namespaces with veth, bridge and tbf (see above)"
fi
[[ -z $check ]] || exit 0
(($#)) || refuse "no command; see --help"
command=$*

for ((i = 0; i < hosts; ++i)); do
  HOSTS_PID=$$ HOST_RANK=$i HOSTS=$hosts HOST_ADDRESS=10.77.0.$((i + 1)) MAIN_ADDRESS=10.77.0.1 HOST_INTERFACE=eth0 HOST_NAME=wh$i \
    setpriv --pdeathsig KILL timeout -k 2 "$timeout" ip netns exec "$me-h$i" \
    unshare --uts bash -c 'hostname "$HOST_NAME" 2>/dev/null || echo "$HOST_NAME" > /proc/sys/kernel/hostname; '"$command" &
  children+=($!)
done
status=0
for child in "${children[@]}"; do
  wait "$child" || { code=$?; ((status)) || status=$code; }
done
children=()
if [[ -n $stats ]]; then
  for ((i = 0; i < hosts; ++i)); do
    ip netns exec "$me-h$i" awk -v host="wh$i" '$1 == "eth0:" {printf "netns: %s eth0 received %s bytes %s packets, sent %s bytes %s packets\n", host, $2, $3, $10, $11}' /proc/net/dev >&2
    ip netns exec "$me-h$i" awk -v host="wh$i" '$1 == "lo:" {printf "netns: %s lo received %s bytes\n", host, $2}' /proc/net/dev >&2
  done
fi
exit "$status"
