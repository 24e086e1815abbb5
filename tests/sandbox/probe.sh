# Prints what the sandbox around it is like, a row a line: "name value". Runs in a container whose image is a busybox;
# /probe has `call` (made from call.c) and `host`: the host's namespaces, as `readlink` prints them, one a line.

row() { name=$1; shift; echo "$name" "$@"; }
or_none() { [ -n "$*" ] && echo "$@" || echo none; }
status() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }

# mounted PATH: type and options of what is mounted there, without what is the kernel's or the engine's own business
mounted() {
    awk -v at="$1" '$2 == at { found = $3 " " $4 } END { print found ? found : "nothing" }' /proc/mounts |
        sed -E 's/,?(seclabel|relatime|inode64|noswap|uid=[0-9]+|(lower|upper|work)dir[^,]*|xino=[a-z]*|volatile|nouserxattr|uuid=[a-z]*|redirect_dir=[a-z]*|index=[a-z]*|gid=[0-9]+|metacopy=[a-z]*|userxattr|name=[a-z]*|nr_inodes=[0-9]+)//g'
}

for set in Bnd Eff Prm Inh Amb; do row "caps-$set" "$(status "Cap$set")"; done
row no-new-privileges "$(status NoNewPrivs)"
row seccomp "$(status Seccomp)"
row apparmor "$(cat /proc/self/attr/apparmor/current /proc/self/attr/current 2>/dev/null | head -n 1 | tr -d '\0' | grep . || echo none)"
row uid-map $(cat /proc/self/uid_map)
row gid-map $(cat /proc/self/gid_map)
row groups "$(id -G)"

shared=
for kind in cgroup ipc mnt net pid time user uts; do
    grep -qxF "$(readlink /proc/self/ns/$kind)" /probe/host && shared="$shared $kind"
done
row shared-namespaces $(or_none $shared)

# what can be read, a first byte of a file or a name in a directory, of what the host alone should see
readable=
for path in /proc/acpi /proc/asound /proc/config.gz /proc/interrupts /proc/kallsyms /proc/kcore /proc/keys /proc/kmsg \
    /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/dev/block \
    /sys/devices/virtual/powercap /sys/firmware /sys/fs/bpf /sys/fs/selinux /sys/kernel/debug /sys/kernel/security \
    /sys/kernel/tracing; do
    if [ -d $path ]; then [ -n "$(ls -A $path 2>/dev/null)" ] && readable="$readable $path"
    elif [ $path = /proc/kmsg ]; then [ -f $path ] && (: < $path) 2>/dev/null && readable="$readable $path" # a read waits
    else [ "$(head -c 1 $path 2>/dev/null | wc -c)" = 1 ] && readable="$readable $path"; fi
done
row host-facts $(or_none $readable)

writable=
for path in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger /sys /sys/fs/cgroup; do
    [ -e $path ] || continue
    mounted $path | grep -qE ' ro(,|$)' || writable="$writable $path"
done
row writable-kernel-paths $(or_none $writable)
for path in /proc/sys/kernel/hostname /proc/sysrq-trigger; do
    (: >> $path) 2>/dev/null && row "opens-$path" yes || row "opens-$path" no
done

row dev $(ls /dev)
made= opened=
for node in 1:1 1:11 5:1 10:229 7:0; do
    mknod /tmp/node c ${node%:*} ${node#*:} 2>/dev/null || continue
    made="$made $node"
    (: < /tmp/node) 2>/dev/null && opened="$opened $node"
    rm /tmp/node
done
row nodes-made $(or_none $made)
row nodes-opened $(or_none $opened)

row mount-/sys/fs/cgroup "$(mounted /sys/fs/cgroup | cut -d' ' -f2 | cut -d, -f1-4)" # the types of version 1 and 2 differ
for path in / /proc /sys /dev /dev/pts /dev/mqueue /dev/shm; do row "mount-$path" "$(mounted $path)"; done
row mode-/dev/shm "$(stat -c %a /dev/shm)"
row mode-/tmp "$(stat -c %a /tmp)"

row limit-nofile "$(ulimit -Sn)"
row limit-core "$(ulimit -Hc)"
row limit-pids "$(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null | head -n 1)"
row oom-score "$(cat /proc/self/oom_score_adj)"
row umask "$(umask)"
row descriptors $(ls /proc/self/fd | head -n -1)
row session-leader "$([ "$(cut -d' ' -f6 /proc/1/stat)" = 1 ] && echo yes || echo no)"
row low-ports-from "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
row ping-groups $(cat /proc/sys/net/ipv4/ping_group_range)
row router-advertisements "$(cat /proc/sys/net/ipv6/conf/eth0/accept_ra 2>/dev/null || echo none)"
row ipv6-off "$(cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6 2>/dev/null || echo none)"

/probe/call
echo end
