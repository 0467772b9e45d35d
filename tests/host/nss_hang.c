/*
 * A directory service that hangs, for the name service switch: the daemon asks
 * it as it would ask sssd or nslcd, after the files.
 *
 *   cc -shared -fPIC -o libnss_hang.so.2 nss_hang.c
 *   passwd: files hang                               (/etc/nsswitch.conf)
 *
 * Its users are far0 to far999, with the uids 70000 to 70999. Each call is
 * noted in $NSS_HANG/calls, a line such as "uid 70001" or "name far1", and
 * answered once there is no file $NSS_HANG/hang.
 */
#include <errno.h>
#include <fcntl.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST = 70000, COUNT = 1000 };

static void note_and_hang(const char *call)
{
	const char *directory = getenv("NSS_HANG");
	char path[4096];
	int calls;

	if (directory == NULL)
		return;
	snprintf(path, sizeof(path), "%s/calls", directory);
	calls = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (calls >= 0) {
		/* One write, so that calls of several threads keep apart. */
		if (write(calls, call, strlen(call)) < 0)
			perror(path);
		close(calls);
	}
	snprintf(path, sizeof(path), "%s/hang", directory);
	while (access(path, F_OK) == 0)
		usleep(10000);
}

static enum nss_status fill(long number, struct passwd *user, char *buffer,
			    size_t size, int *error)
{
	int length;

	if (number < 0 || number >= COUNT)
		return NSS_STATUS_NOTFOUND;
	length = snprintf(buffer, size, "far%ld", number);
	if (length < 0 || (size_t)length >= size) {
		*error = ERANGE;
		return NSS_STATUS_TRYAGAIN;
	}
	user->pw_name = buffer;
	user->pw_passwd = "x";
	user->pw_uid = user->pw_gid = (uid_t)(FIRST + number);
	user->pw_gecos = "Far Away";
	user->pw_dir = "/nonexistent";
	user->pw_shell = "/bin/sh";
	return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_hang_getpwuid_r(uid_t uid, struct passwd *user,
				     char *buffer, size_t size, int *error)
{
	char call[64];

	snprintf(call, sizeof(call), "uid %lu\n", (unsigned long)uid);
	note_and_hang(call);
	return fill((long)uid - FIRST, user, buffer, size, error);
}

enum nss_status _nss_hang_getpwnam_r(const char *name, struct passwd *user,
				     char *buffer, size_t size, int *error)
{
	char call[300], *end;
	long number;

	snprintf(call, sizeof(call), "name %s\n", name);
	note_and_hang(call);
	if (strncmp(name, "far", 3) != 0)
		return NSS_STATUS_NOTFOUND;
	number = strtol(name + 3, &end, 10);
	return fill(*end == '\0' && end != name + 3 ? number : -1, user, buffer,
		    size, error);
}
