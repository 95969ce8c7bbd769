# The first process of a host, and its pid namespace's init: when it ends, the kernel ends everything in
# the host, and with the last process go the network, the mounts and what is stored on them.
# Arguments: the host's name, and the file that says "stay, although the test has ended".
set -eu
name=$1 keep=$2

mount -t tmpfs -o mode=755 run /run
# /sys shows the devices of the network namespace in which it was mounted; the cgroups come along.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -l /run/cgroup
rmdir /run/cgroup
if [ -d /etc/docker ]; then mount -t tmpfs docker /etc/docker; fi
mkdir -m 755 /run/docker-data
install -d -o 0 -g 60700 -m 1770 /run/steppe
hostname "$name"
ip link set lo up
echo ready

# The other end of this pipe is the test's: it closes when the test ends, however that happens.
read -r _ || true
if [ -e "$keep" ]; then
    while :; do sleep 3600; done
fi
