"""pdeathsig-run: its options, each in every form, and what it says."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
from conftest import Start
from guarding import GUARD, guard, guarded, guards_end  # noqa: F401
from harness import SLOWNESS

import pdeathsig

HINT = "Try 'pdeathsig-run --help'.\n"
SIGNAL = "is not a signal; give a name such as TERM or SIGTERM, or a number from 1 to 64"
LIVES_ON = "ends no process; give a signal that does, such as TERM or KILL"
DURATION = "is not a duration; give seconds, such as 5 or 0.5, or 5s, 500ms, 2m (at most ten years)"
PROCESS = "is not a process; give a PID, or PID:START with its start time"
SCOPE = "is not a scope; give tree, group or child"
DESCRIPTOR = "is not an open descriptor"
END_NO_PROCESS = ["CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "WINCH"]

# Of each option: its forms, its good values, and its bad ones with what is said of them.
VALUES: dict[str, tuple[list[str], list[str], dict[str, str]]] = {
    "--signal": (
        ["-s"],
        ["TERM", "term", "SIGTERM", "SigTerm", "15", "KILL", "9", "STKFLT", "sigstkflt", "16", "RTMIN", "SIGRTMAX",
         "34", "64", "IOT", "SIGPOLL", "VTALRM", "SIGVTALRM"],
        {
            **dict.fromkeys(["NONE", "0", "65", "-1", "SIG", "", "SIGSIGTERM", "SIGVTALRMS", "TERM ", "15s"], SIGNAL),
            **dict.fromkeys([*END_NO_PROCESS, "CLD", "sigchld", "SIGURG", str(int(signal.SIGWINCH))], LIVES_ON),
        },
    ),
    "--grace": (
        ["-k"],
        ["5", "5s", "500ms", "2m", "0", "0s", "0.5", ".5", "5.", "1.5m", ".25ms", "0.123456789123", "00005",
         "315360000"],
        dict.fromkeys(
            ["soon", "", "-1", "+1", "1e3", ".", "s", "ms", ".s", "5 s", "5S", "5sec", "5h", "5ms ", "1.2.3", "inf",
             "315360001", "5256001m", "99999999999999999999", "18446744073709551617"],
            DURATION,
        ),
    ),
    "--timeout": (
        [],
        ["60", "60s", "60000ms", "1m", "60.5", "1.5m", "315360000"],
        {**dict.fromkeys(["soon", "", "-1", "60h", "1e3"], DURATION),
         **dict.fromkeys(["0", "0s", "0.0", "0m"], "is no time at all; give more, such as 5, 500ms, 2m")},
    ),
    "--scope": ([], ["tree", "group", "child"], dict.fromkeys(["all", "Tree", "", "tree "], SCOPE)),
    "--parent": (
        [],
        ["THIS"],
        dict.fromkeys(["0", "me", "", "-1", "99999999999", "1:", "1:x", "1 "], PROCESS),
    ),
    "--lifeline": ([], [], dict.fromkeys(["99", "x", "", "-1"], DESCRIPTOR)),
    "--control": ([], [], dict.fromkeys(["99", "x", "", "-1"], DESCRIPTOR)),
    "--close": ([], [], dict.fromkeys(["99", "x", "", "-1"], DESCRIPTOR)),
}  # fmt: skip
GOOD = [(name, value) for name, (_, good, _) in VALUES.items() for value in good]
BAD = [(name, value, why) for name, (_, _, bad) in VALUES.items() for value, why in bad.items()]


def forms(name: str, value: str) -> list[list[str]]:
    """The ways to give an option a value."""
    letters = VALUES[name][0]
    joined = [[f"{letter}{value}"] for letter in letters if value]
    return [[name, value], [f"{name}={value}"], *([letter, value] for letter in letters), *joined]


@pytest.mark.parametrize(("name", "value"), GOOD, ids=lambda part: part)
def test_a_good_value(name: str, value: str) -> None:
    for form in forms(name, value.replace("THIS", str(os.getpid()))):
        for end in [], ["--"]:
            done = guard(*form, *end, "echo", "--grace", "--", "x")
            assert (done.returncode, done.stdout, done.stderr) == (0, "--grace -- x\n", ""), form


@pytest.mark.parametrize(("name", "value", "why"), BAD, ids=lambda part: part[:12])
def test_a_bad_value_names_the_option_the_value_and_the_valid_forms(name: str, value: str, why: str) -> None:
    for form in forms(name, value):
        done = guard(*form, "true")
        assert (done.returncode, done.stdout) == (125, ""), form
        assert done.stderr == f"pdeathsig-run: {name}: '{value}' {why}\n{HINT}", form


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "command: none given"),
        ("--", "command: none given"),
        ("-v --grace 5", "command: none given"),
        ("--bogus true", "--bogus: no such option"),
        ("--bogus=3 true", "--bogus=3: no such option"),
        ("-x true", "-x: no such option"),
        ("-vx true", "-vx: no such option"),
        ("-v- true", "-v-: no such option"),
        ("-K 5 true", "-K: no such option"),
        ("--sig TERM true", "--sig: no such option"),
        ("--gracefulness-and-more 3 true", "--gracefulness-and-more: no such option"),
        *((name, f"{name}: needs a value") for name in VALUES),
        ("-s", "--signal: needs a value"),
        ("-vk", "--grace: needs a value"),
        ("--linger=1 true", "--linger=1: takes no value"),
        ("--verbose= true", "--verbose=: takes no value"),
    ],
)
def test_other_wrong_usage(arguments: str, message: str) -> None:
    done = guard(*arguments.split())
    assert (done.returncode, done.stdout, done.stderr) == (125, "", f"pdeathsig-run: {message}\n{HINT}")


def test_letters_in_one_argument() -> None:
    done = guard("-vvk5", "-vs", "INT", "echo", "-v")
    assert (done.returncode, done.stdout) == (0, "-v\n")
    assert "exit status 0" in done.stderr


def test_the_last_of_several_counts() -> None:
    assert guard("-s", "KILL", "--timeout", "1ms", "--timeout", "60", "sh", "-c", "exit 3").returncode == 3


def test_a_dash_alone_is_a_command() -> None:
    assert guard("-").returncode == 127


def test_help_shows_what_users_need_and_no_more() -> None:
    done = guard("--help")
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.findall(r"--[a-z]+", done.stdout)
    hidden = {"--lifeline", "--control", "--close", "--executable"}
    assert {"--signal", "--grace", "--timeout", "--scope", "--parent", "--linger", "--verbose", "--help"} < {*shown}
    assert not hidden & {*shown}
    for word in "-s,", "-k,", "-v,", "-h,", "124", "125", "126", "127":
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 88
    explained = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert {(line[25], line[26].isspace()) for line in explained} == {(" ", False)}
    assert guard("-h").stdout == done.stdout


def test_version() -> None:
    assert guard("--version").stdout == f"pdeathsig-run {pdeathsig.__version__}\n"


ENDING = sorted(
    int(sig) for sig in signal.valid_signals() if sig not in [getattr(signal, f"SIG{name}") for name in END_NO_PROCESS]
)


def test_each_signal_of_python_by_its_number() -> None:
    """One table: what Python can send, the guard can."""
    for sig in ENDING:
        assert guard("--signal", str(sig), "true").returncode == 0, sig
        assert (
            subprocess.run(pdeathsig.guarded(["true"], sig, grace=1 if sig != 9 else None), check=False).returncode == 0
        )


def test_each_signal_of_python_by_its_name() -> None:
    for name in (known.name for known in signal.Signals if known in ENDING):
        for form in name, name.lower(), name[3:]:
            assert guard("--signal", form, "true").returncode == 0, form


STKFLT = 16
NAMED_16 = "signal.signal(16, lambda *_: (say('heard'), os._exit(0)))\nhere('child'); forever()"


def test_signal_16_is_a_signal_like_the_others(start: Start) -> None:
    """SIGSTKFLT, which Python has no name for before 3.11."""
    tree = start(f"python({NAMED_16!r}); wait()", prefix=tuple(pdeathsig.guarded(["env"], STKFLT)))
    tree.process("child")
    tree.send()
    tree.event("heard")
    assert tree.all_gone()


@pytest.mark.parametrize("scope", ["tree", "group", "child"])
def test_signal_16_of_a_popen(scope: Literal["child", "group", "tree"]) -> None:
    if scope != "group":
        with pdeathsig.Popen(["true"], pdeathsig=STKFLT, scope=scope) as plain:
            assert plain.wait(10) == 0
    with pdeathsig.Popen(["true"], pdeathsig=STKFLT, scope=scope, grace=1) as graceful:
        assert graceful.wait(10) == 0


@pytest.mark.parametrize("value", ["16", "STKFLT", "sigstkflt", "STKFLT:5"])
def test_signal_16_of_a_family(start: Start, value: str) -> None:
    tree = start("import pdeathsig; say(pdeathsig.status().signal)", PDEATHSIG=value)
    assert tree.line() == "16"
    assert tree.top.wait(10) == 0


SOON = str(2 * SLOWNESS)  # for --timeout: a Python has started by then

# Deaf to SIGTERM, and so is what it starts in another session.
DEAF = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        here('double'); forever()
    os._exit(0)
os.wait()
here('command'); forever()
"""


def test_when_the_time_is_over_all_ends_also_what_ignores_sigterm(start: Start) -> None:
    begun = time.monotonic()
    tree = start(DEAF, prefix=guarded("--timeout", SOON, "--grace", "300ms"))
    for _ in "command", "double":
        tree.adopt(tree.line().split()[1])
    assert tree.top.wait(15) == 124
    assert time.monotonic() - begun >= float(SOON) + 0.3
    assert tree.all_gone()


HEEDS = "signal.signal(signal.{}, lambda *_: (say('heard'), os._exit(0)))\nhere('command'); forever()"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_when_the_time_is_over_all_are_asked_first(start: Start, name: str) -> None:
    """The status tells of the timeout, as with timeout(1), whatever the command exits with."""
    tree = start(HEEDS.format(name), prefix=guarded("--timeout", SOON, "-s", name, "-k", "60"))
    tree.process("command")
    tree.event("heard")
    assert tree.top.wait(15) == 124
    assert tree.all_gone()


@pytest.mark.parametrize("options", [["-k", "0"], ["-s", "KILL"]])
def test_when_the_time_is_over_without_a_grace(options: list[str]) -> None:
    done = guard("--timeout", "100ms", *options, "sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000")
    assert (done.returncode, done.stdout, done.stderr) == (124, "", "")


@pytest.mark.parametrize("scope", ["tree", "group", "child"])
def test_the_timeout_in_each_scope(scope: str) -> None:
    assert guard("--timeout", "100ms", "--scope", scope, "sleep", "1000").returncode == 124


def test_when_the_time_is_over_a_stopped_command_ends(start: Start) -> None:
    tree = start("here('command'); os.kill(os.getpid(), signal.SIGSTOP); forever()", prefix=guarded("--timeout", SOON))
    tree.process("command")
    assert tree.top.wait(15) == 124
    assert tree.all_gone()


@pytest.mark.parametrize(("code", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("exit 124", 124)])
def test_a_command_that_is_faster_keeps_its_status(code: str, status: int) -> None:
    assert guard("--timeout", "60", "sh", "-c", code).returncode == status


def test_a_command_that_has_ended_keeps_its_status_when_the_time_is_over() -> None:
    """Its last process has the grace, in which the time ends."""
    begun = time.monotonic()
    done = guard("--timeout", "200ms", "-k", "600ms", "sh", "-c", "trap '' TERM; sleep 1000 & exit 3")
    assert done.returncode == 3
    assert time.monotonic() - begun >= 0.6


def test_the_timeout_also_ends_what_lingers() -> None:
    with subprocess.Popen(
        [GUARD, "--linger", "--timeout", "500ms", "sh", "-c", "sleep 1000 & exit 4"], stdout=subprocess.PIPE
    ) as process:
        assert process.wait(10) == 4
        assert process.stdout is not None
        assert process.stdout.read() == b""  # its end comes when the last of them is gone


def script(path: Path, first_line: str) -> str:
    path.write_text(f"{first_line}\necho ran\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize(
    ("first_line", "shown"),
    [
        ("#!/no/such/python", "/no/such/python"),
        ("#! \t/no/such/python -u -E", "/no/such/python"),
        ("#!/bin/sh\r", "/bin/sh^M"),
        ("#!no-directory", "no-directory"),
        ("#!{other}", "/no/such/interpreter"),
        (f"#!/{'x' * 180}", f"/{'x' * 180}"),
        ("#!/etc/passwd/python", "/etc/passwd/python"),
    ],
)
def test_a_script_without_its_interpreter(first_line: str, shown: str, by_path: bool, tmp_path: Path) -> None:
    other = script(tmp_path / "other", "#!/no/such/interpreter")
    file = script(tmp_path / "a-script", first_line.format(other=other))
    name = "a-script" if by_path else file
    done = guard(name, env={"PATH": f"/no:{tmp_path}:/bin"})
    assert (done.returncode, done.stdout) == (126, "")
    assert done.stderr == f"pdeathsig-run: {name}: its interpreter is missing: {shown}\n"


def test_a_program_without_its_dynamic_loader(tmp_path: Path) -> None:
    true = shutil.which("true")
    assert true is not None
    content = Path(true).read_bytes()
    file = tmp_path / "program"
    file.write_bytes(re.sub(rb"/lib(64)?/ld-", lambda match: b"/xib" + match[0][4:], content, count=1))
    if file.read_bytes() == content:
        pytest.skip("/bin/true names no loader")
    file.chmod(0o755)
    done = guard(str(file))
    assert done.returncode == 126
    assert done.stderr == f"pdeathsig-run: {file}: its interpreter is missing: the dynamic loader\n"


def test_what_is_missing_itself_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in str(tmp_path / "missing"), str(tmp_path / "dangling"), "no-such-command-anywhere":
        done = guard(name)
        assert (done.returncode, done.stderr) == (127, f"pdeathsig-run: {name}: No such file or directory\n")


def test_a_script_without_its_interpreter_hides_no_later_one_in_path(tmp_path: Path) -> None:
    """As execvp(3) has it."""
    for directory, first_line in ("one", "#!/no/such/python"), ("two", "#!/bin/sh"):
        (tmp_path / directory).mkdir()
        script(tmp_path / directory / "prog", first_line)
    assert guard("prog", env={"PATH": f"{tmp_path}/one:{tmp_path}/two:/bin"}).stdout == "ran\n"


def lines(said: str) -> list[str]:
    """Without the prefix, and N for each PID."""
    assert all(line.startswith("pdeathsig-run: ") for line in said.splitlines()), said
    return [re.sub(r"\[\d+\]", "[N]", line.removeprefix("pdeathsig-run: ")) for line in said.splitlines()]


# In the background, and executed.
SLEEPER = 'sleep 1000 & until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done'


def own_name() -> str:
    return f"{Path('/proc/self/comm').read_text().strip()} [{os.getpid()}]"


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_of_a_command_that_ends(option: str) -> None:
    with subprocess.Popen([GUARD, option, "sh", "-c", "echo $$; exit 3"], stdout=-1, stderr=-1, text=True) as process:
        out, said = process.communicate(timeout=10)
    command = f"sh [{out.strip()}]"
    assert said.splitlines() == [
        f"pdeathsig-run: started {command}; waiting for its end, or the end of {own_name()}",
        f"pdeathsig-run: {command} has ended: exit status 3",
    ]
    assert process.returncode == 3


def test_verbose_names_what_it_asks_and_what_does_not_end() -> None:
    code = f"trap '' TERM; {SLEEPER}; kill -KILL $$"
    done = guard("-v", "-k", "300ms", "sh", "-c", code)
    assert done.returncode == -9
    assert lines(done.stderr)[1:] == [
        "sh [N] has ended: SIGKILL",
        "SIGTERM to sleep [N]",
        "waiting for their end, up to 300 ms",
        "sleep [N] has not ended: SIGKILL",
    ]


def test_verbose_of_a_timeout() -> None:
    done = guard("-v", "--timeout", "300ms", "sleep", "1000")
    assert done.returncode == 124
    assert lines(done.stderr)[1:] == [
        "the time of --timeout is over",
        "SIGTERM to sleep [N]",
        "waiting for their end, up to 5 s",
    ]


def test_verbose_of_a_signal_that_is_passed_on() -> None:
    code = "trap 'exit 5' USR1; echo up; while :; do sleep 0.01; done"
    with subprocess.Popen([GUARD, "-v", "-k0", "sh", "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGUSR1)
        said = process.communicate(timeout=10)[1]
    assert process.returncode == 5
    assert lines(said)[1:3] == ["SIGUSR1 to sh [N]", "sh [N] has ended: exit status 5"]


@pytest.mark.parametrize("followed", ["caller", "--parent"])
def test_verbose_of_the_end_of_a_followed_process(followed: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with subprocess.Popen(["sleep", "1000"]) as other:
        option = f"--parent {other.pid}" if followed == "--parent" else ""
        code = f"{GUARD} -v {option} sh -c 'echo up; exec sleep 1000' 2>{log} & echo $$; wait"
        with subprocess.Popen(["sh", "-c", code], stdin=-1, stdout=-1, text=True) as caller:
            assert caller.stdout is not None
            assert sorted(caller.stdout.readline() for _ in range(2))[1] == "up\n"
            ended = other if followed == "--parent" else caller
            ended.kill()
            assert caller.stdout.read() == ""  # at the end of the command, and of its caller
            other.kill()
    said = lines(log.read_text())
    assert said[0].startswith("started sh [N]; waiting for its end, or the end of sh [N]")
    assert (" or sleep [N]" in said[0]) == (followed == "--parent")
    assert re.fullmatch(rf"(\w+ \[N\]|process {ended.pid}) has ended", said[1])
    assert said[2] in ("SIGTERM to sleep [N]", "SIGTERM to sh [N]")  # before its exec, sh


def test_verbose_into_a_file_keeps_what_the_command_writes(tmp_path: Path) -> None:
    """Not opened for appending: two offsets would write over each other."""
    log = tmp_path / "log"
    code = f"echo one >&2; {SLEEPER}; echo two >&2; exit 3"
    with open(log, "w") as file:
        subprocess.run([GUARD, "-v", "sh", "-c", code], stderr=file, check=False, timeout=10)
    said = log.read_text().splitlines()
    assert {"one", "two"} < {*said}
    assert len(said) == 6


def test_verbose_into_a_socket() -> None:
    """As systemd and Node.js have it."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            assert (
                subprocess.run([GUARD, "-v", "true"], stderr=theirs.fileno(), check=False, timeout=10).returncode == 0
            )
        said = lines(ours.makefile().read())
    assert len(said) == 2
    assert said[1] == "true [N] has ended: exit status 0"


def test_verbose_does_not_wait_for_a_reader() -> None:
    """What does not fit into the pipe is lost."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    try:
        done = subprocess.run([GUARD, "-v", "sh", "-c", "sleep 1000 & exit 3"], stderr=writer, check=False, timeout=10)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 3


def test_verbose_and_linger_hold_no_pipe_open() -> None:
    """The reader has its end while something lingers on, which closes the pipe itself."""
    code = "sleep 1000 2>&- >&- <&- & exit 3"
    caller = f"{GUARD} -v --linger sh -c '{code}'; echo $?; exec 2>&-; read line"
    with subprocess.Popen(["sh", "-c", caller], stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "3\n"
        said = lines(process.stderr.read())
        assert said[1:] == [
            "sh [N] has ended: exit status 3",
            "waiting for the caller's end: what is left may live until then",
        ]
        assert process.poll() is None
        process.communicate("\n", timeout=10)


def test_a_name_cannot_break_the_line() -> None:
    code = r"import time; open('/proc/self/comm', 'w').write('a\nb\x1b[1m'); time.sleep(1000)"
    done = guard("-v", "--timeout", SOON, sys.executable, "-S", "-c", code)
    assert "SIGTERM to a?b?[1m [N]" in lines(done.stderr)


def test_without_verbose_it_says_nothing() -> None:
    done = guard("--timeout", "200ms", "-k", "200ms", "sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000")
    assert (done.returncode, done.stderr) == (124, "")


def test_no_slower_with_a_timeout_that_is_far_away() -> None:
    """A wrong deadline would make it poll without end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert guard("--timeout", "1000m", "sleep", "1").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 0.5
