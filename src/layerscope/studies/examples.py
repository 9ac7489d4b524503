"""What perturbed prompts look like: the first prompts of some runs, in the words of the model's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from layerscope.config import ModelSpec, RunSpec
from layerscope.inputs.models import load_model
from layerscope.inputs.prompts import select_prompts
from layerscope.inputs.texts import load_texts
from layerscope.wording import in_markdown, on_screen

MOST_TOKENS = 40


def examples_page(model: str, specs: Sequence[RunSpec], *, most: int = 2) -> str:
    """A page with the first prompts of each run, cut for reading.

    Args:
        model: the model whose tokenizer made the prompts.
        specs: one a kind of prompt.
        most: prompts of each.

    Raises:
        LayerscopeError: the model or the texts cannot be read any more.
    """
    loaded = load_model(ModelSpec.model_validate(specs[0].model.model_dump()))
    lines = [
        f"# Prompts of {in_markdown(model)}",
        "",
        f"The first {MOST_TOKENS} tokens of the first {most} prompts of each kind.",
        "",
    ]
    for spec in specs:
        prompts = select_prompts(load_texts(spec.texts), spec.texts, loaded.tokenizer, loaded.context).prompts
        lines += [f"## {spec.texts.perturbation or 'as they are'}", ""]
        for prompt in prompts[:most]:
            words = str(loaded.tokenizer.decode(list(prompt.tokens[:MOST_TOKENS])))
            more = " ..." if len(prompt.tokens) > MOST_TOKENS else ""
            # Indented, so that nothing in a text is read as markup.
            lines += [
                f"{in_markdown(prompt.id)}, {len(prompt.tokens)} tokens:",
                "",
                f"    {on_screen(' '.join(words.split()))}{more}",
                "",
            ]
    return "\n".join(lines)
