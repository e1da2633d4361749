"""Draws the rooms of vlmo_jax and the arrows of its imports to docs/architecture.png:

    python -m docs.draw_architecture

An arrow that follows from others is left out: where a room imports what a room below it imports
too, one sees the way through that one. The file carries all rooms and arrows as text, so that
tests/test_floors.py can tell when it no longer agrees with the code.
"""

import itertools
import json
import random
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from docs.architecture import FLOORS, ROOT, Room, picture_data

PICTURE = ROOT / "docs" / "architecture.png"
FIRST_ORDERS = 40

# Inches.
WIDTH, MARGIN, HEIGHT_OF_FLOOR, HEIGHT_OF_BOX, GAP, LANE = 9.0, 0.55, 1.0, 0.54, 0.36, 0.1
INK, GREY, BAND, EDGE, ARROW = "#1f2a37", "#6b7280", "#f3f6fa", "#9db4d0", "#5b7a9d"


class Point(NamedTuple):
    """A room, or a place where an arrow passes a floor; `name` is then (from, to)."""

    floor: int
    name: str | tuple[str, str]


Rows = list[list[Point]]
Ways = list[list[Point]]


def drawn_arrows(arrows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The arrows that do not follow from others."""
    below: dict[str, set[str]] = {}
    for room, other in arrows:
        below.setdefault(room, set()).add(other)

    def reached(room: str) -> set[str]:
        return set(below.get(room, ())).union(*map(reached, below.get(room, ())))

    return [
        (room, other)
        for room, other in arrows
        if not any(other in reached(between) for between in below[room])
    ]


def ways_of(arrows: list[tuple[str, str]]) -> Ways:
    """The points of each arrow, from floor to floor downwards."""
    floor_of = {room.name: floor for floor, row in enumerate(FLOORS) for room in row}
    ways = []
    for room, other in arrows:
        passed = range(floor_of[room] - 1, floor_of[other], -1)
        between = [Point(floor, (room, other)) for floor in passed]
        ways.append([Point(floor_of[room], room), *between, Point(floor_of[other], other)])
    return ways


def order(ways: Ways) -> Rows:
    """The points of each floor from left to right, with few crossings and short ways.

    From several first orders, the same each time, points change places as long as that helps.
    """
    links = [link for way in ways for link in itertools.pairwise(way)]
    pairs = [(a, b) for a, b in itertools.combinations(links, 2) if a[0].floor == b[0].floor]
    first = [[Point(floor, room.name) for room in row] for floor, row in enumerate(FLOORS)]
    for way in ways:
        for point in way[1:-1]:
            first[point.floor].append(point)

    def cost(rows: Rows) -> tuple[int, float]:
        place = {point: number for row in rows for number, point in enumerate(row)}
        crossings = sum(
            (place[a] - place[c]) * (place[b] - place[d]) < 0 for (a, b), (c, d) in pairs
        )
        centred = {p: place[p] - (len(row) - 1) / 2 for row in rows for p in row}
        return crossings, round(sum(abs(centred[a] - centred[b]) for a, b in links), 6)

    def improve(rows: Rows) -> Rows:
        best, improved = cost(rows), True
        while improved:
            improved = False
            for floor, start, end in _moves(rows):
                row = list(rows[floor])
                row.insert(end, row.pop(start))
                changed = [*rows[:floor], row, *rows[floor + 1 :]]
                if (found := cost(changed)) < best:
                    rows, best, improved = changed, found, True
        return rows

    shuffle = random.Random(0)
    starts = [[shuffle.sample(row, len(row)) for row in first] for _ in range(FIRST_ORDERS)]
    return min(map(improve, starts), key=cost)


def _moves(rows: Rows) -> list[tuple[int, int, int]]:
    """Floor, and the places on it that a point may leave and go to."""
    return [
        (floor, start, end)
        for floor, row in enumerate(rows)
        for start, end in itertools.permutations(range(len(row)), 2)
    ]


def spread(rows: Rows, ways: Ways, widths: dict[Point, float]) -> dict[Point, float]:
    """The middle of each point in inches from the left: near those it is joined to, in the order of
    its floor and with room between.
    """
    near: dict[Point, list[Point]] = {point: [] for row in rows for point in row}
    for way in ways:
        for upper, lower in itertools.pairwise(way):
            near[upper].append(lower)
            near[lower].append(upper)
    x: dict[Point, float] = dict.fromkeys(near, WIDTH / 2)
    for row in rows:
        x |= _apart(row, dict.fromkeys(row, WIDTH / 2), widths)
    for sweep in range(60):
        for row in rows if sweep % 2 else reversed(rows):
            wanted = {p: float(np.mean([WIDTH / 2, *(x[q] for q in near[p])])) for p in row}
            x |= _apart(row, wanted, widths)
    return x


def _apart(
    row: list[Point], wanted: dict[Point, float], widths: dict[Point, float]
) -> dict[Point, float]:
    """The places nearest to the wanted ones that keep order and distances, within the margins."""
    steps = [(widths[a] + widths[b]) / 2 + GAP for a, b in itertools.pairwise(row)]
    offsets = np.concatenate([[0.0], np.cumsum(steps)])
    blocks: list[list[float]] = []  # means of neighbours that would stand in each other's way
    for point, offset in zip(row, offsets, strict=True):
        blocks.append([wanted[point] - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks.pop(-2), blocks.pop(-1)
            blocks.append([(a * m + b * n) / (m + n), m + n])
    starts = np.repeat([mean for mean, _ in blocks], [int(count) for _, count in blocks])
    least = MARGIN + widths[row[0]] / 2
    most = WIDTH - MARGIN / 2 - widths[row[-1]] / 2 - offsets[-1]
    return dict(zip(row, np.clip(starts, least, most) + offsets, strict=True))


def draw() -> None:
    """Writes PICTURE."""
    data = picture_data()
    ways = ways_of(drawn_arrows([(room, other) for room, other in data["arrows"]]))
    rooms = {Point(f, room.name): room for f, row in enumerate(FLOORS) for room in row}
    rows = order(ways)
    widths = {point: _width(rooms.get(point)) for row in rows for point in row}
    x = spread(rows, ways, widths)
    figure = Figure(figsize=(WIDTH, len(FLOORS) * HEIGHT_OF_FLOOR + 0.4), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, figure.get_figheight()))
    axes.axis("off")
    for floor in range(len(FLOORS)):
        _draw_floor(axes, floor)
    _draw_arrows(axes, ways, x, widths)
    for point, room in rooms.items():
        _draw_room(axes, room, x[point], _height(point.floor), widths[point])
    note = (
        f"An arrow: imports. {len(data['arrows']) - len(ways)} more, to where other arrows lead"
        " too, are left out."
    )
    axes.text(WIDTH - MARGIN / 2, 0.14, note, fontsize=8.5, color=GREY, ha="right", va="center")
    figure.savefig(PICTURE, metadata={"Software": None, "Description": json.dumps(data)})


def _width(room: Room | None) -> float:
    """Of a box, by the letters of its two lines; of an arrow's place where there is no room."""
    if room is None:
        return LANE
    return max(0.068 * len(room.purpose), 0.096 * len(room.name)) + 0.3


def _height(floor: int) -> float:
    return 0.3 + (floor + 0.5) * HEIGHT_OF_FLOOR


def _draw_floor(axes: Axes, floor: int) -> None:
    y, height = _height(floor), 0.82 * HEIGHT_OF_FLOOR
    place = (MARGIN / 2, y - height / 2), WIDTH - 0.75 * MARGIN, height
    axes.add_patch(
        FancyBboxPatch(*place, boxstyle="round,pad=0,rounding_size=0.08", fc=BAND, ec="none")
    )
    number: dict[str, Any] = dict(fontsize=11, color="#b3c0d0", ha="center", va="center")
    axes.text(0.62 * MARGIN, y, str(floor), **number)


def _draw_room(axes: Axes, room: Room, x: float, y: float, width: float) -> None:
    place = (x - width / 2, y - HEIGHT_OF_BOX / 2), width, HEIGHT_OF_BOX
    round_box: dict[str, Any] = dict(boxstyle="round,pad=0,rounding_size=0.07", lw=1.2, zorder=3)
    axes.add_patch(FancyBboxPatch(*place, fc="white", ec=EDGE, **round_box))
    centred: dict[str, Any] = dict(ha="center", va="center", zorder=4)
    axes.text(x, y + 0.09, room.name, fontsize=10.5, weight="bold", color=INK, **centred)
    axes.text(x, y - 0.12, room.purpose, fontsize=8.5, color=GREY, **centred)


def _draw_arrows(axes: Axes, ways: Ways, x: dict[Point, float], widths: dict[Point, float]) -> None:
    """Each way as a smooth line. At a room lines leave and arrive side by side, in the order of
    where they come from and go to.
    """
    for way in ways:
        leaving = sorted((w for w in ways if w[0] == way[0]), key=lambda w: x[w[1]])
        arriving = sorted((w for w in ways if w[-1] == way[-1]), key=lambda w: x[w[-2]])
        start = x[way[0]] + _beside(leaving.index(way), len(leaving), widths[way[0]])
        end = x[way[-1]] + _beside(arriving.index(way), len(arriving), widths[way[-1]])
        half = HEIGHT_OF_BOX / 2
        places = [(start, _height(way[0].floor) - half)]
        for point in way[1:-1]:
            y = _height(point.floor)
            places += [(x[point], y + half), (x[point], y - half)]
        places.append((end, _height(way[-1].floor) + half))
        shape: dict[str, Any] = dict(
            arrowstyle="-|>,head_length=5,head_width=2.4", shrinkA=0, shrinkB=0
        )
        axes.add_patch(
            FancyArrowPatch(path=_smooth(places), color=ARROW, lw=1.1, zorder=2, **shape)
        )


def _beside(number: int, count: int, width: float) -> float:
    """How far from the middle of a box line `number` of `count` stands."""
    return (number - (count - 1) / 2) * min(0.3, (width - 0.3) / count)


def _smooth(places: list[tuple[float, float]]) -> Path:
    """A path through places: curves from floor to floor, straight across the floors between."""
    vertices, codes = [places[0]], [Path.MOVETO]
    for number, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(places)):
        middle = (y0 + y1) / 2
        across = number % 2 == 1
        vertices += [(x1, y1)] if across else [(x0, middle), (x1, middle), (x1, y1)]
        codes += [Path.LINETO] if across else [Path.CURVE4] * 3
    return Path(vertices, codes)


if __name__ == "__main__":
    draw()
