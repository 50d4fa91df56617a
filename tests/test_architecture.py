"""The table of who may import whom, held against the code."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import splitter

PACKAGE = Path(splitter.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """The name of a module: splitter/audio/tags.py → splitter.audio.tags."""
    parts = (PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


NAMES = {dotted(path): path for path in MODULES}

# from the top down: a module imports from its own layer's package or from layers below
LAYERS = [
    {"__main__"},
    {"cli"},
    {"engines", "pages"},
    {"songs", "training", "evaluation", "plots"},
    {"separation", "datasets", "jobs", "outputs"},
    {"runtime"},
    {"weights"},
    {"loading"},
    {"networks", "audio", "metrics"},
    {"tiling", "spectral", "errors", "devices", "memory", "registry", "catalogue"}
    | {"paths", "atomic", "schema", "locks", "signals", "graphs", "processors", "objects"}
    | {"templates", "collisions", "version", "cgroups"},
]
# package that is not ours → the only modules of ours that may import it
DOORS = {
    "soundfile": {"audio"},
    "soxr": {"audio"},
    "av": {"audio"},
    "mutagen": {"audio"},
    "safetensors": {"loading", "weights", "runtime"},
    "openvino": {"runtime"},
    "ray": {"engines"},
    "upath": {"paths"},
    "museval": {"metrics"},
    "musdb": {"datasets"},
    "matplotlib": {"plots"},
    "click": {"cli"},
}


def top(path: Path) -> str:
    """The part of the tree that a file belongs to: splitter/audio/tags.py → audio."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """All dotted names that a file imports, also inside of functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            # from splitter import songs, say
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name in NAMES else module for name in names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def layer(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_point_down(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    own = top(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "splitter" and len(parts) > 1 and parts[1] != own:
            assert layer(own) < layer(parts[1]) or {own, parts[1]} <= LAYERS[-1], name


def test_no_modules_import_each_other() -> None:
    """Not in a circle either, nor late, within a function."""
    arrows = {name: imports(path) & NAMES.keys() for name, path in NAMES.items()}
    TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_dependency_has_one_door(path: Path) -> None:
    for name in imports(path):
        allowed = DOORS.get(name.split(".")[0])
        assert allowed is None or top(path) in allowed, name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_prints(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
