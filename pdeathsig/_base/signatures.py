"""Signatures of functions that pass their arguments on, for help() and completion.

They are made when something looks at one: ``import inspect`` takes 5 ms.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

OURS = ("pdeathsig", "scope", "grace")


def shows_parameters_of(
    *models: "Callable[..., Any]", first: str, without: "tuple[str, ...]" = ()
) -> "Callable[[Function], Function]":
    """Show the parameters of these functions as those of the decorated one, ours before them.

    Shown are those that have a default, but not those named in ``without``.

    :param first: names of those that come before ours, not by keyword only. ``*`` as in Python.
    """

    def decorate(function: "Function") -> "Function":
        shown: "Any" = function
        shown.__signature__ = _LateSignature(lambda: _make(function, models, first, without))
        return function

    return decorate


def _make(function: "Any", models: "tuple[Any, ...]", first: str, without: "tuple[str, ...]") -> "Signature":
    from inspect import Parameter, Signature, signature

    defaults: "dict[str, Any]" = {}
    for model in models:
        for parameter in signature(model).parameters.values():
            if parameter.default is not Parameter.empty and parameter.name not in without:
                defaults.setdefault(parameter.name, parameter.default)
    defaults.update(function.__kwdefaults__ or {})
    shown: "dict[str, Parameter]" = {}
    for word in first.split():
        name = word.lstrip("*")
        kind = Parameter.POSITIONAL_OR_KEYWORD if name == word else Parameter.VAR_POSITIONAL
        shown[name] = Parameter(name, kind, default=defaults.pop(name, Parameter.empty))
    for name in sorted(defaults, key=lambda name: name not in OURS):
        shown[name] = Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name])
    return Signature(list(shown.values()))


class _LateSignature:
    """Stands for an ``inspect.Signature``. For isinstance() it is one, by its ``__class__``."""

    def __init__(self, make: "Callable[[], Signature]") -> None:
        self._make = make
        self._made: "Signature | None" = None

    def _signature(self) -> "Signature":
        if self._made is None:
            self._made = self._make()
        return self._made

    @property  # type: ignore[misc]
    def __class__(self) -> "Any":
        return type(self._signature())

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._signature(), name)

    def __eq__(self, other: object) -> bool:
        return self._signature() == other

    def __hash__(self) -> int:
        return hash(self._signature())

    def __repr__(self) -> str:
        return repr(self._signature())

    def __str__(self) -> str:
        return str(self._signature())

    def __reduce_ex__(self, protocol: "Any") -> "Any":
        return self._signature().__reduce_ex__(protocol)
