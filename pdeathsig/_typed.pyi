"""What type checkers and editors know of the functions that are subprocess's and asyncio's own.

typeshed tells text from bytes by overloads, and so does this: one for each way to ask for text.
What the overloads share is in TypedDicts, ours first.
"""

import subprocess
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, AnyStr, Literal, TypedDict, overload

from _typeshed import ReadableBuffer, StrOrBytesPath
from typing_extensions import Required, Unpack

from ._spawn.aio import Process
from ._spawn.guard_command import Scope

class _Ours(TypedDict, total=False):
    pdeathsig: int | str | None
    scope: Scope | None
    grace: float | None

if sys.version_info >= (3, 11):
    class _New(_Ours, total=False):
        process_group: int | None

else:
    class _New(_Ours, total=False): ...

class _Options(_New, total=False):
    executable: StrOrBytesPath | None
    preexec_fn: Callable[[], object] | None
    close_fds: bool
    cwd: StrOrBytesPath | None
    env: subprocess._ENV | None
    startupinfo: Any
    creationflags: int
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int

# What each function takes.

class _CheckOutput(_Options, total=False):
    bufsize: int
    stdin: subprocess._FILE
    stderr: subprocess._FILE
    shell: bool

class _Popen(_CheckOutput, total=False):
    stdout: subprocess._FILE

class _Timeout(TypedDict, total=False):
    timeout: float | None

class _Run(_Popen, _Timeout, total=False):
    capture_output: bool
    check: bool

# How it is told to use text.

class _Bytes(TypedDict, total=False):
    text: Literal[False] | None
    encoding: None
    errors: None
    universal_newlines: Literal[False] | None

class _Text(TypedDict, total=False):
    text: Required[Literal[True]]
    encoding: str | None
    errors: str | None
    universal_newlines: bool | None

class _Encoding(TypedDict, total=False):
    text: bool | None
    encoding: Required[str]
    errors: str | None
    universal_newlines: bool | None

class _Errors(TypedDict, total=False):
    text: bool | None
    encoding: str | None
    errors: Required[str]
    universal_newlines: bool | None

class _Newlines(TypedDict, total=False):
    text: bool | None
    encoding: str | None
    errors: str | None
    universal_newlines: Required[Literal[True]]

class _Either(TypedDict, total=False):
    text: bool | None
    encoding: str | None
    errors: str | None
    universal_newlines: bool | None

class _BytesInput(_Timeout, _Bytes, total=False):
    input: ReadableBuffer | None

class _TextInput(_Timeout, _Text, total=False):
    input: str | None

class _EncodingInput(_Timeout, _Encoding, total=False):
    input: str | None

class _ErrorsInput(_Timeout, _Errors, total=False):
    input: str | None

class _NewlinesInput(_Timeout, _Newlines, total=False):
    input: str | None

class _EitherInput(_Timeout, _Either, total=False):
    input: ReadableBuffer | str | None

class _PopenBytes(_Popen, _Bytes): ...
class _PopenText(_Popen, _Text): ...
class _PopenEncoding(_Popen, _Encoding): ...
class _PopenErrors(_Popen, _Errors): ...
class _PopenNewlines(_Popen, _Newlines): ...
class _PopenEither(_Popen, _Either): ...
class _RunBytes(_Run, _BytesInput): ...
class _RunText(_Run, _TextInput): ...
class _RunEncoding(_Run, _EncodingInput): ...
class _RunErrors(_Run, _ErrorsInput): ...
class _RunNewlines(_Run, _NewlinesInput): ...
class _RunEither(_Run, _EitherInput): ...
class _CheckOutputBytes(_CheckOutput, _BytesInput): ...
class _CheckOutputText(_CheckOutput, _TextInput): ...
class _CheckOutputEncoding(_CheckOutput, _EncodingInput): ...
class _CheckOutputErrors(_CheckOutput, _ErrorsInput): ...
class _CheckOutputNewlines(_CheckOutput, _NewlinesInput): ...
class _CheckOutputEither(_CheckOutput, _EitherInput): ...
class _Call(_Popen, _Timeout, _Either): ...

class Popen(subprocess.Popen[AnyStr]):
    """``subprocess.Popen`` with a child that dies with this process."""

    @overload
    def __init__(self: Popen[str], args: subprocess._CMD, **options: Unpack[_PopenText]) -> None: ...
    @overload
    def __init__(self: Popen[str], args: subprocess._CMD, **options: Unpack[_PopenEncoding]) -> None: ...
    @overload
    def __init__(self: Popen[str], args: subprocess._CMD, **options: Unpack[_PopenErrors]) -> None: ...
    @overload
    def __init__(self: Popen[str], args: subprocess._CMD, **options: Unpack[_PopenNewlines]) -> None: ...
    @overload
    def __init__(self: Popen[bytes], args: subprocess._CMD, **options: Unpack[_PopenBytes]) -> None: ...
    @overload
    def __init__(self: Popen[Any], args: subprocess._CMD, **options: Unpack[_PopenEither]) -> None: ...
    @overload
    def __init__(
        self: Popen[Any], args: subprocess._CMD, bufsize: int, /, *popenargs: Any, **options: Unpack[_PopenEither]
    ) -> None: ...
    @property
    def guard_pid(self) -> int | None: ...
    @property
    def command_pid(self) -> int: ...

@overload
def run(args: subprocess._CMD, **options: Unpack[_RunText]) -> subprocess.CompletedProcess[str]: ...
@overload
def run(args: subprocess._CMD, **options: Unpack[_RunEncoding]) -> subprocess.CompletedProcess[str]: ...
@overload
def run(args: subprocess._CMD, **options: Unpack[_RunErrors]) -> subprocess.CompletedProcess[str]: ...
@overload
def run(args: subprocess._CMD, **options: Unpack[_RunNewlines]) -> subprocess.CompletedProcess[str]: ...
@overload
def run(args: subprocess._CMD, **options: Unpack[_RunBytes]) -> subprocess.CompletedProcess[bytes]: ...
@overload
def run(args: subprocess._CMD, **options: Unpack[_RunEither]) -> subprocess.CompletedProcess[Any]: ...
@overload
def run(
    args: subprocess._CMD, bufsize: int, /, *popenargs: Any, **options: Unpack[_RunEither]
) -> subprocess.CompletedProcess[Any]: ...
@overload
def check_output(args: subprocess._CMD, **options: Unpack[_CheckOutputText]) -> str: ...
@overload
def check_output(args: subprocess._CMD, **options: Unpack[_CheckOutputEncoding]) -> str: ...
@overload
def check_output(args: subprocess._CMD, **options: Unpack[_CheckOutputErrors]) -> str: ...
@overload
def check_output(args: subprocess._CMD, **options: Unpack[_CheckOutputNewlines]) -> str: ...
@overload
def check_output(args: subprocess._CMD, **options: Unpack[_CheckOutputBytes]) -> bytes: ...
@overload
def check_output(args: subprocess._CMD, **options: Unpack[_CheckOutputEither]) -> Any: ...
@overload
def check_output(
    args: subprocess._CMD, bufsize: int, /, *popenargs: Any, **options: Unpack[_CheckOutputEither]
) -> Any: ...
@overload
def call(args: subprocess._CMD, **options: Unpack[_Call]) -> int: ...
@overload
def call(args: subprocess._CMD, bufsize: int, /, *popenargs: Any, **options: Unpack[_Call]) -> int: ...
@overload
def check_call(args: subprocess._CMD, **options: Unpack[_Call]) -> int: ...
@overload
def check_call(args: subprocess._CMD, bufsize: int, /, *popenargs: Any, **options: Unpack[_Call]) -> int: ...

# asyncio allows these, with the one value that it uses anyway.
class _Asyncio(_Options, _Bytes, total=False):
    bufsize: Literal[0]

class _Exec(_Asyncio, total=False):
    stdin: subprocess._FILE
    stdout: subprocess._FILE
    stderr: subprocess._FILE
    limit: int
    shell: Literal[False]

class _Shell(_Asyncio, total=False):
    shell: Literal[True]

async def create_subprocess_exec(
    program: StrOrBytesPath, *args: StrOrBytesPath, **options: Unpack[_Exec]
) -> Process: ...
async def create_subprocess_shell(
    cmd: str | bytes,
    stdin: subprocess._FILE | None = None,
    stdout: subprocess._FILE | None = None,
    stderr: subprocess._FILE | None = None,
    limit: int = 65536,
    **options: Unpack[_Shell],
) -> Process: ...
