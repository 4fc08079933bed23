"""The public suffix list (publicsuffix.org): under which names others register theirs.

Debian keeps it in the package `publicsuffix`, and the library brings a copy. Neither is looked for on the network.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from filterd.dmarc.org_domain import PublicSuffixes
from filterd.mail.domain import Domain

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

_OF_DEBIAN = Path("/usr/share/publicsuffix/public_suffix_list.dat")


def load_public_suffixes(file: Path = _OF_DEBIAN) -> PublicSuffixes:
    """Read the list, from the library's copy where there is no such file. Raises ValueError, which says what to do."""
    try:
        from publicsuffixlist import PublicSuffixList
    except ImportError:
        raise ValueError("this needs the public suffix list; pip install 'filterd[psl]' brings it") from None
    try:
        # It takes all of the list: what the section of private domains names has owners below it, too.
        return _List(PublicSuffixList(file.read_bytes() if file.exists() else None))
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


class _List:
    def __init__(self, rules: "PublicSuffixList") -> None:
        self._rules = rules

    def organizational_domain(self, domain: Domain) -> Domain:
        name = self._rules.privatesuffix(domain.name)
        return Domain(name) if name else domain
