"""Registers Slow-Fast with the Auto classes of transformers as soon as somebody loads those.

Importing them takes seconds and hundreds of megabytes, which reading a video must not cost. So
`import slowfast_mllm` only watches imports: when a module of `transformers.models.auto` has come,
in whatever order and through whatever library, `auto.register` runs. Not before the outermost
import of transformers or of this package is through: their modules import one another, and
what registers must not meet one of them half executed.
"""

import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto."


class _Watcher(MetaPathFinder):
    """Sees modules of transformers and of this package come; others find them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0  # imports, in all threads: one may wait for another's module
        self._auto_loaded = any(name.startswith(_AUTO) for name in sys.modules)
        self._done = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._done or not name.startswith(("transformers.", "slowfast_mllm.")):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _WatchedLoader(spec.loader, self)
                return spec
        return None

    def begin(self) -> None:
        with self._lock:
            self._under_way += 1

    def end(self, name: str) -> None:
        with self._lock:
            self._under_way -= 1
            self._auto_loaded |= name.startswith(_AUTO) and name in sys.modules

    def register_if_due(self) -> None:
        """Register, unless there is nothing to register with yet, or an import is under way."""
        with self._lock:
            if self._done or self._under_way or not self._auto_loaded:
                return
            self._done = True
        try:
            from slowfast_mllm.auto import register

            register()
        except BaseException:
            self._done = False  # the next import tries again, and says again what is wrong
            raise


class _WatchedLoader(Loader):
    """Another loader, until it has executed its module."""

    def __init__(self, loader: Any, watcher: _Watcher) -> None:
        self._loader = loader
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._watcher.begin()
        try:
            self._loader.exec_module(module)
        except BaseException:
            self._watcher.end(module.__name__)
            # The importer may do without this module; if not, this error is the one to be seen.
            with suppress(Exception):
                self._watcher.register_if_due()
            raise
        self._watcher.end(module.__name__)
        self._watcher.register_if_due()


def register_when_needed() -> None:
    """Register now if the Auto classes are loaded, else when they are. Once in a process."""
    if not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        watcher = _Watcher()
        sys.meta_path.insert(0, watcher)
        watcher.register_if_due()
