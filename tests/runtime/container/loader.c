/* A dynamic loader of an image's making: the kernel runs it inside whatever dynamic program is executed there. It wants
 * the program itself, as CVE-2019-5736 did: prints whether that could be written to, and how its mount is. No libc,
 * because the program's headers are not its own. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#ifdef __x86_64__
static long call(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
#else
static long call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#endif

#define SAY(text) call(SYS_write, 1, (long)(text), sizeof(text) - 1, 0)

void _start(void) {
    struct statfs where;
    long held = call(SYS_openat, AT_FDCWD, (long)"/proc/self/exe", O_PATH, 0);
    long written = call(SYS_openat, AT_FDCWD, (long)"/proc/self/exe", O_WRONLY, 0);
    SAY("loaded ");
    if (written >= 0)
        SAY("writable ");
    if (held >= 0 && call(SYS_fstatfs, held, (long)&where, 0, 0) == 0)
        where.f_flags & ST_RDONLY ? SAY("read-only\n") : SAY("read-write\n");
    call(SYS_exit_group, 0, 0, 0, 0);
}
