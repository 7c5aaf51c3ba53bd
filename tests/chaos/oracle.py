"""The promise as a model: what the death of one process does to all others.

A tree of processes is nodes. A node has one edge, to the process that started it. The kind of the
edge says what is bound. ``fates()`` takes the dead nodes, and says of each living node whether it
must die, must live, or may do either because the documentation promises nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Fate(enum.Enum):
    LIVES = "must live"
    DIES = "must die"
    EITHER = "may do either"


class Bound(enum.Enum):
    """What dies when the process that started the child dies."""

    NOTHING = "nothing"
    CHILD = "the child"
    GROUP = "the child and its process group"
    TREE = "the child and all below it; by a guard, which also ends all when the child dies"
    TO_THREAD = "the child, and when the thread that started it ends too"


@dataclass(frozen=True)
class Edge:
    bound: Bound
    handler: bool = False  # a handler in the child ends it: not while it is stopped, nor after an exec
    shell: bool = False  # the child is no Python: it cannot be told to start others
    threads: bool = True  # it may be started from any thread
    forked: bool = False  # the child has our memory
    catchable: bool = False  # the signal is one that a stopped process does not take
    arms: bool = False  # the child calls arm(), which replaces what the family armed and is not inherited
    orphan: bool = False  # its parent ends at once
    member: bool = False  # it founds a family
    by_subprocess: bool = False  # install() binds it
    session: bool = False  # it leads a session


_HANDLER, _KERNEL = True, False
EDGES: dict[str, Edge] = {
    "fork": Edge(Bound.NOTHING, forked=True),
    "fork, arm": Edge(Bound.CHILD, _HANDLER, forked=True, arms=True),
    "fork, arm, TERM, grace": Edge(Bound.CHILD, _HANDLER, forked=True, arms=True),
    "fork, arm, thread": Edge(Bound.TO_THREAD, forked=True, arms=True),
    "fork twice": Edge(Bound.NOTHING, forked=True, orphan=True),
    "subprocess": Edge(Bound.NOTHING, by_subprocess=True),
    "subprocess, shell": Edge(Bound.NOTHING, shell=True, by_subprocess=True),
    "subprocess, session": Edge(Bound.NOTHING, session=True, by_subprocess=True),
    "subprocess, arm": Edge(Bound.CHILD, _HANDLER, arms=True, by_subprocess=True),
    "subprocess, auto": Edge(Bound.CHILD, _HANDLER, by_subprocess=True),
    "preexec": Edge(Bound.TO_THREAD, threads=False),
    "Popen": Edge(Bound.CHILD),
    "Popen, shell": Edge(Bound.CHILD, shell=True),
    "Popen, TERM": Edge(Bound.CHILD, catchable=True),
    "Popen, group": Edge(Bound.GROUP),
    "Popen, tree": Edge(Bound.TREE),
    "Popen, tree, shell": Edge(Bound.TREE, shell=True),
    "Popen, grace": Edge(Bound.TREE),
    "pdeathsig-run": Edge(Bound.TREE, by_subprocess=True),
    "guarded": Edge(Bound.TREE, by_subprocess=True),
    "family": Edge(Bound.CHILD, _HANDLER, member=True, by_subprocess=True),
    "Process, fork": Edge(Bound.CHILD, _HANDLER, forked=True, arms=True),
    "Process, spawn": Edge(Bound.CHILD, _HANDLER, arms=True),
    "Process, forkserver": Edge(Bound.CHILD, _HANDLER, arms=True),
}


@dataclass(eq=False)
class Guard:
    """A guard. The death of its caller or of its command ends all that is below it, too."""

    name: str
    caller: Node
    command: Node | None = None


@dataclass(eq=False)
class Group:
    leader: Node
    owner: Node  # when it dies, the kernel signals the group


@dataclass(eq=False)
class Node:
    name: str
    kind: str  # of its edge; empty: the root
    parent: Node | None
    thread: str = "main"  # the parent's thread that started it: "main", "short", or a name
    guards: tuple[Guard, ...] = ()  # it is below these, whatever its group and session
    group: Group | None = None  # the group that is bound; None: its group is not bound
    family: bool = False  # its environment has PDEATHSIG
    inherits: bool = False  # a child that it forks arms itself
    exported: bool = False  # its environment names it as the parent of the programs that it starts
    bound_by_family: bool = False
    installed: bool = False  # it has called install()
    bound_by_install: bool = False
    executed: bool = False  # it became another program after it was armed
    stopped: bool = False
    threads: list[str] = field(default_factory=list)  # those that stay

    def holds(self, group: Group) -> bool:
        """Whether it has the group's descriptor: the leader does, and its forks do.

        subprocess closes it in the programs that it starts.
        """
        if self is group.leader:
            return True
        return self.edge.forked and self.parent is not None and self.parent.holds(group)

    @property
    def edge(self) -> Edge:
        return EDGES[self.kind] if self.kind else Edge(Bound.NOTHING)

    def __str__(self) -> str:
        words = [f"{self.name} ({self.kind or 'root'}"]
        words += [f" on thread {self.thread}"] if self.thread != "main" else []
        words += [f" {word}" for word in ("family", "installed", "executed", "stopped") if getattr(self, word)]
        return ",".join(words) + ")"


def born(name: str, kind: str, parent: Node, thread: str) -> Node:
    """A new child of that parent, with what it inherits. It can leave a group, but not a guard."""
    edge = EDGES[kind]
    node = Node(name, kind, parent, thread, parent.guards, parent.group, parent.family or edge.member)
    node.bound_by_install = edge.by_subprocess and parent.installed
    if edge.forked:
        node.installed = parent.installed
        node.exported = node.bound_by_family = parent.inherits
    elif node.family:
        node.exported = True
        node.bound_by_family = parent.family or edge.member
    node.inherits = node.exported and not edge.arms
    if edge.bound is Bound.TREE:
        guard = Guard(f"guard of {name}", parent, node)
        node.guards = (*parent.guards, guard)
    if edge.bound is Bound.GROUP:
        node.group = Group(node, parent)
    elif edge.session:
        node.group = None
    elif kind == "Process, forkserver":
        # The server keeps the group of the process that started it.
        node.group = None if parent.group is None else parent.group
    return node


def possible(kind: str, parent: Node, thread: str) -> bool:
    """Whether the model covers such a child."""
    edge = EDGES[kind]
    if thread != "main" and not edge.threads:
        return False
    if edge.bound is Bound.TO_THREAD and thread == "short":
        return False  # it dies before it can connect
    if parent.family and not parent.exported and not edge.forked:
        return False  # the parent's arm() ended the inheritance: its environment has another process's token
    if kind == "Process, forkserver" and parent.edge.forked:
        return False  # multiprocessing uses the fork server of the parent's parent, and fails with ECHILD
    # In a family the grandchild of a double fork dies with its parent, before it can connect.
    return not (edge.orphan and (parent.family or parent.installed))


def fate(node: Node, dead: set[object], before: set[object]) -> Fate:
    """What happens to the node, given the dead. ``before`` are those that died before this step."""
    if any({guard, guard.caller, guard.command} & dead for guard in node.guards):
        return Fate.DIES
    by_edge = Fate.LIVES
    if node.parent in dead or (node.parent, node.thread) in dead:
        by_edge = by_parent(node, process=node.parent in dead)
    if by_edge is Fate.DIES or node.group is None or node.group.owner not in dead:
        return by_edge
    # The kernel signals the group as long as a process in it holds the descriptor. The leader holds
    # it, and dies too. If the leader's creator has several threads, the leader dies so early that
    # perhaps no process holds the descriptor at the hang-up.
    return Fate.DIES if node.holds(node.group) and node.group.leader not in before else Fate.EITHER


def by_parent(node: Node, process: bool) -> Fate:
    """What its edge means when the process that started it is dead, or else only the thread."""
    edge = node.edge
    if edge.bound is Bound.TO_THREAD:
        # A member of a family that execs Python again arms itself. From then on it is bound to the
        # process.
        replaced = node.executed or (node.family and not edge.arms)
        return Fate.DIES if process else Fate.EITHER if replaced else Fate.DIES
    if not process:
        return Fate.EITHER if node.executed and is_handled(node) else Fate.LIVES
    if edge.bound in (Bound.CHILD, Bound.GROUP, Bound.TREE) and not edge.handler:
        return Fate.DIES
    if node.bound_by_install:
        return Fate.DIES  # whatever the child itself arms
    if edge.bound is Bound.CHILD or node.bound_by_family or (edge.forked and node.installed):
        # An exec removes the handler. A program that is no Python is in no family.
        return Fate.EITHER if node.executed or edge.shell or (edge.forked and node.installed) else Fate.DIES
    return Fate.LIVES


def is_handled(node: Node) -> bool:
    return node.edge.handler or node.bound_by_family


def needs_to_run(node: Node) -> bool:
    """Whether it is stopped, and dies by its edge only once it is continued."""
    return node.stopped and (is_handled(node) or node.edge.catchable)


def fates(living: Iterable[Node], dead: set[object], before: set[object], stopped: bool) -> dict[Node, Fate]:
    """What happens to each living node. ``stopped``: the stopped nodes are not continued yet."""
    nodes = list(living)
    found: dict[Node, Fate] = {}
    certain, doubtful = set(dead), set[object]()
    changed = True
    while changed:
        changed = False
        for node in nodes:
            if node in found and found[node] is Fate.DIES:
                continue
            now = fate(node, certain, before)
            if now is Fate.DIES and stopped and needs_to_run(node):
                now = Fate.EITHER
            if now is Fate.LIVES and fate(node, certain | doubtful, before) is not Fate.LIVES:
                now = Fate.EITHER  # a node that may die may end this one too
            if found.get(node) is not now:
                found[node] = now
                changed = True
                (certain if now is Fate.DIES else doubtful).update([node] if now is not Fate.LIVES else [])
    return found
