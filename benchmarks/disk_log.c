// Records what a process writes below $DISK_LOG_ROOT, in order, in the file $DISK_LOG: loaded with LD_PRELOAD.
// A record is one line, `kind inode offset size path path2` separated by tabs, and then `size` bytes.
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FILES 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_file = -1;
static const char *root;
static ino_t recorded[MAX_FILES];  // by descriptor: inode of a file below the root, else 0

__attribute__((constructor)) static void open_log(void) {
    root = getenv("DISK_LOG_ROOT");
    const char *path = getenv("DISK_LOG");
    if (root && path)
        log_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void record(const char *kind, ino_t inode, off_t offset, const void *data, size_t size, const char *path,
                   const char *other) {
    char line[3 * PATH_MAX];
    int length = snprintf(line, sizeof line, "%s\t%llu\t%lld\t%zu\t%s\t%s\n", kind, (unsigned long long)inode,
                          (long long)offset, size, path, other);
    struct iovec parts[] = {{line, length}, {(void *)data, size}};
    if (syscall(SYS_writev, log_file, parts, 2) != (long)(length + size)) abort();
}

// Writes the absolute path and returns whether it is below the root.
static int is_below(int dir, const char *path, char *absolute) {
    if (log_file < 0 || !path) return 0;
    if (path[0] == '/') {
        snprintf(absolute, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX] = "";
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        if (readlink(link, base, sizeof base - 1) < 0) return 0;
        if (snprintf(absolute, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    size_t length = strlen(root);
    return !strncmp(absolute, root, length) && absolute[length] == '/';
}

static ino_t inode_of(int file) {
    struct stat status;
    if (file < 0 || file >= MAX_FILES || !recorded[file] || fstat(file, &status)) return 0;
    return status.st_ino == recorded[file] ? status.st_ino : 0;
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    char absolute[PATH_MAX];
    int is_recorded = is_below(dir, path, absolute);
    // The root itself is opened to be synced.
    if (!is_recorded && (log_file < 0 || !path || strcmp(path, root))) {
        int file = syscall(SYS_openat, dir, path, flags, mode);
        if (file >= 0 && file < MAX_FILES) recorded[file] = 0;
        return file;
    }
    pthread_mutex_lock(&lock);
    struct stat status;
    int existed = !fstatat(dir, path, &status, 0);
    int file = syscall(SYS_openat, dir, path, flags, mode);
    if (file >= 0 && file < MAX_FILES && !fstat(file, &status)) {
        recorded[file] = status.st_ino;
        if (!existed) record("create", status.st_ino, 0, "", 0, absolute, "");
        else if (flags & O_TRUNC) record("truncate", status.st_ino, 0, "", 0, "", "");
    }
    pthread_mutex_unlock(&lock);
    return file;
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }
int open(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return open_at(dir, path, flags, mode); }

ssize_t write(int file, const void *data, size_t size) {
    ino_t inode = inode_of(file);
    if (!inode) return syscall(SYS_write, file, data, size);
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_write, file, data, size);
    if (written > 0) record("write", inode, lseek(file, 0, SEEK_CUR) - written, data, written, "", "");
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    ino_t inode = inode_of(file);
    if (!inode) return syscall(SYS_pwrite64, file, data, size, offset);
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_pwrite64, file, data, size, offset);
    if (written > 0) record("write", inode, offset, data, written, "", "");
    pthread_mutex_unlock(&lock);
    return written;
}
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return pwrite64(file, data, size, offset); }

// A call on a descriptor, or on one or two paths, that is recorded if it returned 0.
#define ON_FILE(kind, call, size) \
    ino_t inode = inode_of(file); \
    if (!inode) return call; \
    pthread_mutex_lock(&lock); \
    int result = call; \
    if (!result) record(kind, inode, size, "", 0, "", ""); \
    pthread_mutex_unlock(&lock); \
    return result;
int ftruncate64(int file, off64_t size) { ON_FILE("truncate", syscall(SYS_ftruncate, file, size), size) }
int ftruncate(int file, off_t size) { return ftruncate64(file, size); }
int fsync(int file) { ON_FILE("sync", syscall(SYS_fsync, file), 0) }
int fdatasync(int file) { ON_FILE("sync", syscall(SYS_fdatasync, file), 0) }

static int on_path(const char *kind, long number, int dir, const char *path, long argument) {
    char absolute[PATH_MAX];
    if (!is_below(dir, path, absolute)) return syscall(number, dir, path, argument);
    pthread_mutex_lock(&lock);
    struct stat status = {0};
    int result = syscall(number, dir, path, argument);
    if (!result) {
        if (!strcmp(kind, "mkdir")) fstatat(dir, path, &status, 0);
        record(kind, status.st_ino, 0, "", 0, absolute, "");
    }
    pthread_mutex_unlock(&lock);
    return result;
}
int mkdirat(int dir, const char *path, mode_t mode) { return on_path("mkdir", SYS_mkdirat, dir, path, mode); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int unlinkat(int dir, const char *path, int flags) { return on_path("unlink", SYS_unlinkat, dir, path, flags); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    struct stat status;
    return !lstat(path, &status) && S_ISDIR(status.st_mode) ? rmdir(path) : unlink(path);
}

static int on_paths(const char *kind, long number, int dir, const char *path, int dir2, const char *path2) {
    char absolute[PATH_MAX], other[PATH_MAX];
    int is_recorded = is_below(dir2, path2, other);
    if (!is_recorded && !is_below(dir, path, absolute)) return syscall(number, dir, path, dir2, path2, 0);
    if (!is_recorded || !is_below(dir, path, absolute)) abort();  // A rename across the border is not understood.
    pthread_mutex_lock(&lock);
    int result = syscall(number, dir, path, dir2, path2, 0);
    if (!result) record(kind, 0, 0, "", 0, absolute, other);
    pthread_mutex_unlock(&lock);
    return result;
}
int renameat(int dir, const char *path, int dir2, const char *path2) {
    return on_paths("rename", SYS_renameat2, dir, path, dir2, path2);
}
int rename(const char *path, const char *path2) { return renameat(AT_FDCWD, path, AT_FDCWD, path2); }
int linkat(int dir, const char *path, int dir2, const char *path2, int flags) {
    (void)flags;
    return on_paths("link", SYS_linkat, dir, path, dir2, path2);
}
int link(const char *path, const char *path2) { return linkat(AT_FDCWD, path, AT_FDCWD, path2, 0); }
int symlinkat(const char *target, int dir, const char *path) {
    char absolute[PATH_MAX];
    if (!is_below(dir, path, absolute)) return syscall(SYS_symlinkat, target, dir, path);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_symlinkat, target, dir, path);
    if (!result) record("symlink", 0, 0, "", 0, absolute, target);
    pthread_mutex_unlock(&lock);
    return result;
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

// Ends the process as SIGKILL would, between two calls of its threads.
void end_process(void) {
    pthread_mutex_lock(&lock);
    syscall(SYS_exit_group, 9);
}
