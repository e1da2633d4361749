"""What a warm start does to each parameter, decided by names and shapes before anything is read or
compiled.
"""

import re
from typing import NamedTuple

from vlmo_jax.checkpoints.param_names import group_names
from vlmo_jax.checkpoints.warm_start.resize import RESIZES, Resize, plan_resize
from vlmo_jax.layers.modality_experts import EXPERTS

ACTIONS = ("copy", "resample", "skip")
# Parameters with an entry a token of the vocabulary.
VOCABULARY = ("text_embedding/word", "mlm_head/decoder/kernel", "mlm_head/decoder/bias")
SIZES = ("patch_size", "width", "depth", "num_heads", "mlp_dim")


class Fill(NamedTuple):
    """Where a parameter of the model comes from: a name in the checkpoint, and how it changes on
    the way.
    """

    source: str
    resize: Resize | None


class Plan(NamedTuple):
    """What is to happen.

    `fills`: name in the model -> Fill. `fresh`: names in the model (or of some of their rows) that
    the seed fills. `unused`: names in the checkpoint that a rule skips. `idle`: rules and fresh
    patterns that match nothing.
    """

    fills: dict
    fresh: tuple
    unused: tuple
    idle: tuple


class Problems(NamedTuple):
    unexplained: list  # names in the checkpoint
    unfilled: list  # names in the model
    misfits: dict  # name in the model -> (shape in the checkpoint, shape in the model, why)
    doubled: list  # names in the model that two parameters are to fill


def make_plan(source, target, *, rules, fresh, source_model, model, checkpoint):
    """Applies the rules to every parameter of the checkpoint and of the model.

    Args:
        source, target: name -> NamedParameter of the checkpoint and of the model.
        rules: (path regex, action) or (path regex, action, target template) each; the first that
            matches the whole name of a saved parameter decides. Actions: "copy" (same shape),
            "resample" (copy, and let `resize` change the shape where it must), "skip". A template
            such as r"new/\\1" may use groups of the regex.
        fresh: regexes of names in the model that the seed fills if the checkpoint does not. Rows
            that a resampled table lacks have names of their own:
            `transformer/relative_position_bias/text_rows` and `text_embedding/position/new_rows`.
        source_model, model: mappings, `config.model` of both.
        checkpoint: its name, for messages.

    Raises:
        ValueError: a rule that makes no sense, or parameters that the rules leave unexplained;
            names them all.
    """
    rules, patterns = _compile_rules(rules), [_compile(regex, "init_fresh") for regex in fresh]
    grid, new_grid = _grid(source_model), _grid(model)
    fills, unused, used = {}, [], set()
    problems = Problems([], [], {}, [])
    for name, saved in source.items():
        number, match = next(
            ((n, m) for n, (regex, *_) in enumerate(rules) if (m := regex.fullmatch(name))),
            (None, None),
        )
        if match is None:
            problems.unexplained.append(name)
            continue
        used.add(number)
        _, action, template = rules[number]
        place = match.expand(template) if template else name
        if action == "skip":
            unused.append(name)
        elif place not in target:
            problems.unexplained.append(name)
        elif place in fills or place in problems.misfits:
            problems.doubled.append(place)
        else:
            try:
                fills[place] = Fill(
                    name, _resize(action, place, saved.shape, target[place].shape, grid, new_grid)
                )
            except ValueError as error:
                problems.misfits[place] = saved.shape, target[place].shape, str(error)
    started = [name for name in target if name not in fills and name not in problems.misfits]
    started += [
        f"{name}/{fill.resize.fresh_part}"
        for name, fill in fills.items()
        if fill.resize and fill.resize.fresh_part
    ]
    problems.unfilled.extend(
        name for name in started if not any(regex.fullmatch(name) for regex in patterns)
    )
    if any(problems):
        raise ValueError(_explain(problems, source, target, source_model, model, checkpoint))
    idle = [regex.pattern for number, (regex, *_) in enumerate(rules) if number not in used]
    idle += [
        regex.pattern for regex in patterns if not any(regex.fullmatch(name) for name in started)
    ]
    return Plan(fills, tuple(started), tuple(unused), tuple(idle))


def check_tokenizer(plan, *, saved, wanted, checkpoint):
    """Refuses rows of a vocabulary that another tokenizer numbers.

    Args:
        plan: Plan.
        saved, wanted: mappings with `file` and `sha256`, of the checkpoint and of the run; None
            where there is none.
        checkpoint: its name, for the message.

    Raises:
        ValueError: the tokenizers differ, and the plan copies rows of the vocabulary.
    """
    tables = [name for name in VOCABULARY if name in plan.fills]
    if tables and saved and wanted and saved["sha256"] != wanted["sha256"]:
        raise ValueError(
            f"checkpoint {checkpoint} was trained with the tokenizer {saved['file']} (SHA-256"
            f" {saved['sha256'][:12]}...), this run has {wanted['file']}"
            f" ({wanted['sha256'][:12]}...), so the rows of {', '.join(tables)} would be other"
            f" words; use the checkpoint's tokenizer, or {_leave_out_vocabulary(tables)}"
        )


def _leave_out_vocabulary(tables):
    pattern = "|".join(tables)
    return (
        f'start them fresh: put ("{pattern}", "skip") first in config.init_rules and add'
        f' "{pattern}" to config.init_fresh'
    )


def _compile_rules(rules):
    compiled = []
    for rule in rules:
        regex, action, template = (*rule, None)[:3] if len(rule) in (2, 3) else (None, None, None)
        if action not in ACTIONS or (action == "skip" and template):
            raise ValueError(
                f'config.init_rules: {tuple(rule)!r} is not a rule; write (regex, "skip"), (regex,'
                ' "copy") or (regex, "resample"), the last two with the target\'s name as a third'
                " part if it is another"
            )
        regex = _compile(regex, "init_rules")
        for group in re.findall(r"\\(?:(\d+)|g<(\w+)>)", template or ""):
            known = (
                int(group[0]) <= regex.groups
                if group[0]
                else group[1] in regex.groupindex or group[1].isdigit()
            )
            if not known:
                raise ValueError(
                    f"config.init_rules: {tuple(rule)!r} uses group {group[0] or group[1]}, which"
                    " its regex has not"
                )
        compiled.append((regex, action, template))
    return compiled


def _compile(regex, key):
    try:
        return re.compile(regex)
    except re.error as error:
        raise ValueError(f"config.{key}: {regex!r} is not a regular expression: {error}") from error


def _grid(model):
    return model["image_size"] // model["patch_size"] if "patch_size" in model else None


def _resize(action, name, shape, new_shape, grid, new_grid):
    if action == "copy" and shape == new_shape:
        return None
    if action == "copy":
        raise ValueError(
            'a rule (regex, "resample") may change it'
            if name in RESIZES
            else "nothing can resample it"
        )
    return plan_resize(name, shape, new_shape, grid=grid, new_grid=new_grid)


def _explain(problems, source, target, source_model, model, checkpoint):
    """One message for all problems, beginning with the cause where there is a common one."""
    sizes = [
        f"config.model.{key} was {source_model[key]} and is {model[key]}"
        for key in SIZES
        if key in source_model and key in model and source_model[key] != model[key]
    ]
    if sizes:
        return (
            f"checkpoint {checkpoint} is of another size: {', '.join(sizes)}; set the checkpoint's"
            " sizes or give one of this size"
        )
    words = [name for name in VOCABULARY if name in problems.misfits]
    if words:
        axis = 0 if words[0] != "mlm_head/decoder/kernel" else 1
        old, new = (problems.misfits[words[0]][number][axis] for number in (0, 1))
        return (
            f"config.model.vocab_size={new} does not fit the {old} tokens of checkpoint"
            f" {checkpoint} ({', '.join(words)}); use its tokenizer and"
            f" --config.model.vocab_size={old}, or {_leave_out_vocabulary(words)}"
        )
    lines = [
        f"checkpoint {checkpoint} does not explain this model by config.init_rules and"
        " config.init_fresh"
    ]
    stage, new_stage = _stage(source), _stage(target)
    if stage and new_stage and new_stage - stage not in (0, 1):
        lines[0] = (
            f"checkpoint {checkpoint} is of stage {stage}, this model of stage {new_stage}, which"
            f" starts from stage {max(new_stage - 1, 1)}; give a checkpoint of that stage"
        )
    if problems.unexplained:
        lines.append(
            f"in the checkpoint, neither used nor skipped ({len(problems.unexplained)}):"
            f" {_listed(problems.unexplained)}"
        )
        lines.append(
            "  to leave them out:"
            f" {', '.join(f'({p!r}, {chr(34)}skip{chr(34)})' for p in _patterns(problems.unexplained))}"
            " in config.init_rules"
        )
    if problems.unfilled:
        lines.append(
            f"in the model, not filled by the checkpoint ({len(problems.unfilled)}):"
            f" {_listed(problems.unfilled)}"
        )
        lines.append(
            f"  to start them from the seed: {', '.join(map(repr, _patterns(problems.unfilled)))}"
            " in config.init_fresh"
        )
    for name, (shape, new_shape, why) in problems.misfits.items():
        lines.append(
            f"of another shape: {name} {list(shape)} in the checkpoint, {list(new_shape)} in the"
            f" model: {why}"
        )
    if problems.doubled:
        lines.append(
            f"filled twice by config.init_rules ({len(problems.doubled)}):"
            f" {_listed(problems.doubled)}"
        )
    return "\n  ".join(lines)


def _listed(names):
    return "; ".join(
        f"{group}/{{{', '.join(inside)}}}" if inside else group
        for group, inside in group_names(names).items()
    )


def _patterns(names):
    return [f"{group}/.*" if inside else group for group, inside in group_names(names).items()]


def _stage(names):
    """1, 2 or 3 by the experts that a model has; None for a model without."""
    found = {name.split("/")[3] for name in names if name.startswith("transformer/blocks/experts/")}
    return max((number + 1 for expert, number in EXPERTS.items() if expert in found), default=None)
