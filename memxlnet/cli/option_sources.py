"""Options from elsewhere than the command line: a configuration file, and variables of the environment.

The order is click's: command line, environment, configuration file, default.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from memxlnet.cli.paths import FilledPath
from memxlnet.format.paths import is_url

SOURCES = (
    "Options come from the command line, else from the environment, else from the file of --config, else from their "
    "default. The variable of an option is MEMXLNET_<COMMAND>_<OPTION>, such as MEMXLNET_BUILD_MAX_SEQ_LENGTH; for "
    "--cache-dir, --config, --heartbeat, --json, --log-format, --quiet and --verbose also MEMXLNET_<OPTION>, for all "
    "commands."
)
"""The rule, for the help."""

COMMON = ("cache-dir", "config", "heartbeat", "json", "log-format", "quiet", "verbose")
"""The options whose variable may leave out the command."""

_SHOWN_NAMES = 3


def option_name(parameter: click.Parameter) -> str:
    """Return the name of a parameter in a configuration file: its long option without dashes, or the argument."""
    if isinstance(parameter, click.Option):
        return next(option for option in parameter.opts if option.startswith("--")).removeprefix("--")
    return str(parameter.name).replace("_", "-")


def _options(command: click.Command) -> dict[str, click.Option]:
    return {option_name(each): each for each in command.params if isinstance(each, click.Option)}


def name_variables(command: click.Command) -> None:
    """Give every option of a command its variables of the environment."""
    for name, option in _options(command).items():
        if isinstance(option.envvar, list):
            return  # they have theirs: commands stay loaded
        variables = [_variable(command, name)]
        # Some --cache-dir have another default than the others, which the variable for all commands does not change.
        if name in COMMON and (name != "cache-dir" or option.envvar):
            variables.append(f"MEMXLNET_{_upper(name)}")
        option.envvar = variables


def check_variables(command: click.Command, environment: Iterable[str]) -> None:
    """Check that every variable that begins with the command's prefix is that of an option.

    Raises:
        click.UsageError: One is not.
    """
    prefix = _variable(command, "")
    known = [_upper(name) for name in _options(command)]
    for variable in sorted(environment):
        name = variable.removeprefix(prefix)
        if name != variable and name not in known:
            near = _near(name, known, prefix)
            raise click.UsageError(f"{variable}: expected the variable of an option, found none{near}")


def _variable(command: click.Command, name: str) -> str:
    return f"MEMXLNET_{_upper(str(command.name))}_{_upper(name)}"


def _upper(name: str) -> str:
    return name.upper().replace("-", "_")


def _near(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), _SHOWN_NAMES, cutoff=0.75)
    return f"; did you mean {' or '.join(repr(prefix + each) for each in near)}?" if near else ""


def load_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Make the values of a configuration file the defaults of a command; a callback of ``--config``.

    Raises:
        click.BadParameter: The file cannot be read, has an unknown key, or a value of another type.
        click.UsageError: A variable of the environment belongs to no option.
    """
    check_variables(context.command, os.environ)
    if path is None:
        return
    path = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - Path.expanduser raises without a user
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # tomllib's own and that of text that is not UTF-8 are ValueErrors
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise click.BadParameter(f"{path}: expected a file of TOML: {reason}", context, parameter) from error
    group = context.find_root().command
    commands = group.list_commands(context) if isinstance(group, click.Group) else ()
    try:
        context.default_map = _defaults(context.command, content, commands, path)
    except ValueError as error:
        raise click.BadParameter(f"{path}: {error}", context, parameter) from None


def _defaults(
    command: click.Command, content: Mapping[str, Any], commands: Iterable[str], path: Path
) -> dict[str, Any]:
    """Return the values of the command's parameters; no message repeats a value, which may hold a credential."""
    parameters = {option_name(each): each for each in command.params if option_name(each) not in ("config", "help")}
    tables = {name: content[name] for name in commands if isinstance(content.get(name), dict)}
    top = {name: value for name, value in content.items() if name not in tables}
    found: dict[str, Any] = {}
    for where, values in (("", top), (f"[{command.name}] ", tables.get(str(command.name), {}))):
        for key, value in values.items():
            parameter = parameters.get(key.replace("_", "-"))
            if parameter is None:
                near = _near(key, [*parameters, *(commands if not where else ())])
                raise ValueError(f"{where}expected options of {command.name}, found the unknown key {key!r}{near}")
            found[str(parameter.name)] = _value(parameter, f"{where}{key}", value, Path(os.path.realpath(path.parent)))
    return found


def _value(parameter: click.Parameter, key: str, value: Any, directory: Path) -> Any:
    several = parameter.nargs == -1 or (isinstance(parameter, click.Option) and parameter.multiple)
    if not several:
        return _single(parameter, key, value, directory)
    if isinstance(value, dict) and parameter.metavar == "NAME=FIELD":
        value = [f"{name}={field}" for name, field in value.items() if _is_text(key, field)]
    return [_single(parameter, key, each, directory) for each in (value if isinstance(value, list) else [value])]


def _is_text(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a table of strings, found {_kind(value)} in it")
    return True


def _single(parameter: click.Parameter, key: str, value: Any, directory: Path) -> Any:
    kinds: tuple[type, ...] = (str,)
    if isinstance(parameter, click.Option) and parameter.is_flag:
        kinds = (bool,)
    elif isinstance(parameter.type, click.types.IntParamType):
        kinds = (int,)
    elif isinstance(parameter.type, click.types.FloatParamType):
        kinds = (float, int)
    elif getattr(parameter.type, "takes_counts", False):
        kinds = (str, int)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{key}: expected {' or '.join(_KINDS[kind] for kind in kinds)}, found {_kind(value)}")
    return _counted_from(directory, parameter, value) if isinstance(value, str) else value


_KINDS: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
_SOURCES = ("source", "against")


def _kind(value: object) -> str:
    return next((shown for kind, shown in _KINDS.items() if type(value) is kind), "a date or time")


def _counted_from(directory: Path, parameter: click.Parameter, text: str) -> str:
    """Return a relative path counted from the directory of the file; other texts and names, as on the Hub, stay."""
    name, is_path = option_name(parameter), isinstance(parameter.type, FilledPath)
    if not text or is_url(text) or text.startswith("~") or not (is_path or name in (*_SOURCES, "tokenizer")):
        return text
    if not (is_path and isinstance(parameter, click.Option)) and not text.startswith("."):
        # What it is loads pyarrow, which the other commands need not wait for.
        from memxlnet.sources.listing import is_file_name

        if not (name in _SOURCES and is_file_name(text)) and not os.path.lexists(directory / text):
            return text
    return str(directory / text)
