#!/bin/busybox sh
# The first process of the guest. It builds a file system out of the host's, read-only below, and
# memory above, and starts itself anew in there to run the job. Messages go to the kernel's console.

# Three ports of one serial device lead out of the guest.
stdout=/dev/vport0p1 stderr=/dev/vport0p2 status=/dev/vport0p3

boot() {
    /bin/busybox mount -t proc proc /proc
    /bin/busybox --install -s /bin
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    while read -r module; do insmod "/modules/$module"; done </modules/order

    mkdir -p /host /memory /root /plain
    if [ -e /job/boots ]; then boot_debian; fi
    mount -t virtiofs -o ro host /host
    mount -t tmpfs memory /memory
    mkdir /memory/upper /memory/work
    mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root
    mount --bind /root /plain

    mount --move /proc /root/proc
    mount --move /sys /root/sys
    mount --move /dev /root/dev
    mkdir -p /root/dev/pts /root/dev/shm
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /root/dev/pts
    mount -t tmpfs -o mode=1777 shm /root/dev/shm
    mount -t tmpfs -o mode=755 run /root/run
    mount -t tmpfs -o mode=1777 tmp /root/tmp
    mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
    mount -t bpf bpf /root/sys/fs/bpf
    mount -t securityfs securityfs /root/sys/kernel/security
    mount -t tracefs tracefs /root/sys/kernel/tracing
    echo "+cpu +memory +pids" >/root/sys/fs/cgroup/cgroup.subtree_control
    ln -s /proc/self/fd /root/dev/fd
    ln -s fd/0 /root/dev/stdin
    ln -s fd/1 /root/dev/stdout
    ln -s fd/2 /root/dev/stderr

    # Folders that the job needs and that memory now hides.
    while read -r folder; do
        mkdir -p "/root$folder"
        mount --bind "/plain$folder" "/root$folder"
    done </job/folders
    release=$(uname -r)
    mkdir -p "/root/lib/modules/$release"
    mount --bind "/plain$(cat /job/modules)/$release" "/root/lib/modules/$release"
    umount /plain
    if [ -e /job/share ]; then
        mkdir /root/share
        mount -t virtiofs share /root/share
    fi

    ip link set lo up
    hostname skillsandbox
    mkdir /root/run/vm
    cp /init /bin/busybox /job/command /root/run/vm
    exec switch_root /root /run/vm/busybox sh /run/vm/init run
}

# Becomes the Debian that is shared with us. What it has to say it writes to the ports.
boot_debian() {
    mount -t virtiofs share /root
    mount -t virtiofs -o ro host /host
    release=$(uname -r)
    mkdir -p "/root/lib/modules/$release"
    mount --bind "/host$(cat /job/modules)/$release" "/root/lib/modules/$release"
    umount -l /host
    for system in proc sys dev; do mount --move "/$system" "/root/$system"; done
    exec switch_root /root /sbin/init
}

run() {
    busybox=/run/vm/busybox
    $busybox setsid /bin/sh /run/vm/command </dev/null >"$stdout" 2>"$stderr"
    result=$?
    $busybox sync
    echo "$result" >"$status"
    $busybox poweroff -f
}

case $1 in
run) run ;;
*)
    set -e
    boot
    ;;
esac
