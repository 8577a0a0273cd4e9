"""Who gives way is behind others, and takes one thread where it would take all."""

import json
import os
import subprocess
import sys

from meshlab.service.priority import NICE

ASKED = """
import json, os
import pyarrow as pa
from meshlab.service.priority import give_way
from meshlab.tables.connection import borrow

{first}
threads = borrow().execute("select current_setting('threads')").fetchone()[0]
print(json.dumps([os.getpriority(os.PRIO_PROCESS, 0), pa.cpu_count(), threads]))
"""


def told(first):
    return json.loads(
        subprocess.run([sys.executable, "-c", ASKED.format(first=first)], capture_output=True, check=True).stdout
    )


def test_a_process_that_gives_way_has_low_priority_and_one_thread():
    assert told("give_way()") == [max(NICE, os.getpriority(os.PRIO_PROCESS, 0)), 1, 1]


def test_one_that_is_lower_already_stays_there():
    assert told("os.setpriority(os.PRIO_PROCESS, 0, 15); give_way()")[0] == 15


def test_one_that_does_not_is_as_it_was():
    assert told("")[0] == os.getpriority(os.PRIO_PROCESS, 0)
