"""Steps of the refund desk (see `learning.course.desk`), for tests and the children that they start."""

from learning.course.on_migration import to_2
from learning.migration import Migrations

migrations = Migrations()
migrations.step(1, 2)(to_2)


@migrations.step(2, 3)
def to_3(values):
    if "name" in values:
        values["currency"] = "EUR"
    return values
