"""Model folders in other forms: as an encoder of any shape, as a plain transformers model, as ONNX."""

import shutil
from pathlib import Path
from typing import Literal

from compression.errors import UserError, did_you_mean
from tasks.model_source import resolve_model

Form = Literal["bertpress", "plain", "onnx"]
FORMS: tuple[Form, ...] = ("bertpress", "plain", "onnx")


def convert_folder(source: str, target: Path, form: str, *, code: bool = False) -> str:
    """Write a model in another form, beside its tokenizer.

    Args:
        source: model folder, hub name, or `package:NAME/FOLDER`.
        target: folder to write; it must not exist, or be empty.
        form: `bertpress`, the encoder of any shape; `plain`, transformers' own BERT, DistilBERT or ALBERT; `onnx`.
        code: whether the encoder's code is put into the folder, so that it loads where bertpress is not installed.

    Returns:
        What was written, for people.

    Raises:
        UserError: the model cannot be had, is quantized, or has no such form; the target is not empty.
    """
    if form not in FORMS:
        raise UserError(f"unknown form {form!r}; allowed: {', '.join(FORMS)}{did_you_mean(form, FORMS)}")
    if code and form != "bertpress":
        raise UserError(f"a {form} model needs no code of bertpress: leave out --code")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already: name a new folder")
    folder = resolve_model(source, None, (), download=True)
    if folder is None:
        raise UserError(f"model {source!r} cannot be had")
    from compression.architecture.checkpoint import load_tokenizer, save_checkpoint
    from compression.architecture.conversion import to_plain
    from compression.architecture.editing import load_editable
    from compression.architecture.onnx_export import export_onnx
    from compression.architecture.portable import add_code

    model, tokenizer = load_editable(folder), load_tokenizer(folder)
    aside = target.with_name(f".{target.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        if form == "onnx":
            export_onnx(model, aside / "model.onnx")
            tokenizer.save_pretrained(aside)
        else:
            save_checkpoint(model if form == "bertpress" else to_plain(model), tokenizer, aside)
        if code:
            add_code(aside)
        if target.exists():
            target.rmdir()
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return f"{type(model).__name__} as {form}: {target}"
