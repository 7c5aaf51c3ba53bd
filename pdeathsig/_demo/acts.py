"""The four acts of ``pdeathsig demo``, and what they print: trees of processes, and claims."""

import os
import signal
import sys
from typing import NoReturn, TextIO

from .scene import INTERRUPTS, Scene, become_subreaper

INTRODUCTION = """\
pdeathsig demo: live processes, drawn from /proc. Orphans are adopted by this process, {pid}: it is
a subreaper, so that none gets lost. Elsewhere PID 1 or `systemd --user` would adopt them."""
_ASCII = {"✓": "[ok]", "✗": "[NOT SO]", "├": "|", "└": "`", "│": "|", "─": "-"}
_STATE_COLUMN = 62


class Report:
    """Prints, and keeps whether each claim was seen."""

    def __init__(self, out: TextIO) -> None:
        self.all_seen = True
        self._out = out
        signs = "".join(_ASCII)
        can_write_signs = signs.encode(out.encoding, "replace").decode(out.encoding) == signs
        self._replacements = {} if can_write_signs else str.maketrans(_ASCII)

    def say(self, text: str = "") -> None:
        print(text.translate(self._replacements), file=self._out, flush=True)

    def claim(self, seen: bool, text: str, otherwise: str = "") -> None:
        """Print a claim and whether it was seen; if it was not, also ``otherwise``."""
        self.all_seen = self.all_seen and seen
        self.say(f"   {'✓' if seen else '✗'} {text}" + (f": {otherwise}" if otherwise and not seen else ""))

    def draw(self, scene: Scene) -> None:
        """Print the tree below this process, and the processes that are gone."""
        self.say(f"   {os.getpid()} this demo")
        living, orphans = scene.living(), scene.orphans().values()

        def draw_below(parent: int, indent: str) -> None:
            children = sorted(pid for pid, above in living.items() if above == parent)
            for pid in children:
                last = pid == children[-1]
                line = f"{indent}{'└─' if last else '├─'} {scene.labels.get(pid, f'{pid} ?')}"
                self.say(f"{line:{_STATE_COLUMN}}ORPHAN, adopted by {parent}" if pid in orphans else line)
                draw_below(pid, indent + ("   " if last else "│  "))

        draw_below(os.getpid(), "   ")
        gone = sorted(f"{pid} {role}" for role, pid in scene.pids.items() if pid not in living)
        self.say(f"   gone: {', '.join(gone)}\n" if gone else "")


def main() -> int:
    """Print the demo on stdout. Makes this process a subreaper.

    Returns 0 if all was seen and 1 if not. Exits with 128 + N after signal number N.
    """
    for number in INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _exit)
    report, scene = Report(sys.stdout), Scene()
    try:
        become_subreaper()
        report.say(INTRODUCTION.format(pid=os.getpid()))
        for act in (without, with_calls, with_environment, with_threads):
            try:
                act(report, scene)
            except RuntimeError as reason:
                report.claim(False, "this can be shown", str(reason))
            report.claim(scene.clear(), "cleared away: no process is left of this")
        report.say()
        report.say("All of this was seen to happen." if report.all_seen else "Not all of this was seen: see above.")
        return 0 if report.all_seen else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        print(f"pdeathsig demo: {error}", file=sys.stderr)
        return 1
    finally:
        scene.clear()


def without(report: Report, scene: Scene) -> None:
    report.say("\n\n1. The parent is killed; no process has pdeathsig")
    report.say("It has started a child, and a shell that has started a program of its own.\n")
    scene.start("parent", "none")
    report.draw(scene)
    _kill_parent(report, scene)
    answer = scene.answers("child")
    report.draw(scene)
    report.claim("child" in scene.orphans() and answer, "the child is orphaned, and still at work: it answers")
    report.claim("shell" in scene.orphans(), "the shell is orphaned")
    report.claim(scene.alive("grandchild"), "so the program that the shell started goes on")


def with_calls(report: Report, scene: Scene) -> None:
    report.say("\n\n2. The parent is killed; child and shell have pdeathsig")
    report.say('The child does `import pdeathsig.auto`; pdeathsig.Popen(..., scope="group") starts the shell.\n')
    scene.start("parent", "auto")
    _show_that_all_die(report, scene)


def with_environment(report: Report, scene: Scene) -> None:
    report.say("\n\n3. The parent is killed; PDEATHSIG=KILL and PDEATHSIG_SCOPE=child in its environment")
    report.say("No code: it arms every Python below it, with a shell in between too.\n")
    scene.start("parent", "none", PDEATHSIG="KILL", PDEATHSIG_SCOPE="child")
    _show_that_all_die(report, scene, "no; is pdeathsig.pth in site-packages?")


def with_threads(report: Report, scene: Scene) -> None:
    report.say("\n\n4. Only the thread that has started the children ends; then the parent is killed")
    report.say("The home-made recipe is preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, SIGKILL), by ctypes. There")
    report.say("the kernel's parent is the thread, not the process.\n")
    scene.start("threads")
    report.draw(scene)
    report.say(f"   thread {scene.pids['thread']} ends\n")
    scene.tell_to_go_on("parent")
    thread_ends, recipe_ends = scene.ends("thread"), scene.ends("the recipe's child")
    answer = scene.answers("our child")
    report.draw(scene)
    report.claim(thread_ends and scene.alive("parent"), "the thread is gone, its process lives")
    report.claim(recipe_ends, "the home-made recipe has killed its healthy child: a false kill")
    report.claim(answer, "the child with pdeathsig lives: it answers")
    report.say()
    _kill_parent(report, scene)
    ours_ends = scene.ends("our child")
    report.draw(scene)
    report.claim(answer and ours_ends, "it has died with its parent, and not before")


def _show_that_all_die(report: Report, scene: Scene, hint: str = "") -> None:
    report.draw(scene)
    _kill_parent(report, scene)
    ends = {role: scene.ends(role) for role in ("child", "grandchild", "shell")}
    report.draw(scene)
    report.claim(ends["child"], "the child has died with its parent", hint)
    report.claim(ends["grandchild"], "the grandchild behind the shell has died with it too", hint)
    report.claim(ends["shell"], "the shell is gone as well: no process is orphaned")


def _kill_parent(report: Report, scene: Scene) -> None:
    report.say(f"   kill -KILL {scene.pids['parent']}\n")
    scene.kill_parent()


def _exit(number: int, _: object) -> NoReturn:
    """End the demo. Signals that come later find a handler that does nothing.

    With SIG_IGN in its place, Python would print an error for signals that have already arrived.
    """
    for other in INTERRUPTS:
        signal.signal(other, lambda *_: None)
    sys.exit(128 + number)
