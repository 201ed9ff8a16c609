"""Loops of tensor code as C++, compiled once and kept for every later process.

torch.compile compiles them too, but its modules alone take three seconds to load in every process, and a call costs 25
microseconds instead of two. AOTInductor, the same compiler, leaves a file that needs neither. torch's public loader
brings the compiler's modules back, so the class behind it is taken where torch has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import platform
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifarlab.errors import RunError
from cifarlab.machine import all_instruction_sets

Function = Callable[..., tuple[torch.Tensor, ...]]
Runner = Callable[[list[torch.Tensor]], list[torch.Tensor]]

_OPTIONS = {
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.enable_line_tables": False,
    "aot_inductor.precompile_headers": False,  # takes more time than a few loops win back, and the openssl program
}
_TRUSTING = {"cpp.vec_isa_ok": True}
"""Takes the processor's word for its instructions, where five trial programs would be compiled first."""


class Loop:
    """A function of tensors that compiles itself when it is called for the first time.

    Args:
        function: From contiguous tensors on the CPU to a tuple of new ones, by torch operations whose kind depends on
            nothing but dtypes and numbers of dimensions. Its module's source and ``name`` are all it depends on.
        name: What distinguishes it from the module's other loops.
        examples: Tensors like those it will get, by the dtype of maps. They are of typical size, for by it the compiler
            decides what is worth several threads; no two dimensions are of one size but those that always are.
    """

    def __init__(
        self, function: Function, name: str, examples: Callable[[torch.dtype], tuple[torch.Tensor, ...]]
    ) -> None:
        self._function, self._name, self._examples = function, name, examples
        self._runners: dict[torch.dtype, Runner] = {}

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the function's results.

        Raises:
            RunError: If it cannot be compiled.
        """
        dtype = tensors[0].dtype
        if dtype not in self._runners:
            self._runners[dtype] = self._load(dtype)
        return tuple(self._runners[dtype](list(tensors)))

    def is_kept(self, dtype: torch.dtype) -> bool:
        """Return whether its form for maps of a dtype need not be compiled any more."""
        return os.path.isfile(self._package(dtype))  # noqa: PTH113 Path.is_file raises below a folder closed to us

    def _load(self, dtype: torch.dtype) -> Runner:
        package = self._package(dtype)
        if _is_whole(package):
            with contextlib.suppress(RuntimeError):  # such as of another system that shares the folder; it is made anew
                return _open(package)
        try:
            return self._compile(package, dtype)
        except Exception as error:  # whatever compiler and linker may do
            first_line = next(iter(str(error).splitlines()), type(error).__name__)
            raise RunError(
                f"compiling {self._name} failed ({first_line[:200]}); train with --train.no-compile, more slowly"
            ) from error

    def _package(self, dtype: torch.dtype) -> Path:
        """Return where the compiled form is kept: what it depends on is in the name."""
        import platformdirs

        module = inspect.getmodule(self._function)
        parts = (
            inspect.getsource(module) if module else "",
            torch.__version__,
            platform.machine(),
            all_instruction_sets(),  # the compiler takes whatever this processor has
            torch.get_num_threads(),  # written into the code
        )
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        return platformdirs.user_cache_path("cifarlab") / "loops" / digest / f"{self._name}_{dtype}.pt2"

    def _compile(self, package: Path, dtype: torch.dtype) -> Runner:
        with tempfile.TemporaryDirectory(dir=_folder_for(package)) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = str(Path(folder) / package.name)
            try:
                done = self._compile_to(path, dtype, _OPTIONS | _TRUSTING)
            except Exception:  # such as of a compiler that is older than the processor
                from torch._inductor.cpu_vec_isa import valid_vec_isa_list

                valid_vec_isa_list.cache_clear()
                done = self._compile_to(path, dtype, _OPTIONS)
            run = _open(Path(done))
            with contextlib.suppress(OSError):  # where nothing can be kept, this process has it all the same
                Path(done).replace(package)  # another process may be doing the same
        return run

    def _compile_to(self, path: str, dtype: torch.dtype, options: dict[str, Any]) -> str:
        examples = self._examples(dtype)
        sizes = [dict.fromkeys(range(example.ndim), torch.export.Dim.AUTO) for example in examples]
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            program = torch.export.export(_Module(self._function), examples, dynamic_shapes=(tuple(sizes),))
            known = {name: options[name] for name in options.keys() & set(torch._inductor.list_options())}
            return torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=known)


def _is_whole(package: Path) -> bool:
    """Return whether a compiled form is there as it was written, not cut short when a machine or a disk gave out.

    Code with a hole in it would end the process: torch's loader looks at no checksum of the archive.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            return archive.testzip() is None
    except Exception:  # whatever a damaged archive may lead to
        return False


def _folder_for(package: Path) -> Path | None:
    """Return the folder to keep a package in, which is made; None, for any other, if it cannot be written."""
    try:
        package.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=package.parent):
            return package.parent
    except OSError:
        return None


def _open(package: Path) -> Runner:
    """Load a compiled form; the file is not needed any more afterwards.

    Raises:
        RuntimeError: If the file is damaged.
    """
    loader = getattr(getattr(torch._C, "_aoti", None), "AOTIModelPackageLoader", None)
    if loader is not None:
        run: Runner = loader(str(package), "model", False, 1, -1).run
        return run
    public = torch._inductor.aoti_load_package(str(package))
    return lambda tensors: list(public(*tensors))


class _Module(nn.Module):
    """What torch.export takes."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.function(*tensors)
