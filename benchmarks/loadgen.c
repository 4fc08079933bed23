/* loadgen: an MTA that has much mail, for any milter.
 *
 *   cc -O2 -Wall -Wextra -pthread -o loadgen benchmarks/loadgen.c
 *   loadgen SOCKET [connections=4] [messages=1000] [per_connection=1] [ip=192.0.2.1] [name=mx.example.org] [rate=]
 *           [sender=alice@example.org] [recipient=bob@example.net] [recipients=1] [login=] [want=] [slot=] FILE...
 *
 * SOCKET is unix:PATH or inet:PORT@ADDRESS. Speaks milter version 6 as Postfix 3.7 does: the symbols that the filter asks for
 * with every stage and every header field, stages and replies left out that it does not want, bodies in pieces of 65,535 octets.
 * FILEs are mails, sent by turns; a % in the sender is the place of the mail's FILE, from 0 on. `rate` is how many mails a
 * second are begun at most. With `want`, a mail counts as wrong unless a header field that the filter adds has that text.
 * Prints one line of name=value pairs: what was sent, the generator's own CPU time in seconds, how long the answer to each
 * mail's end took in ms, what the filter answered, and with `slot` how many mails ended in each `slot` ms.
 * Ends with 1 if a connection failed or a mail was wrong, with 2 if asked for nonsense. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Stages, as lists of symbols name them (SMFIM_*). */
enum { AT_CONNECT, AT_HELO, AT_MAIL, AT_RCPT, AT_DATA, AT_END, AT_EOH, STAGES };

enum { CHUNK = 65535, MOST_FIELDS = 10000, MOST_MAILS = 4096, SLOTS = 10000 };

/* What a filter may ask to be left out (SMFIP_*). */
enum { NO_CONNECT = 0x1, NO_HELO = 0x2, NO_MAIL = 0x4, NO_RCPT = 0x8, NO_BODY = 0x10, NO_HEADERS = 0x20, NO_EOH = 0x40,
       NR_HEADER = 0x80, NO_DATA = 0x200, NR_CONNECT = 0x1000, NR_HELO = 0x2000, NR_MAIL = 0x4000, NR_RCPT = 0x8000,
       NR_DATA = 0x10000, NR_EOH = 0x40000, NR_BODY = 0x80000, LEADING_SPACE = 0x100000, ALL_STEPS = 0x1fffff };

struct field { const char *name, *value; };
struct mail { struct field *fields; int count; const char *body; size_t size; };

static struct { const char *socket, *ip, *name, *sender, *recipient, *login, *want;
	long connections, messages, per, recipients, rate, slot; } asked = {
	NULL, "192.0.2.1", "mx.example.org", "alice@example.org", "bob@example.net", "", "", 4, 1000, 1, 1, 0, 0 };
static struct mail mails[MOST_MAILS];
static int mail_count;
static double began, *waited;	/* ms, by message; negative where no answer came */
static atomic_long next, failed, wrong, answers[256], ended[SLOTS];

struct peer {
	int fd;
	uint32_t steps;
	char *symbols[STAGES];	/* those that the filter wants, each between spaces; NULL where it did not say */
	bool seen;		/* the wanted text, in this mail */
	double ended;		/* when this mail's end was sent, ms */
	char *out;
	size_t filled, room;
	char in[1 << 17];
};

static void die(const char *what) { fprintf(stderr, "loadgen: %s\n", what); exit(2); }

static double clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static double cpu_seconds(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int dial(void)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct sockaddr_in inet = { .sin_family = AF_INET };
	char address[64] = "127.0.0.1";
	int port, fd, yes = 1;

	if (!strncmp(asked.socket, "unix:", 5)) {
		snprintf(local.sun_path, sizeof local.sun_path, "%s", asked.socket + 5);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		return connect(fd, (struct sockaddr *)&local, sizeof local) ? (close(fd), -1) : fd;
	}
	if (sscanf(asked.socket, "inet:%d@%63s", &port, address) < 1)
		die("SOCKET is unix:PATH or inet:PORT@ADDRESS");
	inet.sin_port = htons(port);
	if (inet_pton(AF_INET, address, &inet.sin_addr) != 1)
		die("an IPv4 address stands behind @");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	return connect(fd, (struct sockaddr *)&inet, sizeof inet) ? (close(fd), -1) : fd;
}

/* Packets: the length of what follows, a letter, octets. */

static void append(struct peer *to, const void *octets, size_t size)
{
	if (to->filled + size > to->room) {
		to->room = (to->filled + size) * 2;
		if (!(to->out = realloc(to->out, to->room)))
			die("out of memory");
	}
	memcpy(to->out + to->filled, octets, size);
	to->filled += size;
}

static void packet(struct peer *to, char letter, const void *octets, size_t size)
{
	uint32_t length = htonl(size + 1);

	append(to, &length, sizeof length);
	append(to, &letter, 1);
	append(to, octets, size);
}

/* A packet of texts, each with its NUL, the last of them NULL. */
static void texts(struct peer *to, char letter, ...)
{
	va_list all;
	const char *each;
	size_t at = to->filled;
	uint32_t length;

	packet(to, letter, "", 0);
	va_start(all, letter);
	while ((each = va_arg(all, const char *)))
		append(to, each, strlen(each) + 1);
	va_end(all);
	length = htonl(to->filled - at - sizeof length);
	memcpy(to->out + at, &length, sizeof length);
}

static bool wanted(const struct peer *by, int stage, const char *symbol)
{
	char word[80];

	snprintf(word, sizeof word, " %s ", symbol);
	return !by->symbols[stage] || strstr(by->symbols[stage], word);
}

/* Symbols and their values, by turns, ahead of a command; nothing where there is none that the filter wants. */
static void symbols(struct peer *to, int stage, char command, ...)
{
	va_list all;
	const char *name, *value;
	size_t at = to->filled;
	uint32_t length;

	packet(to, 'D', &command, 1);
	va_start(all, command);
	while ((name = va_arg(all, const char *))) {
		value = va_arg(all, const char *);
		if (*value && wanted(to, stage, name)) {
			append(to, name, strlen(name) + 1);
			append(to, value, strlen(value) + 1);
		}
	}
	va_end(all);
	length = htonl(to->filled - at - sizeof length);
	memcpy(to->out + at, &length, sizeof length);
	if (ntohl(length) == 2)
		to->filled = at;
}

static bool whole(int fd, char *octets, size_t size)
{
	for (ssize_t got; size; octets += got, size -= got)
		if ((got = read(fd, octets, size)) <= 0)
			return false;
	return true;
}

static bool send_all(struct peer *to)
{
	size_t sent = 0;

	for (ssize_t done; sent < to->filled; sent += done)
		if ((done = write(to->fd, to->out + sent, to->filled - sent)) <= 0)
			return false;
	to->filled = 0;
	return true;
}

/* The letter of the next packet, its octets in `in` with a NUL behind; 0 where none comes. */
static unsigned char receive(struct peer *from, uint32_t *size)
{
	char head[5];
	uint32_t length;

	if (!whole(from->fd, head, sizeof head))
		return 0;
	memcpy(&length, head, sizeof length);
	*size = ntohl(length) - 1;
	if (*size >= sizeof from->in || !whole(from->fd, from->in, *size))
		return 0;
	from->in[*size] = 0;
	return head[4];
}

static bool has_text(const char *octets, size_t size, const char *text)
{
	return memmem(octets, size, text, strlen(text)) != NULL;
}

/* What the filter says to what it was sent; edits are passed over, but for the wanted text. */
static unsigned char answer(struct peer *from)
{
	uint32_t size;
	unsigned char letter;

	if (!send_all(from))
		return 0;
	while ((letter = receive(from, &size)) && strchr("+-hmibeq2p", letter))
		if (letter == 'h' || letter == 'i' || letter == 'm')
			from->seen |= has_text(from->in, size, asked.want);
	return letter;
}

/* Whether the filter lets things go on after a stage that it may have asked to be spared, or not to answer. */
static bool goes_on(struct peer *with, uint32_t unanswered, unsigned char *said)
{
	if (with->steps & unanswered)
		return true;
	*said = answer(with);
	return *said == 'c' || *said == 's';
}

static bool begin(struct peer *with)
{
	uint32_t offer[] = { htonl(6), htonl(0x1ff), htonl(ALL_STEPS) }, size;
	unsigned char said = 'c';
	char address[128];
	int length;

	with->filled = 0;
	if ((with->fd = dial()) < 0)
		return false;
	packet(with, 'O', offer, sizeof offer);
	if (!send_all(with) || receive(with, &size) != 'O' || size < 12)
		return false;
	memcpy(&with->steps, with->in + 8, sizeof with->steps);
	with->steps = ntohl(with->steps);
	for (uint32_t at = 12, stage; at + 4 < size; at += strlen(with->in + at) + 1) {
		memcpy(&stage, with->in + at, sizeof stage);
		at += sizeof stage;
		if ((stage = ntohl(stage)) >= STAGES || asprintf(&with->symbols[stage], " %s ", with->in + at) < 0)
			return false;
	}
	symbols(with, AT_CONNECT, 'C', "j", "mta.example.net", "{daemon_name}", "smtpd", "{daemon_addr}", "192.0.2.25", "v", "Postfix 3.7.11", NULL);
	length = snprintf(address, sizeof address, "%s%c4%c%c%s", asked.name, 1, 0x30, 0x39, asked.ip) + 1;
	address[strlen(asked.name)] = 0;
	if (!(with->steps & NO_CONNECT)) {
		packet(with, 'C', address, length);
		if (!goes_on(with, NR_CONNECT, &said))
			return false;
	}
	if (!(with->steps & NO_HELO)) {
		texts(with, 'H', asked.name, NULL);
		if (!goes_on(with, NR_HELO, &said))
			return false;
	}
	return true;
}

static void end(struct peer *with)
{
	close(with->fd);
	for (int stage = 0; stage < STAGES; stage++) {
		free(with->symbols[stage]);
		with->symbols[stage] = NULL;
	}
}

/* The filter's last word on a mail, 0 where the connection is lost. */
static unsigned char send_mail(struct peer *with, int number, const char *queue_id)
{
	const struct mail *mail = &mails[number];
	unsigned char said = 'c';
	char sender[400], text[512];
	const char *place = strchr(asked.sender, '%');

	with->seen = !*asked.want;
	snprintf(sender, sizeof sender, "%s", asked.sender);
	if (place)
		snprintf(sender, sizeof sender, "%.*s%d%s", (int)(place - asked.sender), asked.sender, number, place + 1);
	if (!(with->steps & NO_MAIL)) {
		symbols(with, AT_MAIL, 'M', "{auth_authen}", asked.login, "{auth_type}", *asked.login ? "PLAIN" : "",
			"{mail_addr}", sender, "{mail_mailer}", "smtp", NULL);
		snprintf(text, sizeof text, "<%s>", sender);
		texts(with, 'M', text, NULL);
		if (!goes_on(with, NR_MAIL, &said))
			return said;
	}
	for (long i = 0; i < asked.recipients && !(with->steps & NO_RCPT); i++) {
		char recipient[400];

		snprintf(recipient, sizeof recipient, asked.recipients > 1 ? "r%2$ld.%1$s" : "%1$s", asked.recipient, i);
		symbols(with, AT_RCPT, 'R', "i", queue_id, "{rcpt_addr}", recipient, "{rcpt_mailer}", "smtp", NULL);
		snprintf(text, sizeof text, "<%s>", recipient);
		texts(with, 'R', text, NULL);
		if (!goes_on(with, NR_RCPT, &said))
			return said;
	}
	if (!(with->steps & NO_DATA)) {
		symbols(with, AT_DATA, 'T', "i", queue_id, NULL);
		packet(with, 'T', "", 0);
		if (!goes_on(with, NR_DATA, &said))
			return said;
	}
	for (int i = 0; i < mail->count && !(with->steps & NO_HEADERS); i++) {
		const char *value = mail->fields[i].value;

		symbols(with, AT_EOH, 'L', "i", queue_id, NULL);
		texts(with, 'L', mail->fields[i].name, with->steps & LEADING_SPACE ? value : value + strspn(value, " "), NULL);
		if (!goes_on(with, NR_HEADER, &said))
			return said;
	}
	if (!(with->steps & NO_EOH)) {
		symbols(with, AT_EOH, 'N', "i", queue_id, NULL);
		packet(with, 'N', "", 0);
		if (!goes_on(with, NR_EOH, &said))
			return said;
	}
	for (size_t at = 0; at < mail->size && said != 's' && !(with->steps & NO_BODY); at += CHUNK) {
		size_t rest = mail->size - at;

		packet(with, 'B', mail->body + at, rest < CHUNK ? rest : CHUNK);
		if (!goes_on(with, NR_BODY, &said))
			return said;
		if (!send_all(with))
			return 0;
	}
	symbols(with, AT_END, 'E', "i", queue_id, NULL);
	packet(with, 'E', "", 0);
	with->ended = clock_ms();
	return answer(with);
}

static void wait_until(double moment)
{
	double left = moment - clock_ms();

	if (left > 0)
		usleep(left * 1e3);
}

static void *client(void *unused)
{
	struct peer *with = calloc(1, sizeof *with);
	char queue_id[32];

	(void)unused;
	if (!with)
		die("out of memory");
	for (long first; (first = atomic_fetch_add(&next, asked.per)) < asked.messages; end(with)) {
		if (asked.rate)
			wait_until(began + first * 1e3 / asked.rate);
		if (!begin(with)) {
			atomic_fetch_add(&failed, 1);
			continue;
		}
		for (long i = first; i < first + asked.per && i < asked.messages; i++) {
			unsigned char said;
			long slot;

			snprintf(queue_id, sizeof queue_id, "4Q%08lX", i);
			with->ended = clock_ms();
			said = send_mail(with, i % mail_count, queue_id);
			waited[i] = clock_ms() - with->ended;
			if (asked.slot && (slot = (clock_ms() - began) / asked.slot) < SLOTS)
				atomic_fetch_add(&ended[slot], 1);
			atomic_fetch_add(said ? &answers[said] : &failed, 1);
			if (said && !with->seen)
				atomic_fetch_add(&wrong, 1);
			if (!said)
				break;
			if (i + 1 < first + asked.per && said != 'a' && said != 'c')
				packet(with, 'A', "", 0);
		}
		packet(with, 'Q', "", 0);
		send_all(with);
	}
	free(with->out);
	free(with);
	return NULL;
}

/* A mail, with CRLF at its lines' ends; fields stay folded, by LF alone as milters have it. */
static struct mail read_mail(const char *file)
{
	struct mail mail = { .fields = NULL };
	struct stat about;
	FILE *from = fopen(file, "rb");
	char *raw, *text, *at, *end;
	size_t size, filled = 0;

	if (!from || fstat(fileno(from), &about) || !(raw = malloc(about.st_size + 1)) || !(text = malloc(2 * about.st_size + 3)))
		die(file);
	size = fread(raw, 1, about.st_size, from);
	fclose(from);
	for (size_t i = 0; i < size; i++) {
		if (raw[i] == '\n' && (!i || raw[i - 1] != '\r'))
			text[filled++] = '\r';
		text[filled++] = raw[i];
	}
	text[filled] = 0;
	free(raw);
	for (at = text; *at && strncmp(at, "\r\n", 2); at = end + 2) {
		char *out = at, *colon;

		for (end = strstr(at, "\r\n"); end && (end[2] == ' ' || end[2] == '\t'); end = strstr(end + 2, "\r\n"))
			;
		if (!end || !(colon = strchr(at, ':')) || colon > end || mail.count == MOST_FIELDS)
			die("a mail is fields, an empty line, and a body");
		for (char *each = at; each < end; each++)
			if (*each != '\r')
				*out++ = *each;
		*out = *colon = 0;
		if (!(mail.fields = realloc(mail.fields, (mail.count + 1) * sizeof *mail.fields)))
			die("out of memory");
		mail.fields[mail.count++] = (struct field){ at, colon + 1 };
	}
	mail.body = *at ? at + 2 : at;
	mail.size = text + filled - mail.body;
	return mail;
}

static int by_time(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static bool take(const char *argument)
{
	static const struct { const char *name; const char **text; long *number; } known[] = {
		{ "connections=", NULL, &asked.connections }, { "messages=", NULL, &asked.messages },
		{ "per_connection=", NULL, &asked.per }, { "recipients=", NULL, &asked.recipients },
		{ "rate=", NULL, &asked.rate }, { "slot=", NULL, &asked.slot }, { "ip=", &asked.ip, NULL }, { "name=", &asked.name, NULL },
		{ "sender=", &asked.sender, NULL }, { "recipient=", &asked.recipient, NULL },
		{ "login=", &asked.login, NULL }, { "want=", &asked.want, NULL } };

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		size_t length = strlen(known[i].name);

		if (strncmp(argument, known[i].name, length))
			continue;
		if (known[i].text)
			*known[i].text = argument + length;
		else if ((*known[i].number = strtol(argument + length, NULL, 10)) < 1)
			die("a number is at least 1");
		return true;
	}
	return false;
}

int main(int count, char **arguments)
{
	pthread_t *threads;
	double took, cpu;
	long got = 0;

	if (count < 3)
		die("usage: loadgen SOCKET [NAME=VALUE...] FILE...");
	asked.socket = arguments[1];
	for (int i = 2; i < count; i++)
		if (!take(arguments[i])) {
			if (mail_count == MOST_MAILS)
				die("too many mails");
			mails[mail_count++] = read_mail(arguments[i]);
		}
	if (!mail_count)
		die("no mail");
	signal(SIGPIPE, SIG_IGN);
	waited = calloc(asked.messages, sizeof *waited);
	threads = calloc(asked.connections, sizeof *threads);
	if (!waited || !threads)
		die("out of memory");
	for (long i = 0; i < asked.messages; i++)
		waited[i] = -1;
	cpu = cpu_seconds();
	began = clock_ms();
	for (long i = 0; i < asked.connections; i++)
		if (pthread_create(&threads[i], NULL, client, NULL))
			die("no thread");
	for (long i = 0; i < asked.connections; i++)
		pthread_join(threads[i], NULL);
	took = clock_ms() - began;
	cpu = cpu_seconds() - cpu;
	qsort(waited, asked.messages, sizeof *waited, by_time);
	while (got < asked.messages && waited[got] < 0)
		got++;
	printf("messages=%ld failed=%ld wrong=%ld seconds=%.3f cpu=%.3f", asked.messages, (long)failed, (long)wrong, took / 1e3, cpu);
	if (got < asked.messages) {
		double *first = waited + got;
		long known = asked.messages - got;

		printf(" p50=%.3f p95=%.3f p99=%.3f", first[known / 2], first[known * 95 / 100], first[known * 99 / 100]);
	}
	for (int letter = 0; letter < 256; letter++)
		if (answers[letter])
			printf(" %c=%ld", letter, (long)answers[letter]);
	for (long slot = 0; asked.slot && slot < SLOTS && slot <= took / asked.slot; slot++)
		printf(slot ? ",%ld" : " slots=%ld", (long)ended[slot]);
	puts("");
	return failed || wrong;
}
