#!/usr/bin/env bash
# chdb 4.4.0 (ClickHouse 26.9) divides decimals of 128 bits without looking whether the dividend still fits once it has been given the
# divisor's decimals: 300 / 50 is -0.8 with 18 decimals each. There is no error, and no warning.
#
# Expected: 6, or an error as with Decimal(18, 8). The documentation says that overflows of wide decimals are not checked; that a
# quotient of 6 is one of them it does not.
# Whom it hurts: turnover / volume of a token with 18 decimals is a wrong price that looks like one. What helps: divideDecimal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check chdb==4.4.0

"$folder/venv/bin/python" - <<'PYTHON'
import chdb

def ask(what: str) -> str:
    return chdb.query(f"SELECT {what} FROM values('t Decimal(38, 18), v Decimal(38, 18)', (300, 50))", "TSV").bytes().decode().strip()

SEEN = [
    ("t / v", "-0.805647338418769269"),
    ("sum(t) / sum(v)", "-0.805647338418769269"),
    ("divideDecimal(t, v, 18)", "6"),
]
print("chdb", chdb.__version__, "ClickHouse", chdb.query("SELECT version()", "TSV").bytes().decode().strip())
for question, expected in SEEN:
    answer = ask(question)
    print(question, "->", answer)
    assert answer == expected, f"it was {expected!r}"
PYTHON
