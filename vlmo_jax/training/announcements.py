"""What a run tells people when it starts and when it ends."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import jax

from vlmo_jax.models.build import count_params
from vlmo_jax.reports.curves import loss_curves
from vlmo_jax.reports.metrics import announce
from vlmo_jax.training.program import Program


def say(text: str) -> None:
    """Prints to standard output, on the first process alone."""
    if jax.process_index() == 0:
        announce(text)


def describe_start(program: Program, origin: str, workdir: Path) -> None:
    """Says what is about to run, and leaves config and tokenizer in the work folder; the first
    process does.

    Args:
        program: of the run.
        origin: what its state comes from, in words.
        workdir: folder of the run.
    """
    if jax.process_index() != 0:
        return
    recipe, config = program.recipe, program.config
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(config.to_json(indent=2) + "\n")
    if recipe.tokenizer is not None:
        copy = workdir / f"tokenizer{recipe.tokenizer.path.suffix}"
        if not (copy.exists() and copy.samefile(recipe.tokenizer.path)):
            shutil.copy(recipe.tokenizer.path, copy)
    devices = jax.devices()
    mesh = " x ".join(f"{axis} {size}" for axis, size in program.mesh.shape.items())
    announce(
        f"{len(devices)} {devices[0].device_kind} device(s) in {jax.process_count()} process(es),"
        f" mesh {mesh}; {_counted_params(program)}\n{recipe.describe_data()}; {config.steps:,}"
        f" steps of {config.batch_size} {recipe.data.unit}\nStarting from {origin}. Everything"
        f" goes to {workdir}"
    )


def _counted_params(program: Program) -> str:
    optimizer, params = program.update.optimizer, program.abstract_state.params
    total = f"{count_params(params):,} parameters"
    if optimizer.partition is None:
        return total
    trained = jax.eval_shape(optimizer.trainable, params)
    return f"{total}, {count_params(trained):,} of them trained"


def describe_end(
    program: Program,
    workdir: Path,
    *,
    step: int,
    finished: bool,
    seconds: float,
    pictures: Sequence[Path],
    long_texts: float,
) -> None:
    """Draws the curves and says where everything lies and what to do next.

    Args:
        program: of the run.
        workdir: folder of the run.
        step: the last one that was made.
        finished: whether it is the last of the run.
        seconds: that this start took.
        pictures: of the evaluations; those that are there are named.
        long_texts: share of the texts that were too long for a row.
    """
    config, recipe = program.config, program.recipe
    if (workdir / "metrics.jsonl").exists():
        loss_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    if long_texts:
        announce(recipe.data.describe_long_texts(long_texts))
    if not finished:
        announce(f"Stopped at step {step} of {config.steps}. Run the same command again to go on.")
        return
    pictures = [path for path in (workdir / "curves.png", *pictures) if path.exists()]
    announce(
        f"\nFinished {config.steps:,} steps after {seconds / 60:.1f} minutes.\n"
        f"  checkpoints  {workdir / 'checkpoints'}\n"
        f"  metrics      {workdir / 'metrics.jsonl'}, TensorBoard: tensorboard --logdir {workdir}\n"
        f"  pictures     {', '.join(map(str, pictures))}\n"
        f"Next: {recipe.next_step(workdir)}"
    )
