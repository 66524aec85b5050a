/* Counts the calls that change files under one folder, and ends the process at one of them.
 *
 * Loaded with LD_PRELOAD, it sees Python, SQLite and the Rust of safetensors alike. It does nothing
 * until `crash_arm`. Files that have no name (O_TMPFILE, or removed while open) do not count.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXIT_CODE 137
#define NAME (2 * PATH_MAX)

static char root[PATH_MAX];
static atomic_long calls;
static long last = -1; /* the call that is the last */
static int torn;       /* of which, if it writes, only half is done */
static int log_file = -1;

void crash_arm(const char *folder, long at, int half, int log) {
    snprintf(root, sizeof root, "%s", folder);
    calls = 0;
    last = at;
    torn = half;
    log_file = log;
}

static int is_inside(const char *path) {
    size_t length = strlen(root);
    return length && !strncmp(path, root, length) && path[length] == '/';
}

static int path_of_fd(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, PATH_MAX - 1);
    out[size < 0 ? 0 : size] = 0;
    return size > 0;
}

static int path_at(int folder, const char *path, char *out) {
    char start[PATH_MAX] = "";
    if (path[0] == '/') {
        snprintf(out, NAME, "%s", path);
        return 1;
    }
    if (folder == AT_FDCWD ? !getcwd(start, sizeof start) : !path_of_fd(folder, start)) return 0;
    snprintf(out, NAME, "%s/%s", start, path);
    return 1;
}

static int counts_fd(int fd, char *path) {
    struct stat status;
    if (!root[0] || !path_of_fd(fd, path)) return 0;
    if (!is_inside(path) && strcmp(path, root)) return 0;
    return !fstat(fd, &status) && status.st_nlink > 0;
}

static int counts_path(int folder, const char *name, char *path) {
    return root[0] && path_at(folder, name, path) && is_inside(path);
}

/* The number of this call; it is in the log whether it succeeds or not. */
static long begin(const char *kind, const char *path, const char *target) {
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (log_file >= 0) {
        char line[2 * NAME + 64];
        struct stat status = {0};
        stat(path, &status);
        long inode = (long)status.st_ino;
        int size = snprintf(line, sizeof line, "%s\t%ld\t%s\t%s\n", kind, inode, path, target);
        syscall(SYS_write, log_file, line, size);
    }
    return number;
}

static void end(long number) {
    if (number == last) syscall(SYS_exit_group, EXIT_CODE);
}

static size_t part(long number, size_t size) { return torn && number == last ? size / 2 : size; }

#define REAL(type, name, ...)                              \
    static type (*real)(__VA_ARGS__);                      \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define WRITE(NAME_, PARAMETERS, CALL, TYPES, FD, SIZE)    \
    ssize_t NAME_ PARAMETERS {                             \
        REAL(ssize_t, #NAME_, TYPES);                      \
        char path[NAME];                                   \
        if (!counts_fd(FD, path)) return real CALL;        \
        long number = begin("write", path, "");            \
        SIZE = part(number, SIZE);                         \
        ssize_t result = real CALL;                        \
        end(number);                                       \
        return result;                                     \
    }
#define T(...) __VA_ARGS__

WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), T(int, const void *, size_t), fd, size)
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
      T(int, const void *, size_t, off_t), fd, size)
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
      T(int, const void *, size_t, off64_t), fd, size)
WRITE(sendfile, (int fd, int from, off_t *at, size_t size), (fd, from, at, size), T(int, int, off_t *, size_t), fd,
      size)
WRITE(sendfile64, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size),
      T(int, int, off64_t *, size_t), fd, size)
WRITE(copy_file_range, (int from, off64_t *at, int fd, off64_t *to, size_t size, unsigned flags),
      (from, at, fd, to, size, flags), T(int, off64_t *, int, off64_t *, size_t, unsigned), fd, size)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    char path[NAME];
    if (!counts_fd(fd, path)) return real(fd, parts, count);
    long number = begin("write", path, "");
    ssize_t result = real(fd, parts, count > 1 ? (int)part(number, count) : count);
    end(number);
    return result;
}

#define ON_FD(NAME_, KIND, PARAMETERS, CALL, TYPES)        \
    int NAME_ PARAMETERS {                                 \
        REAL(int, #NAME_, TYPES);                          \
        char path[NAME];                                   \
        if (!counts_fd(fd, path)) return real CALL;        \
        long number = begin(KIND, path, "");               \
        int result = real CALL;                            \
        end(number);                                       \
        return result;                                     \
    }

ON_FD(fsync, "sync", (int fd), (fd), int)
ON_FD(fdatasync, "sync", (int fd), (fd), int)
ON_FD(ftruncate, "write", (int fd, off_t size), (fd, size), T(int, off_t))
ON_FD(ftruncate64, "write", (int fd, off64_t size), (fd, size), T(int, off64_t))

#define ON_PATH(NAME_, KIND, PARAMETERS, CALL, TYPES, FOLDER, FILE_) \
    int NAME_ PARAMETERS {                                 \
        REAL(int, #NAME_, TYPES);                          \
        char path[NAME];                                   \
        if (!counts_path(FOLDER, FILE_, path)) return real CALL; \
        long number = begin(KIND, path, "");               \
        int result = real CALL;                            \
        end(number);                                       \
        return result;                                     \
    }

ON_PATH(unlink, "unlink", (const char *file), (file), const char *, AT_FDCWD, file)
ON_PATH(unlinkat, "unlink", (int folder, const char *file, int flags), (folder, file, flags),
        T(int, const char *, int), folder, file)
ON_PATH(rmdir, "unlink", (const char *file), (file), const char *, AT_FDCWD, file)
ON_PATH(mkdir, "create", (const char *file, mode_t mode), (file, mode), T(const char *, mode_t), AT_FDCWD, file)
ON_PATH(truncate, "write", (const char *file, off_t size), (file, size), T(const char *, off_t), AT_FDCWD, file)

#define ON_TWO(NAME_, KIND, PARAMETERS, CALL, TYPES, FOLDER, FILE_, TO_FOLDER, TO) \
    int NAME_ PARAMETERS {                                 \
        REAL(int, #NAME_, TYPES);                          \
        char path[NAME], target[NAME];                     \
        if (!root[0] || !path_at(FOLDER, FILE_, path) || !counts_path(TO_FOLDER, TO, target)) return real CALL; \
        long number = begin(KIND, path, target);           \
        int result = real CALL;                            \
        end(number);                                       \
        return result;                                     \
    }

ON_TWO(rename, "rename", (const char *from, const char *to), (from, to), T(const char *, const char *), AT_FDCWD,
       from, AT_FDCWD, to)
ON_TWO(renameat, "rename", (int a, const char *from, int b, const char *to), (a, from, b, to),
       T(int, const char *, int, const char *), a, from, b, to)
ON_TWO(renameat2, "rename", (int a, const char *from, int b, const char *to, unsigned flags),
       (a, from, b, to, flags), T(int, const char *, int, const char *, unsigned), a, from, b, to)
ON_TWO(link, "rename", (const char *from, const char *to), (from, to), T(const char *, const char *), AT_FDCWD,
       from, AT_FDCWD, to)

/* Opening counts where it makes a file or empties one. */
static const char *opens(int folder, const char *file, int flags, char *path) {
    struct stat status;
    if ((flags & O_TMPFILE) == O_TMPFILE || !counts_path(folder, file, path)) return 0;
    if (flags & O_TRUNC && !stat(path, &status)) return status.st_size ? "write" : 0;
    return flags & O_CREAT && stat(path, &status) ? "create" : 0;
}

#define OPEN(NAME_, PARAMETERS, CALL, TYPES, FOLDER)       \
    int NAME_ PARAMETERS {                                 \
        REAL(int, #NAME_, TYPES, mode_t);                  \
        va_list list;                                      \
        va_start(list, flags);                             \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list);                                      \
        char path[NAME];                                   \
        const char *kind = opens(FOLDER, file, flags, path); \
        if (!kind) return real CALL;                       \
        long number = begin(kind, path, "");               \
        int result = real CALL;                            \
        end(number);                                       \
        return result;                                     \
    }

OPEN(open, (const char *file, int flags, ...), (file, flags, mode), T(const char *, int), AT_FDCWD)
OPEN(open64, (const char *file, int flags, ...), (file, flags, mode), T(const char *, int), AT_FDCWD)
OPEN(openat, (int folder, const char *file, int flags, ...), (folder, file, flags, mode),
     T(int, const char *, int), folder)
OPEN(openat64, (int folder, const char *file, int flags, ...), (folder, file, flags, mode),
     T(int, const char *, int), folder)
