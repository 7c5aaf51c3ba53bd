"""The four acts of ``pdeathsig demo``, and how it starts and ends."""

import os
import signal
import sys
from typing import NoReturn

from .report import Report
from .scene import INTERRUPTS, Scene, SceneError, become_subreaper

INTRODUCTION = """\
pdeathsig demo: live processes, drawn from /proc. Orphans are adopted by this process, {pid}: it is
a subreaper, so that none gets lost. Elsewhere PID 1 or `systemd --user` would adopt them."""


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
            except SceneError as reason:
                report.claim(False, "this can be shown", str(reason))
                report.quote_stderr(scene)
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
    report.say("\n\n1. The parent is killed; no process has pdeathsig", "bold")
    report.say("It has started a child, and a shell that has started a program of its own.\n")
    scene.start("parent", "none", count=4)
    report.draw(scene)
    _kill_parent(report, scene)
    child, shell, grandchild = (scene.processes[role] for role in ("child", "shell", "grandchild"))
    answer = scene.answers(child)
    report.draw(scene)
    report.claim(child.orphaned() and answer, "the child is orphaned, and still at work: it answers")
    report.claim(shell.orphaned(), "the shell is orphaned")
    report.claim(grandchild.alive(), "so the program that the shell started goes on")


def with_calls(report: Report, scene: Scene) -> None:
    report.say("\n\n2. The parent is killed; child and shell have pdeathsig", "bold")
    report.say('The child does `import pdeathsig.auto`; pdeathsig.Popen(..., scope="group") starts the shell.\n')
    scene.start("parent", "auto", count=4)
    _show_that_all_die(report, scene)


def with_environment(report: Report, scene: Scene) -> None:
    report.say("\n\n3. The parent is killed; PDEATHSIG=KILL and PDEATHSIG_SCOPE=child in its environment", "bold")
    report.say("No code: it arms every Python below it, with a shell in between too.\n")
    scene.start("parent", "none", count=4, PDEATHSIG="KILL", PDEATHSIG_SCOPE="child")
    _show_that_all_die(report, scene, "no; is pdeathsig.pth in site-packages?")


def with_threads(report: Report, scene: Scene) -> None:
    report.say("\n\n4. Only the thread that has started the children ends; then the parent is killed", "bold")
    report.say("The home-made recipe is preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, SIGKILL), by ctypes. There")
    report.say("the kernel's parent is the thread, not the process.\n")
    scene.start("threads", count=4)
    report.draw(scene)
    parent, thread, ours, recipe = (
        scene.processes[role] for role in ("parent", "thread", "our child", "the recipe's child")
    )
    report.say(f"   thread {thread.pid} ends\n", "bold")
    parent.tell_to_go_on()
    thread_ends, recipe_ends, answer = thread.ends(), recipe.ends(), scene.answers(ours)
    report.draw(scene)
    report.claim(thread_ends and parent.alive(), "the thread is gone, its process lives")
    report.claim(recipe_ends, "the home-made recipe has killed its healthy child: a false kill")
    report.claim(answer, "the child with pdeathsig lives: it answers")
    report.say()
    _kill_parent(report, scene)
    ours_ends = ours.ends()
    report.draw(scene)
    report.claim(answer and ours_ends, "it has died with its parent, and not before")


def _show_that_all_die(report: Report, scene: Scene, hint: str = "") -> None:
    report.draw(scene)
    _kill_parent(report, scene)
    ends = {role: process.ends() for role, process in scene.processes.items()}
    report.draw(scene)
    report.claim(ends["child"], "the child has died with its parent", hint)
    report.claim(ends["grandchild"], "the grandchild behind the shell has died with it too", hint)
    report.claim(ends["shell"], "the shell is gone as well: no process is orphaned")


def _kill_parent(report: Report, scene: Scene) -> None:
    report.say(f"   kill -KILL {scene.processes['parent'].pid}\n", "bold")
    scene.kill_parent()


def _exit(number: int, _: object) -> NoReturn:
    """End the demo. Signals that come later find a handler that does nothing.

    With SIG_IGN in its place, Python would print an error for signals that have already arrived.
    """
    for other in INTERRUPTS:
        signal.signal(other, lambda *_: None)
    sys.exit(128 + number)
