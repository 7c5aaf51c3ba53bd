"""Membership: a Python that starts with ``PDEATHSIG`` arms itself, and binds what it starts.

``start()`` runs in every such Python, from pdeathsig.pth (pdeathsig.start from 3.15 on).
State of this process: ``terms``, ``started_by_site``, and the hooks that ``join()`` sets below.
"""

import os
import sys

from .._base import environ, native
from .._child import arm, fork, parent
from . import hooks
from .hooks import Terms

# How this process binds what it starts. None: it is no member.
terms: "Terms | None" = None
# Whether site has started us: another run of this Python is armed in the same way.
started_by_site = False


def start() -> None:
    """Follow ``PDEATHSIG`` when Python starts. site calls this.

    site calls it in every subinterpreter too: but a process starts once, in its main interpreter.
    """
    global started_by_site
    if native.quick is None or native.quick.in_main_interpreter():
        started_by_site = True
        follow()


def follow() -> None:
    """Arm this process and its family as ``PDEATHSIG`` says. A bad value ends the program."""
    value = os.environ.get("PDEATHSIG", "")
    environ.ignored_because = "" if environ.is_off(value) else environ.untrusted_reason()
    if environ.ignored_because:
        _forget_if_secure()
        return
    if environ.is_off(value):
        os.environ.pop(parent.TOKENS, None)  # a process that leaves the family leaves with all below
        return
    if environ.is_resource_tracker(sys.orig_argv):
        return
    # In a venv, before 3.15, site runs every .pth twice.
    if native.quick is not None and native.quick.pds_armed():
        return
    try:
        sig, grace = environ.parse(value)
        join(Terms(sig, grace, environ.scope(), started_by_site), environ.ancestors())
    except (ValueError, OSError, NotImplementedError, ImportError) as error:
        environ.exit_with_error(value, error)


def auto() -> None:
    """``import pdeathsig.auto``, in full."""
    if "PDEATHSIG" in os.environ and not environ.untrusted_reason():
        follow()
    elif not arm.is_armed():
        try:
            arm.arm(ancestors=environ.ancestors())
        except (ValueError, OSError, NotImplementedError) as error:
            if os.environ.get(environ.ANCESTORS, "") == "":
                raise
            environ.exit_with_error(None, error)


def join(new_terms: Terms, ancestors: int = 1) -> None:
    """Arm this process and all it starts."""
    global terms
    arm.arm(new_terms.sig, grace=new_terms.grace, inherit=True, ancestors=ancestors)
    if terms is None and new_terms.gives_guards:
        os.register_at_fork(before=hooks.import_programs)
    terms = new_terms
    fork.after_rearming, fork.on_failure = _export, _exit_unprotected
    _export()
    hooks.put(new_terms)


def _export() -> None:
    """Put this process's token into the environment. A forked child is a member too."""
    skipped = (os.getpid(), fork.daemon_maker_pid())
    bound_to = [one for one in parent.tokens() if one.pid not in skipped][:1]
    os.environ[parent.TOKENS] = ",".join(map(str, [parent.own_token(), *bound_to]))


def _exit_unprotected(error: OSError) -> None:
    """A forked child that cannot arm itself."""
    environ.exit_with_error(os.environ.get("PDEATHSIG", ""), error)


def _forget_if_secure() -> None:
    """As ld.so(8) does: what this program starts may have its rights, and no AT_SECURE."""
    if native.is_secure():
        for name in [name for name in os.environ if name.startswith("PDEATHSIG")]:
            del os.environ[name]
