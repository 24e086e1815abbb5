# What containers run under where the kernel has AppArmor, unless their spec names another profile: everything that
# is theirs is allowed, the kernel's own switches are not. A second wall behind mounts, capabilities and filter.

profile trueup-default flags=(attach_disconnected,mediate_deleted) {
  capability,
  file,
  network,
  umount,
  unix,

  # the host stops and looks at containers; they see each other only inside one container's pid namespace
  signal receive peer=unconfined,
  signal (send, receive) peer=trueup-default,
  ptrace (trace, tracedby, read, readby) peer=trueup-default,

  deny mount,
  deny remount,
  deny pivot_root,

  # in /proc everything but the processes' own directories
  deny /proc/[^0-9]* wlk,
  deny /proc/[^0-9]*/** wlk,
  deny /proc/{kcore,kmem,mem,sysrq-trigger} mrwlk,

  # in /sys everything but the cgroups
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wlk,
  deny /sys/fs/[^c]*/** wlk,
  deny /sys/{firmware,kernel/security}/** r,
}
