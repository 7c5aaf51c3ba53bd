import os
import re
import runpy
import tempfile
from glob import glob

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.install import install

build_ffi = runpy.run_path("build_ffi.py")


class build_startup(Command):
    """Put startup/* at the top of site-packages, the only place where site.py reads *.pth.

    setuptools documents such sub-commands at setuptools.command.build.SubCommand. An editable
    install copies nothing from build_lib to site-packages. There, install_lib is the root of the
    new wheel.
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


class build_guard(Command):
    """The executable behind `pdeathsig run` and scope="tree", beside the extension."""

    user_options = []
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))
        self.executable = os.path.join("" if self.editable_mode else self.build_lib, "pdeathsig", "pdeathsig-run")

    def run(self):
        self.mkpath(os.path.dirname(self.executable))
        build_ffi["build_guard"](self.executable, self.distribution.get_version(), self.spawn)

    def get_source_files(self):
        return [*build_ffi["GUARD_SOURCES"], *glob("c_src/guard/*.h"), "c_src/proc/proc.h"]

    def get_outputs(self):
        return [] if self.editable_mode else [self.executable]

    def get_output_mapping(self):
        return {}


class install_guard(Command):
    """Copy the guard to the scripts, where a shell finds it."""

    user_options = []

    def initialize_options(self):
        self.install_dir = None

    def finalize_options(self):
        self.set_undefined_options("install", ("install_scripts", "install_dir"))

    def run(self):
        self.mkpath(self.install_dir)
        self.copy_file(self.get_finalized_command("build_guard").executable, self.install_dir)

    def get_outputs(self):
        return [os.path.join(self.install_dir, "pdeathsig-run")]


class build_all(build):
    sub_commands = [
        *build.sub_commands,
        ("build_startup", None),
        ("build_guard", lambda _: build_ffi["EXTENSION"]),
    ]


class install_all(install):
    sub_commands = [*install.sub_commands, ("install_guard", lambda _: build_ffi["EXTENSION"])]


class build_abi3(build_ext):
    """Name the extension `.abi3.so`.

    Python 3.15 prefers `.abi3-x86_64-linux-gnu.so`, which no older Python finds.
    """

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

# Build in a temporary directory. An old build/ puts deleted modules into the next wheel, and
# ignores changed compiler flags. An old *.egg-info puts files that MANIFEST.in no longer names into
# the next sdist.
with tempfile.TemporaryDirectory(prefix="pdeathsig-build-") as scratch:
    options["build"] = {"build_base": scratch}
    options["egg_info"] = {"egg_base": scratch}
    setup(
        cmdclass={
            "build": build_all,
            "build_ext": build_abi3,
            "build_guard": build_guard,
            "build_startup": build_startup,
            "install": install_all,
            "install_guard": install_guard,
        },
        options=options,
        **keywords,
    )
