# File what filterd quarantined into the Junk folder. For Dovecot's Pigeonhole, as a global script that runs first:
#   sieve_before = /etc/dovecot/sieve/junk.sieve
# Only filterd can have written the field: it removes what others wrote under this name.
require ["fileinto", "mailbox"];

if exists "X-Filterd-Quarantine" {
    fileinto :create "Junk";
    stop;
}
