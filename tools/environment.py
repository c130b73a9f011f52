"""Packages that a script of this folder needs, in a virtual environment. Needs nothing but Python."""

import subprocess
import sys
from pathlib import Path


def has(python, modules):
    """Whether this interpreter can import all of them."""
    have = [str(python), "-c", f"import {', '.join(modules)}"]
    try:
        return subprocess.run(have, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def interpreter(folder, modules, packages):
    """An interpreter that can import `modules`: the one that runs this, or one in `folder`, where pip installs `packages`.
    None, and a line that says why, where they cannot be installed."""
    if has(sys.executable, modules):
        return Path(sys.executable)
    python = Path(folder) / "bin/python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        if not has(python, modules):
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"SKIPPED: {', '.join(modules)} cannot be installed here ({error})")
        return None
    return python
