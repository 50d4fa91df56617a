"""Change a line of splitter, run the tests of its module, and see whether one notices.

    python -m scripts.mutants --count 200 --keep DIR                 goes on where DIR's run stopped
    python -m scripts.mutants splitter/jobs.py --count 20

Each mutant is one change, drawn at random: a comparison, an operator, a number, a condition, a call
that is dropped. It lies in a copy of the tree, and a forked process runs the tests that are named
after its module (`find_tests`), so that PyTorch is imported once. The table says which share was
noticed; of the others each either needs a test, or changes nothing that matters.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SECONDS = 120  # of a processor that the tests of a mutant may take
IMPORTED_ONCE = ("torch", "av", "soundfile", "soxr", "mutagen", "click", "pytest", "scipy.signal")
SWAPS: dict[type[Any], type[Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
# modules whose tests are not called by their own name
OTHER_TESTS = {
    "splitter/audio/": ["test_audio_*.py", "test_tags*.py"],
    "splitter/cli/": ["test_cli*.py", "test_batches.py", "test_traps.py"],
    "splitter/cli/doctor.py": ["test_doctor.py"],
    "splitter/engines/": ["test_engines.py", "test_sharing.py", "test_stores.py"],
    "splitter/evaluation/": ["test_evaluation.py", "test_summary.py", "test_cli_evaluate.py"],
    "splitter/networks/": ["test_networks*.py", "test_ensemble.py", "test_wiener.py"],
    "splitter/jobs/": ["test_stores.py", "test_batches.py"],
    "splitter/outputs.py": ["test_songs.py", "test_formats.py"],
    "splitter/paths.py": ["test_jobs.py"],
    "splitter/registry.py": ["test_loading.py"],
    "splitter/tiling.py": ["test_tiling_overlap.py", "test_separation.py"],
    "splitter/training/": [
        "test_training.py", "test_augmentation.py", "test_losses.py", "test_mixing.py",
        "test_optimizers.py", "test_simulation.py",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change, and what became of it."""

    module: str  # path
    number: int  # of the change, among those of its module
    line: int = 0
    change: str = ""
    outcome: str = ""  # noticed, survived, no tests


def find_changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield the nodes that can be changed, each with what is done; annotations are left alone."""
    for node in _walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield node, "compare"
        elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
            yield node, "operate"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            yield node, "number"
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            yield node, "condition"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, "drop"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            yield node, "sign"


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def change(node: ast.AST, action: str) -> None:
    """Change a node in place."""
    if isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant):
        value = node.value
        node.value = (not value) if isinstance(value, bool) else value + 1  # type: ignore[operator]
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Expr):
        node.value = ast.Constant(None)
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
        if action == "sign" and isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)


def mutate(source: str, number: int) -> tuple[str, int, str]:
    """Make a change in a module; return its source, the line and the change in words."""
    tree = ast.parse(source)
    node, action = list(find_changes(tree))[number]
    before = ast.unparse(node)
    line = getattr(node, "lineno", 0)
    change(node, action)
    ast.fix_missing_locations(tree)
    return ast.unparse(tree), line, f"{_shorten(before)} → {_shorten(ast.unparse(node))}"


def _shorten(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) < 70 else f"{first[:67]}..."


def find_tests(module: Path, tests: Path) -> list[Path]:
    """Return the test files of a module."""
    inside = module.relative_to(ROOT)
    package = inside.parent.name
    globs = [f"test_{inside.stem}.py", f"test_{package}_{inside.stem}.py", f"test_{package}.py"]
    for place, more in OTHER_TESTS.items():
        if inside.as_posix().startswith(place):
            globs += more
    found = dict.fromkeys(path for glob in globs for path in sorted(tests.glob(glob)))
    return list(found)


def draw(modules: list[Path], count: int, seed: int) -> list[Mutant]:
    """Draw mutants, each change as likely as any other."""
    every = [
        Mutant(module.relative_to(ROOT).as_posix(), number)
        for module in modules
        for number, _ in enumerate(find_changes(ast.parse(module.read_text("utf-8"))))
    ]
    order = np.random.default_rng(seed).permutation(len(every))
    return [every[index] for index in order[:count]]


def copy_tree(folder: Path) -> None:
    """Copy what the tests need; what is large is linked."""
    for name in ("splitter", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)


def run_tests(folder: Path, tests: list[Path]) -> bool:
    """Tell whether tests pass, in a process that has imported what is large."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _run_here(folder, tests)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _run_here(folder: Path, tests: list[Path]) -> int:
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    silence = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(silence, number)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    paths = [str(folder / "tests" / test.name) for test in tests]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", str(2 * SECONDS)]
    return int(pytest.main([*options, *paths]))


def judge(mutant: Mutant, folder: Path) -> Mutant:
    """Run the tests of a mutant."""
    module = ROOT / mutant.module
    tests = find_tests(module, folder / "tests")
    source, line, words = mutate(module.read_text("utf-8"), mutant.number)
    if not tests:
        return Mutant(mutant.module, mutant.number, line, words, "no tests")
    place = folder / mutant.module
    place.write_text(source, encoding="utf-8")
    passed = run_tests(folder, tests)
    shutil.copy(module, place)
    outcome = "survived" if passed else "noticed"
    return Mutant(mutant.module, mutant.number, line, words, outcome)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", type=Path, help="files; all, if none is named")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "mutants")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    record = options.keep / f"seed{options.seed}.jsonl"
    lines = record.read_text("utf-8").splitlines() if record.exists() else []
    known = [Mutant(**json.loads(line)) for line in lines]
    done = {(mutant.module, mutant.number): mutant for mutant in known}
    modules = [path.resolve() for path in options.modules] or sorted(ROOT.glob("splitter/**/*.py"))
    for name in IMPORTED_ONCE:
        import_module(name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, record.open("a", encoding="utf-8") as file:
        folder = Path(scratch) / "tree"
        folder.mkdir()
        copy_tree(folder)
        for mutant in draw(modules, options.count, options.seed):
            key = mutant.module, mutant.number
            if key in done:
                continue
            done[key] = judge(mutant, folder)
            print(json.dumps(asdict(done[key]), ensure_ascii=False), file=file, flush=True)
            if time.monotonic() - began > options.seconds:
                break
    for mutant in done.values():
        if mutant.outcome != "noticed":
            print(f"{mutant.module}:{mutant.line}: {mutant.outcome}: {mutant.change}")
    counts = Counter(mutant.outcome for mutant in done.values())
    print(f"{counts['noticed']} of {sum(counts.values())} noticed")


if __name__ == "__main__":
    main()
