"""Whether a mail bears marks of a mailing list or forwarder (RFC 2919, 2369, 8617, 5322 3.6.6)."""

from filterd.mail.header import Header

_LIST = ("list-id", "list-post", "arc-seal")
_RESENT = "resent-"


def indirect(header: Header) -> bool:
    """Whether there is any such mark."""
    return any(map(header.has, _LIST)) or header.has_prefix(_RESENT)


def indirect_marks(header: Header) -> tuple[str, ...]:
    """The fields for which a mail counts as indirect, by name."""
    if not indirect(header):
        return ()
    names = (each.key.decode("ascii", "replace") for each in header)
    return tuple(dict.fromkeys(name.title() for name in names if name in _LIST or name.startswith(_RESENT)))
