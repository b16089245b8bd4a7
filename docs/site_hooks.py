"""What the site holds beside the pages of this folder: the API, the gallery and the scripts.

mkdocs calls these functions while it builds (https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

import ast
import importlib
import inspect
import re
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(\.\./([^)#\s]+)")
SCRIPTS = {"Examples": "examples", "Benchmarks": "benchmarks"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the generated pages to the navigation."""
    config.nav.append({"API": [{title(name): f"api/{name}.md"} for name in public_modules()]})
    for heading, folder in SCRIPTS.items():
        pages = [{path.stem: source_page(path)} for path in sorted((ROOT / folder).glob("*.py"))]
        config.nav.append({heading: [f"{folder}/index.md", *pages]})
    others = ("CONTRIBUTING", "CHANGELOG")
    config.nav.append({"Project": [{name.title(): f"source/{name}.md"} for name in others]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {f"api/{name}.md": reference(name) for name in public_modules()}
    for heading, folder in SCRIPTS.items():
        pages[f"{folder}/index.md"] = gallery(heading, ROOT / folder)
    for path in linked_files(files):
        code = path.read_text()
        pages[source_page(path)] = code if path.suffix == ".md" else script(path, code)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their pages."""
    depth = page.file.src_uri.count("/")
    if page.file.generated_by:
        # CONTRIBUTING.md and CHANGELOG.md lie one folder above this one in the repository.
        return re.sub(r"\]\(docs/", "](" + "../" * depth, markdown)
    return LINK.sub(lambda found: "](" + source_page(ROOT / found[1]), markdown)


def public_modules() -> list[str]:
    """All modules that users import from, by their names."""
    found = []

    def visit(module):
        found.append(module.__name__)
        for _, member in public_names(module):
            if inspect.ismodule(member):
                visit(member)

    visit(importlib.import_module("keras_extras"))
    return sorted(found)


def reference(module_name: str) -> str:
    """A page of one module: what it is for, a table of its names, and each of them."""
    module = importlib.import_module(module_name)
    rows, entries = [], []
    for name, member in public_names(module):
        about = (inspect.getdoc(member) or "").split("\n\n")[0].replace("\n", " ")
        if inspect.ismodule(member):
            rows.append(f"| [`{name}`]({member.__name__}.md) | {about} |")
            continue
        if not (inspect.isclass(member) or inspect.isfunction(member)):
            rows.append(f"| `{name}` | {shorten(repr(member), 100)} |")
            continue
        anchor = f"{module_name}.{name}"
        rows.append(f"| [`{name}`](#{anchor}) | {about} |")
        directive = f"::: {member.__module__}.{member.__qualname__}"
        entries.append(f"## {name} {{ #{anchor} }}\n\n{directive}\n")
    table = "\n".join(["| name | what it is |", "|---|---|", *rows])
    return "\n".join([f"# {module_name}\n", f"{module.__doc__}\n", f"{table}\n", *entries])


def title(module_name: str) -> str:
    return module_name.removeprefix("keras_extras.")


def public_names(module: ModuleType) -> list[tuple[str, Any]]:
    """What a module exports: `__all__`, else the classes and functions that it defines."""
    own = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    names = getattr(module, "__all__", own)
    return [(name, getattr(module, name)) for name in names if not name.startswith("_")]


def source_page(path: Path) -> str:
    """The page that shows a file of the repository."""
    relative = path.resolve().relative_to(ROOT)
    folder = "" if relative.parts[0] in SCRIPTS.values() else "source/"
    return folder + relative.with_suffix(".md").as_posix()


def linked_files(files: Files) -> list[Path]:
    """All scripts, and what else the pages link to outside their folder."""
    found = {ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"}
    for folder in SCRIPTS.values():
        found.update((ROOT / folder).glob("*.py"))
    for page in files.documentation_pages():
        found.update(ROOT / target for target in LINK.findall(page.content_string))
    return sorted(found)


def script(path: Path, code: str) -> str:
    """A page of one script: its figures, then its code."""
    relative = path.relative_to(ROOT).as_posix()
    shown = "".join(f"![{image.stem}](../images/{image.name})\n\n" for image in figures(path))
    return f"# {path.name}\n\n{shown}`{relative}`\n\n````python\n{code}````\n"


def figures(path: Path) -> list[Path]:
    """The figures that a script has drawn: their names start with its name."""
    return sorted((ROOT / "docs" / "images").glob(f"{path.stem}*.png"))


def gallery(heading: str, folder: Path) -> str:
    """A page of all scripts of a folder: what each is about, with its first figure."""
    lines = [f"# {heading}", ""]
    for path in sorted(folder.glob("*.py")):
        about = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
        lines += [f"## [{path.stem}]({path.stem}.md)", "", about.split("\n\n")[0], ""]
        for image in figures(path)[:1]:
            lines += [f"[![{path.stem}](../images/{image.name})]({path.stem}.md)", ""]
    return "\n".join(lines)
