"""Running state stores: health and metrics, backups that are verified, reports of what agents did."""

from .backup import BackupError, back_up, finish_archiving, prepare_restore, verify
from .plans import Plan, explain
from .redis import RedisMetrics, redis_health
from .report import Activity, activity

__all__ = [
    "Activity",
    "BackupError",
    "Plan",
    "RedisMetrics",
    "activity",
    "back_up",
    "explain",
    "finish_archiving",
    "prepare_restore",
    "redis_health",
    "verify",
]
