import os
import re
import runpy
import tempfile

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

build_ffi = runpy.run_path("build_ffi.py")


class build_startup(Command):
    """Put startup/* at the top of site-packages, the only place where site.py reads *.pth.

    A build sub-command as setuptools documents them (setuptools.command.build.SubCommand). In an editable install
    nothing reaches site-packages by way of build_lib; there, install_lib is the root of the wheel being made.
    """

    files = ["startup/pdeathsig.pth", "startup/_pdeathsig_start.py"]
    user_options = []
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self):
        target = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        self.mkpath(target)
        for file in self.files:
            self.copy_file(file, target)

    def get_source_files(self):
        return self.files

    def get_outputs(self):
        return [] if self.editable_mode else [os.path.join(self.build_lib, os.path.basename(f)) for f in self.files]

    def get_output_mapping(self):
        return {}


class build_with_startup(build):
    sub_commands = [*build.sub_commands, ("build_startup", None)]


class build_abi3(build_ext):
    """Python 3.15 prefers `.abi3-x86_64-linux-gnu.so`, a name under which no older Python finds it."""

    def get_ext_filename(self, fullname):
        name = super().get_ext_filename(fullname)
        return re.sub(r"\.abi3[^/]*\.so$", ".abi3.so", name)


options = {}
keywords = {}
if build_ffi["EXTENSION"]:
    import cffi  # noqa: F401  without it setuptools merely warns of the unknown keyword, and makes a pure wheel

    keywords["cffi_modules"] = ["build_ffi.py:ffibuilder"]
    if build_ffi["ABI3"]:
        options["bdist_wheel"] = {"py_limited_api": f"cp3{build_ffi['OLDEST']}"}

# Leave nothing behind: an old build/ puts deleted modules into the next wheel and ignores changed compiler flags,
# an old *.egg-info puts files that MANIFEST.in no longer names into the next sdist.
with tempfile.TemporaryDirectory(prefix="pdeathsig-build-") as scratch:
    options["build"] = {"build_base": scratch}
    options["egg_info"] = {"egg_base": scratch}
    setup(
        cmdclass={"build": build_with_startup, "build_ext": build_abi3, "build_startup": build_startup},
        options=options,
        **keywords,
    )
