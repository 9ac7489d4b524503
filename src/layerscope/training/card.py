"""README.md of a trained model: data, recipe, loss curve, and what the numbers depend on. Its text is card.md."""

from __future__ import annotations

from importlib import resources

from layerscope.training.record import ZooRecord
from layerscope.wording import counted, in_markdown

_ARCHITECTURES = {
    "gpt-neox": "GPT-NeoX as Pythia has it: attention and MLP in parallel, rotary positions on a quarter of each head, "
    "embeddings and head not tied",
    "mamba2": "Mamba-2, a state-space model without attention, embeddings and head not tied",
}


def card(record: ZooRecord) -> str:
    """The model card as Markdown."""
    recipe, losses = record.recipe, record.losses
    seen = recipe.steps * recipe.batch * recipe.window
    rows = (
        f"| {one.step} | {one.held_out:.3f} | {'' if one.train is None else f'{one.train:.3f}'} | {one.seconds:.0f} |\n"
        for one in losses
    )
    return (
        (resources.files("layerscope.training") / "card.md")
        .read_text(encoding="utf-8")
        .format(
            record=record,
            recipe=recipe,
            name=in_markdown(record.name),
            millions=f"{record.parameters / 1e6:.{1 if record.parameters >= 1e5 else 2}f}",
            architecture=_ARCHITECTURES[recipe.architecture],
            state=f", state {recipe.state}" if recipe.state else "",
            threads=counted(recipe.threads, "thread"),
            seen=seen,
            epochs=seen / record.train_tokens,
            first=losses[0],
            middle=losses[len(losses) // 2],
            last=losses[-1],
            rows="".join(rows),
        )
    )
