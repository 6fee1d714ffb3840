"""A ledger of one shard, for tests of what happens inside of a shard."""

from __future__ import annotations

from schemas.ledger.keys import META, of_shard
from schemas.ledger.shards import Shards

ONE_SHARD = Shards(1)
SHARD = 0
META_KEY = of_shard(SHARD, META)
