"""Tag=value lists: the grammar that signatures and key records share (RFC 6376 3.2).

Answers which tags there are, and with which values. Knows no tag's meaning.
"""

import binascii
import re

_WSP = b" \t"
_MAX_TAGS = 100
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
# RFC 8616 adds UTF-8 to VALCHAR.
_TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class TagListError(ValueError):
    """The text is no tag list; the message says why, and repeats nothing of the text."""


def parse_tag_list(text: bytes, max_octets: int) -> dict[str, bytes]:
    """The tags by name, in order; values are unfolded, without white space around them.

    Raises TagListError, also for more than `max_octets` or 100 tags.
    """
    if len(text) > max_octets:
        raise TagListError(f"the tag list is longer than {max_octets} octets")
    unfolded = text.replace(b"\r\n", b"")
    if not _TEXT.fullmatch(unfolded):
        raise TagListError("the tag list has a control character")
    specs = unfolded.split(b";")
    if not specs[-1].strip(_WSP):
        specs.pop()
    if len(specs) > _MAX_TAGS:
        raise TagListError(f"there are more than {_MAX_TAGS} tags")
    tags: dict[str, bytes] = {}
    for spec in specs:
        name, equals, value = spec.partition(b"=")
        name = name.strip(_WSP)
        if not equals or not _NAME.fullmatch(name):
            raise TagListError("a tag has no name or no equals sign")
        tag = name.decode("ascii")
        if tag in tags:
            # RFC 6376 3.2: tags with duplicate names MUST NOT occur; if they do, the entire tag-list is invalid.
            raise TagListError("a tag stands there twice")
        tags[tag] = value.strip(_WSP)
    return tags


def without_value(text: bytes, tag: bytes) -> bytes:
    """The list as it stands, folds and all, with that tag's value and the white space around it deleted.

    RFC 6376 3.7 has a signature cover itself so, without b=.
    """
    specs = text.split(b";")
    for i, spec in enumerate(specs):
        name, equals, _ = spec.partition(b"=")
        if name.strip(b" \t\r\n") == tag:
            specs[i] = name + equals
            break
    return b";".join(specs)


def words(value: bytes) -> tuple[str, ...]:
    """The members of a colon-separated value, which may be empty strings. Raises TagListError for 8-bit octets."""
    try:
        return tuple(word.strip(" \t") for word in value.decode("ascii").split(":"))
    except UnicodeDecodeError:
        raise TagListError("a colon-separated list has an 8-bit character") from None


def base64_octets(value: bytes, padded: bool = True) -> bytes:
    """Decode a base64string, which may have white space anywhere (RFC 6376 2.10). Raises TagListError.

    Where it need not be `padded`, equals signs may be missing at its end.
    """
    digits = value.translate(None, _WSP)
    if not padded:
        digits += b"=" * (-len(digits) % 4)
    try:
        return binascii.a2b_base64(digits, strict_mode=True)
    except binascii.Error:
        raise TagListError("the value is no base64") from None
