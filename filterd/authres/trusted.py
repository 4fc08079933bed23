"""What another server of ours found out, by the Authentication-Results field that it added (RFC 8601 4.1, 5).

Which fields of that name strangers may have added is not known here: whoever hands them in has seen to it.
"""

from collections.abc import Iterable

from filterd.authres.forged import claims_ours, comparable
from filterd.authres.parse import parse
from filterd.authres.result import AuthenticationResults, AuthResultsError
from filterd.mail.header import Field


def topmost(fields: Iterable[Field], authserv_ids: frozenset[str]) -> AuthenticationResults | None:
    """What the uppermost field of one of these servers says. Fields below it are older, and nobody's word here.

    None where there is none. None, too, where one only seems to be theirs, or cannot be read: what stands below would
    be believed in its place.
    """
    for field in fields:
        if field.key == b"authentication-results" and claims_ours(field.value, authserv_ids):
            try:
                found = parse(field.value)
            except AuthResultsError:
                return None
            return found if comparable(found.authserv_id) in map(comparable, authserv_ids) else None
    return None
