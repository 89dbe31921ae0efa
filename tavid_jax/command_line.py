"""What the programs of this project share: configs found beside their file, flags that explain."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

from absl import flags

CHECKOUT = Path(__file__).resolve().parents[1]


def let_configs_import(argv: list[str]) -> None:
    """Config files import `configs.common` and modules beside them, wherever the command was given.

    `configs` is looked for around the file and, for files of the user's, in this checkout.
    """
    for argument, following in itertools.pairwise([*argv, ""]):
        name, _, value = argument.lstrip("-").partition("=")
        if name == "config":
            folder = Path((value or following).partition(":")[0]).resolve().parent
            sys.path += [str(place) for place in (folder.parent, folder, CHECKOUT)]


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
