"""Write the corpus into a folder, and what each file is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.hostile import CASES, canaries

for name, case in CASES.items():
    folder = Path(sys.argv[1]) / re.sub(r"\W+", "_", name)
    folder.mkdir(parents=True)
    canaries(folder)
    path, others = case.make(folder)
    print(path, *(f"{key}={value}" for key, value in others.items()), "→", case.outcome, case.message)
