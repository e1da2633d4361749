"""The training loop: restore, compile, evaluate, then draw, step, log, evaluate and save."""

import json
import math
import shutil
import signal
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from vlmo_jax.checkpoints import store
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import make_recipe
from vlmo_jax.recipes.base import count_params
from vlmo_jax.reports.curves import loss_curves
from vlmo_jax.reports.metrics import (
    MetricWriter,
    ProgressBar,
    Stopwatch,
    WeightedMeans,
    announce,
    read_metrics,
)
from vlmo_jax.training.program import build_program, compiled_bytes, initial_state
from vlmo_jax.training.train_step import abstract_trainable


class NonFiniteError(FloatingPointError):
    """A loss or the gradient became NaN or infinite."""


def train(config, workdir):
    """Trains a recipe to its end, or goes on where the work folder stands.

    Args:
        config: ConfigDict of a recipe.
        workdir: folder for checkpoints, metrics and pictures.

    Returns:
        Whether the run is finished; False: a signal has stopped it.

    Raises:
        ConfigError: the config cannot run.
        NonFiniteError: a loss became NaN or infinite; the last checkpoint is from before that.
    """
    started = time.perf_counter()
    recipe = make_recipe(config)
    recipe.check(jax.device_count())
    recipe.open()
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        program = build_program(recipe, mesh)
        evaluation = recipe.make_evaluation(program.graphdef, mesh)
        checkpoints = store.Checkpoints(
            workdir / "checkpoints",
            keep_last=config.checkpoint.keep_last,
            best_metric=config.checkpoint.best_metric,
        )
        state, origin = initial_state(program, checkpoints)
        _describe(program, origin, workdir)
        loop = Loop(program, state, checkpoints, evaluation, workdir)
        try:
            finished = loop.run()
        finally:
            checkpoints.close()
            loop.writer.close()
        if jax.process_index() == 0:
            _summarize(loop, workdir, finished, time.perf_counter() - started)
    return finished


class Loop:
    """One start of a run: the state, and what is due when."""

    def __init__(self, program, state, checkpoints, evaluation, workdir):
        self.program, self.state = program, state
        self.checkpoints, self.evaluation = checkpoints, evaluation
        self.workdir, self.meta = workdir, _meta(program.recipe)
        self.config = program.config
        self.first_step = int(state.step)
        self.writer = MetricWriter(
            workdir,
            start_step=self.first_step,
            total_steps=self.config.steps,
            enabled=jax.process_index() == 0,
        )
        self.stopwatch = Stopwatch()
        self.pending = None  # (step, metrics on the device) of the step that was dispatched last
        self.means = WeightedMeans()  # of the steps since the last log line
        self.steps_in_window = 0
        self.stop = False
        self.last_save = time.monotonic()

    def run(self):
        """Runs to the last step or to a signal; returns whether the run is finished."""
        config = self.config
        if self.first_step >= config.steps:
            return True
        if self.first_step == 0 or self._evaluation_missing():
            self.evaluate(self.first_step)
        batches = self.program.recipe.batches(self.first_step)
        compiled, seconds, memory = self.program.compile()
        _say(
            f"Compiled the step in {seconds:.0f} s; it needs {compiled_bytes(memory) / 2**30:.2f}"
            " GiB a device."
        )
        bar = ProgressBar(
            config.steps, start_step=self.first_step, enabled=jax.process_index() == 0
        )
        restore_signals = self._catch_signals()
        self.stopwatch.lap()
        try:
            with batches:
                for step in range(self.first_step + 1, config.steps + 1):
                    with self.stopwatch("data"):
                        batch = sharding.place_batch(next(batches), self.program.mesh)
                    self.state, metrics = compiled(self.state, batch)
                    self._collect(bar)
                    self.pending = (step, metrics)
                    if not self._after_step(step, bar):
                        return False
        finally:
            bar.close()
            restore_signals()
        return True

    def _after_step(self, step, bar):
        """Evaluates and saves what is due after `step`; returns False if the run is to stop here."""
        config, recipe, last = self.config, self.program.recipe, step == self.config.steps
        stop = self._agreed(self.stop, step)
        minutes = (time.monotonic() - self.last_save) / 60
        save = last or stop or step % config.checkpoint.every_steps == 0
        save = save or self._agreed(minutes >= config.checkpoint.every_minutes, step)
        evaluate = last or (not stop and step % recipe.evaluation.every_steps == 0)
        metrics = None
        if save or evaluate or step % config.log_every == 0:
            self._collect(bar)
            self._log(step, bar)
        if evaluate:
            metrics = self.evaluate(step)
        if save or evaluate:
            self.checkpoints.save(self.state, self.meta, metrics)
            self.last_save = time.monotonic()
        if save or evaluate:
            self.stopwatch.lap()
        return not stop or last

    def _agreed(self, flag, step):
        """Whether any process says so; asked at log steps when there are several, so that all act
        at the same step.
        """
        if jax.process_count() > 1 and step % self.config.log_every:
            return False
        return _any_process(flag)

    def _collect(self, bar):
        """Fetches the metrics of the step before: while it is read, the next one already runs."""
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if bad:
            raise NonFiniteError(
                f"step {step}: "
                + ", ".join(f"{name} is {value}" for name, value in bad.items())
                + "; the run stops with its last checkpoint at step"
                f" {self.checkpoints.latest_step()}. Lower config.optimizer.learning_rate, set"
                " config.optimizer.clip_norm=1.0, or look at the data"
            )
        self.means.add({name: (value, 1.0) for name, value in metrics.items()})
        self.steps_in_window += 1
        bar.update(step)

    def _log(self, step, bar):
        """Writes the means since the last line."""
        if not self.steps_in_window:
            return
        elapsed, shares = self.stopwatch.lap()
        means = self.means.take()
        rate = self.steps_in_window * self.config.batch_size / elapsed
        wait = shares.get("data", 0.0)
        self.steps_in_window = 0
        losses = {name: value for name, value in means.items() if name.endswith("loss")}
        bar.update(step, samples_per_second=rate, data_wait=wait, losses=losses)
        line = {f"train/{name}": value for name, value in means.items()}
        self.writer.write(step, {**line, "train/samples_per_second": rate, "train/data_wait": wait})

    def _evaluation_missing(self):
        """Whether the start before this one was stopped when an evaluation was due; the first
        process, which writes, knows.
        """
        if self.first_step % self.program.recipe.evaluation.every_steps:
            return False
        measured = {}
        if jax.process_index() == 0:
            measured = read_metrics(self.workdir / "metrics.jsonl")
        done = any(
            name.startswith("eval/") and self.first_step in steps
            for name, (steps, _) in measured.items()
        )
        return _any_process(jax.process_index() == 0 and not done)

    def evaluate(self, step):
        """Runs every evaluation on the state; returns and writes `eval/...` metrics.

        Raises:
            ConfigError: `config.checkpoint.best_metric` is none of them.
        """
        recipe = self.program.recipe
        drawn = step == self.config.steps or step == 0 and recipe.page_at_start
        page = self.workdir / recipe.page if drawn else None
        metrics = self.evaluation.run(self.state.params, step, page=page)
        best = self.config.checkpoint.best_metric
        if metrics and best and not store.find_metric(metrics, best):
            raise ConfigError(
                f"config.checkpoint.best_metric={best!r} is measured by no evaluation; use one of"
                f" {', '.join(metrics)}, their last part alone for the mean of all splits, or"
                " --config.checkpoint.best_metric= for none"
            )
        if metrics:
            self.writer.write(step, metrics)
        return metrics

    def _catch_signals(self):
        """SIGTERM and the first Ctrl-C end the run after the step under way, with a checkpoint."""

        def stop(number, frame):
            _say(f"{signal.Signals(number).name}: saving after this step, then stopping.")
            self.stop = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        return lambda: [signal.signal(number, handler) for number, handler in before.items()]


def _any_process(flag):
    """Whether any process says so; all of them ask."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def _say(text):
    if jax.process_index() == 0:
        announce(text)


def _meta(recipe):
    return {
        "config": json.loads(recipe.config.to_json()),
        "preprocessing": recipe.preprocessing(),
        "tokenizer": recipe.tokenizer_meta(),
        "versions": {"jax": jax.__version__},
    }


def _describe(program, origin, workdir):
    if jax.process_index() != 0:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(program.config.to_json(indent=2) + "\n")
    if tokenizer := program.recipe.tokenizer:
        copy = workdir / f"tokenizer{tokenizer.path.suffix}"
        if not (copy.exists() and copy.samefile(tokenizer.path)):
            shutil.copy(tokenizer.path, copy)
    devices = jax.devices()
    mesh = " x ".join(f"{axis} {size}" for axis, size in program.mesh.shape.items())
    announce(
        f"{len(devices)} {devices[0].device_kind} device(s) in {jax.process_count()} process(es),"
        f" mesh {mesh}; {count_params(program.abstract_state.params):,}"
        f" parameters{_frozen(program)}\n{program.recipe.describe_data()}; {program.config.steps:,}"
        f" steps of {program.config.batch_size} {program.recipe.unit}\nStarting from {origin}."
        f" Everything goes to {workdir}"
    )


def _frozen(program):
    if program.partition is None:
        return ""
    return (
        f", {count_params(abstract_trainable(program.abstract_state.params, program.partition)):,}"
        " of them trained"
    )


def _summarize(loop, workdir, finished, seconds):
    curves, page = workdir / "curves.png", workdir / loop.program.recipe.page
    if (workdir / "metrics.jsonl").exists():
        loss_curves(workdir / "metrics.jsonl", curves)
    if not finished:
        announce(
            f"Stopped at step {int(loop.state.step)} of {loop.config.steps}. Run the same command"
            " again to go on."
        )
        return
    announce(
        f"\nFinished {loop.config.steps:,} steps after {seconds / 60:.1f} minutes.\n  checkpoints "
        f" {workdir / 'checkpoints'}\n  metrics      {workdir / 'metrics.jsonl'}, TensorBoard:"
        f" tensorboard --logdir {workdir}\n  pictures    "
        f" {', '.join(str(picture) for picture in (curves, page) if picture.exists())}\nNext:"
        f" {loop.program.recipe.next_step(workdir)}"
    )
