"""An adapter and its base as one plain checkpoint of transformers."""

from __future__ import annotations

from pathlib import Path

from d90.adapters.model import load
from d90.errors import D90Error
from d90.models import loading
from d90.tasks import kind_of
from d90.utils.files import atomic_path


def merge(file: str | Path, folder: str | Path, *, base: str | None = None) -> str:
    """Write the model of an adapter to a new folder: weights, configuration and tokenizer.

    The tokenizer has the chat template that the adapter was trained with. The folder is written
    atomically.

    Returns:
        The class of transformers that loads it, such as `AutoModelForCausalLM`.

    Raises:
        D90Error: as `d90.load`; a folder that has something in it or cannot be written.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise D90Error(f"'{target}' is there already: give a new folder.")
    model = load(base, file)
    assert model.adapter is not None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as partial, loading.silence_transformers():
            if template := model.adapter.task.options.get("chat_template"):
                model.tokenizer.chat_template = template
            model.config.update(dict(kind_of(model.adapter.task).merged_config))
            model.save_pretrained(partial)
            model.tokenizer.save_pretrained(partial)
    except OSError as error:
        raise D90Error(f"'{target}' cannot be written: {error.strerror or error}.") from error
    auto = loading.auto_class(str(target), model.config, model.base.head.outputs)
    return auto.__name__
