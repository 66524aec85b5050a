"""`d90 generate`: completions of prompts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from d90.cli.adapter_options import AdapterFile, BaseModel
from d90.cli.output import print_line, silence
from d90.cli.terminal import Terminal

STDIN = "-"


def generate(
    file: AdapterFile,
    prompts: Annotated[
        list[str],
        typer.Argument(
            help="Prompts to complete, one after another; - reads one from standard input.",
            metavar="PROMPT...",
        ),
    ],
    max_new_tokens: Annotated[
        int, typer.Option(help="Maximum tokens of a completion.", min=1, max=2**31 - 1)
    ] = 128,
    temperature: Annotated[
        float,
        typer.Option(help="Temperature of sampling; 0 is greedy: the most probable token.", min=0),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Seed of sampling, for each prompt.", min=0, max=2**63 - 1)
    ] = 0,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="Put the prompt into the model's chat template, as a user's message.",
            show_default="as the task was trained",
        ),
    ] = None,
    base: BaseModel = None,
    quiet: Annotated[bool, typer.Option(help="Print nothing but the completions.")] = False,
) -> None:
    """Complete prompts with an adapter of generation; the text appears as it is generated.

    A prompt has the same tokens as in training, and a completion ends where the model ends it or
    after --max-new-tokens. Completions go to standard output. Of several prompts, each goes to
    standard error before its completion.

    Example: d90 generate lemma.safetensors "The base form of the noun geese is"
    """
    from d90 import adapters
    from d90.adapters.adapter import check_generates

    adapter = adapters.load_adapter(file)
    check_generates(adapter.task, expected=True)
    texts = [_stdin() if prompt == STDIN else prompt for prompt in prompts]
    with silence(quiet):
        from d90.adapters import generate as generation
        from d90.adapters.model import load

        generation.check_temperature(temperature)
        model = load(base, adapter)
        for text in texts:  # Before the first is completed.
            generation.prompt_ids(model, text, chat=chat)
        for text in texts:
            if len(texts) > 1 and not quiet:
                print_line(f"> {text}", Terminal(stderr=True))
            try:
                generation.generate(
                    model,
                    text,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=seed,
                    chat=chat,
                    on_text=_write,
                )
            finally:  # An interrupted line ends too.
                _write("\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _stdin() -> str:
    """Standard input without the newline that ends it."""
    return sys.stdin.read().removesuffix("\n")
