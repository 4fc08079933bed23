"""Why a result is what it is: one stable word for every fault of the world.

The same words stand in Authentication-Results comments, in the log, in metrics, in `explain` and in tests. A word that
was released never changes its meaning.
"""

from enum import StrEnum


class Reason(StrEnum):
    """What stood in the way. The value is the word that postmasters see."""

    DNS_TIMEOUT = "dns.timeout"  #: no server answered in time
    DNS_SERVFAIL = "dns.servfail"  #: every server failed (SERVFAIL, REFUSED, NOTIMP)
    DNS_MALFORMED = "dns.malformed"  #: the answer could not be read
    DNS_BAD_NAME = "dns.bad-name"  #: the name cannot be asked: empty or over-long label, over-long name
    DNS_NOT_ASKED = "dns.not-asked"  #: a replay of a record needs an answer that was not asked for then
    DNS_DEADLINE = "dns.deadline"  #: the time this message may take was used up

    SPF_NO_CLIENT = "spf.no-client"  #: the client's address is not known
    SPF_NO_RECORD = "spf.no-record"  #: the domain publishes no SPF record
    SPF_NO_DOMAIN = "spf.no-domain"  #: there is no domain to ask: address literal, single label, malformed
    SPF_SYNTAX = "spf.syntax"  #: the record breaks RFC 7208's grammar
    SPF_MANY_RECORDS = "spf.many-records"  #: more than one SPF record (RFC 7208 4.5)
    SPF_LIMIT = "spf.limit"  #: more lookups than RFC 7208 4.6.4 allows
    SPF_INCLUDE = "spf.include"  #: an included or redirected domain has no usable record

    DKIM_SYNTAX = "dkim.syntax"  #: a tag is missing, double or malformed
    DKIM_VERSION = "dkim.version"  #: v= is not 1
    DKIM_ALGORITHM = "dkim.algorithm"  #: a= is unknown
    DKIM_SHA1 = "dkim.sha1"  #: rsa-sha1 proves nothing any more (RFC 8301)
    DKIM_CANONICALIZATION = "dkim.canonicalization"  #: c= is unknown
    DKIM_QUERY = "dkim.query"  #: q= does not offer dns/txt
    DKIM_FROM_UNSIGNED = "dkim.from-unsigned"  #: h= does not cover From (RFC 6376 5.4)
    DKIM_FIELD_ADDED = "dkim.field-added"  #: From, Subject or the like stands there more often than h= covers
    DKIM_IDENTITY = "dkim.identity"  #: i= is not within d=, or not d= where the key says t=s
    DKIM_EXPIRED = "dkim.expired"  #: x= has passed
    DKIM_FUTURE = "dkim.future"  #: t= lies in the future, or after x=
    DKIM_LENGTH = "dkim.length"  #: l= covers less than the body: anything may have been appended
    DKIM_LENGTH_TOO_LONG = "dkim.length-too-long"  #: l= is larger than the body
    DKIM_BODY_HASH = "dkim.body-hash"  #: the body was changed after signing
    DKIM_SIGNATURE = "dkim.signature"  #: a signed header field was changed, or the key is not the signer's
    DKIM_TOO_MANY = "dkim.too-many"  #: more signatures than are verified
    DKIM_KEY_MISSING = "dkim.key.missing"  #: no key record at selector._domainkey.domain
    DKIM_KEY_SYNTAX = "dkim.key.syntax"  #: the key record cannot be read
    DKIM_KEY_REVOKED = "dkim.key.revoked"  #: p= is empty
    DKIM_KEY_WEAK = "dkim.key.weak"  #: RSA key below 1024 bits (RFC 8301 3.2)
    DKIM_KEY_TOO_LARGE = "dkim.key.too-large"  #: RSA key above 4096 bits, not tried
    DKIM_KEY_TYPE = "dkim.key.type"  #: k= does not fit a=
    DKIM_KEY_HASH = "dkim.key.hash"  #: the key's h= does not allow this hash
    DKIM_KEY_SERVICE = "dkim.key.service"  #: the key's s= is not for mail
    DKIM_KEY_OTHER = "dkim.key.other"  #: the published key is not the one that we would sign with

    ARC_TOO_MANY = "arc.too-many"  #: more than 50 ARC sets (RFC 8617 5.2)
    ARC_TOO_LARGE = "arc.too-large"  #: more octets of ARC fields than are read
    ARC_SYNTAX = "arc.syntax"  #: an ARC field cannot be read
    ARC_STRUCTURE = "arc.structure"  #: an ARC set is incomplete or double, or one is missing
    ARC_CV = "arc.cv"  #: an ARC-Seal's cv= is not what its place in the chain demands
    ARC_FAILED = "arc.failed"  #: an earlier hop found the chain broken, and sealed that (cv=fail)
    ARC_SEAL = "arc.seal"  #: an ARC field was changed after it was sealed, or the key is not the sealer's

    DMARC_NO_RECORD = "dmarc.no-record"  #: no DMARC record governs the author domain
    DMARC_RECORD = "dmarc.record"  #: the record cannot be used
    DMARC_NOT_ALIGNED = "dmarc.not-aligned"  #: nothing that passed belongs to the author's organization
    DMARC_NO_AUTHOR = "dmarc.no-author"  #: no author domain to ask for

    AUTHOR_MISSING = "author.missing"  #: no From field
    AUTHOR_SEVERAL_FIELDS = "author.several-fields"  #: more than one From field
    AUTHOR_SEVERAL = "author.several"  #: one From field, more than one author
    AUTHOR_MALFORMED = "author.malformed"  #: the From field breaks RFC 5322's grammar

    SPAM_TOO_LARGE = "spam.too-large"  #: the mail is larger than is scanned
    SPAM_TIMEOUT = "spam.timeout"  #: no scanner answered in time
    SPAM_UNAVAILABLE = "spam.unavailable"  #: no scanner can be reached, or none that works
    SPAM_MALFORMED = "spam.malformed"  #: the scanner's reply cannot be read

    IPREV_NO_CLIENT = "iprev.no-client"  #: the client's address is not known
    IPREV_NO_NAME = "iprev.no-name"  #: the client's address has no name
    IPREV_OTHER_ADDRESS = "iprev.other-address"  #: the names of the client's address lead to other addresses
    DNSBL_REFUSED = "dnsbl.refused"  #: the list does not serve us, or is none any more: its answers are no listings

    SIGN_NOT_CONFIGURED = "sign.not-configured"  #: mail from us, and no `sign` entry for its author domain
    SIGN_SENDER = "sign.sender"  #: the login may not write as this author
    SIGN_UNPUBLISHED = "sign.unpublished"  #: none of the entry's keys is published as it is
    SIGN_FAILED = "sign.failed"  #: the signature could not be made; the log has why
    CHECK_FAILED = "check.failed"  #: a fault of filterd's own; the log has it
