"""The store that `server.state` names.

`sqlite:/PATH`, `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `unix:///PATH[?db=N]`, `redis+sentinel://HOST:PORT,…/SERVICE`
and `redis+cluster://HOST:PORT,…`; with `rediss` for `redis`, over TLS.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from filterd.backend.memory_store import MemoryStore
from filterd.backend.sqlite_store import SqliteStore
from filterd.limits.state import Store, StoreError

#: How long, in seconds, Redis may take to be reached, and then to answer.
DEADLINE = 1.5


def open_store(url: str | None, password: SecretStr | None = None, *, create: bool = True) -> Store:
    """The store at a URL; without one, this process's memory. `password` is for what the URL does not say.

    Nothing is opened before it is needed. Raises StoreError for a URL that is none, or needs what is not installed.
    """
    if url is None:
        return MemoryStore()
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest.startswith("/"):
        return SqliteStore(Path(rest), create=create)
    if scheme not in ("redis", "rediss", "unix", *_MANY):
        raise StoreError("state is kept in sqlite:/PATH or redis://HOST:PORT")
    try:
        from filterd.backend.redis_store import RedisStore
    except ImportError:
        raise StoreError("Redis needs a library that is not installed: pip install 'filterd[redis]'") from None
    try:
        return RedisStore(_client(url, password.get_secret_value() if password is not None else None))
    except ValueError as error:
        raise StoreError(f"the URL cannot be used: {error}") from None


def _client(url: str, password: str | None) -> Callable[[], Any]:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as LostError
    from redis.retry import Retry

    # A connection that the server has closed meanwhile is made anew, once. All that is asked may be asked twice.
    options: dict[str, Any] = {
        "socket_timeout": DEADLINE,
        "socket_connect_timeout": DEADLINE,
        "retry": Retry(NoBackoff(), 1, (LostError,)),
    }
    if password is not None:
        options["password"] = password
    many = _MANY.get(url.partition(":")[0])
    return (lambda: Redis.from_url(url, **options)) if many is None else many(urlsplit(url), options)


def _sentinel(url: SplitResult, options: dict[str, Any]) -> Callable[[], Any]:
    from redis import sentinel

    connect: Any = sentinel.Sentinel
    service, _, db = url.path.strip("/").partition("/")
    if not service:
        raise ValueError("behind the Sentinels stands the service: redis+sentinel://192.0.2.1:26379/mymaster")
    options |= _account(url) | {"db": int(db or 0)}
    sentinels = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout", "retry")}
    nodes = _nodes(url, 26379)
    return lambda: connect(nodes, sentinel_kwargs=sentinels, **options).master_for(service)


def _cluster(url: SplitResult, options: dict[str, Any]) -> Callable[[], Any]:
    from redis import cluster

    node: Any = cluster.ClusterNode
    options |= _account(url)
    nodes = _nodes(url, 6379)
    return lambda: cluster.RedisCluster(startup_nodes=[node(host, port) for host, port in nodes], **options)


_MANY = {
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}


def _account(url: SplitResult) -> dict[str, Any]:
    account: dict[str, Any] = {"ssl": True} if url.scheme.startswith("rediss") else {}
    user, _, password = url.netloc.rpartition("@")[0].partition(":")
    if user:
        account["username"] = unquote(user)
    if password:
        account["password"] = unquote(password)
    return account


def _nodes(url: SplitResult, port: int) -> list[tuple[str, int]]:
    found = [urlsplit(f"//{each}") for each in url.netloc.rpartition("@")[2].split(",")]
    return [(each.hostname or "localhost", each.port or port) for each in found]
