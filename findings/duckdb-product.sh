#!/usr/bin/env bash
# DuckDB 2.0.1 multiplies decimals of up to 18 digits within 18 digits, as long as the product has at most 18 decimals; with more
# decimals, or more digits, it takes twice as many. So 10 x 10 cannot be computed with eight decimals each, and can with nine.
#
# Expected: a type that holds every product of its factors, as for all other widths, or the same answer for the coarser numbers.
# Whom it hurts: price x size of a crypto exchange has eight decimals on both sides. The query fails with the first larger trade, not
# when it is written: nothing says so until then. What helps: a cast of one factor to DECIMAL(19, 8).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1

"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

def ask(price: str, size: str, value: int) -> str:
    query = f"SELECT typeof(p * s) || ': ' || (p * s) FROM (SELECT {value}::{price} AS p, {value}::{size} AS s)"
    try:
        return duckdb.sql(query).fetchall()[0][0]
    except duckdb.OutOfRangeException as error:
        return str(error).split(" (10")[0]

SEEN = [
    (("DECIMAL(18, 8)", "DECIMAL(18, 8)", 1), "DECIMAL(18,16): 1.0000000000000000"),
    (("DECIMAL(18, 8)", "DECIMAL(18, 8)", 10), "Out of Range Error: Overflow in multiplication of DECIMAL(18)"),
    (("DECIMAL(18, 9)", "DECIMAL(18, 9)", 10), "DECIMAL(36,18): 100.000000000000000000"),
    (("DECIMAL(19, 8)", "DECIMAL(18, 8)", 10), "DECIMAL(37,16): 100.0000000000000000"),
]
print("DuckDB", duckdb.__version__)
for question, expected in SEEN:
    answer = ask(*question)
    print(*question, "->", answer)
    assert answer == expected, f"it was {expected!r}"
PYTHON
