/* What public images bring beside a shell, in as few lines as do the same to the kernel; the name says which:
 *   sudo COMMAND…        a setuid-root program that becomes root for real
 *   egid                 a setgid program: prints its effective group
 *   iping ADDRESS        one echo through an ICMP datagram socket, as iputils makes first
 *   gosu USER COMMAND…   root becomes a user for good
 *   sshd USER COMMAND    a child locked into an empty root, a session of USER on a terminal of its own
 *   postgres DIRECTORY   shared memory of both kinds, a lock file, data forced to the disk */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/ip_icmp.h>
#include <pty.h>
#include <pwd.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int result, const char *what) {
    if (result < 0)
        err(1, "%s", what);
}

static const struct passwd *find(const char *name) {
    FILE *file = fopen("/etc/passwd", "re");
    const struct passwd *user;
    while (file && (user = fgetpwent(file)))
        if (!strcmp(user->pw_name, name))
            return user;
    errx(1, "no user %s", name);
}

static void become(const char *name) {
    const struct passwd *user = find(name);
    must(setgroups(1, &user->pw_gid), "setgroups");
    must(setresgid(user->pw_gid, user->pw_gid, user->pw_gid), "setresgid");
    must(setresuid(user->pw_uid, user->pw_uid, user->pw_uid), "setresuid");
    if (user->pw_uid && setuid(0) == 0)
        errx(1, "root could be taken back");
}

static int privileged(char **command) {
    must(setgroups(0, NULL), "setgroups");
    must(setresgid(0, 0, 0), "setresgid");
    must(setresuid(0, 0, 0), "setresuid");
    execvp(command[0], command);
    err(127, "%s", command[0]);
}

static int ping(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct icmphdr echo = {.type = ICMP_ECHO}, reply;
    const struct timeval patience = {5, 0};
    int sock = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    must(sock, "socket");
    if (!inet_aton(address, &to.sin_addr))
        errx(2, "no address: %s", address);
    must(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "setsockopt");
    must(sendto(sock, &echo, sizeof echo, 0, (struct sockaddr *)&to, sizeof to), "sendto");
    must(recv(sock, &reply, sizeof reply, 0), "recv");
    return puts(reply.type == ICMP_ECHOREPLY ? "reply" : "something else") < 0;
}

static void lock_up(void) {
    const struct rlimit none = {0, 0};
    pid_t child = fork();
    int status;
    if (child == 0) {
        must(chroot("/var/empty"), "chroot");
        must(chdir("/"), "chdir");
        must(setresgid(22, 22, 22), "setresgid");
        must(setresuid(22, 22, 22), "setresuid");
        must(setrlimit(RLIMIT_NOFILE, &none), "setrlimit");
        _exit(access("/etc/passwd", F_OK) == 0);
    }
    must(waitpid(child, &status, 0), "waitpid");
    if (status)
        errx(1, "the locked child ended with %#x", status);
}

static int session(const char *user, char *command) {
    char text[4096];
    int terminal, status;
    ssize_t length;
    pid_t child;
    lock_up();
    child = forkpty(&terminal, NULL, NULL, NULL);
    must(child, "forkpty");
    if (child == 0) {
        must(fchown(0, find(user)->pw_uid, 5), "fchown");
        become(user);
        execl("/bin/sh", "-sh", "-c", command, NULL);
        err(127, "/bin/sh");
    }
    while ((length = read(terminal, text, sizeof text)) > 0)
        must(write(1, text, length), "write");
    must(waitpid(child, &status, 0), "waitpid");
    return status != 0;
}

static int database(const char *directory) {
    int memory = shm_open("/segment", O_CREAT | O_RDWR, 0600), file, parent, id;
    char *shared, *old;
    sem_t *semaphore;
    must(memory, "shm_open");
    must(posix_fallocate(memory, 0, 8 << 20) ? -1 : 0, "posix_fallocate");
    shared = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    must(shared == MAP_FAILED ? -1 : 0, "mmap");
    memset(shared, 1, 8 << 20);
    id = shmget(IPC_PRIVATE, 56, IPC_CREAT | 0600);
    must(id, "shmget");
    old = shmat(id, NULL, 0);
    must(old == (void *)-1 ? -1 : 0, "shmat");
    must(shmctl(id, IPC_RMID, NULL), "shmctl");
    semaphore = sem_open("/lock", O_CREAT, 0600, 1);
    must(semaphore == SEM_FAILED ? -1 : 0, "sem_open");
    must(chdir(directory), directory);
    file = open("postmaster.pid", O_CREAT | O_EXCL | O_RDWR, 0600);
    must(file, "postmaster.pid");
    must(dprintf(file, "%d\n", getpid()), "write");
    must(fsync(file), "fsync");
    must(rename("postmaster.pid", "base"), "rename");
    parent = open(".", O_RDONLY | O_DIRECTORY);
    must(fsync(parent), "fsync of the directory");
    must(sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE), "sync_file_range");
    must(kill(getpid(), 0), "kill");
    puts("ready");
    return 0;
}

int main(int count, char **words) {
    const char *name = strrchr(words[0], '/') ? strrchr(words[0], '/') + 1 : words[0];
    if (!strcmp(name, "egid"))
        return printf("%d\n", getegid()) < 0;
    if (!strcmp(name, "sudo") && count > 1)
        return privileged(words + 1);
    if (!strcmp(name, "iping") && count == 2)
        return ping(words[1]);
    if (!strcmp(name, "postgres") && count == 2)
        return database(words[1]);
    if (!strcmp(name, "sshd") && count == 3)
        return session(words[1], words[2]);
    if (!strcmp(name, "gosu") && count > 2) {
        become(words[1]);
        execvp(words[2], words + 2);
        err(127, "%s", words[2]);
    }
    errx(2, "no such habit");
}
