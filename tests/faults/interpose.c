/* Stands between a process and libc (LD_PRELOAD): counts every call that may change what is below one folder, by
 * any thread and any library, and lets one of them fail, be cut in half, or end the process. It can also keep
 * beside what a power cut would have left: each file as it was when it was last synced, and the order of names.
 *
 * What libc calls inside itself, and stores into mapped memory, are not seen; msync is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LONGEST 4096

enum how { COUNT = 0, KILL = 1, TEAR = 2, FAIL = 3, SHORT = 4 };

/* In memory that parent and child share: a killed process still tells. */
struct told {
    long calls;         /* so far */
    long struck;        /* how many of them were */
    char what[256];     /* the first of those */
};

static struct {
    char home[LONGEST];
    size_t length;
    enum how how;
    long at, until;     /* the calls that are struck */
    int error;
    struct told *told;
    int trace;          /* where each call is named; -1: nowhere */
    char shadow[LONGEST]; /* where synced content is kept; empty: nowhere */
    int names;          /* where the order of names is kept */
} now = {.trace = -1, .names = -1};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static struct { char *start; size_t size; off_t offset; long file; } mapped[256];

#define REAL(type, name, ...)                                             \
    static type (*real)(__VA_ARGS__);                                     \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

void faults_arm(const char *home, int how, long at, long until, int error, void *told, int trace,
                const char *shadow, int names) {
    snprintf(now.home, sizeof now.home, "%s", home);
    snprintf(now.shadow, sizeof now.shadow, "%s", shadow);
    now.how = how, now.at = at, now.until = until, now.error = error;
    now.told = told, now.trace = trace, now.names = names;
    now.length = strlen(home);
}

void faults_disarm(void) { now.length = 0; }

static int below(const char *path) {
    return now.length && !strncmp(path, now.home, now.length) &&
           (path[now.length] == '/' || path[now.length] == 0);
}

static const char *of_descriptor(int descriptor, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, into, LONGEST - 1);
    into[length < 0 ? 0 : length] = 0;
    return into;
}

static const char *of_name(int folder, const char *name, char *into) {
    if (name[0] == '/') return name;
    char above[LONGEST];
    if (folder == AT_FDCWD) {
        if (!getcwd(above, sizeof above)) above[0] = 0;
    } else {
        of_descriptor(folder, above);
    }
    if (snprintf(into, LONGEST, "%s/%s", above, name) >= LONGEST) into[0] = 0;
    return into;
}

/* Count a call. Returns 0 to go on, an errno to fail with, -1 to do half of it, -2 to do half and die. */
static int met(const char *call, const char *path, int is_write) {
    long n = __atomic_add_fetch(&now.told->calls, 1, __ATOMIC_SEQ_CST);
    if (now.trace >= 0) {
        char line[LONGEST];
        int size = snprintf(line, sizeof line, "%s %s\n", call, path + now.length);
        syscall(SYS_write, now.trace, line, (size_t)size);
    }
    if (now.how == COUNT || n < now.at || n > now.until) return 0;
    if ((now.how == TEAR || now.how == SHORT) && !is_write) return 0;
    if (__atomic_fetch_add(&now.told->struck, 1, __ATOMIC_SEQ_CST) == 0)
        snprintf(now.told->what, sizeof now.told->what, "%s %s", call, path + now.length);
    if (now.how == KILL) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (now.how == TEAR) return -2;
    if (now.how == SHORT) return n == now.at ? -1 : now.error;
    return now.error;
}

static int met_name(const char *call, int folder, const char *name) {
    char into[LONGEST];
    if (!now.length || !name) return 0;
    const char *path = of_name(folder, name, into);
    return below(path) ? met(call, path, 0) : 0;
}

static int met_descriptor(const char *call, int descriptor, int is_write) {
    char into[LONGEST];
    if (!now.length) return 0;
    const char *path = of_descriptor(descriptor, into);
    return below(path) ? met(call, path, is_write) : 0;
}

#define STRIKE_NAME(call, folder, name)                                   \
    do {                                                                  \
        int error_ = met_name(call, folder, name);                        \
        if (error_) return errno = error_, -1;                            \
    } while (0)
#define STRIKE_DESCRIPTOR(call, descriptor)                               \
    do {                                                                  \
        int error_ = met_descriptor(call, descriptor, 0);                 \
        if (error_) return errno = error_, -1;                            \
    } while (0)

/* --- what a power cut leaves --- */

static int keeps(void) { return now.length && now.shadow[0]; }

static void copied(int from, const char *kind, long file) {
    char path[LONGEST + 64], block[1 << 16];
    snprintf(path, sizeof path, "%s/%s-%ld", now.shadow, kind, file);
    int to = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    off_t at = 0;
    for (ssize_t size; (size = pread(from, block, sizeof block, at)) > 0; at += size)
        syscall(SYS_pwrite64, to, block, (size_t)size, at);
    close(to);
}

static void keep_synced(int descriptor) {
    struct stat status;
    char path[LONGEST];
    if (!keeps() || fstat(descriptor, &status) || !below(of_descriptor(descriptor, path))) return;
    if (S_ISDIR(status.st_mode)) {
        char line[64];
        int size = snprintf(line, sizeof line, "sync\t%ld\n", (long)status.st_ino);
        syscall(SYS_write, now.names, line, (size_t)size);
    } else {
        char again[64];
        snprintf(again, sizeof again, "/proc/self/fd/%d", descriptor);
        int reading = (int)syscall(SYS_openat, AT_FDCWD, again, O_RDONLY, 0);
        copied(reading, "synced", (long)status.st_ino);
        close(reading);
    }
}

static void keep_range(char *start, size_t size) {
    for (size_t i = 0; keeps() && i < sizeof mapped / sizeof *mapped; i++) {
        if (!mapped[i].start || start < mapped[i].start || start >= mapped[i].start + mapped[i].size) continue;
        char path[LONGEST + 64];
        snprintf(path, sizeof path, "%s/synced-%ld", now.shadow, mapped[i].file);
        int to = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT, 0600);
        struct stat status;
        if (!fstat(to, &status) && status.st_size < mapped[i].offset + (off_t)mapped[i].size)
            syscall(SYS_ftruncate, to, mapped[i].offset + (off_t)mapped[i].size);
        syscall(SYS_pwrite64, to, start, size, (off_t)(mapped[i].offset + (start - mapped[i].start)));
        close(to);
        return;
    }
}

static long inode(const char *path) {
    struct stat status;
    return lstat(path, &status) ? 0 : (long)status.st_ino;
}

static long folder_of(const char *path, const char **name) {
    char above[LONGEST];
    snprintf(above, sizeof above, "%s", path);
    char *slash = strrchr(above, '/');
    *name = path + (slash - above) + 1;
    *slash = 0;
    return inode(above);
}

static void keep_last(const char *path) {
    struct stat status;
    /* Never closed, so that its number is given to no other file. */
    syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    if (lstat(path, &status) || !S_ISREG(status.st_mode)) return;
    int from = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
    copied(from, "last", (long)status.st_ino);
    close(from);
}

static void keep_name(const char *what, const char *path, long file) {
    const char *name;
    char line[LONGEST + 64];
    long folder = folder_of(path, &name);
    int size = snprintf(line, sizeof line, "%s\t%ld\t%s\t%ld\n", what, folder, name, file);
    syscall(SYS_write, now.names, line, (size_t)size);
}

static void keep_rename(const char *from, const char *to, long file) {
    const char *old, *new;
    char line[2 * LONGEST];
    long out = folder_of(from, &old), in = folder_of(to, &new);
    int size = snprintf(line, sizeof line, "rename\t%ld\t%s\t%ld\t%s\t%ld\n", out, old, in, new, file);
    syscall(SYS_write, now.names, line, (size_t)size);
}

#define KEPT(result, folder, name, statement)                             \
    do {                                                                  \
        char into_[LONGEST];                                              \
        const char *path = keeps() ? of_name(folder, name, into_) : "";   \
        if ((result) >= 0 && keeps() && below(path)) statement;           \
    } while (0)

/* --- the calls --- */

static int opened(const char *call, int folder, const char *name, int flags, mode_t mode) {
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (writes) STRIKE_NAME(call, folder, name);
    REAL(int, "openat", int, const char *, int, ...);
    if (!(flags & O_CREAT) || !keeps()) return real(folder, name, flags, mode);
    char into[LONGEST];
    const char *path = of_name(folder, name, into);
    pthread_mutex_lock(&one_at_a_time);
    long before = below(path) ? inode(path) : 1;
    int descriptor = real(folder, name, flags, mode);
    if (descriptor >= 0 && !before) keep_name("link", path, inode(path));
    pthread_mutex_unlock(&one_at_a_time);
    return descriptor;
}

#define MODE(flags)                                                       \
    mode_t mode = 0;                                                      \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode = va_arg(rest, mode_t);                                      \
        va_end(rest);                                                     \
    }

int open(const char *name, int flags, ...) {
    MODE(flags) return opened("open", AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE(flags) return opened("open", AT_FDCWD, name, flags | O_LARGEFILE, mode);
}
int openat(int folder, const char *name, int flags, ...) {
    MODE(flags) return opened("open", folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
    MODE(flags) return opened("open", folder, name, flags | O_LARGEFILE, mode);
}
int creat(const char *name, mode_t mode) {
    return opened("open", AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

/* Half of a write, or all; of several buffers, the first ones. */
#define WRITTEN(call, descriptor, size, half, whole)                      \
    do {                                                                  \
        int error = met_descriptor(call, descriptor, 1);                  \
        if (error > 0) return errno = error, -1;                          \
        if (error == 0) return whole;                                     \
        if (!(half) && error == -1) return errno = now.error, -1;         \
        ssize_t done = (half) ? (size) : 0;                               \
        if (error == -1) return done;                                     \
        kill(getpid(), SIGKILL);                                          \
        for (;;) pause();                                                 \
    } while (0)

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    WRITTEN("write", descriptor, real(descriptor, data, size / 2), size / 2, real(descriptor, data, size));
}
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    WRITTEN("pwrite", descriptor, real(descriptor, data, size / 2, at), size / 2,
            real(descriptor, data, size, at));
}
ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t at) {
    return pwrite(descriptor, data, size, at);
}
ssize_t writev(int descriptor, const struct iovec *data, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    WRITTEN("writev", descriptor, real(descriptor, data, count / 2), count / 2, real(descriptor, data, count));
}
ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    WRITTEN("sendfile", to, real(to, from, at, size / 2), size / 2, real(to, from, at, size));
}
ssize_t sendfile64(int to, int from, off_t *at, size_t size) { return sendfile(to, from, at, size); }

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags) {
    STRIKE_DESCRIPTOR("copy_file_range", to);
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    return real(from, from_at, to, to_at, size, flags);
}

int fsync(int descriptor) {
    STRIKE_DESCRIPTOR("fsync", descriptor);
    REAL(int, "fsync", int);
    pthread_mutex_lock(&one_at_a_time);
    keep_synced(descriptor); /* what is there before it, no more */
    int result = real(descriptor);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}
int fdatasync(int descriptor) {
    STRIKE_DESCRIPTOR("fdatasync", descriptor);
    REAL(int, "fdatasync", int);
    pthread_mutex_lock(&one_at_a_time);
    keep_synced(descriptor); /* what is there before it, no more */
    int result = real(descriptor);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

static void *noted(void *start, size_t size, int access, int flags, int descriptor, off_t offset) {
    char path[LONGEST];
    struct stat status;
    int ours = now.length && start != MAP_FAILED && descriptor >= 0 && (flags & MAP_SHARED) &&
               (access & PROT_WRITE) && below(of_descriptor(descriptor, path)) && !fstat(descriptor, &status);
    for (size_t i = 0; ours && i < sizeof mapped / sizeof *mapped; i++) {
        if (mapped[i].start) continue;
        mapped[i].start = start, mapped[i].size = size, mapped[i].offset = offset;
        mapped[i].file = (long)status.st_ino;
        break;
    }
    return start;
}
void *mmap(void *at, size_t size, int access, int flags, int descriptor, off_t offset) {
    REAL(void *, "mmap", void *, size_t, int, int, int, off_t);
    return noted(real(at, size, access, flags, descriptor, offset), size, access, flags, descriptor, offset);
}
void *mmap64(void *at, size_t size, int access, int flags, int descriptor, off64_t offset) {
    return mmap(at, size, access, flags, descriptor, offset);
}
int munmap(void *start, size_t size) {
    REAL(int, "munmap", void *, size_t);
    for (size_t i = 0; now.length && i < sizeof mapped / sizeof *mapped; i++)
        if (mapped[i].start == start) mapped[i].start = NULL;
    return real(start, size);
}
int msync(void *start, size_t size, int flags) {
    for (size_t i = 0; now.length && i < sizeof mapped / sizeof *mapped; i++) {
        char *from = mapped[i].start;
        if (!from || (char *)start < from || (char *)start >= from + mapped[i].size) continue;
        int error = met("msync", now.home, 0);
        if (error) return errno = error, -1;
        break;
    }
    REAL(int, "msync", void *, size_t, int);
    pthread_mutex_lock(&one_at_a_time);
    keep_range(start, size);
    int result = real(start, size, flags);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    char first[LONGEST], second[LONGEST];
    if (now.length) {
        STRIKE_NAME("rename", from, old);
    }
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    if (!keeps()) return real(from, old, to, new, flags);
    const char *out = of_name(from, old, first), *in = of_name(to, new, second);
    pthread_mutex_lock(&one_at_a_time);
    long file = inode(out);
    if (below(in)) keep_last(in);
    int result = real(from, old, to, new, flags);
    if (!result && below(in)) keep_rename(out, in, file);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int folder, const char *name, int flags) {
    STRIKE_NAME(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, name);
    REAL(int, "unlinkat", int, const char *, int);
    if (!keeps()) return real(folder, name, flags);
    char into[LONGEST];
    const char *path = of_name(folder, name, into);
    pthread_mutex_lock(&one_at_a_time);
    long file = below(path) ? inode(path) : 0;
    if (file) keep_last(path);
    int result = real(folder, name, flags);
    if (!result && file) keep_name("unlink", path, file);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) {
    struct stat status;
    return unlinkat(AT_FDCWD, name, !lstat(name, &status) && S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0);
}

int mkdirat(int folder, const char *name, mode_t mode) {
    STRIKE_NAME("mkdir", folder, name);
    REAL(int, "mkdirat", int, const char *, mode_t);
    pthread_mutex_lock(&one_at_a_time);
    int result = real(folder, name, mode);
    KEPT(result, folder, name, keep_name("link", path, inode(path)));
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    STRIKE_NAME("link", to, new);
    REAL(int, "linkat", int, const char *, int, const char *, int);
    pthread_mutex_lock(&one_at_a_time);
    int result = real(from, old, to, new, flags);
    KEPT(result, to, new, keep_name("link", path, inode(path)));
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int symlinkat(const char *old, int folder, const char *new) {
    STRIKE_NAME("symlink", folder, new);
    REAL(int, "symlinkat", const char *, int, const char *);
    return real(old, folder, new);
}
int symlink(const char *old, const char *new) { return symlinkat(old, AT_FDCWD, new); }

int ftruncate(int descriptor, off_t size) {
    STRIKE_DESCRIPTOR("ftruncate", descriptor);
    REAL(int, "ftruncate", int, off_t);
    return real(descriptor, size);
}
int ftruncate64(int descriptor, off64_t size) { return ftruncate(descriptor, size); }
int truncate(const char *name, off_t size) {
    STRIKE_NAME("truncate", AT_FDCWD, name);
    REAL(int, "truncate", const char *, off_t);
    return real(name, size);
}
int truncate64(const char *name, off64_t size) { return truncate(name, size); }
int posix_fallocate(int descriptor, off_t at, off_t size) {
    int error = met_descriptor("fallocate", descriptor, 0);
    if (error) return error;
    REAL(int, "posix_fallocate", int, off_t, off_t);
    return real(descriptor, at, size);
}
int posix_fallocate64(int descriptor, off64_t at, off64_t size) {
    return posix_fallocate(descriptor, at, size);
}
int fallocate(int descriptor, int mode, off_t at, off_t size) {
    STRIKE_DESCRIPTOR("fallocate", descriptor);
    REAL(int, "fallocate", int, int, off_t, off_t);
    return real(descriptor, mode, at, size);
}
int fallocate64(int descriptor, int mode, off64_t at, off64_t size) {
    return fallocate(descriptor, mode, at, size);
}

int fchmodat(int folder, const char *name, mode_t mode, int flags) {
    STRIKE_NAME("chmod", folder, name);
    REAL(int, "fchmodat", int, const char *, mode_t, int);
    return real(folder, name, mode, flags);
}
int chmod(const char *name, mode_t mode) { return fchmodat(AT_FDCWD, name, mode, 0); }
int fchmod(int descriptor, mode_t mode) {
    STRIKE_DESCRIPTOR("chmod", descriptor);
    REAL(int, "fchmod", int, mode_t);
    return real(descriptor, mode);
}
