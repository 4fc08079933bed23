"""How a key's record is written where people publish it: in a master file (RFC 1035 5.1)."""

# RFC 1035 3.3.14: a TXT record is of character-strings, each of at most 255 octets.
_STRING = 255


def zone_text(name: str, record: str, ttl: int) -> str:
    """The TXT record `record`, ASCII, at the absolute `name`, kept for `ttl` seconds; ends with a line end.

    Verifiers join the strings of a long record without anything between them (RFC 6376 3.6.2.2).
    """
    strings = [f'"{_escaped(record[i : i + _STRING])}"' for i in range(0, len(record), _STRING)] or ['""']
    value = strings[0] if len(strings) == 1 else "(\n" + "".join(f"\t{each}\n" for each in strings) + ")"
    return f"{name}. {ttl} IN TXT {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
