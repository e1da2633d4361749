"""All commands of the project, in the order in which a person meets them."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command.

    Attributes:
        module: that runs it, without vlmo_jax in front: `python -m vlmo_jax.MODULE`.
        line: what it does, in a few words.
    """

    module: str
    line: str


COMMANDS = {
    "search": Command("search", "finds one's own pictures: index, query, serve, demo"),
    "encode": Command("encode", "vectors of many images or texts"),
    "match": Command("match", "how well images and texts go together"),
    "answer": Command("answer", "answers questions about images"),
    "caption": Command("caption", "writes captions of images"),
    "zero_shot": Command("zero_shot", "classifies a folder of pictures by names alone"),
    "halve": Command("halve", "stores a trained model alone, in half the space"),
    "convert": Command("interop.convert", "other people's checkpoints to ours, and back"),
    "train": Command("main", "trains or evaluates a recipe"),
    "chain": Command("chain", "trains all stages, one after another"),
    "compare": Command("compare", "one recipe from two starts"),
    "fusion": Command("fusion", "a fused encoder beside a dual one"),
    "systems": Command("systems", "VLMo beside CLIP, VSE-infinity, ALBEF, ViLT and ViLBERT"),
    "build": Command("datasets.build", "a data set of images with texts"),
    "build_text": Command("datasets.build_text", "a data set of texts"),
    "grid_features": Command("grid_features", "features of images as regions, by a trained model"),
    "check": Command("datasets.check", "reads all of a data set, and says what is broken"),
    "stats": Command("datasets.stats", "says what is in a data set"),
    "train_tokenizer": Command("input.train_tokenizer", "a tokenizer of one's own texts"),
    "doctor": Command("doctor", "looks whether all is well with machine, run and data"),
    "bench": Command("bench", "how fast training, encoding, input and search are"),
    "bench_input": Command("input.benchmark", "how fast one's own data are read"),
    "check_arrays": Command(
        "interop.check", "our models beside stored arrays of the official ones"
    ),
}


def manual() -> str:
    """What `vlmo` says when nothing else is asked."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.line}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vlmo COMMAND [...]",
            "",
            *lines,
            "",
            "vlmo COMMAND --help shows its manual. `python -m vlmo_jax` does the same as `vlmo`.",
        ]
    )


def in_short(text: str) -> str:
    """A manual as `vlmo COMMAND --help` shows it: `vlmo train` for `python -m vlmo_jax.main`.

    Args:
        text: as the command prints it.
    """
    long = len("python -m vlmo_jax.")
    lines, moved = [], 0
    for line in text.split("\n"):
        # The lines of a usage are aligned with the end of the name.
        if line.startswith("usage: "):
            moved = next(
                (
                    long + len(command.module) - len(f"vlmo {name}")
                    for name, command in COMMANDS.items()
                    if line.startswith(f"usage: python -m vlmo_jax.{command.module} ")
                ),
                0,
            )
        elif not line.startswith(" "):
            moved = 0
        lines.append(line[moved:] if moved and not line[:moved].strip() else line)
    shown = "\n".join(lines)
    for name, command in sorted(COMMANDS.items(), key=lambda item: -len(item[1].module)):
        for end in (" ", "\n", "`", ".", ",", ":", ")"):
            shown = shown.replace(f"python -m vlmo_jax.{command.module}{end}", f"vlmo {name}{end}")
    return shown
