#!/usr/bin/env bash
# weft bench on rate-limited links: one rank a host (or --devices K), hosts as bench/netns/hosts.sh makes them.
#
#   bench/netns/all_reduce.sh [hosts.sh's options] [--devices K] [--bin DIR] -- [weft bench's options]
#   bench/netns/all_reduce.sh --hosts 4 --mtu 9000 -- all_reduce -b 64M -e 64M -n 10 -w 2 -c 0 --algorithm ring
#
# Ranks are on cores of their own while there are enough. Other environment variables (WEFT_CONNECTIONS, ...) pass through.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$here/../../build/release/bin
devices=1
passed=()
hosts=2
while (($#)); do
  case $1 in
    --devices) devices=$2; shift 2 ;;
    --bin) bin=$2; shift 2 ;;
    --hosts) hosts=$2; passed+=("$1" "$2"); shift 2 ;;
    --) shift; break ;;
    *) passed+=("$1"); shift ;;
  esac
done
bin=$(cd "$bin" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(umask 077; "$bin/weft" secret > "$scratch/secret")
cores=$(nproc)
bind=
((hosts * devices <= cores)) && bind='taskset -c $((HOST_RANK * '$((cores / hosts))'))-$(((HOST_RANK + 1) * '$((cores / hosts))' - 1))'
export WEFT_TRANSPORT=${WEFT_TRANSPORT:-tcp}
exec_line="exec $bind $bin/weft run --num-nodes \$HOSTS --node-rank \$HOST_RANK --main-address \$MAIN_ADDRESS \
--interface \$HOST_INTERFACE --secret-file $scratch/secret --devices $devices --transport $WEFT_TRANSPORT --no-prefix --quiet \
$bin/weft bench ${*:-all_reduce}"
"$here/hosts.sh" "${passed[@]}" -- "$exec_line"
