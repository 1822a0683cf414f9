"""The methods there are, by the name that `method:` in a config gives.

An installed package may bring a method of its own: an entry point of the group `cemiface.methods`, named as the method,
whose value is "module:METHOD".
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from jobs.frame.errors import ConfigError
from jobs.frame.method import Method, load

BUILT_IN = {"cemiface": "jobs.methods.cemiface.method:METHOD"}  # by path: methods import the frame, never back
GROUP = "cemiface.methods"
DEFAULT = "cemiface"


@cache
def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        ConfigError: there is none.
    """
    if name in BUILT_IN:
        found: Method = load(BUILT_IN[name])
        return found
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    if name not in installed:
        raise ConfigError(f"method: got {name!r}, allowed: {', '.join([*BUILT_IN, *installed])}; change it")
    added: Method = load(installed[name])
    return added
