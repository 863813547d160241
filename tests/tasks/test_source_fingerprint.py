import sys
import textwrap

import pytest

from tasks.source_fingerprint import module_hashes


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a stage, its helpers, and a module that nothing uses."""
    files = {
        "__init__.py": "",
        "stage.py": """
            from typing import TYPE_CHECKING
            from pack.direct import value
            if TYPE_CHECKING:
                from pack.only_types import Thing
            def run():
                import pack.lazy
                from . import relative
                return value
        """,
        "direct.py": "from pack.deep import deep\nvalue = deep",
        "deep/__init__.py": "from .inner import deep",
        "deep/inner.py": "deep = 1  # a comment",
        "lazy.py": "x = 1",
        "relative.py": "x = 1",
        "only_types.py": "class Thing: ...",
        "unused.py": "x = 1",
        "other_stage.py": "from pack.lazy import x",
    }
    root = tmp_path / "pack"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield root
    for name in [name for name in sys.modules if name.split(".")[0] == "pack"]:
        del sys.modules[name]


def hashes(module="pack.stage"):
    from tasks import source_fingerprint

    source_fingerprint._module_file.cache_clear()
    return module_hashes(module, ["pack"])


def test_it_follows_imports_transitively_and_into_functions(package):
    assert set(hashes()) == {
        "pack",
        "pack.stage",
        "pack.direct",
        "pack.deep",
        "pack.deep.inner",
        "pack.lazy",
        "pack.relative",
    }


@pytest.mark.parametrize(
    "changed", ["stage.py", "direct.py", "deep/__init__.py", "deep/inner.py", "lazy.py", "relative.py"]
)
def test_a_change_in_any_helper_changes_the_fingerprint(package, changed):
    before = hashes()
    (package / changed).write_text((package / changed).read_text() + "\nadded = 2\n")
    assert hashes() != before


@pytest.mark.parametrize("changed", ["unused.py", "only_types.py", "other_stage.py"])
def test_a_change_elsewhere_does_not(package, changed):
    before = hashes()
    (package / changed).write_text("added = 2\n")
    assert hashes() == before


def test_a_helper_changes_only_the_stages_that_use_it(package):
    stage, other = hashes(), hashes("pack.other_stage")
    (package / "direct.py").write_text("value = 3")
    assert hashes() != stage
    assert hashes("pack.other_stage") == other


@pytest.mark.parametrize("text", ["deep = 1", '"""A docstring."""\n\n\ndeep   =   1  # other words\n'])
def test_comments_docstrings_and_layout_do_not_count(package, text):
    before = hashes()
    (package / "deep/inner.py").write_text(text)
    assert hashes() == before


def test_nothing_is_executed(package):
    (package / "lazy.py").write_text("raise RuntimeError")
    hashes()
    assert not any(name.split(".")[0] == "pack" for name in sys.modules)


def test_an_unknown_module_is_an_error(package):
    with pytest.raises(ModuleNotFoundError, match=r"pack\.missing"):
        hashes("pack.missing")


def test_every_built_in_stage_sees_its_science():
    assert "compression.distillation.task" in module_hashes("tasks.stages.task_distill")
    assert "compression.distillation.task" not in module_hashes("tasks.stages.finetune")
    assert "compression.quantization.quantize" not in module_hashes("tasks.stages.finetune")
