"""``pdeathsig demo``: what a SIGKILL orphans, and what pdeathsig changes, told on live processes."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from .report import Story
from .scene import INTERRUPTS, Stage, StagingError, adopt_orphans

SECONDS = 12.0

INTRODUCTION = """\
pdeathsig demo: live processes, drawn from /proc. Orphans are adopted by this process, {pid}: it is
a subreaper, so that none gets lost. Elsewhere PID 1 or `systemd --user` would adopt them."""

WITHOUT = """\
1. The parent is killed; nobody has pdeathsig
It has started a child, and a shell that has started a program of its own."""

AUTO = """\
2. The parent is killed; child and shell have pdeathsig
The child does `import pdeathsig.auto`; the shell is started by pdeathsig.Popen(..., scope="group")."""

FAMILY = """\
3. The parent is killed; no code, only PDEATHSIG=KILL and PDEATHSIG_SCOPE=child in its environment
It arms every Python below it, with a shell in between too."""

THREAD = """\
4. Only the thread that has started the children ends; then the parent is killed
The home-made recipe is preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, SIGKILL), by ctypes. There
the kernel's parent is the thread, not the process."""

SHELL = "shell: sh -c 'sleep 60 & ...'"


class Interrupted(BaseException):
    """A signal asks for the demo's end."""


def main() -> int:
    """Tell it on stdout. Makes this process a subreaper.

    The exit status: 0 if all was seen, 1 if not, 128 + N after signal number N.
    """
    for number in INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    stage = Stage(SECONDS)
    try:
        return _tell(Story(sys.stdout), stage)
    except Interrupted as interrupted:
        return 128 + int(interrupted.args[0])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        print(f"pdeathsig demo: {error}", file=sys.stderr)
        return 1
    finally:
        stage.clear()


def without(story: Story, stage: Stage) -> None:
    """Nobody is armed: everybody is orphaned."""
    story.heading(WITHOUT)
    stage.start("parent", "none", roles={"parent": "parent", "child": "child", "shell": SHELL, "sleep": "sleep 60"})
    child, shell, sleep = (stage.cast[role] for role in ("child", "shell", "sleep"))
    story.draw(stage)
    _kill(story, stage)
    answer = stage.answers(child)
    story.draw(stage)
    story.say()
    story.claim(child.orphaned() and answer, "the child is orphaned, and still at work: it answers")
    story.claim(shell.orphaned(), "the shell is orphaned")
    story.claim(not sleep.ended(), "so the shell's sleep goes on")


def auto(story: Story, stage: Stage) -> None:
    """The child is armed; the shell is bound with its whole process group."""
    story.heading(AUTO)
    roles = {"parent": "parent", "child": "child: import pdeathsig.auto", "shell": SHELL, "sleep": "sleep 60"}
    stage.start("parent", "auto", roles=roles)
    child, shell, sleep = (stage.cast[role] for role in ("child", "shell", "sleep"))
    story.draw(stage)
    _kill(story, stage)
    child_ends, shell_ends, sleep_ends = stage.ends(child), stage.ends(shell), stage.ends(sleep)
    story.draw(stage)
    story.say()
    story.claim(child_ends, "the child has died with its parent")
    story.claim(shell_ends, "the shell has died with its parent")
    story.claim(sleep_ends, "so has the sleep that the shell started: nobody is orphaned")


def family(story: Story, stage: Stage) -> None:
    """Every Python is armed by the environment; the shell ends because what it waits for has."""
    story.heading(FAMILY)
    roles = {
        "parent": "parent",
        "child": "child",
        "shell": "shell: sh -c 'python ...; exit'",
        "grandchild": "grandchild",
    }
    stage.start("family", roles=roles, PDEATHSIG="KILL", PDEATHSIG_SCOPE="child")
    child, shell, grandchild = (stage.cast[role] for role in ("child", "shell", "grandchild"))
    story.draw(stage)
    _kill(story, stage)
    child_ends, grandchild_ends, shell_ends = stage.ends(child), stage.ends(grandchild), stage.ends(shell)
    story.draw(stage)
    story.say()
    hint = "no; is pdeathsig.pth in site-packages?"
    story.claim(child_ends, "the child has died with its parent", hint)
    story.claim(grandchild_ends, "the grandchild behind the shell has died with it too", hint)
    story.claim(
        child_ends and grandchild_ends and shell_ends, "the shell had nothing left to wait for: nobody is orphaned"
    )


def thread(story: Story, stage: Stage) -> None:
    """The thread's end kills the recipe's child, a false kill. Only the parent's death kills ours."""
    story.heading(THREAD)
    roles = {"ours": "our child: import pdeathsig.auto", "recipe": "the recipe's child"}
    stage.start("threads", roles={"parent": "parent", "thread": "", **roles})
    parent, ours = stage.cast["parent"], stage.cast["ours"]
    story.draw(stage)
    story.happens(f"thread {stage.thread} ends")
    stage.go_on()
    status = stage.hears("ended")
    gone = stage.thread_ends()
    answer = stage.answers(ours)
    story.draw(stage)
    story.say()
    story.claim(gone and not parent.ended(), "the thread is gone, its process lives")
    story.claim(status == str(-signal.SIGKILL), "the home-made recipe has killed its healthy child: a false kill")
    story.claim(answer, "the child with pdeathsig lives: it answers")
    _kill(story, stage)
    ends = stage.ends(ours)
    story.draw(stage)
    story.say()
    story.claim(answer and ends, "it has died with its parent, and not before")


ACTS = (without, auto, family, thread)


def _tell(story: Story, stage: Stage) -> int:
    adopt_orphans()
    story.say(INTRODUCTION.format(pid=os.getpid()))
    for act in ACTS:
        _perform(act, story, stage)
    story.say()
    story.say("All of this was seen to happen." if story.true else "Not all of this was seen to happen: see above.")
    return 0 if story.true else 1


def _perform(act: Callable[[Story, Stage], None], story: Story, stage: Stage) -> None:
    before = len(story.claims)
    try:
        act(story, stage)
    except StagingError as reason:
        story.claim(False, "this can be shown", str(reason))
    if not all(story.claims[before:]):
        for line in stage.errors():
            story.aside(line)
    story.claim(stage.clear(), "cleared away: no process is left of this")


def _kill(story: Story, stage: Stage) -> None:
    story.happens(f"kill -KILL {stage.cast['parent'].pid}")
    stage.kill()


def _interrupt(number: int, _: object) -> NoReturn:
    """End the demo. Further interrupts find it clearing away, and do nothing; with SIG_IGN in place of a handler
    Python would complain of those already on their way."""
    for other in INTERRUPTS:
        signal.signal(other, lambda *_: None)
    raise Interrupted(number)
