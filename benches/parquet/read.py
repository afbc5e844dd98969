"""Reads a Parquet file with PyArrow on one core, once for each line of its input, and answers with how many seconds that took.

Its columns are in memory then, as Arrow has them: no row is looked at, and nothing made of it.
"""

import sys
import time

import pyarrow
import pyarrow.parquet

pyarrow.set_cpu_count(1)
for _ in sys.stdin:
    began = time.perf_counter()
    table = pyarrow.parquet.read_table(sys.argv[1], use_threads=False)
    seconds = time.perf_counter() - began
    assert table.num_rows > 0, table.schema
    print(seconds, flush=True)
