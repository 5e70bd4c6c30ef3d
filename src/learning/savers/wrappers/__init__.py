"""Savers around savers: each passes the same contract as what it wraps."""

from .cached import CachedSaver
from .lru import LRUSaver
from .monitored import MonitoredSaver
from .tenant import TenantSaver
from .tiered import TieredSaver

__all__ = ["CachedSaver", "LRUSaver", "MonitoredSaver", "TenantSaver", "TieredSaver"]
