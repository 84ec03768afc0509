"""`edgeai-compress bench train`: a recipe's training beside its network alone and its batches alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from compress.cli.run import find_data_root
from edgeai.cli.figures import Outputs, print_figures
from edgeai.errors import RecipeError
from edgeai.metrics import summarize

UNITS = {
    "training": "examples/s",
    "model": "examples/s",
    "batches": "examples/s",
    "training_ratio": "",
    "batches_ratio": "",
}


def run_train_bench(
    recipe_path: Path, data: Path | None = None, steps: int = 64, json_output: bool = False
) -> int:
    """Measure the first training of a recipe by windows in turns and print examples/s and their ratios; nothing is written
    but the frames of the recipe's videos, below out/work as `run` does.

    Raises RecipeError where no pass trains, and what opening the recipe's data and network raises.
    """
    from compress.quiet import start_tensorflow
    from compress.recipe import load_recipe

    recipe = load_recipe(recipe_path)
    settings = next((p.fit for p in recipe.passes if p.kind in ("train", "prune", "distill")), None)
    if settings is None:
        raise RecipeError(
            f"{recipe_path}: no pass trains on labels, there is nothing to measure",
            next_step="give a recipe with a train pass",
        )
    if steps < 1:
        raise RecipeError(f"--steps {steps}: at least one is needed")
    root = find_data_root(data)
    start_tensorflow()
    from compress.networks import open_network
    from compress.tasks import open_task
    from compress.train.throughput import measure_throughput

    network = open_network(recipe, data_root=root)
    task = open_task(recipe, data_root=root, work=Path("out/work") / recipe.name)

    def loss(outputs: Any, batch: Any) -> Any:
        return task.label_loss(outputs, batch["targets"])

    make = partial(task.make_batch, size=settings.batch)
    found = measure_throughput(network, make, loss, settings, steps=steps, shape=task.training_shape)
    print_figures(
        "train",
        [summarize(name, unit, found[name]) for name, unit in UNITS.items()],
        title=f"{recipe.name}, batches of {settings.batch}",
        outputs=Outputs(json=json_output),
    )
    return 0
