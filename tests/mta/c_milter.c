/* c_milter SOCKET LOG: a milter by libmilter that writes down all it is told and uses all that smfi_* offers. What it
   does to a mail is told by the sender: edit@, quarantine@, reply@, skip@. */

#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static FILE *record;

/* What a mail's session remembers; one message at a time, as the tests have one client. */
static char sender[100];

static void macros(SMFICTX *ctx, const char *first, const char *second)
{
	char *one = smfi_getsymval(ctx, (char *)first), *two = smfi_getsymval(ctx, (char *)second);

	fprintf(record, " %s=%s %s=%s\n", first, one ? one : "-", second, two ? two : "-");
	fflush(record);
}

static sfsistat at_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long f2, unsigned long f3,
	unsigned long *p_actions, unsigned long *p_steps, unsigned long *p_f2, unsigned long *p_f3)
{
	fprintf(record, "negotiate actions=%lx steps=%lx\n", actions, steps);
	if (smfi_setsymlist(ctx, SMFIM_CONNECT, "j {client_addr}") != MI_SUCCESS ||
	    smfi_setsymlist(ctx, SMFIM_ENVFROM, "i {mail_addr}") != MI_SUCCESS ||
	    smfi_setsymlist(ctx, SMFIM_ENVRCPT, "i {rcpt_addr}") != MI_SUCCESS)
		fprintf(record, "setsymlist failed\n");
	*p_actions = actions;
	*p_steps = steps & SMFIP_SKIP;
	*p_f2 = *p_f3 = 0;
	return SMFIS_CONTINUE;
}

static sfsistat at_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *address)
{
	fprintf(record, "connect %s %s", host, address ? "address" : "none");
	macros(ctx, "j", "{client_addr}");
	return SMFIS_CONTINUE;
}

static sfsistat at_helo(SMFICTX *ctx, char *name)
{
	fprintf(record, "helo %s\n", name);
	return SMFIS_CONTINUE;
}

static sfsistat at_mail(SMFICTX *ctx, char **arguments)
{
	snprintf(sender, sizeof sender, "%s", arguments[0]);
	fprintf(record, "mail");
	for (; *arguments; arguments++)
		fprintf(record, " %s", *arguments);
	macros(ctx, "i", "{mail_addr}");
	return SMFIS_CONTINUE;
}

static sfsistat at_rcpt(SMFICTX *ctx, char **arguments)
{
	fprintf(record, "rcpt %s", arguments[0]);
	macros(ctx, "{rcpt_addr}", "{rcpt_mailer}");
	if (strcmp(arguments[0], "<no@example.net>") == 0) {
		smfi_setmlreply(ctx, "550", "5.1.1", "nobody", "100%% sure", NULL);
		return SMFIS_REJECT;
	}
	return SMFIS_CONTINUE;
}

static sfsistat at_data(SMFICTX *ctx)
{
	fprintf(record, "data\n");
	return SMFIS_CONTINUE;
}

static sfsistat at_unknown(SMFICTX *ctx, const char *line)
{
	fprintf(record, "unknown %s\n", line);
	return SMFIS_CONTINUE;
}

static sfsistat at_header(SMFICTX *ctx, char *name, char *value)
{
	fprintf(record, "header %s: %s\n", name, value);
	return SMFIS_CONTINUE;
}

static sfsistat at_eoh(SMFICTX *ctx)
{
	fprintf(record, "eoh\n");
	return SMFIS_CONTINUE;
}

static sfsistat at_body(SMFICTX *ctx, unsigned char *chunk, size_t size)
{
	fprintf(record, "body %zu\n", size);
	return strcmp(sender, "<skip@example.org>") == 0 ? SMFIS_SKIP : SMFIS_CONTINUE;
}

static void must(int result, const char *what)
{
	if (result != MI_SUCCESS)
		fprintf(record, "%s failed\n", what);
}

static sfsistat at_eom(SMFICTX *ctx)
{
	fprintf(record, "eom\n");
	if (strcmp(sender, "<edit@example.org>") == 0) {
		must(smfi_progress(ctx), "progress");
		must(smfi_addheader(ctx, "X-Added", "a\n\tb"), "addheader");
		must(smfi_insheader(ctx, 0, "X-Top", "0"), "insheader");
		must(smfi_chgheader(ctx, "Subject", 2, "changed"), "chgheader");
		must(smfi_chgheader(ctx, "Subject", 1, NULL), "chgheader");
		must(smfi_replacebody(ctx, (unsigned char *)"new\r\n", 5), "replacebody");
		must(smfi_replacebody(ctx, (unsigned char *)"body\r\n", 6), "replacebody");
		must(smfi_addrcpt(ctx, "<c@example.net>"), "addrcpt");
		must(smfi_addrcpt_par(ctx, "<d@example.net>", "NOTIFY=NEVER"), "addrcpt_par");
		must(smfi_delrcpt(ctx, "<b@example.net>"), "delrcpt");
		must(smfi_chgfrom(ctx, "<x@example.com>", NULL), "chgfrom");
	}
	if (strcmp(sender, "<quarantine@example.org>") == 0)
		must(smfi_quarantine(ctx, "smells"), "quarantine");
	if (strcmp(sender, "<reply@example.org>") == 0) {
		must(smfi_setreply(ctx, "452", "4.3.1", "no room"), "setreply");
		return SMFIS_TEMPFAIL;
	}
	return SMFIS_ACCEPT;
}

static sfsistat at_abort(SMFICTX *ctx)
{
	fprintf(record, "abort\n");
	fflush(record);
	return SMFIS_CONTINUE;
}

static sfsistat at_close(SMFICTX *ctx)
{
	fprintf(record, "close\n");
	fflush(record);
	return SMFIS_CONTINUE;
}

int main(int count, char **arguments)
{
	struct smfiDesc milter = {
		"c_milter", SMFI_VERSION, 0x1FF, at_connect, at_helo, at_mail, at_rcpt, at_header, at_eoh, at_body, at_eom,
		at_abort, at_close, at_unknown, at_data, at_negotiate,
	};

	if (count != 3 || (record = fopen(arguments[2], "w")) == NULL)
		return EXIT_FAILURE;
	umask(0);
	if (smfi_setconn(arguments[1]) != MI_SUCCESS || smfi_register(milter) != MI_SUCCESS || smfi_opensocket(1) != MI_SUCCESS)
		return EXIT_FAILURE;
	puts("ready");
	fflush(stdout);
	return smfi_main() == MI_SUCCESS ? EXIT_SUCCESS : EXIT_FAILURE;
}
