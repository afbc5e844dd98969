#!/usr/bin/env bash
# DataFusion 55.0.0 gives a quotient of DECIMAL(38, 18) four decimals more than the dividend, and computes it from a dividend that was
# multiplied by 10^22: 6 / 3 overflows, whatever the quotient is.
#
# Expected: 2, as PostgreSQL and DuckDB say, or a type with the decimals that fit.
# Whom it hurts: turnover / volume of a token with 18 decimals cannot be asked for. What helps: a cast of the divisor to fewer decimals.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datafusion==55.0.0 pyarrow==26.0.1

"$folder/venv/bin/python" - <<'PYTHON'
import datafusion

def ask(divisor: str) -> str:
    query = f"SELECT CAST(6 AS DECIMAL(38, 18)) / CAST(3 AS {divisor}) AS ratio"
    try:
        return str(datafusion.SessionContext().sql(query).to_pydict()["ratio"][0])
    except Exception as error:  # the binding has no type of its own for it
        return str(error).split(" on:")[0]

SEEN = [
    ("DECIMAL(38, 18)", "DataFusion error: Arrow error: Arithmetic overflow: Overflow happened"),
    ("DECIMAL(20, 2)", "2.0000000000000000000000"),
]
print("DataFusion", datafusion.__version__)
for divisor, expected in SEEN:
    answer = ask(divisor)
    print("DECIMAL(38, 18) /", divisor, "->", answer)
    assert answer == expected, f"it was {expected!r}"
PYTHON
