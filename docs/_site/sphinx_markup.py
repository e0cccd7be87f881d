"""Docstrings are written in Sphinx's markup, as Avalanche's are; the site is written in Markdown.

mkdocstrings understands fields such as ``:param x:``. The text in them is translated here before it
is parsed: roles, equations, literal blocks, doctests, and signs that mean something in Markdown.
"""

from __future__ import annotations

import html
import re
from functools import partial
from textwrap import dedent, indent
from typing import Any

from griffe import Alias, Extension, Module, Object, get_logger

logger = get_logger("sphinx_markup")  # in a strict build, what it warns of is an error

INLINE = re.compile(
    r"(?P<field>^[ \t]*:(?:param|raises|return)[^:`\n]*:)"
    r"|``(?P<literal>.+?)``"
    r"|:math:`(?P<math>[^`]+)`"
    r"|:(?P<role>attr|class|data|exc|func|meth|mod|obj):`(?P<target>[^`]+)`"
    r"|`(?P<code>[^`]+)`"
    r"|(?P<emphasis>(?<![\w*])(?P<stars>\*\*?)(?=[^\s*])[^*]*[^\s*](?P=stars)(?![\w*]))"
    r"|(?P<sign>[*_<\[\]|])",
    re.DOTALL | re.MULTILINE,
)


_KINDS = ("field", "literal", "math", "target", "code", "emphasis", "sign")


class SphinxMarkup(Extension):
    """Translates every docstring of the package, once all of it is loaded."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Collect every object that can be referred to, then translate."""
        found: dict[str, Object] = {}
        _walk(pkg, found)
        for scope in found.values():
            if scope.docstring:
                scope.docstring.value = to_markdown(scope.docstring.value, scope, found)


def _walk(item: Object, found: dict[str, Object]) -> None:
    found[item.path] = item
    for member in item.members.values():
        if not isinstance(member, Alias):
            _walk(member, found)


def to_markdown(text: str, scope: Object, found: dict[str, Object]) -> str:
    """One docstring.

    :param text: the docstring, without common indentation.
    :param scope: the object that it documents; names are looked up from here.
    :param found: path → object, of the whole package.
    :return: the same in Markdown, with the fields ``:param x:`` as they were.
    """
    blocks = re.split(r"\n(?:[ \t]*\n)+", text.strip("\n"))
    done: list[str] = []
    while blocks:
        block = blocks.pop(0).rstrip()
        margin = _margin(block.splitlines()[0])
        if block.lstrip().startswith(".. math::"):
            equation = " ".join(block.replace(".. math::", "", 1).split())
            done.append(indent(f"$$\n{equation}\n$$", margin))
        elif block.lstrip().startswith(">>>"):
            done.append(_fenced(block, "pycon", margin))
        elif block.endswith("::"):
            margin = _margin(block.splitlines()[-1])
            literal = []
            while blocks and len(_margin(blocks[0])) > len(margin):
                literal.append(blocks.pop(0))
            prose = re.sub(r"(^|\s+):$", "", block[:-1])  # a lone "::" goes, of another ":" stays
            done.append(INLINE.sub(partial(_inline, scope, found), prose))
            done.append(_fenced("\n\n".join(literal), "python", margin))
        else:
            done.append(INLINE.sub(partial(_inline, scope, found), block))
    return "\n\n".join(done)


def _margin(text: str) -> str:
    return re.match(r"[ \t]*", text)[0]  # type: ignore[index]  # it always matches


def _fenced(block: str, language: str, margin: str) -> str:
    code = re.sub(r"  # doctest: .*", "", dedent(block).rstrip())  # an instruction to the test
    return indent(f"```{language}\n{code}\n```", margin)


def _inline(scope: Object, found: dict[str, Object], match: re.Match[str]) -> str:
    kind = next(name for name in _KINDS if match[name] is not None)
    value = match[kind]
    if kind in ("literal", "code"):
        return f"<code>{_escaped(' '.join(value.split()))}</code>"
    if kind == "math":
        return rf"\({value}\)"
    if kind == "target":
        return _reference(match["role"], " ".join(value.split()), scope, found)
    return value if kind in ("field", "emphasis") else f"&#{ord(value)};"


def _escaped(text: str) -> str:
    """Text that Markdown leaves alone."""
    return re.sub(
        r"[*_`\[\]|\\]", lambda sign: f"&#{ord(sign[0])};", html.escape(text, quote=False)
    )


def _reference(role: str, target: str, scope: Object, found: dict[str, Object]) -> str:
    """``:func:`~package.name```, ``:class:`.name``` or ``:meth:`text <name>``` → a link.

    An object that the site has no page for, such as an internal module, is shown as code.
    """
    shown, _, path = target.rpartition("<")
    path = path.rstrip(">").strip()
    short = path.startswith("~")
    path = path.lstrip("~")
    name = shown.strip() or (path.rpartition(".")[2] if short else path.lstrip("."))
    outside = "." in path.strip(".") and not path.startswith((".", "avalanche_mas"))
    resolved = None if outside else _resolve(path, scope, found)
    scripts = scope.path.startswith("benchmarks")  # another package: what it names is not in found
    if resolved is None and scripts and path.startswith("avalanche_mas."):
        resolved = path
    code = f"<code>{_escaped(name)}</code>"
    if resolved is None:
        # Attributes may be made in ways that griffe cannot see.
        if not (outside or scripts or role == "attr"):
            logger.warning("%s: the docstring refers to %r, which does not exist", scope.path, path)
        return code
    return f'<autoref identifier="{resolved}" optional>{code}</autoref>'


def _resolve(path: str, scope: Object, found: dict[str, Object]) -> str | None:
    """The full path of a name, looked up as Python would; with a dot in front, anywhere."""
    if path.startswith("."):
        ending = [known for known in found if known.endswith(path)]
        return min(ending, key=len, default=None)
    holder: Object | None = scope
    while holder is not None:
        members = holder.all_members if holder.is_class else holder.members
        first, _, rest = path.partition(".")
        if first in members:
            try:
                item = members[first]
                return str((item[rest] if rest else item).canonical_path)
            except KeyError:
                return None
        holder = holder.parent
    if path in found:
        return path
    try:  # a name that the package exports: avalanche_mas.MASPlugin
        head, _, rest = path.partition(".")
        return str(found[head][rest].canonical_path) if rest else None
    except KeyError:
        return None
