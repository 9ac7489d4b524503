"""`layerscope zoo`: train the small pair of models whose checkpoints the studies look at, and list what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from layerscope.cli.options import Quiet, unset
from layerscope.cli.show import console, frame_table, progress_bars, say

app = typer.Typer(
    help="Small models trained on this machine, with checkpoints from step 0 on.",
    epilog="Example: layerscope zoo train",
    no_args_is_help=True,
)
Cache = Annotated[Path | None, unset("--cache", "Cache folder; default: LAYERSCOPE_CACHE or ~/.cache/layerscope.")]


@app.command(epilog="Example: layerscope zoo train")
def train(
    tiny: Annotated[bool, typer.Option("--tiny", help="A pair for tests, in under a minute.")] = False,
    only: Annotated[str | None, unset("--only", "Only these models, separated by commas.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the weights and the order of the texts.")] = 0,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Train a GPT-NeoX and a Mamba-2 on Wikipedia leads (about 12 minutes on 2 cores).

    Models that are trained already are left as they are; one that was interrupted is trained again from its start.
    """
    from layerscope.training.recipes import PAIR, TINY_PAIR
    from layerscope.training.zoo import train_zoo

    names = [name.strip() for name in only.split(",") if name.strip()] if only else (TINY_PAIR if tiny else PAIR)
    with progress_bars(quiet=quiet) as report:
        train_zoo(names, cache=cache, seed=seed, report=report)
    if not quiet:
        _show(names, cache)


@app.command("list", epilog="Example: layerscope zoo list")
def list_models(cache: Cache = None) -> None:
    """List the models of the zoo: what is trained, its checkpoints, and its held-out loss."""
    from layerscope.training.recipes import RECIPES

    _show(list(RECIPES), cache)


def _show(names: list[str] | tuple[str, ...], cache: Path | None) -> None:
    from layerscope.inputs.known_models import ZOO_MODELS, zoo_folder
    from layerscope.training.record import read_zoo_record

    screen = console()
    rows = []
    for name in names:
        record = read_zoo_record(zoo_folder(name, cache))
        cells = [ZOO_MODELS[name].command, "", "", ""]
        if record is not None:
            cells = [
                f"{record.seconds:.0f} s, seed {record.recipe.seed}",
                f"{record.parameters:,}",
                f"{record.losses[0].held_out:.2f} to {record.losses[-1].held_out:.2f}",
                ", ".join(f"{loss.step}" for loss in record.losses),
            ]
        rows.append([name, *cells])
    columns = ("model", "trained", "parameters", "held-out loss", "checkpoints")
    screen.print(frame_table(pl.DataFrame(rows, schema=columns, orient="row")))
    say(screen, f"NAME@stepN is a model name; in {zoo_folder('NAME', cache)}")
