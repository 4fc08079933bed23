"""Where a milter or a service listens, in the forms in which Postfix, Sendmail and libmilter write it.

Opens nothing: whether there is such a file, host or interface is not asked here.
"""

import re
from dataclasses import dataclass

_FORMS = re.compile(
    r"(?:unix|local):(?P<path>.+)|(?P<bare>/.+)|"
    r"(?P<family>inet6?):(?:(?P<port>[0-9]{1,5})@(?P<host>[^@\s]+)|(?P<first>\[[^\]@\s]+\]|[^@:\s]+):(?P<last>[0-9]{1,5}))"
)


class EndpointError(ValueError):
    """This is no address of a socket; the text says what would be one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A unix socket's path, or else a host (a name, or an address without brackets) and a port, 0 for a free one."""

    path: str | None = None
    host: str = ""
    port: int = 0
    ipv6: bool = False

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read `unix:PATH`, `local:PATH`, a bare `/PATH`, `inet:PORT@HOST`, `inet6:PORT@HOST`, or as Postfix writes the
        latter, `inet:HOST:PORT`. Raises EndpointError."""
        found = _FORMS.fullmatch(text)
        if found is None:
            raise EndpointError("a socket reads unix:/PATH, inet:PORT@ADDRESS or inet6:PORT@ADDRESS")
        path = found["path"] or found["bare"]
        if path:
            # struct sockaddr_un has 108 octets, and a zero behind the path.
            if len(path.encode("utf-8", "surrogateescape")) > 107 or "\0" in path:
                raise EndpointError("a unix socket's path has at most 107 bytes, none of them zero")
            return cls(path=path)
        port = int(found["port"] or found["last"])
        if port > 65535:
            raise EndpointError("a port is a number up to 65535")
        host = (found["host"] or found["first"]).removeprefix("[").removesuffix("]")
        return cls(host=host, port=port, ipv6=found["family"] == "inet6")

    def __str__(self) -> str:
        """The form that `parse` reads; an IPv6 address has brackets."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'inet6' if self.ipv6 else 'inet'}:{self.port}@{host}"
