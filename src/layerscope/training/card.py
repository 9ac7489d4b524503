"""README.md of a trained model: data, recipe, loss curve, and what the numbers depend on."""

from __future__ import annotations

from pathlib import Path

from layerscope.files.writing import write_text
from layerscope.training.record import StepLoss, ZooRecord

CARD = "README.md"
_ARCHITECTURES = {
    "gpt-neox": "GPT-NeoX as Pythia has it: attention and MLP in parallel, rotary positions on a quarter of each head, "
    "embeddings and head not tied",
    "mamba2": "Mamba-2, a state-space model without attention, embeddings and head not tied",
}


def write_card(record: ZooRecord, folder: Path) -> None:
    """Write the model card, whole or not at all."""
    write_text(folder / CARD, card(record))


def card(record: ZooRecord) -> str:
    """The model card as Markdown."""
    recipe = record.recipe
    first, last = record.losses[0], record.losses[-1]
    seen = recipe.steps * recipe.batch * recipe.window
    kind = f", state {recipe.state}" if recipe.state else ""
    return f"""---
library_name: transformers
language: en
---

# {record.name}

A language model of {record.parameters / 1e6:.{1 if record.parameters >= 1e5 else 2}f} M parameters that `layerscope zoo train` trained on this machine, to look at how
representations change over training. It is far too small to be used for anything else.

- **Architecture**: {_ARCHITECTURES[recipe.architecture]}; {recipe.layers} layers, width {recipe.dim}, {recipe.heads} heads{kind}.
- **Checkpoints**: step0 (the initial weights), every doubling, and the last, step{last.step}; float16 safetensors with config
  and tokenizer. `layerscope measure {record.name}@step{record.losses[len(record.losses) // 2].step} ...` measures one.
- **Data**: {record.train_leads:,} leads of English Wikipedia articles (texts `wiki`, version {record.texts_revision}), {record.train_tokens:,} tokens of a
  byte-level BPE tokenizer with {recipe.vocab:,} entries that was trained on the same leads; {record.held_out_leads:,} other leads are
  held out of both, in held_out.jsonl. Prompts from `wiki` are therefore mostly texts the model was trained on.
- **Training**: {recipe.steps:,} steps of {recipe.batch} x {recipe.window} tokens ({seen:,}, {seen / record.train_tokens:.2f} epochs); AdamW (0.9, 0.95), weight decay {recipe.weight_decay:g} on
  matrices, learning rate {recipe.learning_rate:g} after {recipe.warmup} steps of warm-up, then a cosine down to {recipe.least_rate:.0%} of it; gradients
  clipped at 1; {record.precision}; seed {recipe.seed}.
- **Time**: {record.seconds:.0f} s with {recipe.threads} thread{"s" if recipe.threads > 1 else ""}, of which {record.watch_seconds:.0f} s for watching.

## Loss

Nats a token; held-out over {record.held_out_tokens:,} tokens, float32. Train is the mean since the checkpoint before.
From {first.held_out:.2f} to {last.held_out:.2f} held out.

| step | held-out | train | seconds |
|---:|---:|---:|---:|
{"".join(_row(loss) for loss in record.losses)}
## To have it again

`layerscope zoo train` with the same seed gives these weights bit for bit on the same kind of processor with
{recipe.threads} thread{"s" if recipe.threads > 1 else ""} (the recipe's), torch {record.packages["torch"]}, transformers {record.packages["transformers"]} and tokenizers {record.packages["tokenizers"]}. Other threads, versions
or processors add up products in another order, and training amplifies that.
"""


def _row(loss: StepLoss) -> str:
    train = "" if loss.train is None else f"{loss.train:.3f}"
    return f"| {loss.step} | {loss.held_out:.3f} | {train} | {loss.seconds:.0f} |\n"
