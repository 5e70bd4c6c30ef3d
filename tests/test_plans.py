"""Plans in words and numbers, of queries that PostgreSQL really ran."""

import pytest
from matplotlib.figure import Figure

from learning.operations import explain


@pytest.fixture
def connection(postgres):
    with postgres.client(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS orders; CREATE TABLE orders (id int, customer text)")
        connection.execute(
            "INSERT INTO orders SELECT n, 'customer-' || n % 50 FROM generate_series(1, 5000) AS n; ANALYZE orders"
        )
        yield connection


def test_rows_that_are_read_and_left_out_count(connection):
    plan = explain(connection, "SELECT id FROM orders WHERE customer = %s", ["customer-7"])
    assert plan.rows_read == 5000
    assert 10 < plan.pages_read < 100
    assert "Seq Scan of orders, from the first to the last, 5,000 rows read, 4,900 of them left out" in str(plan)


def test_an_index_reads_what_it_finds(connection):
    connection.execute("CREATE INDEX by_id ON orders (id)")
    plan = explain(connection, "SELECT customer FROM orders WHERE id = 77")
    assert plan.rows_read == 1
    assert "Index Scan of by_id, found by (id = 77), 1 rows read" in str(plan)
    axes = Figure().subplots()
    plan.draw(axes, "by id")
    assert any("by_id" in text.get_text() for text in axes.texts)


def test_nodes_above_read_nothing_themselves(connection):
    plan = explain(connection, "SELECT customer FROM orders ORDER BY id DESC LIMIT 3")
    assert plan.rows_read == 5000
    assert [len(line) - len(line.lstrip()) for line in str(plan).splitlines()[1:]] == [0, 2, 4]


def test_entries_of_an_index_are_no_rows(connection):
    connection.execute("CREATE INDEX by_customer ON orders (customer); SET enable_indexscan = off")
    plan = explain(connection, "SELECT id FROM orders WHERE customer = 'customer-7'")
    assert (plan.rows_read, plan.entries_read) == (100, 100)
    assert "100 rows (100 index entries)" in str(plan)
    assert "Bitmap Index Scan of by_customer, found by (customer = 'customer-7'::text), 100 entries read" in str(plan)
