#!/usr/bin/env bash
# chdb 4.4.0 (ClickHouse 26.9) sums decimals up in a wider type, but multiplies them in the type of the factors: sum(price * size)
# is a Decimal(38, 16) whose terms overflow as Decimal(18, 16), from a product of 922 on.
#
# Expected: the sum, which its type has room for: 2000000 here.
# Whom it hurts: VWAP and turnover of an exchange that quotes both with eight decimals, read from Parquet. One trade of 1000 units at 1000
# ends the query. What helps: toDecimal128(price, 8) * size.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check chdb==4.4.0

"$folder/venv/bin/python" - <<'PYTHON'
import chdb

def ask(what: str, value: int) -> str:
    trades = f"values('price Decimal(18, 8), size Decimal(18, 8)', ({value}, {value}), ({value}, {value}))"
    try:
        return chdb.query(f"SELECT {what} FROM {trades}", "TSV").bytes().decode().strip()
    except RuntimeError as error:
        return str(error).split("DB::Exception: ")[1].split(":")[0]

SEEN = [
    (("toTypeName(sum(price * size))", 1), "Decimal(38, 16)"),
    (("sum(price * size)", 1000), "Decimal math overflow"),
    (("sum(toDecimal128(price, 8) * size)", 1000), "2000000"),
]
print("chdb", chdb.__version__, "ClickHouse", chdb.query("SELECT version()", "TSV").bytes().decode().strip())
for question, expected in SEEN:
    answer = ask(*question)
    print(*question, "->", answer)
    assert answer == expected, f"it was {expected!r}"
PYTHON
