"""The tests' settings, for a worker whose Redis is behind the sentinel at SENTINEL_PORT."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import CACHES

CACHES = {
    **CACHES,
    "queue": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://queue/0",
        "OPTIONS": {
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool",
            "SENTINELS": [("127.0.0.1", int(os.environ.get("SENTINEL_PORT", "0")))],
        },
    },
}
