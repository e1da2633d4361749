"""The training loop: restore, compile, evaluate, then draw, step, log, evaluate and save.

Initial state comes from one of three places, decided in `initial_state`: the work folder's own
checkpoint (exact resume), `config.init_from` (parameters of another run), or the seed.
"""

import dataclasses
import json
import math
import shutil
import signal
import time
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from vlmo_jax import checkpoint, recipe, sharding
from vlmo_jax.datasets import open_source
from vlmo_jax.evals.suite import Evaluation, evaluation_splits
from vlmo_jax.input.pipeline import train_batches
from vlmo_jax.metrics import MetricWriter, ProgressBar, Stopwatch, WeightedMeans, announce
from vlmo_jax.pictures import loss_curves
from vlmo_jax.train_step import TrainState, abstract_model, init_state, make_train_step, state_shardings

# Fields that may change between a run and its resumption; any other change makes it another run.
RESUMABLE = ("mode", "init_from", "mesh", "checkpoint", "log_every", "evals", "accumulation")
RESUMABLE_DATA = ("num_workers", "num_threads", "prefetch", "max_broken_fraction")


class NonFiniteError(FloatingPointError):
    """A loss or the gradient became NaN or infinite."""


@dataclasses.dataclass
class Program:
    """The compiled step with what it needs: shapes, shardings, and the parts it was built from."""

    config: Any
    mesh: jax.sharding.Mesh
    graphdef: Any
    make_model: Any
    optimizer: Any
    abstract_state: TrainState
    shardings: TrainState
    step: Any

    def compile(self):
        """Compiles the step before the loop; returns it with its compile seconds and memory analysis."""
        batch = sharding.batch_sharding(self.mesh)
        shapes = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch) for name, x in recipe.abstract_batch(self.config).items()
        }
        start = time.perf_counter()
        compiled = self.step.lower(self.abstract_state, shapes).compile()
        return compiled, time.perf_counter() - start, compiled.memory_analysis()


def build_program(config, mesh):
    """Builds model, optimizer, shardings and jitted step of a recipe, without allocating anything."""
    make_model = recipe.make_model_function(config.model)
    graphdef, abstract_params = abstract_model(make_model)
    shapes = nnx.to_pure_dict(abstract_params)
    optimizer, schedule = recipe.make_recipe_optimizer(config, shapes)
    shardings = state_shardings(abstract_params, optimizer, mesh)
    step = make_train_step(
        recipe.make_task(config), graphdef, optimizer, schedule, seed=config.seed, mesh=mesh, shardings=shardings,
        dropout=config.model.drop_path_rate > 0, accumulation=config.accumulation,
    )  # fmt: skip
    abstract = TrainState(
        jax.ShapeDtypeStruct((), np.int32), shapes, jax.eval_shape(optimizer.init, shapes), {}
    )
    abstract = checkpoint.abstract_like(abstract, shardings)
    return Program(config, mesh, graphdef, make_model, optimizer, abstract, shardings, step)


def initial_state(program, checkpoints):
    """The state to start from, and where it came from in words.

    1. A checkpoint in the work folder: everything, exactly as it was.
    2. `config.init_from`: the parameters of another run; moments and step start anew.
    3. Neither: random parameters from the seed.

    Raises:
      recipe.ConfigError: the work folder holds a run with another config.
    """
    config = program.config
    step = checkpoints.latest_step()
    if step is not None:
        _check_same_run(config, checkpoints.meta(step)["config"], checkpoints.directory)
        return checkpoints.restore(step, program.abstract_state), f"step {step} of {checkpoints.directory}"
    if config.init_from:
        with recipe.naming(config, "init_from"):
            params, step, _ = checkpoint.load_params(config.init_from, program.abstract_state.params)
        opt_state = jax.jit(program.optimizer.init, out_shardings=program.shardings.opt_state)(params)
        zero = jax.device_put(np.zeros((), np.int32), program.shardings.step)
        return TrainState(zero, params, opt_state, {}), f"the parameters of {config.init_from}, step {step}"
    state = init_state(program.make_model, program.optimizer, config.seed, program.shardings)
    return state, f"random parameters, seed {config.seed}"


def _check_same_run(config, saved, directory):
    now = json.loads(config.to_json())
    differences = []
    for key in sorted(set(now) | set(saved)):
        if key in RESUMABLE or now.get(key) == saved.get(key):
            continue
        if isinstance(now.get(key), dict) and isinstance(saved.get(key), dict):
            skipped = RESUMABLE_DATA if key == "data" else ()
            fields = [f for f in sorted(set(now[key]) | set(saved[key])) if f not in skipped]
            changed = [(f"{key}.{f}", saved[key].get(f), now[key].get(f)) for f in fields]
            differences += [change for change in changed if change[1] != change[2]]
        else:
            differences.append((key, saved.get(key), now.get(key)))
    if differences:
        raise recipe.ConfigError(
            f"{directory} holds a run with another config: "
            + ", ".join(f"config.{key} was {old} and is {new}" for key, old, new in differences)
            + "; use another --workdir, or give the old values to go on"
        )


def train(config, workdir):
    """Trains a recipe to its end, or goes on where the work folder stands.

    Args:
      config: ConfigDict of a recipe.
      workdir: folder for checkpoints, metrics and pictures.

    Returns:
      Whether the run is finished; False: a signal has stopped it.

    Raises:
      recipe.ConfigError: the config cannot run.
      NonFiniteError: a loss became NaN or infinite; the last checkpoint is from before that.
    """
    started = time.perf_counter()
    recipe.check_config(config, jax.device_count())
    tokenizer = recipe.check_tokenizer(config)
    with recipe.naming(config, "data.source", "data.split"):
        source = open_source(config.data.source, config.data.split)
    with recipe.naming(config, "evals.retrieval.source", "evals.retrieval.splits"):
        splits = evaluation_splits(config.evals.retrieval, config.data.source, config.data.split)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        program = build_program(config, mesh)
        evaluation = Evaluation.build(config, splits, tokenizer, program.graphdef, mesh)
        checkpoints = checkpoint.Checkpoints(
            workdir / "checkpoints", keep_last=config.checkpoint.keep_last, best_metric=config.checkpoint.best_metric
        )
        state, origin = initial_state(program, checkpoints)
        _describe(program, source, tokenizer, origin, workdir)
        loop = Loop(program, state, checkpoints, evaluation, workdir, preprocessing=_meta(config, tokenizer))
        try:
            finished = loop.run(source, tokenizer)
        finally:
            checkpoints.close()
            loop.writer.close()
        if jax.process_index() == 0:
            _summarize(loop, workdir, finished, time.perf_counter() - started)
    return finished


class Loop:
    """One start of a run: the state, and what is due when."""

    def __init__(self, program, state, checkpoints, evaluation, workdir, *, preprocessing):
        self.program, self.state = program, state
        self.checkpoints, self.evaluation = checkpoints, evaluation
        self.workdir, self.meta = workdir, preprocessing
        self.config = program.config
        self.first_step = int(state.step)
        self.writer = MetricWriter(
            workdir, start_step=self.first_step, total_steps=self.config.steps, enabled=jax.process_index() == 0
        )
        self.stopwatch = Stopwatch()
        self.pending = None  # (step, metrics on the device) of the step that was dispatched last
        self.means = WeightedMeans()  # of the steps since the last log line
        self.steps_in_window = 0
        self.stop = False
        self.last_save = time.monotonic()

    def run(self, source, tokenizer):
        """Runs to the last step or to a signal; returns whether the run is finished."""
        config, data = self.config, self.config.data
        if self.first_step == 0:
            self.evaluate(0)
        if self.first_step >= config.steps:
            return True
        fields = {name: data[name] for name in ("captions", "crop_scale", "flip", "randaugment_fill", "mask_rate", "max_masked_tokens", "num_workers",
                                                "num_threads", "prefetch", "max_broken_fraction")}  # fmt: skip
        batches = train_batches(
            source, tokenizer, image_size=config.model.image_size, text_length=config.model.text_length,
            batch_size=config.batch_size, seed=config.seed, start_step=self.first_step, end_step=config.steps,
            host_index=jax.process_index(), host_count=jax.process_count(), randaugment=tuple(data.randaugment) or None, **fields,
        )  # fmt: skip
        compiled, seconds, memory = self.program.compile()
        _say(f"Compiled the step in {seconds:.0f} s; it needs {compiled_bytes(memory) / 2**30:.2f} GiB a device.")
        bar = ProgressBar(config.steps, start_step=self.first_step, enabled=jax.process_index() == 0)
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
        config, last = self.config, step == self.config.steps
        stop = self._agreed(self.stop, step)
        minutes = (time.monotonic() - self.last_save) / 60
        save = last or stop or step % config.checkpoint.every_steps == 0
        save = save or self._agreed(minutes >= config.checkpoint.every_minutes, step)
        evaluate = last or (not stop and step % config.evals.retrieval.every_steps == 0)
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
        """Whether any process says so; asked at log steps when there are several, so that all act at the same step."""
        if jax.process_count() == 1:
            return flag
        if step % self.config.log_every:
            return False
        return bool(multihost_utils.process_allgather(np.asarray(flag)).any())

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
                f"step {step}: " + ", ".join(f"{name} is {value}" for name, value in bad.items())
                + f"; the run stops with its last checkpoint at step {self.checkpoints.latest_step()}. "
                "Lower config.optimizer.learning_rate, set config.optimizer.clip_norm=1.0, or look at the data"
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

    def evaluate(self, step):
        """Runs every evaluation on the state; returns and writes `eval/...` metrics."""
        page = self.workdir / "retrieval.png" if step == self.config.steps else None
        metrics = self.evaluation.run(self.state.params, step, page=page)
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


def _say(text):
    if jax.process_index() == 0:
        announce(text)


def _meta(config, tokenizer):
    return {
        "config": json.loads(config.to_json()),
        "preprocessing": {
            "image_size": config.model.image_size,
            "resize": "square bicubic",
            "mean": list(config.data.mean),
            "std": list(config.data.std),
        },
        "tokenizer": {"file": str(config.tokenizer), "sha256": tokenizer.fingerprint},
        "versions": {"jax": jax.__version__},
    }


def compiled_bytes(memory):
    """Bytes a device that a compiled program needs by its memory analysis: arguments, results and temporaries."""
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes


def _describe(program, source, tokenizer, origin, workdir):
    if jax.process_index() != 0:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(program.config.to_json(indent=2) + "\n")
    shutil.copy(tokenizer.path, workdir / f"tokenizer{tokenizer.path.suffix}")
    devices = jax.devices()
    mesh = " x ".join(f"{axis} {size}" for axis, size in program.mesh.shape.items())
    announce(
        f"{len(devices)} {devices[0].device_kind} device(s) in {jax.process_count()} process(es), mesh {mesh}; "
        f"{recipe.count_params(program.abstract_state.params):,} parameters\n"
        f"{len(source):,} training images from {program.config.data.source}; {program.config.steps:,} steps of "
        f"{program.config.batch_size} pairs\nStarting from {origin}. Everything goes to {workdir}"
    )


def _summarize(loop, workdir, finished, seconds):
    curves = workdir / "curves.png"
    if (workdir / "metrics.jsonl").exists():
        loss_curves(workdir / "metrics.jsonl", curves)
    if not finished:
        announce(f"Stopped at step {int(loop.state.step)} of {loop.config.steps}. Run the same command again to go on.")
        return
    announce(
        f"\nFinished {loop.config.steps:,} steps after {seconds / 60:.1f} minutes.\n"
        f"  checkpoints  {workdir / 'checkpoints'}\n"
        f"  metrics      {workdir / 'metrics.jsonl'}, TensorBoard: tensorboard --logdir {workdir}\n"
        f"  pictures     {curves}, {workdir / 'retrieval.png'}\n"
        f"Next: evaluate on your own pictures, python -m vlmo_jax.datasets.build IMAGES DIR --captions FILE, then add\n"
        f"  --config.mode=eval --config.evals.retrieval.source=DIR --workdir={workdir} to the command of this run."
    )
