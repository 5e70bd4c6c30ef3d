"""Steps of the refund desk (see `learning.course.desk`), for tests and the children that they start."""

from learning.migration import Migrations

migrations = Migrations()


@migrations.step(1, 2)
def to_2(values):
    if "customer" in values:
        values["name"] = values.pop("customer")
    if "total" in values:
        values["cents"] = round(100 * values.pop("total"))
    return values


@migrations.step(2, 3)
def to_3(values):
    if "name" in values:
        values["currency"] = "EUR"
    return values
