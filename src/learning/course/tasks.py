"""The 24 tasks of the course: what each is called, where it is taught and what the learner writes."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GRADED_TESTS = ROOT / "test_learning_03.py"

LESSONS = {
    1: ("01_memory", "Memory"),
    2: ("02_redis", "Redis"),
    3: ("03_postgresql", "PostgreSQL"),
    4: ("04_custom_storage", "Custom storage"),
    5: ("05_migration", "State migration"),
}


def lesson_called(name: str) -> int:
    """The number of the lesson that somebody calls so: "1", "01", "01_memory", "notebooks/01_memory.ipynb".

    Raises:
        LookupError: if there is no such lesson; the message is for the learner.
    """
    numbers = {called: number for number, (lesson, _) in LESSONS.items() for called in (str(number), lesson)}
    try:
        return numbers.get(name.lstrip("0")) or numbers[Path(name).stem]
    except KeyError:
        names = ", ".join(lesson for lesson, _ in LESSONS.values())
        raise LookupError(f"There is no lesson {name!r}. The lessons are {names}.") from None


@dataclass(frozen=True)
class Task:
    """One task. Its name is that of its test without `test_`: the same word in notebook, pytest and grade report."""

    name: str
    lesson: int
    test_class: str
    writes: tuple[str, ...]
    """The names that the learner defines and the test looks up."""

    @property
    def notebook(self) -> str:
        """The file name of the lesson's notebook, the same in every folder of work."""
        return f"{LESSONS[self.lesson][0]}.ipynb"

    @property
    def available(self) -> bool:
        """Whether its lesson is here to open."""
        return (ROOT / "notebooks" / self.notebook).exists()

    @property
    def test(self) -> str:
        """Its test in the file of graded tests, as pytest writes it."""
        return f"{self.test_class}::test_{self.name}"


_IN_ORDER = (
    Task("custom_memory_lru", 1, "TestMemoryStorage", ("LRUMemorySaver",)),
    Task("memory_monitoring", 1, "TestMemoryStorage", ("MemoryMonitor",)),
    Task("memory_compression", 1, "TestMemoryStorage", ("CompressedSerializer",)),
    Task("memory_analytics", 1, "TestMemoryStorage", ("session_report",)),
    Task("redis_cluster", 2, "TestRedisStorage", ("ClusterSaver",)),
    Task("redis_serialization", 2, "TestRedisStorage", ("StateSerializer",)),
    Task("redis_session_management", 2, "TestRedisStorage", ("SessionManager",)),
    Task("redis_monitoring", 2, "TestRedisStorage", ("check_health",)),
    Task("batch_operations", 2, "TestPerformanceOptimization", ("put_many", "get_many")),
    Task("postgres_schema", 3, "TestPostgreSQLStorage", ("SCHEMA", "put_checkpoint")),
    Task("postgres_versioning", 3, "TestPostgreSQLStorage", ("migrate",)),
    Task(
        "postgres_analytics",
        3,
        "TestPostgreSQLStorage",
        ("sessions_per_day", "step_times", "cost_by_tenant", "interrupted_to_resumed"),
    ),
    Task("postgres_backup", 3, "TestPostgreSQLStorage", ("backup", "verify", "restore_to")),
    Task("connection_pooling", 3, "TestPerformanceOptimization", ("PooledSaver",)),
    Task("file_storage", 4, "TestCustomStorage", ("FileSaver",)),
    Task("s3_storage", 4, "TestCustomStorage", ("S3Saver",)),
    Task("hybrid_storage", 4, "TestCustomStorage", ("HybridSaver",)),
    Task("custom_monitoring", 4, "TestCustomStorage", ("MonitoredSaver",)),
    Task("caching_strategies", 4, "TestPerformanceOptimization", ("CachedSaver",)),
    Task("state_versioning", 5, "TestStateMigration", ("VersionedSerializer",)),
    Task("migration_tools", 5, "TestStateMigration", ("Migrations",)),
    Task("backward_compatibility", 5, "TestStateMigration", ("CompatibleSaver",)),
    Task("state_validation", 5, "TestStateMigration", ("validate", "repair")),
    Task("async_operations", 5, "TestPerformanceOptimization", ("migrate_live",)),
)

TASKS = {task.name: task for task in _IN_ORDER}
