"""Formulas of docstrings: written as plain text, for `help()`, and set as formulas on the site.

In plain text a fraction is `a/b`, of the factor before the stroke and the one behind it; an index
`x_t` or `x_{t+1}`, a power `x^2` or `x^(1/p)`; `ghat` is a letter with a hat; a name of more than a
letter is Greek, a function, or a word.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

__all__ = ["mark_formulas", "to_latex"]

_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|eta|theta|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|phi|Delta|Theta"
)
_FUNCTIONS = {
    **{
        name: rf"\{name}"
        for name in ("min", "max", "exp", "ln", "sup", "inf", "cosh", "sinh", "tanh", "cos")
    },
    "argmax": r"\arg\max",
    "argmin": r"\arg\min",
    "grad": r"\nabla",
    "sum": r"\sum",
}
_DIFFERENTIALS = {"dt": "dt", "dB": "dB", "dTheta": r"d\Theta", "dv": "dv"}
_ACCENTS = {"hat": r"\hat", "bar": r"\bar"}
_OPERATORS = {
    "<=>": r"\Longleftrightarrow",
    "<=": r"\le",
    ">=": r"\ge",
    "<-": r"\leftarrow",
    "+-": r"\pm",
    "...": r"\ldots",
    "~": r"\sim",
    ">": ">",
    "<": "<",
}
_OPERATORS |= {sign: sign for sign in "=+-,;:"}
_CLOSING = {"(": ")", "[": "]", "||": "||", "|": "|", "<": ">", "{": "}"}
_END = "\0"
_TOKEN = re.compile(r"\s+|\d*\.?\d+|[A-Za-z]+\d*'*|<=>|<=|>=|<-|\+-|\.\.\.|\|\||.")


class _NoFormulaError(ValueError):
    """What stands there is code or prose."""


@dataclass
class _Reader:
    """Reads a formula from left to right.

    Attributes:
      tokens: What is to be read.
      with_words: Whether a name that is not known is a word of the formula; else it is an error.
      place: The next token.
      depth: How many fractions, indices and powers it is inside of.
      letters: How many symbols were read.
    """

    tokens: list[str]
    with_words: bool
    place: int = 0
    depth: int = 0
    letters: int = 0
    ends: list[str] = field(default_factory=list)

    def peek(self, ahead: int = 0) -> str:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.place += 1
        return token

    def read_until(self, end: str) -> str:
        """Read to a closing bracket, or to the end."""
        parts: list[str] = []
        self.ends.append(end)
        while (token := self.peek()) != end:
            if not token:
                raise _NoFormulaError(f"{end!r} is missing")
            if token.isspace():
                # Two spaces keep formulas of one line apart.
                parts.append(r" \quad " if len(self.take()) > 1 else " ")
            elif token == "/":
                self.take()
                parts.append(self.divide(parts))
            elif token in _OPERATORS and not self.opens(token):
                parts.append(f" {_OPERATORS[self.take()]} ")
            else:
                parts.append(self.read_factor())
        self.ends.pop()
        self.take()
        return "".join(parts)

    def opens(self, token: str) -> bool:
        """Tell whether a sign that may be an operator, or close, is an opening bracket."""
        if token == "<":  # an inner product has no space behind its bracket
            return not self.peek(1).isspace() and "," in self.tokens[self.place :]
        return token in _CLOSING

    def divide(self, parts: list[str]) -> str:
        while parts and parts[-1].isspace():
            parts.pop()
        if not parts or self.peek().isspace():
            raise _NoFormulaError("a fraction needs what is above, and what is below")
        above = parts.pop()
        if self.depth or not self.with_words:
            return f"{above}/{self.read_factor()}"
        self.depth += 1
        below = self.read_factor()
        self.depth -= 1
        return rf"\frac{{{_strip(above)}}}{{{_strip(below)}}}"

    def read_factor(self) -> str:
        """Read a symbol or a bracket with its index and its power."""
        is_name = self.peek()[:1].isalpha()
        base = self.read_atom()
        while True:
            sign = self.peek()
            if sign == "(" and is_name:  # a call; a product has a space
                is_name = False
                base += self.read_atom()
            elif sign == "*" and not self.peek(1).isalnum():
                self.take()
                base += "^*"
            elif sign in ("_", "^"):
                if base[0] in "([|\\" and base[-1] in ")]|":
                    base = f"{{{base}}}"  # of the whole bracket, not of its last sign
                self.take()
                self.depth += 1
                base += f"{sign}{{{_strip(self.read_script())}}}"
                self.depth -= 1
            else:
                return base

    def read_script(self) -> str:
        token = self.peek()
        if token == "{":
            self.take()
            return self.read_until("}")
        if token in ("-", "*"):
            return self.take()
        if token == "inf":
            self.take()
            return r"\infty"
        return self.read_atom()

    def read_atom(self) -> str:
        token = self.take()
        if re.fullmatch(r"\d*\.?\d+", token):
            if self.peek()[:1].isalpha():
                raise _NoFormulaError("a number and a letter side by side, as in 1e-3")
            return token
        if token[:1].isalpha():
            return self.read_name(token)
        if token not in _CLOSING or token == "{" or token == self.ends[-1]:
            raise _NoFormulaError(f"{token!r} begins nothing")
        inside = self.read_until(_CLOSING[token])
        left, right = {"||": (r"\|", r"\|"), "<": (r"\langle ", r" \rangle")}.get(
            token, (token, _CLOSING[token])
        )
        # Brackets as high as what they hold.
        if r"\frac" in inside or r"\sqrt" in inside or r"\sum" in inside:
            return rf"\left{left} {inside} \right{right}"
        return f"{left}{inside}{right}"

    def read_name(self, token: str) -> str:
        name = token.rstrip("'")
        strokes = token[len(name) :]
        if name in ("sqrt", "ceil") and self.peek() == "(":
            self.take()
            inside = self.read_until(")")
            return rf"\sqrt{{{inside}}}" if name == "sqrt" else rf"\lceil {inside} \rceil"
        accent = next((end for end in _ACCENTS if name.endswith(end) and name != end), "")
        letter = name.removesuffix(accent)
        if len(letter) == 1 or _GREEK.fullmatch(letter):
            self.letters += 1
            symbol = letter if len(letter) == 1 else rf"\{letter} "
            return (rf"{_ACCENTS[accent]}{{{symbol}}}" if accent else symbol) + strokes
        if name in _FUNCTIONS:
            return f"{_FUNCTIONS[name]} "
        if name in _DIFFERENTIALS:
            return f"{_DIFFERENTIALS[name]} "
        if not self.with_words:
            raise _NoFormulaError(f"{name!r} is no symbol")
        if self.peek() in ("(", "_"):
            return rf"\mathrm{{{name}}}"
        words = [name]
        while self.peek() == " " and self.peek(1).isalpha() and len(self.peek(1)) > 1:
            if _GREEK.fullmatch(self.peek(1)) or self.peek(1) in _FUNCTIONS:
                break
            self.take()
            words.append(self.take())
        return rf"\text{{ {' '.join(words)} }}"


def _strip(text: str) -> str:
    """Leave out brackets around the whole: the bar of a fraction, or the height, says the same."""
    found = re.fullmatch(r"(?:\\left)?\((.*?)(?:\\right)?\)", text, re.DOTALL)
    if not found:
        return text
    level = 0
    for sign in found[1]:
        level += {"(": 1, ")": -1}.get(sign, 0)
        if level < 0:
            return text
    return found[1].strip() if level == 0 else text


def to_latex(text: str, names: Collection[str] = (), *, displayed: bool = False) -> str | None:
    """Write a formula in LaTeX; None where the text is code.

    Args:
      text: The formula; a displayed one may have several lines.
      names: What is code although it looks like a symbol: the arguments.
      displayed: Whether it stands by itself, where fractions have bars and words are words.
    """
    if not displayed and text in names:
        return None
    reader = _Reader([*_TOKEN.findall(text.strip()), _END], with_words=displayed)
    try:
        latex = reader.read_until(_END)
    except _NoFormulaError:
        if displayed:
            raise
        return None
    return re.sub(" +", " ", latex).strip() if reader.letters else None


def mark_formulas(
    app: object, what: str, name: str, value: Any, options: object, lines: list[str]
) -> None:
    """Mark the formulas of a docstring: paragraphs that are indented, and code that is none."""
    names = _list_names(value)

    def set_inline(found: re.Match[str]) -> str:
        latex = to_latex(" ".join(found[1].split()), names)
        return found[0] if latex is None else f":math:`{latex}`"

    text = "\n".join(lines)
    parts = re.split(r"(\n\s*\n)", text)
    for place, part in enumerate(parts):
        before = parts[place - 2] if place > 1 else ""
        if _is_displayed(part, before):
            parts[place] = _display(part)
        elif ">>>" not in part:
            parts[place] = re.sub(r"(?<!`)`([^`]+)`(?!`)", set_inline, part)
    lines[:] = "".join(parts).split("\n")


def _list_names(value: Any) -> set[str]:
    """List the arguments of a function, and the fields of a class."""
    try:
        found = set(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        found = set()
    return found | set(getattr(value, "__annotations__", ()))


def _measure_indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_displayed(part: str, before: str) -> bool:
    if (
        not part.strip()
        or not before.strip()
        or before.endswith("::")
        or re.match(r"\s*(-|>>>|\w+:) ", part)
    ):
        return False
    return _measure_indent(part) == _measure_indent(before.lstrip("\n")) + 4


def _display(part: str) -> str:
    """Write a displayed formula: each line a row, unless it is indented as what goes on."""
    margin = " " * (_measure_indent(part) - 4)
    rows: list[str] = []
    for line in part.splitlines():
        goes_on = _measure_indent(line) > len(margin) + 4
        rows[-1:] = [f"{rows[-1]} {line.strip()}"] if goes_on else [*rows[-1:], line.strip()]
    latex = [to_latex(row, displayed=True) for row in rows]
    return f"{margin}.. math:: " + r" \\ ".join(str(row) for row in latex)
