"""CSV logs: what a good line says is what is read, and a bad one is named by the number of its line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from foreign import CONFIG, RAW, configured, decisions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretune.cli import main
from paretune.config import load_config, parse_config
from paretune.errors import LogError
from paretune.exchange.cells import cells
from paretune.exchange.csv_rows import read_header, records, taken
from paretune.exchange.drawn import numbering
from paretune.exchange.taken import LINE, Reading, Unusable
from paretune.logs.parquet import read_log

HEADER = ("request_id", "user", "ts", "action", "propensity", "reason", "saves", "age", "device")
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12)


def rows_of(n: int) -> list[list[str]]:
    made = []
    for d in decisions(n):
        drawn = [f"2026-03-0{1 + d.number % 3} 10:00:00", str(d.action + 1), f"{d.propensity!r}", "EXPLORE"]
        made.append([f"r{d.number}", d.user, *drawn, f"{d.reward:g}", f"{d.age:g}", d.device])
    return made


def written(rows: list[list[str]], header: tuple[str, ...] = HEADER) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def importing(folder: Path, text: str | bytes, *options: str, config: dict[str, Any] | None = None) -> int:
    (folder / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    configured(folder, config)
    return main(["import", "csv", str(folder / "t.csv"), "-o", str(folder / "logs"), "-c", str(folder / "paretune.toml"), *options])


def refused(folder: Path) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(file) for file in sorted((folder / "logs" / "_import" / "refused").glob("*.parquet")))


def test_a_csv_is_the_log_that_it_says(tmp_path: Path) -> None:
    made = decisions(60)
    assert importing(tmp_path, written(rows_of(60))) == 0
    log = read_log(tmp_path / "logs", CONFIG)
    assert len(log) == 60
    assert sorted(log.action.tolist()) == sorted(d.action + 1 for d in made)
    assert sorted(log.propensity.tolist()) == sorted(d.propensity for d in made)
    assert log.explored.all()
    assert log.rewards.sum() == sum(d.reward for d in made)
    assert sorted(log.state.numeric["age"].tolist()) == sorted(d.age for d in made)
    assert len(np.unique(log.user)) == len({d.user for d in made})
    assert len(np.unique(log.day)) == 3


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_quoted_text_comes_back_and_lines_are_counted_as_an_editor_counts_them(pairs: list[tuple[str, str]]) -> None:
    rows = [[f"r{i}", user, *rows_of(1)[0][2:8], device] for i, (user, device) in enumerate(pairs)]
    text = written(rows)
    found = list(records(io.StringIO(text, newline="")))
    assert [row for _, _, row in found] == [list(HEADER), *rows]
    lines = text.split("\n")
    for number, kept, row in found:
        assert isinstance(row, list)
        first = kept.split("\n")[0]
        assert lines[number - 1].removesuffix("\r") == first.removesuffix("\r")
    header = read_header(HEADER, CONFIG, {}, dated=False, source="t.csv")
    made = taken(found[1:], header, Reading(CONFIG, CONFIG.surface.build(), "t.csv", numbering(CONFIG.surface.build())))
    assert made.rows["device"].to_list() == [row[8] if row[8].strip() else None for row in rows]
    assert made.rows[LINE].to_list() == [number for number, _, _ in found[1:]]


BAD: dict[int, tuple[str, str]] = {  # line of the file -> (what stands there, the reason)
    4: ("r2,u,2026-03-01,1,0.5", "another number of cells than the header's 9"),
    6: ("r4,u,2026-03-01 10:00:00,1,half,EXPLORE,1,30,web", "propensity is no number"),
    7: ("r5,u,yesterday,1,0.5,EXPLORE,1,30,web", "ts is no time"),
    8: ("r6,u,1772359200,1,0.5,EXPLORE,1,30,web", "ts is no time"),  # seconds
    9: ("r7,u,2026-03-01 10:00:00,1.5,0.5,EXPLORE,1,30,web", "action is no whole number"),
    10: ("r8,u,2026-03-01 10:00:00,99,0.5,EXPLORE,1,30,web", "action is not a whole number from -1"),
    11: ("r9,u,2026-03-01 10:00:00,1,1.5,EXPLORE,1,30,web", "propensity is not a number in (0, 1]"),
    12: ("r10,,2026-03-01 10:00:00,1,0.5,EXPLORE,1,30,web", "user is not an id"),
    13: ("r11,u,2026-03-01 10:00:00,1,0.5,EXPLORE,-1,30,web", "saves is not a finite number >= 0"),
    14: ('r12,u,"2026"x,1,0.5,EXPLORE,1,30,web', "the quoting is broken"),
    15: ("r0,u,2026-03-01 10:00:00,1,0.5,EXPLORE,1,30,web", "the request is in the log already"),
    16: ("r14,u,2026-03-01 10:00:00,1,0.5,EXPLORE,1,30,w\xe9b", "not UTF-8"),
}


def test_every_planted_line_is_refused_with_its_number_and_reason_and_no_other(tmp_path: Path) -> None:
    lines = written(rows_of(40)).rstrip("\n").split("\n")
    lines[19] = ""
    for number, (text, _) in BAD.items():
        lines[number - 1] = text
    assert importing(tmp_path, "\n".join(lines).encode("latin-1")) == 0
    found = {row["line"]: row for row in refused(tmp_path).iter_rows(named=True)}
    assert found.keys() == BAD.keys()
    for number, (text, reason) in BAD.items():
        assert found[number]["reason"].startswith(reason), number
        assert found[number]["source"] == "t.csv"
        assert found[number]["text"] == (text if text.isascii() else text.replace("\xe9", "\\udce9"))
    assert len(read_log(tmp_path / "logs", CONFIG)) == 40 - len(BAD) - 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"propensity": "p"}, "no column for propensity"),
        ({"age": "height"}, "no column for age"),
        ({"saves": "x"}, "no column for saves"),
        ({"action": "x"}, "no column for action or weights"),
        ({"ts": "x"}, "no column 'ts' or 'day'"),
        ({"user": "age"}, "columns ['age'] stand twice"),
    ],
)
def test_a_header_that_lacks_a_column_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importing(tmp_path, written(rows_of(3), tuple(change.get(name, name) for name in HEADER))) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_columns_are_guessed_as_init_guesses_them_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"request_id": "impression_id", "user": "member_id", "ts": "served_at", "propensity": "prob", "saves": "save_count"}
    assert importing(tmp_path, written(rows_of(30), tuple(other.get(name, name) for name in HEADER))) == 0
    said = capsys.readouterr().err
    for column, name in other.items():
        assert f"column {name!r} is taken for {column!r}" in said
    (tmp_path / "weights.yaml").write_text("heads: {save: 90, p2p: 9, hide: -4}\nobjectives: [save]", encoding="utf-8")
    toml = tmp_path / "init.toml"
    assert main(["init", str(tmp_path / "weights.yaml"), "--logs", str(tmp_path / "t.csv"), "-o", str(toml)]) == 0
    config = load_config(toml)
    columns = config.logs.columns
    assert (columns.request_id, columns.user, columns.ts, columns.propensity) == ("impression_id", "member_id", "served_at", "prob")
    assert config.objectives[0].column == "save_count"
    assert {*config.features.numeric, *config.features.categorical} == {"age", "device"}
    assert main(["import", "csv", str(tmp_path / "t.csv"), "-o", str(tmp_path / "again"), "-c", str(toml)]) == 0
    assert "is taken for" not in capsys.readouterr().err


def test_a_column_is_where_a_person_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(rows_of(5), tuple({"user": "who"}.get(name, name) for name in HEADER))
    assert importing(tmp_path, text, "--field", "user=who") == 0
    assert importing(tmp_path, text, "--field", "user=whom") == 3
    assert "no column for user, whom" in capsys.readouterr().err
    for wrong in ("users=who", "user", "user="):
        assert importing(tmp_path, text, "--field", wrong) == 2
        assert "names no column and its place" in capsys.readouterr().err
    assert importing(tmp_path, text, "--actions", "1,2") == 2


def test_weights_vectors_and_sequences_are_read_from_cells(tmp_path: Path) -> None:
    config = RAW | {
        "features": {"embeddings": [{"name": "taste", "size": 2}], "sequences": [{"name": "last", "length": 3, "vocabulary": 9}]},
    }
    header = ("request_id", "user", "day", "weights", "propensity", "reason", "saves", "taste", "last")
    text = written(
        [
            ["a", "u", "2026-03-01", "[10, 1, -4]", "0.1", "EXPLORE", "1", "0.5 -1", "[1, 2]"],
            ["b", "u", "2026-03-02", "200;30;-4", "0.1", "EXPLORE", "0", "[0.25, 1e3]", "3;4;5;6"],
            ["c", "u", "2026-03-02", "90|9|-4", "1", "STATIC", "0", "", ""],
            ["d", "u", "2026-03-02", "90|9", "1", "STATIC", "0", "1 2 3", "1.5"],
        ],
        header,
    )
    assert importing(tmp_path, text, config=config) == 0
    log = read_log(tmp_path / "logs", parse_config(config))
    assert log.action.tolist() == [1, 9, 0]
    np.testing.assert_array_equal(log.state.embedding["taste"], np.array([[0.5, -1], [0.25, 1000], [np.nan, np.nan]], dtype=np.float32))
    assert log.state.sequence["last"].tolist() == [[-1, 1, 2], [4, 5, 6], [-1, -1, -1]]
    assert refused(tmp_path)["line"].to_list() == [5]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", " 1e-3 ", 0.001),
        ("number", "12abc", Unusable),
        ("number", "1_000", Unusable),
        ("integer", "3.0", 3),
        ("integer", "3.5", Unusable),
        ("integer", "9007199254740993", 9007199254740993),
        ("time", "2026-03-01T10:00:00+02:00", "2026-03-01 08:00:00"),
        ("time", "2026-03-01 10:00:00.5", "2026-03-01 10:00:00.500000"),
        ("time", "1772359200000000", "2026-03-01 10:00:00"),
        ("time", "1772359200", Unusable),
        ("time", "2208988800000000000", Unusable),
        ("time", "2226-03-01 10:00:00", Unusable),
        ("day", "2026-02-30", Unusable),
        ("integers", "[1, 2.5]", Unusable),
        ("numbers", "[1, null]", Unusable),
        ("number", "", None),
    ],
)
def test_a_cell_is_what_it_is_or_not_at_all(kind: Any, text: str, value: object) -> None:
    for given_ in ([text], [text, text]):
        column, fits = cells(given_, kind)
        assert fits.all() == (value is not Unusable)
        found = column[0]
        assert (str(found) if kind == "time" and found is not None else found) == (None if value is Unusable else value)


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.just([1]))))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_cell_of_json_breaks_the_reading(values: list[object]) -> None:
    for kind in ("text", "number", "integer", "time", "day", "numbers", "integers"):
        column, fits = cells(values, kind)  # type: ignore[arg-type]
        assert len(column) == len(fits) == len(values)
        for value, good, cell in zip(values, fits.tolist(), column.to_list(), strict=True):
            empty = value is None or (isinstance(value, str) and not value.strip())
            assert good if empty else good == (cell is not None) or kind == "text"


def test_nothing_is_taken_with_strict_where_a_line_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = written(rows_of(20)).replace("r7,", "r7,x,", 1)
    assert importing(tmp_path, lines, "--strict") == 3
    assert "1 of 20 lines cannot be taken" in capsys.readouterr().err
    assert not list((tmp_path / "logs").rglob("*.parquet"))
    assert importing(tmp_path, lines, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["lines"], list(told["refused"].values())) == (19, 20, [1])


def test_an_empty_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert importing(tmp_path, "") == 3
    assert "no header" in capsys.readouterr().err
    assert importing(tmp_path, ",".join(HEADER)) == 3
    assert "the source is empty" in capsys.readouterr().err
    with pytest.raises(LogError, match="no header"):
        read_header([], CONFIG, {}, dated=True, source="t.csv")
