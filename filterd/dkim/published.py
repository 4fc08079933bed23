"""Whether the world can verify what a key signs: is its public part published (RFC 6376 3.6.2.1).

Answers for one key at one name, by what a verifier would make of the records there. What is done with a key that is
not published is not decided here.
"""

from enum import StrEnum
from functools import lru_cache

from filterd.dkim.key_record import KeyRecord, parse_key_record
from filterd.dkim.sign import SigningKey
from filterd.dkim.signature import KeyedSignature
from filterd.dkim.verify import DkimCode, Fault, key_fault, key_records
from filterd.lookup import Resolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason


class Published(StrEnum):
    """The state of a key."""

    YES = "yes"  #: a record has this key, and allows it to sign mail
    NO = "no"  #: the name does not exist, or its records are revoked, unusable or of other keys
    UNKNOWN = "unknown"  #: nobody could say now


def published(key: SigningKey, domain: Domain, selector: str, resolver: Resolver) -> tuple[Published, Reason | None]:
    """Whether `key` is published as `selector` of `domain`; for NO and UNKNOWN with the reason.

    Of several records, which RFC 6376 3.6.2.2 leaves undefined, one with the key is enough.
    """
    signing = KeyedSignature(key.algorithm, b"", domain, selector)
    records = key_records(signing.key_name, resolver)
    if isinstance(records, Fault):
        return (Published.UNKNOWN if records.code is DkimCode.TEMPERROR else Published.NO), records.reason
    public = _record(key).key
    same = [record for record in records if record.key == public]
    if not same:
        return Published.NO, Reason.DKIM_KEY_OTHER
    faults = [key_fault(signing, record) for record in same]
    if None in faults:
        return Published.YES, None
    return Published.NO, next(fault.reason for fault in faults if fault)


# The same few keys, for every mail.
@lru_cache(maxsize=1024)
def _record(key: SigningKey) -> KeyRecord:
    return parse_key_record(key.public_record().encode("ascii"))
