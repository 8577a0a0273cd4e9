"""A writer that opens a log looks at the end of every day: most end with a whole frame, and there it is quick."""

from random import Random

import pytest

from meshlab.wal import recovery
from meshlab.wal.paths import segment_name
from scoreboard.cuts import DAY_1, mixed_log
from scoreboard.sampling import one_in

SEED = 20250707


def torn_runs(root, data):
    """What is torn at the end of a segment of these bytes: as a writer finds it, and without the quick look."""
    (root / segment_name(DAY_1)).write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        found = recovery.find_torn(root, DAY_1)
        patch.setattr(recovery, "_ends_whole", lambda text: False)
        return found, recovery.find_torn(root, DAY_1)


def test_the_quick_look_at_an_end_agrees_with_the_slow_one_wherever_a_log_is_cut(tmp_path):
    """One cut in four; all with ``MESHLAB_EVERY=1``."""
    data, _ = mixed_log()
    for cut in one_in(4, range(len(data) + 1)):
        quick, slow = torn_runs(tmp_path, data[:cut])
        assert quick == slow, cut


@pytest.mark.parametrize("kind", ["flip", "hole", "repeat", "glue", "text", "return"])
def test_the_quick_look_at_an_end_agrees_with_the_slow_one_on_damage(tmp_path, kind):
    rng = Random(SEED)
    for number in range(60):
        data, units = mixed_log(rng)
        at = rng.randrange(len(data))
        match kind:
            case "flip":
                at = rng.randrange(max(0, len(data) - 300), len(data))
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case "hole":
                data = data[:at] + bytes(rng.randint(1, 200)) + data[at:]
            case "repeat":
                data += data[units[-2].stop :]
            case "glue":
                data = data[: units[-2].stop] + b'{"half' + data[units[-2].stop :]
            case "text":
                data = data[:at] + b"\xff" + data[at:]
            case "return":
                data = data.replace(b"\n", b"\r\n")
        quick, slow = torn_runs(tmp_path, data)
        assert quick == slow, (kind, number)
