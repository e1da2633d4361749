"""Speed of exact search in made vectors, beside what the machine's memory and arithmetic allow."""

import concurrent.futures
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vlmo_jax.bench.device import find_peak
from vlmo_jax.bench.report import Report, quantity
from vlmo_jax.search.engine.exact import ExactSearch

_CHUNK = 16384  # rows made or compared at once
_COPIED = 2**29  # bytes, far more than any cache holds


def benchmark_search(
    *, rows: int, width: int, batch: int, top_k: int, steps: int, warmup: int
) -> Report:
    """Measures exact search in a memory-mapped float16 matrix, which a temporary file holds.

    Args:
        rows: vectors, N.
        width: of each, D.
        batch: queries at once.
        top_k: rows to find for each.
        steps: batches to measure.
        warmup: batches before them.

    Returns:
        Report.
    """
    with tempfile.TemporaryDirectory(prefix="vlmo_search_") as folder:
        vectors = _make_vectors(pathlib.Path(folder) / "vectors.npy", rows, width)
        queries = _embeddings(np.random.default_rng(1), batch, width)
        start = time.perf_counter()
        search = ExactSearch(vectors)
        opening = time.perf_counter() - start
        times = _seconds(lambda: search.top_k(queries, top_k), steps, warmup)
        alone = _seconds(lambda: search.top_k(queries[:1], top_k), steps, warmup)
        start = time.perf_counter()
        plain_rows = _best_by(np.float32, vectors, queries, top_k)
        plain = time.perf_counter() - start
        truth = _best_by(np.float64, vectors, queries, top_k)
        found = search.top_k(queries, top_k).rows
        record = {
            "benchmark": "search",
            "rows": rows,
            "width": width,
            "batch": batch,
            "top_k": top_k,
            "bytes": vectors.nbytes,
            "opening_seconds": opening,
            "seconds": times,
            "seconds_median": float(np.median(times)),
            "seconds_median_of_one_query": float(np.median(alone)),
            "numpy_seconds": plain,
            "recall": _recall(found, truth),
            "numpy_recall": _recall(plain_rows, truth),
            "copy_bytes_per_second": measure_copy(),
            "load_average": os.getloadavg()[0],
            "num_cpus": os.cpu_count(),
            "device_kind": jax.local_devices()[0].device_kind,
            "num_devices": jax.local_device_count(),
            "jax": jax.__version__,
            "python": platform.python_version(),
        }
    return _report(record)


def _report(record: dict) -> Report:
    seconds, batch, size = record["seconds_median"], record["batch"], record["bytes"]
    peak = find_peak("bfloat16")
    flops = 2 * record["rows"] * record["width"] * batch / seconds / record["num_devices"]
    copy = record["copy_bytes_per_second"]
    record |= {
        "queries_per_second": batch / seconds,
        "matrix_bytes_per_second": size / seconds,
        "share_of_copy": size / seconds / copy,
        "flops_per_second": flops,
        "share_of_peak": flops / peak.flops,
        "peak_source": peak.source,
        "bandwidth_queries_per_second": batch * copy / size,
        "arithmetic_queries_per_second": batch / seconds * peak.flops / flops,
    }
    top_k, alone = record["top_k"], record["seconds_median_of_one_query"]
    rows = [
        ("queries a second", f"{batch / seconds:,.0f} in batches of {batch}"),
        ("seconds a batch", f"{seconds:.4f} median of {len(record['seconds'])}"),
        ("one query alone", f"{alone * 1000:.1f} ms"),
        ("recall", f"{record['recall']:.6f} of the {top_k} best by float64"),
        ("reads the matrix at", quantity(size / seconds, "B/s")),
        (
            "share of a copy",
            f"{size / seconds / copy:.1%} of {quantity(copy, 'B/s')}, measured now",
        ),
        ("share of the peak", f"{flops / peak.flops:.1%} of {peak.source}"),
        ("memory would allow", f"{record['bandwidth_queries_per_second']:,.0f} queries a second"),
        ("that peak", f"{record['arithmetic_queries_per_second']:,.0f} queries a second"),
        (
            "plain NumPy",
            f"{batch / record['numpy_seconds']:,.0f} queries a second, recall"
            f" {record['numpy_recall']:.6f}",
        ),
        ("opening", f"{record['opening_seconds']:.2f} s"),
        ("load average", f"{record['load_average']:.2f} on {record['num_cpus']} cores"),
    ]
    title = (
        f"exact search of {record['rows']:,} vectors of {record['width']} in float16,"
        f" {size / 1e9:.2f} GB, {record['num_devices']} {record['device_kind']}"
    )
    return Report(title, rows, record)


def _embeddings(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    """Vectors as encoders give them, float32 [rows, width]: of length 1, in a cone, and with a few
    directions that count more than the others.
    """
    vectors = rng.standard_normal((rows, width), np.float32)
    vectors /= np.sqrt(1 + np.arange(width, dtype=np.float32) / 64)
    vectors[:, 0] += 4
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _make_vectors(path: pathlib.Path, rows: int, width: int) -> np.ndarray:
    made = np.lib.format.open_memmap(path, "w+", np.float16, (rows, width))
    rng = np.random.default_rng(0)
    for first in range(0, rows, _CHUNK):
        made[first : first + _CHUNK] = _embeddings(rng, min(_CHUNK, rows - first), width)
    made.flush()
    return np.load(path, mmap_mode="r")


def _seconds(run: Callable[[], object], steps: int, warmup: int) -> list[float]:
    seconds = []
    for _ in range(warmup + steps):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds[warmup:]


def measure_copy() -> float:
    """Bytes read and written in a second, when all cores copy main memory to main memory."""
    source, target = np.ones(_COPIED, np.uint8), np.zeros(_COPIED, np.uint8)
    cores = os.cpu_count() or 1
    parts = [slice(_COPIED * n // cores, _COPIED * (n + 1) // cores) for n in range(cores)]
    with concurrent.futures.ThreadPoolExecutor(cores) as threads:
        copy = lambda part: np.copyto(target[part], source[part])
        times = _seconds(lambda: list(threads.map(copy, parts)), steps=5, warmup=1)
    return 2 * _COPIED / min(times)


def _chunks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    return ((first, vectors[first : first + _CHUNK]) for first in range(0, len(vectors), _CHUNK))


def _best_by(dtype: type, vectors: np.ndarray, queries: np.ndarray, top_k: int) -> np.ndarray:
    """The best rows, [Q, k], by NumPy's products in a type, chunk by chunk."""
    queries = queries.astype(dtype)
    best_scores: np.ndarray = np.full((len(queries), top_k), -np.inf, dtype)
    best_rows = np.zeros((len(queries), top_k), np.int64)
    for first, chunk in _chunks(vectors):
        scores = queries @ chunk.astype(dtype).T
        places = np.broadcast_to(first + np.arange(len(chunk)), scores.shape)
        scores = np.concatenate([best_scores, scores], axis=1)
        rows = np.concatenate([best_rows, places], axis=1)
        kept = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
        best_scores = np.take_along_axis(scores, kept, 1)
        best_rows = np.take_along_axis(rows, kept, 1)
    return best_rows


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    shared = [len(set(ours) & set(theirs)) for ours, theirs in zip(found, truth, strict=True)]
    return float(np.mean(shared) / truth.shape[1])
