"""What a path or a URL names, and that no credentials get past that."""

from pathlib import Path

import pytest

from paretune.errors import ConfigError
from paretune.storage.place import Place, where


def test_paths_stay_paths_and_urls_become_places() -> None:
    assert where("logs/") == Path("logs")
    assert where(Path("/a/b")) == Path("/a/b")
    assert where("file:///a%20b/c") == Path("/a b/c")
    assert where("file://localhost/a") == Path("/a")
    assert where("C:/logs") == Path("C:/logs")
    assert where("s3://feed/logs/day=2026-01-01/") == Place("s3", "feed", "logs/day=2026-01-01")
    assert where("S3A://feed") == Place("s3", "feed")
    assert where("gs://feed/x") == Place("gs", "feed", "x")
    place = where("memory://m/a")
    assert where(place) is place


def test_a_place_has_a_name_a_parent_and_parts_below_a_folder() -> None:
    place = Place("s3", "feed") / "logs" / "a.parquet"
    assert str(place) == "s3://feed/logs/a.parquet"
    assert (place.name, str(place.parent), str(place.parent.parent), place.parent.parent.name) == (
        "a.parquet",
        "s3://feed/logs",
        "s3://feed",
        "feed",
    )
    assert place.below(Place("s3", "feed", "logs")) == ("a.parquet",)
    assert place.below(Place("s3", "feed")) == ("logs", "a.parquet")
    assert place.below(Place("s3", "feed", "log")) == ()  # begins alike, and is no folder of it
    assert place.below(Place("s3", "other")) == place.below(place) == ()


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:geheim@feed/logs",
        "s3://feed/logs?secret=geheim",
        "s3://geheim@feed",
        "gs://feed?token=geheim",
        "ftp://user:geheim@host/x?password=geheim",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        where(url)
    assert "geheim" not in str(refused.value)
    assert "AKIA" not in str(refused.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "s3://feed/a//b", "s3://feed/../b", "file://other/x", "http://x/y"])
def test_a_url_that_names_nothing_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        where(url)


def test_a_path_that_was_made_of_a_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="as text"):
        where(Path("s3://feed/logs"))
