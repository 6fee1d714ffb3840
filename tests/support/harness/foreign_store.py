"""A store by a client that is not ours, whether it is one server or a cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import redis


def open_foreign(url: str, **options: Any) -> Any:
    """redis-py's client of the address; to close it, leave it as a context. The two have the same commands."""
    if not urlsplit(url).scheme.endswith("+cluster"):
        return redis.Redis.from_url(url, **options)
    host, _, port = urlsplit(url).netloc.split(",")[0].rpartition(":")
    return redis.RedisCluster(host=host, port=int(port), **options)
