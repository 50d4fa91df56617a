"""Change a line of splitter, run the tests of its module, and see whether one notices.

    python -m scripts.mutants --count 200 --keep DIR                 goes on where DIR's run stopped
    python -m scripts.mutants splitter/tiling.py --count 20

Each mutant is one change, drawn at random: a comparison, an operator, a number, a condition, a call
that is dropped. It lies in a copy of the tree, and a forked process, so that PyTorch is imported
once, runs the tests that pass its line, up to the first that notices. Which those are is measured
before, with coverage.py, and kept in DIR/tests; the quickest come first. Behind them come all tests
that are named after its module (`find_tests`). The table says which share was noticed; of the
others each either needs a test, or changes nothing that matters: then `mutants.txt` says why, it is
not run, and it does not count.
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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
HARMLESS = Path(__file__).with_suffix(".txt")
SECONDS = 120  # of a processor that the tests of a mutant may take
SHARE = 0.25  # of them, at most, for tests that take so long without a change
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
    place: str = ""  # the line, with « » around what is changed of it
    change: str = ""
    outcome: str = ""  # noticed, survived, no tests, or why it is harmless


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


def mutate(source: str, mutant: Mutant) -> tuple[str, Mutant]:
    """Make a change in a module; return its source, and the change in words."""
    tree = ast.parse(source)
    node, action = list(find_changes(tree))[mutant.number]
    before = ast.unparse(node)
    change(node, action)
    ast.fix_missing_locations(tree)
    words = f"{_shorten(before)} → {_shorten(ast.unparse(node))}"
    line = getattr(node, "lineno", 0)
    return ast.unparse(tree), replace(mutant, line=line, place=mark(source, node), change=words)


def mark(source: str, node: Any) -> str:
    """Return the line of a node, with « » around the node."""
    line = source.splitlines()[node.lineno - 1].encode()  # columns count bytes
    end = node.end_col_offset if node.end_lineno == node.lineno else len(line)
    parts = line[: node.col_offset], line[node.col_offset : end], line[end:]
    return "{}«{}»{}".format(*(part.decode() for part in parts)).strip()


def _shorten(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) < 70 else f"{first[:67]}..."


def read_harmless() -> Iterator[tuple[str, str, str]]:
    """Yield what `mutants.txt` has: a module, or * for all, a part of a place, and the reason."""
    for line in HARMLESS.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            known, _, reason = line.rpartition("  # ")
            module, _, part = known.partition(": ")
            yield module, part, reason


def find_reason(mutant: Mutant) -> str:
    """Return why a change does not matter; "" if it may."""
    return next(
        (
            reason
            for module, part, reason in read_harmless()
            if module in ("*", mutant.module) and part in mutant.place
        ),
        "",
    )


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


def find_lines(tree: ast.Module, node: ast.AST) -> range:
    """Return the lines of a node's statement, of one with a body those of its head."""
    found = range(0)
    for statement in ast.walk(tree):
        if isinstance(statement, ast.stmt) and any(child is node for child in ast.walk(statement)):
            found = range(statement.lineno, (statement.end_lineno or 0) + 1)
            body = getattr(statement, "body", None)
            if body:
                found = range(statement.lineno, max(body[0].lineno, statement.lineno + 1))
    return found


class Tests:
    """Which tests pass which lines, and how long they take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}  # of a processor, by test
        self.passing: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))

    def add(self, record: dict[str, Any]) -> None:
        """Take in what was measured of the tests of a file."""
        self.seconds |= record["seconds"]
        for module, lines in record["lines"].items():
            for line, tests in lines.items():
                self.passing[module][int(line)] |= set(tests) & record["seconds"].keys()

    def select(self, module: str, lines: range) -> list[str]:
        """Select tests, the quickest first: those of the lines, or of the module.

        What is run when a module is imported belongs to no test of its own.
        """
        passing = self.passing[module]
        found = set[str]().union(*(passing[line] for line in lines))
        found = found or set[str]().union(*passing.values())
        chosen, total = [], 0.0
        for test in sorted(found, key=self.seconds.__getitem__):
            total += self.seconds[test]
            if total < SHARE * SECONDS:
                chosen.append(test)
        return chosen


class Watch:
    """A plugin of pytest that measures tests one by one."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self._began = 0.0

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)
        self._began = _measure()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = round(_measure() - self._began, 3)
        elif report.failed:
            self.seconds.pop(report.nodeid, None)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.coverage.switch_context("")

    def list_lines(self, folder: Path) -> dict[str, dict[int, list[str]]]:
        """List the tests that pass a line, by module and line."""
        data, found = self.coverage.get_data(), {}
        for path in data.measured_files():
            contexts = data.contexts_by_lineno(path)
            found[Path(path).relative_to(folder).as_posix()] = {
                line: [test for test in tests if test] for line, tests in contexts.items()
            }
        return found


class Choice:
    """A plugin of pytest that runs chosen tests, or files, only; in their order, file by file."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        ours = sorted((item for item in items if self._rank(item) >= 0), key=self._rank)
        files = list(dict.fromkeys(item.path for item in ours))
        items[:] = sorted(ours, key=lambda item: files.index(item.path))

    def _rank(self, item: Any) -> int:
        file = item.nodeid.partition("::")[0]
        return self.order.get(item.nodeid, self.order.get(file, -1))


def _measure() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure_tests(folder: Path, keep: Path) -> Tests:
    """Measure all tests, each file in a process of its own; what is kept is not measured again."""
    keep.mkdir(exist_ok=True)
    tests = Tests()
    for path in sorted((folder / "tests").glob("test_*.py")):
        record = keep / f"{path.stem}.json"
        if not record.exists():
            fork(partial(_measure_file, folder, path, record))
        if record.exists():
            tests.add(json.loads(record.read_text("utf-8")))
    return tests


def _measure_file(folder: Path, path: Path, record: Path) -> int:
    from coverage import Coverage

    coverage = Coverage(data_file=None, source=[str(folder / "splitter")])
    coverage.start()
    watch = Watch(coverage)
    code = _run_pytest(folder, [path], watch)
    coverage.stop()
    facts = {"seconds": watch.seconds, "lines": watch.list_lines(folder)}
    record.write_text(json.dumps(facts), encoding="utf-8")
    return code


def copy_tree(folder: Path) -> None:
    """Copy what the tests need; what is large is linked."""
    for name in ("splitter", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)


def fork(act: Callable[[], int]) -> bool:
    """Act in a process that has imported what is large; tell whether its status is 0."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = act()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _run_tests(folder: Path, tests: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    paths = [folder / name for name in dict.fromkeys(test.partition("::")[0] for test in tests)]
    return _run_pytest(folder, paths, Choice(tests), "-x", "--timeout", str(2 * SECONDS))


def _run_pytest(folder: Path, paths: list[Path], plugin: object, *options: str) -> int:
    import pytest

    silence = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(silence, number)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    options = ("-q", "-p", "no:cacheprovider", *options)
    return int(pytest.main([*options, *map(str, paths)], plugins=[plugin]))


def judge(mutant: Mutant, folder: Path, tests: Tests) -> Mutant:
    """Run the tests of a mutant."""
    module = ROOT / mutant.module
    original = module.read_text("utf-8")
    named = [f"tests/{path.name}" for path in find_tests(module, folder / "tests")]
    tree = ast.parse(original)
    lines = find_lines(tree, list(find_changes(tree))[mutant.number][0])
    chosen = tests.select(mutant.module, lines)
    source, mutant = mutate(original, mutant)
    if reason := find_reason(mutant):
        return replace(mutant, outcome=reason)
    if not chosen and not named:
        return replace(mutant, outcome="no tests")
    place = folder / mutant.module
    place.write_text(source, encoding="utf-8")
    # others may notice in processes of their own, which are not measured
    passed = all(fork(partial(_run_tests, folder, some)) for some in (chosen, named) if some)
    place.write_text(original, encoding="utf-8")
    return replace(mutant, outcome="survived" if passed else "noticed")


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
        tests = measure_tests(folder, options.keep / "tests")
        for mutant in draw(modules, options.count, options.seed):
            key = mutant.module, mutant.number
            if key in done:
                continue
            done[key] = judge(mutant, folder, tests)
            print(json.dumps(asdict(done[key]), ensure_ascii=False), file=file, flush=True)
            if time.monotonic() - began > options.seconds:
                break
    counts = Counter(mutant.outcome for mutant in done.values())
    for mutant in done.values():
        if mutant.outcome != "noticed":
            print(f"{mutant.module}:{mutant.line}: {mutant.place}: {mutant.change}")
            print(f"    {mutant.outcome}")
    asked = sum(counts[outcome] for outcome in ("noticed", "survived", "no tests"))
    print(f"{len(done)} drawn, {len(done) - asked} of them harmless")
    share = counts["noticed"] / max(1, asked)
    print(f"{counts['noticed']} of the other {asked} noticed, {share:.0%}")


if __name__ == "__main__":
    main()
