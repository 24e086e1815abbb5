/* Makes system calls that a sandbox has an opinion on and prints "name answer" for each: "ok", an errno, or the
 * signal that ended the caller. Arguments are harmless where the call should succeed after all. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct call {
    const char *name;
    long number, arguments[6];
};

static const struct call calls[] = {
    {"socket-packet", SYS_socket, {17, SOCK_RAW, 0}},
    {"socket-rds", SYS_socket, {21, SOCK_SEQPACKET, 0}},
    {"socket-tipc", SYS_socket, {30, SOCK_RDM, 0}},
    {"socket-alg", SYS_socket, {38, SOCK_SEQPACKET, 0}},
    {"socket-vsock", SYS_socket, {40, SOCK_STREAM, 0}},
    {"socket-netlink", SYS_socket, {16, SOCK_RAW, 0}},
    {"socket-raw", SYS_socket, {2, SOCK_RAW, 1}},
    {"socket-ping", SYS_socket, {2, SOCK_DGRAM, 1}},
    {"unshare-user", SYS_unshare, {CLONE_NEWUSER}},
    {"clone3", SYS_clone3, {0, 0}},
    {"setns", SYS_setns, {-1, 0}},
    {"mount", SYS_mount, {0, 0, 0, 0, 0}},
    {"open_tree", SYS_open_tree, {-1, 0, 0}},
    {"pivot_root", SYS_pivot_root, {0, 0}},
    {"bpf", SYS_bpf, {-1, 0, 0}},
    {"perf_event_open", SYS_perf_event_open, {0, 0, -1, -1, 0}},
    {"io_uring_setup", SYS_io_uring_setup, {0, 0}},
    {"userfaultfd", SYS_userfaultfd, {-1}},
    {"keyctl", SYS_keyctl, {0, -3, 0}},
    {"add_key", SYS_add_key, {0, 0, 0, 0, 0}},
    {"request_key", SYS_request_key, {0, 0, 0, 0}},
    {"kexec_load", SYS_kexec_load, {0, 0, 0, -1}},
    {"init_module", SYS_init_module, {0, 0, 0}},
    {"swapon", SYS_swapon, {0, 0}},
    {"settimeofday", SYS_settimeofday, {1, 0}},
    {"syslog", SYS_syslog, {10, 0, 0}},
    {"open_by_handle_at", SYS_open_by_handle_at, {-1, 0, 0}},
    {"move_pages", SYS_move_pages, {0, 0, 0, 0, 0}},
    {"ptrace", SYS_ptrace, {0, 0, 0, 0}},
    {"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0}},
    {"personality-no-randomize", SYS_personality, {0x40000}},
    {"unknown", 9999, {0}},
#ifdef __x86_64__
    {"x32", 0x40000000L + SYS_getppid, {0}},
#endif
};

static long make(const struct call *c) {
    const long *a = c->arguments;
    return syscall(c->number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static const char *answer(long (*function)(const struct call *), const struct call *c) {
    int *found = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), status;
    pid_t child = fork();
    if (child == 0) {
        *found = function(c) < 0 ? errno : 0;
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        return sigabbrev_np(WTERMSIG(status));
    return *found ? strerrorname_np(*found) : "ok";
}

#ifdef __x86_64__
static long through_int80(const struct call *c) {
    long result;
    (void)c;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
#endif

int main(void) {
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        printf("call %s %s\n", calls[i].name, answer(make, &calls[i]));
#ifdef __x86_64__
    printf("call int80 %s\n", answer(through_int80, 0));
#endif
    return 0;
}
