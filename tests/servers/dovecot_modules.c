/* Preloaded into a test's Dovecot, which has the place of its modules built in: they are in MODULES instead. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define BUILT_IN "/usr/lib/dovecot/modules"

static const char *moved(const char *path, char *place, size_t size)
{
	if (path == NULL || strncmp(path, BUILT_IN, strlen(BUILT_IN)) != 0)
		return path;
	snprintf(place, size, "%s%s", MODULES, path + strlen(BUILT_IN));
	return place;
}

DIR *opendir(const char *path)
{
	char place[4096];
	DIR *(*real)(const char *) = dlsym(RTLD_NEXT, "opendir");
	return real(moved(path, place, sizeof place));
}

void *dlopen(const char *path, int flags)
{
	char place[4096];
	void *(*real)(const char *, int) = dlsym(RTLD_NEXT, "dlopen");
	return real(moved(path, place, sizeof place), flags);
}
