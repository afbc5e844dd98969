"""Asks what people compute with for the VWAP of each minute of an export, and compares it with the server's own bars.

Each is asked as its own documentation would, on the exact decimals: a type that it cannot multiply, or whose product it
gets wrong, or a time that it cannot cut into minutes, shows here.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from decimal import Decimal
from pathlib import Path

import chdb
import datafusion
import duckdb
import pandas
import polars
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TICKCAST_BIN", ROOT / "target/release/tickcast")
SYMBOL = "BTCUSDT"
# Whatever divides decimals keeps at least so many digits of a price.
TOLERANCE = Decimal("0.01")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def trades(path: Path) -> None:
    """Five minutes: prices and sizes whose product needs more than 64 bits, and times of a nanosecond."""
    rng = random.Random(1)
    with path.open("w") as file:
        print("time,symbol,price,size,side", file=file)
        at = 1_704_153_600_000_000_000
        for n in range(5000):
            at += rng.randrange(1, 120_000_000)
            price = f"{94_000 + rng.random() * 1000:.2f}"
            size = "1234567.00010001" if n % 97 == 0 else f"{rng.random():.8f}"
            print(f"{at},{SYMBOL},{price},{size},{rng.choice(['buy', 'sell'])}", file=file)


def bars(feed: Path) -> dict[int, Decimal]:
    """The start of each minute, in seconds, and its VWAP as the server has it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [BINARY, "serve", "--feed", feed, "--speed", "max", "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/v1/"
        end = time.monotonic() + 60
        while True:
            try:
                status = json.load(OPENER.open(url + "replay"))
                if status["state"] == "ended":
                    break
            except OSError:
                pass
            if time.monotonic() > end:
                raise TimeoutError("the feed was not played to its end within a minute")
            time.sleep(0.05)
        answer = json.load(OPENER.open(f"{url}bars/{SYMBOL}?interval=1m"), parse_float=Decimal)
        seconds = lambda text: int(pandas.Timestamp(text).timestamp())
        return {seconds(bar["start"]): Decimal(str(bar["vwap"])) for bar in answer["bars"]}
    finally:
        server.terminate()
        server.wait(10)


def duckdb_(path: str) -> list[tuple]:
    query = "select epoch(time_bucket(interval '1 minute', time)), sum(price * size) / sum(size)"
    return duckdb.connect().sql(f"{query} from '{path}' group by 1").fetchall()


def chdb_(path: str) -> list[tuple]:
    query = "select toUnixTimestamp(toStartOfMinute(time)), sum(price * size) / sum(size)"
    text = chdb.query(f"{query} from file('{path}') group by 1", "CSV").data()
    return [(int(minute), vwap) for minute, vwap in csv.reader(io.StringIO(text))]


def datafusion_(path: str) -> list[tuple]:
    context = datafusion.SessionContext()
    (context.register_parquet if path.endswith("parquet") else context.register_csv)("trades", path)
    # The quotient of decimals has more digits than its type, whatever the columns have.
    query = "select date_trunc('minute', time) as minute, sum(price * size) as turnover, sum(size) as volume"
    rows = context.sql(f"{query} from trades group by 1").to_pylist()
    return [(row["minute"].timestamp(), row["turnover"] / row["volume"]) for row in rows]


def polars_(path: str) -> list[tuple]:
    turnover = (polars.col("price") * polars.col("size")).sum().cast(polars.Float64)
    vwap = turnover / polars.col("size").sum().cast(polars.Float64)
    minute = polars.col("time").dt.truncate("1m").dt.epoch("s")
    return polars.scan_parquet(path).group_by(minute).agg(vwap).collect().rows()


def pyarrow_(path: str) -> list[tuple]:
    table = pq.read_table(path)
    table = table.append_column("minute", pc.floor_temporal(table["time"], unit="minute"))
    table = table.append_column("turnover", pc.multiply(table["price"], table["size"]))
    rows = table.group_by("minute").aggregate([("turnover", "sum"), ("size", "sum")]).to_pylist()
    return [(row["minute"].timestamp(), row["turnover_sum"] / row["size_sum"]) for row in rows]


def pandas_frame(frame: pandas.DataFrame) -> list[tuple]:
    frame["turnover"] = frame["price"] * frame["size"]
    sums = frame.groupby(frame["time"].dt.floor("min"))[["turnover", "size"]].sum()
    return [(minute.timestamp(), row["turnover"] / row["size"]) for minute, row in sums.iterrows()]


def pandas_(path: str) -> list[tuple]:
    return pandas_frame(pandas.read_parquet(path))


def pandas_csv(path: str) -> list[tuple]:
    return pandas_frame(pandas.read_csv(path, parse_dates=["time"]))


def duckdb_csv(path: str) -> list[tuple]:
    return duckdb_(path)


def polars_csv(path: str) -> list[tuple]:
    frame = polars.read_csv(path, try_parse_dates=True)
    minute = polars.col("time").dt.truncate("1m").dt.epoch("s")
    vwap = (polars.col("price") * polars.col("size")).sum() / polars.col("size").sum()
    return frame.group_by(minute).agg(vwap).rows()


def main() -> int:
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "trades.csv"
        trades(feed)
        exports = {}
        for form in ("parquet", "csv"):
            exports[form] = str(Path(folder) / f"export.{form}")
            subprocess.run([BINARY, "convert", feed, exports[form], "--only", "trades", "--quiet"], check=True)
        expected = bars(feed)
        assert len(expected) >= 4, expected
        for name, form, ask in (
            ("DuckDB", "parquet", duckdb_),
            ("ClickHouse", "parquet", chdb_),
            ("DataFusion", "parquet", datafusion_),
            ("Polars", "parquet", polars_),
            ("PyArrow", "parquet", pyarrow_),
            ("pandas", "parquet", pandas_),
            ("DuckDB", "csv", duckdb_csv),
            ("Polars", "csv", polars_csv),
            ("pandas", "csv", pandas_csv),
        ):
            try:
                got = {int(minute): Decimal(str(vwap)) for minute, vwap in ask(exports[form])}
                wrong = [
                    f"{minute}: {got.get(minute)} where the bar has {vwap}"
                    for minute, vwap in expected.items()
                    if minute not in got or abs(got[minute] - vwap) > TOLERANCE
                ]
                wrong += [f"{minute}: no such bar" for minute in got.keys() - expected.keys()]
            except Exception as error:  # What any of them raises is what is looked for.
                wrong = [f"{type(error).__name__}: {str(error)[:300]}"]
            print("not ok" if wrong else "ok", f"{name} computes the VWAP of each minute of {form}", "; ".join(wrong[:3]))
            failed += bool(wrong)
            passed += not wrong
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
