"""The command of the harness, which then knows ``pythia_gguf``."""

import sys

from lm_eval.__main__ import cli_evaluate

from . import PythiaGGUF


def main() -> None:
    """Run the harness's command."""
    assert PythiaGGUF is not None
    sys.exit(cli_evaluate())


if __name__ == "__main__":
    main()
