"""The layers of a user while checkpoints pile them up: real merge rules over modelled sizes."""

from __future__ import annotations

from typing import Any

from meshlab.growth.disk import Held, Written
from meshlab.growth.material import Material, Tombstones
from meshlab.growth.sizes import Sizes
from meshlab.snapshot.layers import choose_merge
from meshlab.snapshot.manifest import CONTENTS, RECORDS, Layer
from meshlab.snapshot.stack import LARGE_CONTENTS

_MOST_ORPHANS = 100


class Pile:
    """Layers, oldest first, and what the checkpoints so far have written.

    Layers of records that follow each other stand for events that do, and a merge takes
    the last ones, so a layer is told by the event it starts with.
    """

    def __init__(self, material: Material, sizes: Sizes) -> None:
        self._material, self._sizes = material, sizes
        self._records: list[Layer] = []
        self._starts: list[int] = []
        self._contents: list[Layer] = []
        self._born: dict[str, int] = {}
        self._count = 0
        self.held: list[Held] = []
        self.written: list[Written] = []
        if material.first_records:
            self._push(self._records, RECORDS, sizes.records(material.first_records, 0, 0.0))
            self._starts.append(0)

    def run(self, stops: Any, ends: Any) -> None:
        """Make checkpoints: ``stops`` are where stretches end, ``ends`` counts those before the end of each."""
        tombstones = self._material.tombstones(stops)
        counts, nbytes = (values.tolist() for values in self._material.texts(stops))
        bounds, low = [0, *stops.tolist()], 0
        for high in ends.tolist():
            change = 0
            for index in range(low, high):
                change += self._grow(counts[index], nbytes[index], bounds[index], bounds[index + 1], tombstones)
            merged = self._merge_records(bounds[high], tombstones) + self._merge_contents()
            self.written.append(Written(change, merged, self._manifest(bounds[high])))
            low = high
        self.held += [Held(layer.nbytes, self._born[layer.name], None) for layer in (*self._records, *self._contents)]

    def _grow(self, texts: int, nbytes: int, start: int, stop: int, tombstones: Tombstones) -> int:
        """Write what one stretch leaves; returns the bytes."""
        written = self._push(self._contents, CONTENTS, self._sizes.contents(texts, nbytes))
        count, contents = self._material.changed(start, stop)
        size = self._push(self._records, RECORDS, self._sizes.records(count, tombstones.within(start, stop), contents))
        self._starts += [start] if size else []
        return written + size

    def _merge_records(self, stop: int, tombstones: Tombstones) -> int:
        written = 0
        while (run := choose_merge(self._records)) is not None:
            if run.start:
                count, contents = self._material.changed(self._starts[run.start], stop)
                gone = tombstones.within(self._starts[run.start], stop)
            else:
                (count, contents), gone = self._material.alive(stop), 0
            self._drop(self._records, run)
            written += self._push(self._records, RECORDS, self._sizes.records(count, gone, contents))
            self._starts = self._starts[: len(self._records)]
        return written

    def _merge_contents(self) -> int:
        written = 0
        while (run := choose_merge(self._contents, LARGE_CONTENTS)) is not None:
            sizes = [layer.nbytes for layer in self._contents[run]]
            self._drop(self._contents, run)
            written += self._push(self._contents, CONTENTS, self._sizes.joined(sizes))
        return written

    def _push(self, layers: list[Layer], kind: str, nbytes: int) -> int:
        """Put a layer on top, if there is anything in it; returns its bytes."""
        if nbytes:
            self._count += 1
            layers.append(Layer(str(self._count), kind, 0, nbytes))
            self._born[str(self._count)] = len(self.written)
        return nbytes

    def _drop(self, layers: list[Layer], run: slice) -> None:
        """Take layers out that are merged into one; those of this very checkpoint are in no manifest."""
        now = len(self.written)
        born = ((layer, self._born.pop(layer.name)) for layer in layers[run])
        self.held += [Held(layer.nbytes, since, now) for layer, since in born if since < now]
        del layers[run]

    def _manifest(self, stop: int) -> int:
        material = self._material
        layers = len(self._records), len(self._contents)
        return self._sizes.snapshot(*layers, material.ranges(stop), min(_MOST_ORPHANS, material.orphans(stop)))
