"""All methods by name: the built-in ones, and those of installed packages.

An installed package adds a method by an entry point of the group `cemiface.methods`. The entry point has the name of
the method and the value "module:METHOD".
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from jobs.frame.errors import ConfigError
from jobs.frame.method import Method, load

# By path, as the frame must not import methods.
BUILT_IN = {
    "cemiface": "jobs.methods.cemiface.method:METHOD",
    "gandiffface": "jobs.methods.gandiffface.method:METHOD",
}
GROUP = "cemiface.methods"
DEFAULT = "cemiface"


@cache
def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        ConfigError: there is no such method; lists those there are.
    """
    if name in BUILT_IN:
        found: Method = load(BUILT_IN[name])
        return found
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    if name not in installed:
        raise ConfigError(f"method: got {name!r}, allowed: {', '.join([*BUILT_IN, *installed])}; change it in the file")
    added: Method = load(installed[name])
    return added
