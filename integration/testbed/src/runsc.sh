#!/bin/sh
# Runs gVisor's runsc as a Docker runtime in a host of the testbed. The arguments are runsc's.
#
# runsc takes a network namespace for the machine's own one when /proc/sys/net/core/rmem_default exists, and will not
# start there. On new kernels that file is in every namespace; so `start`, which looks for it, sees another /proc/sys.
# The two options let a container that has CAP_NET_RAW send whole frames: whatever gVisor itself would stop, Steppe must.
options="--net-raw --TESTONLY-allow-packet-endpoint-write"
sys=$(dirname "$0")/sys
for word in "$@"; do
    if [ "$word" = start ]; then
        exec unshare --mount sh -c 'mount --bind "$0" /proc/sys && exec runsc "$@"' "$sys" $options "$@"
    fi
done
exec runsc $options "$@"
