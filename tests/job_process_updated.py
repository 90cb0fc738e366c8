"""The process of `tests.job_process` after an update: other code, by which DBOS would know another version."""

from __future__ import annotations

import sys
from pathlib import Path

from dbos import DBOS

from tests.job_process import main


@DBOS.workflow(name="added_by_the_update")
def added_by_the_update() -> None:
    """A workflow that the former version did not have: the hash of the code is another."""


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
