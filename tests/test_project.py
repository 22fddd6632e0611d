"""The project itself: what is declared is what is used, imports point downwards, torch is loaded where it is needed only."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import wanlab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wanlab"

# From the ground up: a module imports from lower layers, and from its own package. A name stands for a module or for all
# of a package that is not listed by itself; what is not listed fails.
LAYERS = (
    ("errors", "failures", "process", "terminal"),
    ("aside", "declare", "files", "turn", "schedule", "windows", "time_embedding"),
    ("attention_modes", "quantize.kinds", "placement.spread"),
    ("groups", "clip_settings", "model_settings"),
    ("settings",),
    ("timeline", "skips", "sections", "values", "document", "run_json"),
    ("outline", "names", "knobs", "progress", "containers", "table", "annotations", "metrics", "filters", "trash", "differing"),
    ("log", "clip", "show", "columns"),
    ("quantize",),
    ("weights",),
    ("cost",),
    ("plans", "inputs", "written"),
    ("comfy",),
    ("latents", "meter", "solver", "store"),
    ("lora", "placement"),
    ("tiny",),
    ("model",),
    ("guidance", "start", "checks", "cost.calibrate", "presets"),
    ("techniques", "controls"),
    ("denoise",),
    ("planning",),
    ("bench",),
    ("steps", "run_facts"),
    ("run",),
    ("labels",),
    ("comparing", "parting", "measuring"),
    ("plots", "sweeps", "run_table", "panel"),
    ("lab",),
    ("sweeps.command",),
    ("parsers",),
    ("__main__", "tiny.assemble", "tiny.calibrate", "tiny.evaluate", "tiny.evaluate_image", "tiny.lora_training"),
    ("tiny.lora_steps", "tiny.lora_style"),
    ("tiny.train",),
)
LEVELS = {name: level for level, layer in enumerate(LAYERS) for name in layer}

# These compute with tensors; everything else can be imported, and runs be planned and read, without torch.
WITH_TORCH = (
    "latents",
    "meter",
    "solver",
    "store",
    "placement",
    "lora.forms",
    "lora.deltas",
    "lora.apply",
    "lora.live",
    "quantize",
    "weights.dtypes",
    "weights.reader",
    "cost.dry_run",
    "cost.calibrate",
    "model.attention",
    "model.compiling",
    "model.embeddings",
    "model.encode",
    "model.loaded",
    "model.loading",
    "model.parts",
    "model.spiece",
    "model.text",
    "model.vae",
    "model.model",
    "model.condition",
    "guidance",
    "techniques",
    "start",
    "denoise",
    "bench",
    "steps",
    "run",
    "run_facts",
    "labels",
    "comparing",
    "parting",
    "measuring",
    "plots",
    "sweeps",
    "run_table",
    "panel",
    "lab",
    "tiny",
)
# Modules and packages that need no torch themselves, in packages that do; the module tiny is wanlab.tiny_path.
TORCH_FREE_OF_THESE = (
    "tiny",
    "tiny.train",
    "tiny.wording",
    "sweeps",
    "sweeps.axes",
    "quantize",
    "quantize.kinds",
    "quantize.drawing",
    "placement",
    "placement.spread",
)

IMPORT_NAMES = {"pillow": "PIL", "huggingface-hub": "huggingface_hub"}
USED_BY_OTHERS = {"ftfy"}  # diffusers imports it if it is there
OPTIONAL = {"bitsandbytes", "gguf", "torchao"}  # the extra quant, imported where a kind needs it
FOR_LIVE_FACES = {"anywidget", "ipywidgets"}  # of the extra lab, imported where a face lives; they bring traitlets
IN_A_KERNEL = {"IPython"}  # imported in a notebook only, where it is


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules() -> dict[str, Path]:
    """The modules of the package by their name without `wanlab.`; a package is its `__init__`."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    del found[""]  # wanlab itself loads its names when they are used
    return found


def requirements(*extras: str) -> list[Requirement]:
    table = project()["project"]
    lines = [*table["dependencies"], *(line for extra in extras for line in table["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def pins() -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def imports(file: Path) -> Iterator[str]:
    """The full names of the modules that a file imports, also inside functions, but not those for type checkers only."""
    tree, known = ast.parse(file.read_text()), modules()
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    left_out = {id(inner) for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in left_out:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and id(node) not in left_out:
            assert node.module, f"{file} imports relative to itself; write the full name"
            for alias in node.names:  # `from wanlab import show` is an import of wanlab.show
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("wanlab.") in known else node.module


def level(module: str) -> int:
    """The layer of a module: its own, or that of its package."""
    names = [module, module.partition(".")[0]]
    found = [LEVELS[name] for name in names if name in LEVELS]
    assert found, f"wanlab.{module} is in no layer; find its place in LAYERS"
    return found[0]


def python(code: str) -> Any:
    """What the code prints as JSON, run in a fresh Python."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_imports_point_downwards() -> None:
    upwards = []
    for module, file in modules().items():
        for full in imports(file):
            package, _, other = full.partition(".")
            same_package = "." in other and module.partition(".")[0] == other.partition(".")[0]
            if package == "wanlab" and other and level(other) >= level(module) and not same_package:
                upwards.append(f"{module} imports {other}")
    assert not upwards


def test_import_wanlab_loads_nothing_heavy() -> None:
    loaded = python("import sys, json, wanlab; print(json.dumps(sorted(sys.modules)))")
    assert not {"torch", "diffusers", "transformers", "pandas", "numpy", "matplotlib", "ipywidgets", "IPython"} & set(loaded)


def test_torch_free_modules_stay_torch_free() -> None:
    def with_torch(module: str) -> bool:
        return module not in TORCH_FREE_OF_THESE and any(module == name or module.startswith(name + ".") for name in WITH_TORCH)

    free = [module for module in modules() if not with_torch(module)]
    assert {
        "settings",
        "names",
        "schedule",
        "outline",
        "skips",
        "log",
        "plans",
        "clip",
        "show.player",
        "model.checkpoint",
        "tiny",
    } <= set(free)
    failures = python(f"""
import importlib, json, sys
from importlib.abc import MetaPathFinder

class Forbid(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("torch", "diffusers", "transformers"):
            raise ImportError(f"{{name}} is forbidden here")

sys.meta_path.insert(0, Forbid())
failures = {{}}
for name in {free!r}:
    try:
        importlib.import_module("wanlab." + name)
    except ImportError as error:
        failures[name] = str(error)
print(json.dumps(failures))
""")
    assert not failures


def test_all_is_exact_and_every_name_resolves() -> None:
    for_type_checkers = re.search(r"if TYPE_CHECKING:\n((?: {4}.*\n)+)", (PACKAGE / "__init__.py").read_text())
    assert for_type_checkers
    block = ast.parse("if True:\n" + for_type_checkers[1])
    announced = [alias.name for node in ast.walk(block) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert wanlab.__all__ == sorted(wanlab.__all__) == sorted(announced)
    assert all(getattr(wanlab, name).__name__.removeprefix("wanlab.") == name for name in wanlab.__all__)
    assert set(wanlab.__all__) <= set(dir(wanlab))
    with pytest.raises(AttributeError, match="nonsense"):
        wanlab.nonsense  # noqa: B018


def test_the_weights_do_not_tell_where_they_were_made() -> None:
    configs = list((PACKAGE / "tiny/weights").glob("*/*.json"))
    assert len(configs) >= 5
    assert [file for file in configs if "_name_or_path" in file.read_text()] == []


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    used = {full.partition(".")[0] for file in modules().values() for full in imports(file)}
    used -= {*sys.stdlib_module_names, *IN_A_KERNEL, *FOR_LIVE_FACES, "traitlets", "wanlab"}
    declared = {canonicalize_name(requirement.name) for requirement in requirements()} - USED_BY_OTHERS
    assert used - OPTIONAL == {IMPORT_NAMES.get(name, name) for name in declared}
    assert {one.name for one in requirements("quant")} - {one.name for one in requirements()} == OPTIONAL
    assert {one.name for one in requirements("lab")} - {one.name for one in requirements()} >= FOR_LIVE_FACES


def test_constraints_pin_what_is_declared_within_its_ranges() -> None:
    pinned = pins()
    wanted = requirements("lab", "test", "quant")
    assert {canonicalize_name(requirement.name) for requirement in wanted} <= set(pinned)
    outside = [str(one) for one in wanted if not one.specifier.contains(pinned[canonicalize_name(one.name)])]
    assert not outside


def test_constraints_hold_names_and_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"(#.*|[A-Za-z0-9._-]+==[0-9][0-9a-z.]*)?", line), line


def test_environment_installs_the_project_with_its_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [part for part in environment["dependencies"] if isinstance(part, str)]
    [pip] = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    [version] = [part.partition("=")[2] for part in conda if part.startswith("python=")]
    assert Requirement(f"python{project()['project']['requires-python']}").specifier.contains(version)
    assert "pip" in conda
    [editable] = [line.split()[1] for line in pip if line.startswith("--editable")]
    extras = re.fullmatch(r"\.\[([a-z,]+)\]", editable)
    assert extras
    assert set(extras[1].split(",")) <= set(project()["project"]["optional-dependencies"])
    [constraint] = [line.split()[1] for line in pip if line.startswith("--constraint")]
    assert (ROOT / constraint).exists()


def test_the_wheel_holds_the_weights_and_the_scripts() -> None:
    """Whatever lies in the package and is no Python file is named by a pattern; the rest is found as packages."""
    patterns = project()["tool"]["setuptools"]["package-data"]
    packed = {
        file
        for package, globs in patterns.items()
        for glob in globs
        for file in (ROOT / package.replace(".", "/")).glob(glob)
        if file.is_file()
    }
    lying_there = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert packed == lying_there
    assert PACKAGE / "tiny/weights/transformer/diffusion_pytorch_model.safetensors" in packed
    assert all((file.parent / "__init__.py").exists() for file in PACKAGE.rglob("*.py"))
    assert sum(file.stat().st_size for file in packed) <= 32 * 2**20


@pytest.mark.parametrize("module", ["wanlab.store", "test_store"])
def test_our_own_warnings_are_errors(module: str) -> None:
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn_explicit("ours", UserWarning, "somewhere.py", 1, module)


def test_the_makefile_opens_a_notebook_that_is_there() -> None:
    notebook = re.search(r"^NOTEBOOK = (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert notebook
    assert (ROOT / notebook[1]).exists()


@pytest.mark.parametrize("page", ["README.md", "docs/design.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text())
    missing = [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()]
    assert not missing


def test_the_python_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example, *_] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["softer"].steps_reused > 0
    assert (tmp_path / "circle.mp4").stat().st_size > 0
