/* Simulates power failures for the files of one folder: preloaded into a process, it keeps a copy of
 * each file as it was when the file was last synced, by inode, and each folder's names as they were
 * when the folder was last synced. Nothing is really synced.
 *
 *   POWER_LOSS_FOLDER  the folder that is watched
 *   POWER_LOSS_COPIES  where the copies go: INODE, a file's bytes; names, a line "INODE NAME" a file
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void copy_file(const char *from, const char *copies, const char *name) {
    char part[PATH_MAX], to[PATH_MAX], buffer[1 << 16];
    snprintf(part, sizeof part, "%s/.%s.%d", copies, name, (int)getpid());
    snprintf(to, sizeof to, "%s/%s", copies, name);
    int in = open(from, O_RDONLY), out = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;
    while (in >= 0 && out >= 0 && (n = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, n) != n) abort();
    close(in);
    close(out);
    rename(part, to);
}

static void copy_names(const char *folder, const char *copies) {
    char part[PATH_MAX], to[PATH_MAX];
    snprintf(part, sizeof part, "%s/.names.%d", copies, (int)getpid());
    snprintf(to, sizeof to, "%s/names", copies);
    FILE *out = fopen(part, "w");
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (out && dir && (entry = readdir(dir)))
        if (entry->d_type == DT_REG) fprintf(out, "%lu %s\n", (unsigned long)entry->d_ino, entry->d_name);
    if (dir) closedir(dir);
    if (out) fclose(out);
    rename(part, to);
}

static int keep(int fd) {
    const char *folder = getenv("POWER_LOSS_FOLDER"), *copies = getenv("POWER_LOSS_COPIES");
    char link[64], path[PATH_MAX], name[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    struct stat status;
    if (!folder || !copies || length < 0 || fstat(fd, &status)) return 0;
    path[length] = 0;
    if (S_ISDIR(status.st_mode) && !strcmp(path, folder)) copy_names(folder, copies);
    if (S_ISREG(status.st_mode) && !strncmp(path, folder, strlen(folder))) {
        snprintf(name, sizeof name, "%lu", (unsigned long)status.st_ino);
        copy_file(link, copies, name);
    }
    return 0;
}

int fsync(int fd) { return keep(fd); }
int fdatasync(int fd) { return keep(fd); }
