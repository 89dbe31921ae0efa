"""The arguments of every place: the run's own options, and what they are checked for."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path

from launch.plan import LaunchError

# Options of the run itself (`python -m tavid_jax.main --help`), given to it as they are.
_OF_RUN = re.compile(r"--(config|workdir|mode|verbosity)(\.[\w.]+)?(=.*)?", re.DOTALL)
_CHECKOUT = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,36}[a-z0-9])?")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)

FOOTER = """\
options of the run itself are passed on as they are:
  --config=FILE[:PRESET] --workdir=FOLDER [--mode=...] [--config.ANY.KEY=VALUE ...]
what would be done is printed, as a shell script, by --dry-run
"""


def parser(place: str, description: str) -> argparse.ArgumentParser:
    """With the arguments that every place has."""
    made = argparse.ArgumentParser(
        prog=f"python -m launch {place}",
        description=description,
        epilog=FOOTER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--name", default="tavid", help="of the job: a-z, 0-9, - (default: tavid)")
    made.add_argument("--dry-run", action="store_true", help="print it, and touch nothing")
    made.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a variable of the run's environment; may be given more than once. They can be read "
        "in the job's description: no passwords, no tokens",
    )
    return made


def add_source(made: argparse.ArgumentParser) -> None:
    """Where machines that begin empty get the code from."""
    made.add_argument("--repository", required=True, help="git address of the code, without token")
    made.add_argument("--branch", default="main", help="branch or tag (default: main)")
    made.add_argument(
        "--wheel", default="", help="of tavid_jax, installed instead of the repository's; its "
        "configs are still read from there"
    )  # fmt: skip


def split(made: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The launcher's arguments, and the run's.

    Raises LaunchError for what is neither, a name or variable that will not do, or a run without a
    config.
    """
    known, rest = made.parse_known_args(argv)
    run, rest = [], list(rest)
    while rest:
        one = rest.pop(0)
        if not _OF_RUN.fullmatch(one):
            raise LaunchError(f"unknown option {one!r} (--help lists the options)")
        if "=" not in one:
            if not rest:
                raise LaunchError(f"{one} has no value: write {one}=VALUE")
            one = f"{one}={rest.pop(0)}"
        run.append(one)
    if (config := option(run, "config")) is None:
        raise LaunchError("no config: give --config=configs/NAME.py[:PRESET]")
    check_config(config)
    if not _NAME.fullmatch(known.name):
        raise LaunchError(
            f"--name={known.name} will not do: at most 38 of a-z, 0-9 and -, a letter first"
        )
    for given in known.env:
        if not _VARIABLE.fullmatch(given):
            raise LaunchError(f"--env={given} is not of the form KEY=VALUE")
    if "@" in getattr(known, "repository", "").partition("://")[2].partition("/")[0]:
        raise LaunchError(
            "--repository has a password or token in it, which would stand in the job's "
            "description; use a public address, or one that the machines' own rights open"
        )
    return known, run


def check_config(given: str) -> None:
    """Raises LaunchError for a config or preset that there is not: before machines are hired.

    On a machine without the package's dependencies presets are not looked at.
    """
    file, _, preset = given.partition(":")
    path = next((p for p in (Path(file), _CHECKOUT / file) if p.is_file()), None)
    if path is None:
        raise LaunchError(f"--config={given}: there is no file {file}")
    spec = importlib.util.spec_from_file_location("launched_config", path)
    if spec is None or spec.loader is None:
        raise LaunchError(f"--config={given}: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.append(str(_CHECKOUT))
    try:
        spec.loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        if get_config is not None:
            get_config(*([preset] if preset else []))
    except ModuleNotFoundError:
        return
    except Exception as error:
        raise LaunchError(f"--config={given}: {error}") from error
    finally:
        sys.path.remove(str(_CHECKOUT))
    if get_config is None:
        raise LaunchError(f"--config={given}: {file} has no function get_config")


def option(run: list[str], name: str) -> str | None:
    """The value of one of the run's options, None without it."""
    found = [one.partition("=")[2] for one in run if one.partition("=")[0] == f"--{name}"]
    return found[-1] if found else None


def bucket(run: list[str], place: str) -> str:
    """The workdir, which has to be in a bucket.

    Raises LaunchError where it is not.
    """
    workdir = option(run, "workdir") or ""
    if not workdir.startswith("gs://"):
        raise LaunchError(
            f"--workdir={workdir}: the machines of {place} share no disk and may be gone tomorrow; "
            "give --workdir=gs://BUCKET/NAME"
        )
    return workdir.rstrip("/")


def command(run: list[str], python: str = "python") -> tuple[str, ...]:
    """The one command that every place ends in."""
    return (python, "-m", "tavid_jax.main", *run)


def variables(known: argparse.Namespace) -> dict[str, str]:
    return dict(one.split("=", 1) for one in known.env)


def folder(known: argparse.Namespace) -> Path:
    """Where the files of a launch are written."""
    return Path("runs") / "launch" / known.name
