"""The training loop: restore, compile, evaluate, then draw, step, log, evaluate and save."""

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.checkpoints.state import AVERAGED, TrainState
from vlmo_jax.checkpoints.store import Checkpoints, find_metric
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.folders import naming_folder, require_writable
from vlmo_jax.evals.evaluation import Evaluation
from vlmo_jax.evals.interruption import InterruptedEvaluation, interruptible
from vlmo_jax.input.workers import refuse_in_worker
from vlmo_jax.parallel import sharding
from vlmo_jax.parallel.agreement import any_process
from vlmo_jax.reports.metrics import (
    MetricWriter,
    ProgressBar,
    Stopwatch,
    WeightedMeans,
    read_metrics,
)
from vlmo_jax.training.announcements import describe_end, describe_start, say
from vlmo_jax.training.costs import Costs
from vlmo_jax.training.opening import open_recipe
from vlmo_jax.training.profiling import Profile
from vlmo_jax.training.program import Program, build_program, compiled_bytes, initial_state
from vlmo_jax.training.results import recorded
from vlmo_jax.training.run_lock import lock_workdir
from vlmo_jax.training.signals import StopRequests
from vlmo_jax.training.train_step import FINITE


class NonFiniteError(UserError, FloatingPointError):
    """A loss or the gradient became NaN or infinite."""


class Due(NamedTuple):
    """What is to be done after a step.

    Attributes:
        stop: a signal ends this start here.
        save: a checkpoint.
        evaluations: names of evaluations.
        log: a line of metrics.
    """

    stop: bool
    save: bool
    evaluations: tuple[str, ...]
    log: bool


def train(config: ConfigDict, workdir: Path) -> bool:
    """Trains a recipe to its end, or goes on where the work folder stands.

    Args:
        config: ConfigDict of a recipe.
        workdir: folder for checkpoints, metrics and pictures.

    Returns:
        Whether the run is finished; False: a signal has stopped it.

    Raises:
        ConfigError: the config cannot run.
        NonFiniteError: a loss or a parameter became NaN or infinite; the last checkpoint is from
            before that.
    """
    started = time.perf_counter()
    refuse_in_worker()
    recipe = open_recipe(config)
    require_writable(workdir / "checkpoints")
    mesh = sharding.make_mesh(config.mesh)
    with lock_workdir(workdir), jax.set_mesh(mesh), naming_folder(workdir):
        program = build_program(recipe, mesh)
        evaluations = recorded(
            recipe,
            recipe.make_evaluations(program.update.graphdef, mesh),
            workdir,
            checkpoints=workdir.absolute() / "checkpoints",
            init_from=config.init_from,
        )
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            keep_last=config.checkpoint.keep_last,
            best_metric=config.checkpoint.best_metric,
        )
        with contextlib.ExitStack() as held, contextlib.closing(checkpoints):
            state, origin = initial_state(program, checkpoints)
            describe_start(program, origin, workdir)
            loop = Loop(program, state, checkpoints, evaluations, workdir)
            held.enter_context(loop.held)  # until the last checkpoint is whole
            with contextlib.closing(loop.writer):
                finished = loop.run()
        if jax.process_index() == 0:
            describe_end(
                program,
                workdir,
                step=int(loop.state.step),
                finished=finished,
                seconds=time.perf_counter() - started,
                pictures=[picture_path(workdir, name) for name in evaluations],
                long_texts=loop.long_texts,
            )
    return finished


class Loop:
    """One start of a run: the state, and what is due when.

    Args:
        program: of the run.
        state: to start from.
        checkpoints: of the work folder.
        evaluations: name in `config.evals` -> evaluation.
        workdir: folder of the run.
    """

    def __init__(
        self,
        program: Program,
        state: TrainState,
        checkpoints: Checkpoints,
        evaluations: Mapping[str, Evaluation],
        workdir: Path,
    ) -> None:
        self.program, self.state = program, state
        self.checkpoints, self.evaluations = checkpoints, evaluations
        self.workdir, self.meta = workdir, program.recipe.meta()
        self.config = program.config
        self.first_step = int(state.step)
        self.writer = MetricWriter(
            workdir,
            start_step=self.first_step,
            total_steps=self.config.steps,
            enabled=jax.process_index() == 0,
        )
        self.stopwatch, self.costs = Stopwatch(), Costs()
        # (step, metrics on the device) of the step that was dispatched last.
        self.pending: tuple[int, Any] | None = None
        self.means = WeightedMeans()  # of the steps since the last log line
        self.steps_in_window = 0
        self.stop, self.held = StopRequests(say), contextlib.ExitStack()
        self.last_save = time.monotonic()
        self.warned = False  # whether the task found something wrong at the last log line
        self.long_texts = 0.0  # share of the texts so far that were too long for a row

    def run(self) -> bool:
        """Runs to the last step or to a signal; returns whether the run is finished."""
        config = self.config
        if self.first_step > config.steps:
            return True
        if missing := self._missing_evaluations():
            self.evaluate(self.first_step, missing)
        if self.first_step == config.steps:
            return True
        frozen = self.program.load_frozen()
        batches = self.program.recipe.batches(self.first_step)
        compiled, seconds, memory = self.program.compile()
        needed = compiled_bytes(memory) / 2**30
        say(f"Compiled the step in {seconds:.0f} s; it needs {needed:.2f} GiB a device.")
        bar = ProgressBar(
            config.steps, start_step=self.first_step, enabled=jax.process_index() == 0
        )
        self.stopwatch.lap()
        try:
            self.held.enter_context(self.stop.held())
            with batches, contextlib.closing(self._make_profile()) as profile:
                for step in range(self.first_step + 1, config.steps + 1):
                    with profile.step(step):
                        with self.stopwatch("data"):
                            batch = self.program.place_batch(next(batches))
                        self.state, metrics = compiled(self.state, frozen, batch)
                    self._collect(bar)
                    self.pending = (step, metrics)
                    self.long_texts = batches.truncated / max(batches.texts, 1)
                    due = self._due(step)
                    if not self._after_step(step, due, bar) or due.stop and step < config.steps:
                        return False
        finally:
            bar.close()
        return True

    def _make_profile(self) -> Profile:
        """The trace that `config.profile` asks for; the first process writes it."""
        steps = self.config.get("profile", ()) if jax.process_index() == 0 else ()
        wait = lambda: jax.block_until_ready(self.state.step)
        return Profile(steps, self.workdir / "profile", wait=wait, say=say)

    def _due(self, step: int) -> Due:
        """What is due after `step`; the same on every process."""
        config, last = self.config, step == self.config.steps
        stop = self._agreed(self.stop.asked, step)
        minutes = (time.monotonic() - self.last_save) / 60
        overdue = self._agreed(minutes >= config.checkpoint.every_minutes, step)
        save = last or stop or overdue or step % config.checkpoint.every_steps == 0
        evaluations = self._scheduled(step) if last or not stop else ()
        log = save or bool(evaluations) or step % config.log_every == 0
        return Due(stop, save, evaluations, log)

    def _scheduled(self, step: int) -> tuple[str, ...]:
        """The evaluations whose schedule has this step; at the last step, all of them."""
        every = {name: self.config.evals[name].every_steps for name in self.evaluations}
        return tuple(n for n in every if step % every[n] == 0 or step == self.config.steps)

    def _after_step(self, step: int, due: Due, bar: ProgressBar) -> bool:
        """Does what is due, the checkpoint first; returns whether all of it was done: a signal ends
        evaluations, which the next start makes.
        """
        if due.log:
            self._collect(bar)
            self._log(step, bar)
        if due.save or due.evaluations:
            with self.costs.saving():
                self.checkpoints.save(self.state, self.meta)
            self.last_save = time.monotonic()
        if due.evaluations:
            try:
                with interruptible(lambda: any_process(self.stop.asked)):
                    self.evaluate(step, due.evaluations)
            except InterruptedEvaluation:
                return False
        if due.save or due.evaluations:
            self.stopwatch.lap()
        return True

    def _agreed(self, flag: bool, step: int) -> bool:
        """Whether any process says so; asked at log steps when there are several, so that all act
        at the same step.
        """
        if jax.process_count() > 1 and step % self.config.log_every:
            return False
        return any_process(flag)

    def _collect(self, bar: ProgressBar) -> None:
        """Fetches the metrics of the step before: while it is read, the next one already runs."""
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        bad = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
        if not metrics.pop(FINITE):
            bad += [f"{name} is not finite" for name in _not_finite(self.state.params)[:3]]
        if bad:
            raise NonFiniteError(f"step {step}: {', '.join(bad)}; {self._describe_way_back()}")
        self.costs.stepped()
        self.means.add({name: (value, 1.0) for name, value in metrics.items()})
        self.steps_in_window += 1
        bar.update(step)

    def _describe_way_back(self) -> str:
        last = self.checkpoints.latest_step()
        kept = f"its last checkpoint is that of step {last}, from before it"
        return (
            f"the run stops here; {'it has no checkpoint yet' if last is None else kept}. Lower"
            " config.optimizer.learning_rate, set config.optimizer.clip_norm=1.0, or look at the"
            " data"
        )

    def _log(self, step: int, bar: ProgressBar) -> None:
        """Writes the means since the last line."""
        if not self.steps_in_window:
            return
        elapsed, shares = self.stopwatch.lap()
        means = self.means.take()
        rate = self.steps_in_window * self.config.batch_size / elapsed
        left = (self.config.steps - step) * elapsed / self.steps_in_window
        wait = shares.get("data", 0.0)
        self.steps_in_window = 0
        losses = {name: value for name, value in means.items() if name.endswith("loss")}
        bar.update(step, samples_per_second=rate, data_wait=wait, losses=losses)
        line = {f"train/{name}": value for name, value in means.items()}
        speed = {"train/samples_per_second": rate, "train/data_wait": wait}
        line |= {**speed, **self.costs.take(wait)}
        self.writer.write(step, line, seconds_left=left)
        self._warn(step, self.program.recipe.task.watch(means))

    def _warn(self, step: int, warning: str) -> None:
        """Says what goes wrong, once as long as it does."""
        if warning and not self.warned:
            say(f"step {step}: {warning}")
        self.warned = bool(warning)

    def _missing_evaluations(self) -> tuple[str, ...]:
        """The evaluations that are due before the first step: all of them at step 0; later those
        that were due when the start before this one was stopped or killed. All that are due where
        the checkpoint lacks its best metric, which may be a mean over several.

        The first process, which writes, knows.
        """
        due = self._scheduled(self.first_step)
        if self.first_step == 0 or not due:
            return due
        if self.config.checkpoint.best_metric and any_process(
            self.checkpoints.lacks_metrics(self.first_step)
        ):
            return due
        measured: Mapping[str, Any] = {}
        if jax.process_index() == 0:
            measured = read_metrics(self.workdir / "metrics.jsonl")
        done = {
            name.split("/")[1]
            for name, (steps, _) in measured.items()
            if name.startswith("eval/") and self.first_step in steps
        }
        return tuple(
            name for name in due if any_process(jax.process_index() == 0 and name not in done)
        )

    def evaluate(self, step: int, names: Iterable[str]) -> dict[str, float]:
        """Runs evaluations on the state; returns and writes `eval/...` metrics.

        Raises:
            ConfigError: `config.checkpoint.best_metric` is measured by no evaluation.
        """
        metrics: dict[str, float] = {}
        for name in names:
            part = self.program.recipe.evaluations[name]
            averaged = self.config.evals[name].get("averaged", False)
            params = self.state.extra[AVERAGED] if averaged else self.state.params
            drawn = step == self.config.steps or (step == 0 and part.page_at_start)
            page = picture_path(self.workdir, name) if drawn else None
            scores = self.evaluations[name].run(params, step, page=page)
            if scores:
                self.writer.write(step, scores)
            metrics |= scores
        self._check_best_metric(names, metrics)
        if step and self.config.checkpoint.best_metric:
            self.checkpoints.add_metrics(step, metrics)
        return metrics

    def _check_best_metric(self, names: Iterable[str], metrics: Mapping[str, float]) -> None:
        best = self.config.checkpoint.best_metric
        whole = set(names) == set(self.evaluations)
        if not best or not metrics or not whole or find_metric(metrics, best):
            return
        raise ConfigError(
            f"config.checkpoint.best_metric={best!r} is measured by no evaluation; use one of"
            f" {', '.join(metrics)}, EVALUATION/METRIC for the mean of all splits, or"
            " --config.checkpoint.best_metric= for none"
        )


def _not_finite(params: Any) -> list[str]:
    """Names of the parameters with values that are NaN or infinite."""
    finite = jax.jit(lambda tree: jax.tree.map(lambda x: jnp.isfinite(x).all(), tree))(params)
    return ["/".join(path) for path, whole in flatten(jax.device_get(finite)).items() if not whole]


def picture_path(workdir: Path, evaluation: str) -> Path:
    """The picture of an evaluation."""
    return workdir / f"{evaluation}.png"
