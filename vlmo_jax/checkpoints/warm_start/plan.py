"""What a warm start does to each parameter, decided by names and shapes before anything is read or
compiled.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from vlmo_jax.checkpoints.param_names import NamedParameter, Path, group_names, towers_of
from vlmo_jax.checkpoints.warm_start.numbered import VOCABULARY, leave_out_vocabulary
from vlmo_jax.checkpoints.warm_start.resize import ADDED_ROWS, RESIZES, Resize, plan_resize
from vlmo_jax.commands.config_errors import ConfigError, require
from vlmo_jax.commands.fields import Regex, Several
from vlmo_jax.layers.modality_experts import EXPERTS

ACTIONS = ("copy", "resample", "skip", "add")
KINDS_WITH_STAGES = ("vlmo", "beit")
SIZES = ("patch_size", "width", "depth", "num_heads", "mlp_dim")


class Fill(NamedTuple):
    """Where a parameter of the model comes from: a name in the checkpoint, and how it changes on
    the way.
    """

    source: str
    resize: Resize | None


class Plan(NamedTuple):
    """What is to happen.

    `fills`: name in the model -> Fill. `added`: name in the model -> name in the checkpoint, of
    which a row is added to what fills it (see resize.ADDED_ROWS). `fresh`: names in the model (or
    of some of their rows) that the seed fills. `unused`: names in the checkpoint that a rule skips.
    `idle`: rules and fresh patterns that match nothing.
    """

    fills: dict[str, Fill]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    idle: tuple[str, ...]
    added: Mapping[str, str] = MappingProxyType({})


class Rule(NamedTuple):
    """What happens to the saved parameters whose whole name the regex matches."""

    regex: re.Pattern
    action: str
    template: str | None


class Problems(NamedTuple):
    """What the rules leave open.

    `unexplained`: names in the checkpoint. `unfilled`, `doubled`: names in the model that nothing
    fills, and that two parameters are to fill. `misfits`: name in the model -> (shape in the
    checkpoint, shape in the model, why there is no way from one to the other).
    """

    unexplained: list[str]
    unfilled: list[str]
    misfits: dict[str, tuple[tuple[int, ...], tuple[int, ...], str]]
    doubled: list[str]


def make_plan(
    source: Mapping[str, NamedParameter],
    target: Mapping[str, NamedParameter],
    *,
    rules: Sequence[Sequence[str]],
    fresh: Sequence[str],
    source_model: Mapping[str, Any],
    model: Mapping[str, Any],
    checkpoint: Any,
) -> Plan:
    r"""Applies the rules to every parameter of the checkpoint and of the model.

    Args:
        source, target: name -> NamedParameter of the checkpoint and of the model.
        rules: (path regex, action) or (path regex, action, target template) each; the first that
            matches the whole name of a saved parameter decides. Actions: "copy" (same shape),
            "resample" (copy, and let `resize` change the shape where it must), "skip". A template
            such as r"new/\1" may use groups of the regex.
        fresh: regexes of names in the model that the seed fills if the checkpoint does not. Rows
            that a resampled table lacks have names of their own:
            `transformer/relative_position_bias/text_rows` and `text_embedding/position/new_rows`.
        source_model, model: mappings, `config.model` of both.
        checkpoint: its name, for messages.

    Raises:
        ValueError: a rule that makes no sense, or parameters that the rules leave unexplained;
            names them all.
    """
    compiled = _compile_rules(rules)
    patterns = _compile_fresh(fresh)
    grid, new_grid = _grid(source_model), _grid(model)
    fills: dict[str, Fill] = {}
    problems = Problems([], [], {}, [])
    added: dict[str, str] = {}
    unused, used = [], set()
    for name, saved in source.items():
        number = next((n for n, rule in enumerate(compiled) if rule.regex.fullmatch(name)), None)
        if number is None:
            problems.unexplained.append(name)
            continue
        used.add(number)
        rule = compiled[number]
        place = _new_name(rule, name)
        if rule.action == "skip":
            unused.append(name)
        elif rule.action == "add":
            added |= _added(rule, name, saved, target)
        elif place not in target:
            problems.unexplained.append(name)
        elif place in fills or place in problems.misfits:
            problems.doubled.append(place)
        else:
            shape, new_shape = saved.shape, target[place].shape
            try:
                resize = _resize(rule.action, place, shape, new_shape, grid, new_grid)
                fills[place] = Fill(name, resize)
            except ValueError as error:
                problems.misfits[place] = shape, new_shape, str(error)
    started = [name for name in target if name not in fills and name not in problems.misfits]
    started += _fresh_parts(fills)
    problems.unfilled.extend(name for name in started if not _any_matches(patterns, name))
    if any(problems):
        raise ValueError(_explain(problems, source, target, source_model, model, checkpoint))
    idle = [rule.regex.pattern for number, rule in enumerate(compiled) if number not in used]
    idle += [
        regex.pattern for regex in patterns if not any(regex.fullmatch(name) for name in started)
    ]
    return Plan(fills, tuple(started), tuple(unused), tuple(idle), added)


def _added(
    rule: Rule, name: str, saved: NamedParameter, target: Mapping[str, NamedParameter]
) -> dict[str, str]:
    """What a parameter of the checkpoint is added to: name in the model -> its name."""
    regex = re.compile(rule.template or "")
    places = [place for place in target if regex.fullmatch(place)]
    row = ADDED_ROWS.get(name, len(saved.shape) and saved.shape[0])
    fits = row < saved.shape[0] and all(target[p].shape == saved.shape[1:] for p in places)
    if not places or not fits:
        raise ValueError(
            f"config.init_rules: {name} {list(saved.shape)} cannot be added to"
            f" {rule.template!r}; only a row of {', '.join(ADDED_ROWS)} can, to parameters as long"
        )
    return dict.fromkeys(places, name)


def _new_name(rule: Rule, name: str) -> str:
    match = rule.regex.fullmatch(name)
    return match.expand(rule.template) if match and rule.template else name


def _fresh_parts(fills: Mapping[str, Fill]) -> list[str]:
    """Names of the rows that resampled tables lack."""
    return [
        f"{name}/{fill.resize.fresh_part}"
        for name, fill in fills.items()
        if fill.resize and fill.resize.fresh_part
    ]


def _any_matches(patterns: Iterable[re.Pattern], name: str) -> bool:
    return any(regex.fullmatch(name) for regex in patterns)


def check_rules(rules: Any, fresh: Any) -> None:
    """Refuses `config.init_rules` and `config.init_fresh` that make no sense for any checkpoint.

    Raises:
        ConfigError: at the first entry that is not a rule or a regular expression.
    """
    _compile_rules(rules)
    _compile_fresh(fresh)


def _compile_fresh(fresh: Any) -> list[re.Pattern]:
    what = "regular expressions in brackets with a comma behind each"
    Several(Regex(), what=what).check("init_fresh", fresh)
    return [re.compile(regex) for regex in fresh]


def _compile_rules(rules: Any) -> list[Rule]:
    require(
        isinstance(rules, (tuple, list)),
        f"config.init_rules={rules!r} must be rules in brackets with a comma behind each",
    )
    return [_compile_rule(f"init_rules[{number}]", rule) for number, rule in enumerate(rules)]


def _compile_rule(key: str, rule: Any) -> Rule:
    parts = tuple(rule) if isinstance(rule, (tuple, list)) and len(rule) in (2, 3) else ("", "")
    regex, action, *rest = parts
    template = rest[0] if rest else None
    wrong_parts = bool(rest) if action == "skip" else action == "add" and not rest
    if action not in ACTIONS or not isinstance(template, str | None) or wrong_parts:
        shown = tuple(rule) if isinstance(rule, list) else rule
        raise ConfigError(
            f'config.{key}: {shown!r} is not a rule; write (regex, "skip"), (regex,'
            ' "copy") or (regex, "resample"), the last two with the target\'s name as a third'
            ' part if it is another, or (regex, "add", regex of the targets)'
        )
    Regex().check(f"{key}[0]", regex)
    pattern = re.compile(regex)
    if action == "add":
        Regex().check(f"{key}[2]", template)
        return Rule(pattern, action, template)
    if group := _unknown_group(pattern, template or ""):
        raise ConfigError(f"config.{key}: {parts!r} uses group {group}, which its regex has not")
    try:
        pattern.sub(template or "", "")
    except (re.error, IndexError) as error:
        raise ConfigError(f"config.{key}: {parts!r} has a bad third part: {error}") from error
    return Rule(pattern, action, template)


def _unknown_group(pattern: re.Pattern, template: str) -> str | None:
    """The first group that a template uses and the regex has not, or None."""
    for number, name in re.findall(r"\\(?:(\d+)|g<(\w+)>)", template):
        if number and int(number) > pattern.groups:
            return number
        if name and not name.isdigit() and name not in pattern.groupindex:
            return name
    return None


def _grid(model: Mapping[str, Any]) -> int | None:
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
    """One message for all problems: the cause, where there is a common one, or a list."""
    cause = _other_size(source_model, model, checkpoint) or _other_vocabulary(problems, checkpoint)
    if cause:
        return cause
    lines = [
        _other_stage(_stage(source, source_model), _stage(target, model), checkpoint)
        or f"checkpoint {checkpoint} does not explain this model by config.init_rules and"
        " config.init_fresh"
    ]
    towers = towers_of(source) | towers_of(target)
    if problems.unexplained:
        skips = [f'({pattern!r}, "skip")' for pattern in _patterns(problems.unexplained, towers)]
        lines += [
            f"in the checkpoint, neither used nor skipped ({len(problems.unexplained)}):"
            f" {_listed(problems.unexplained, towers)}",
            f"  to leave them out: {', '.join(skips)} in config.init_rules",
        ]
    if problems.unfilled:
        patterns = [repr(pattern) for pattern in _patterns(problems.unfilled, towers)]
        lines += [
            f"in the model, not filled by the checkpoint ({len(problems.unfilled)}):"
            f" {_listed(problems.unfilled, towers)}",
            f"  to start them from the seed: {', '.join(patterns)} in config.init_fresh",
        ]
    for name, (shape, new_shape, why) in problems.misfits.items():
        lines.append(
            f"of another shape: {name} {list(shape)} in the checkpoint, {list(new_shape)} in the"
            f" model: {why}"
        )
    if problems.doubled:
        lines.append(
            f"filled twice by config.init_rules ({len(problems.doubled)}):"
            f" {_listed(problems.doubled, towers)}"
        )
    return "\n  ".join(lines)


def _other_size(source_model, model, checkpoint):
    sizes = [
        f"config.model.{key} was {source_model[key]} and is {model[key]}"
        for key in SIZES
        if key in source_model and key in model and source_model[key] != model[key]
    ]
    if not sizes:
        return None
    return (
        f"checkpoint {checkpoint} is of another size: {', '.join(sizes)}; set the checkpoint's"
        " sizes or give one of this size"
    )


def _other_vocabulary(problems, checkpoint):
    tables = [name for name in VOCABULARY if name in problems.misfits]
    if not tables:
        return None
    axis = 1 if tables[0] == "mlm_head/decoder/kernel" else 0
    shape, new_shape, _ = problems.misfits[tables[0]]
    old, new = shape[axis], new_shape[axis]
    return (
        f"config.model.vocab_size={new} does not fit the {old} tokens of checkpoint"
        f" {checkpoint} ({', '.join(tables)}); use its tokenizer and"
        f" --config.model.vocab_size={old}, or {leave_out_vocabulary(tables)}"
    )


def _other_stage(stage, new_stage, checkpoint):
    if not stage or not new_stage or new_stage - stage in (0, 1):
        return None
    return (
        f"checkpoint {checkpoint} is of stage {stage}, this model of stage {new_stage}, which"
        f" starts from stage {max(new_stage - 1, 1)}; give a checkpoint of that stage"
    )


def _stage(names: Iterable[str], model: Mapping[str, Any]) -> int | None:
    """1, 2 or 3 by the experts of a VLMo or BEiT; None for other models."""
    if model.get("kind", "vlmo") not in KINDS_WITH_STAGES:
        return None
    found = {name.split("/")[3] for name in names if name.startswith("transformer/blocks/experts/")}
    return max((number + 1 for expert, number in EXPERTS.items() if expert in found), default=None)


def _listed(names: Iterable[str], towers: Iterable[Path]) -> str:
    return "; ".join(
        f"{group}/{{{', '.join(inside)}}}" if inside else group
        for group, inside in group_names(names, towers).items()
    )


def _patterns(names: Iterable[str], towers: Iterable[Path]) -> list[str]:
    return [
        f"{group}/.*" if inside else group for group, inside in group_names(names, towers).items()
    ]
