"""What the programs of this project share: configs found beside their file, flags that explain."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

from absl import flags


def let_configs_import(argv: list[str]) -> None:
    """Config files import `configs.common`: found beside them, wherever the command was given."""
    for argument, following in itertools.pairwise([*argv, ""]):
        name, _, value = argument.lstrip("-").partition("=")
        if name == "config":
            file = Path((value or following).partition(":")[0]).resolve()
            sys.path.append(str(file.parent.parent))


def parse_flags(argv: list[str]) -> list[str]:
    """Flags from the command line; what is wrong with them as one sentence.

    Raises ValueError for an unknown option, preset or config key, or a value of the wrong type.
    """
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        # An error inside of a config file arrives as the text of its traceback.
        message = str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
        raise ValueError(f"{message} (--help lists the options)") from error
    except AttributeError as error:
        text = str(error).replace("\\", "")
        unknown, meant = re.search(r"'(\w+)'", text), re.search(r'"(\w+)" instead', text)
        if unknown is None:
            raise
        key = unknown[1]
        given = [a for a in argv if key in a.lstrip("-").partition("=")[0].split(".")]
        hint = f"; did you mean {meant[1]!r}?" if meant else ""
        raise ValueError(f"the config has no key {key!r} ({' '.join(given)}){hint}") from error
