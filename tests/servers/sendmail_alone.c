/* Preloaded into a test's Sendmail: the machine has a name, and nothing else has. Sendmail asks for both before it reads
   its configuration, sleeps a minute where the name has no dot, and waits for name servers that may not be there. */

#include <netdb.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

int gethostname(char *name, size_t size)
{
	strncpy(name, "mx.example.org", size);
	return 0;
}

struct hostent *gethostbyaddr(const void *address, socklen_t size, int family)
{
	h_errno = HOST_NOT_FOUND;
	return NULL;
}

struct hostent *gethostbyname2(const char *name, int family)
{
	h_errno = HOST_NOT_FOUND;
	return NULL;
}

int res_query(const char *name, int class, int type, unsigned char *answer, int size)
{
	h_errno = HOST_NOT_FOUND;
	return -1;
}

int res_search(const char *name, int class, int type, unsigned char *answer, int size)
{
	h_errno = HOST_NOT_FOUND;
	return -1;
}

int res_querydomain(const char *name, const char *domain, int class, int type, unsigned char *answer, int size)
{
	h_errno = HOST_NOT_FOUND;
	return -1;
}
