"""Running state stores: health, metrics, and (with lesson 3) backups."""

from .redis import RedisMetrics, redis_health

__all__ = ["RedisMetrics", "redis_health"]
