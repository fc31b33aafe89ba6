"""The text form of a noise: `gaussian(0.2, 0.05) > multiplicative(0.2, 0.1) | poisson(30)`.

The grammar, loosest rule first (`>` binds tighter than `|`):

    noise := chain ("|" chain)*
    chain := item (">" item)*
    item  := name ["(" level ("," level)* ")"] | preset | "(" noise ")"
    level := number [".." number]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from daelab.errors import make_unknown_name_error
from daelab.noise import basic, camera, pipeline  # noqa: F401 (defining a noise registers it)
from daelab.noise.base import PRESETS, Level, LevelRange, Noise, list_terms
from daelab.noise.composition import Chain, Mixture
from daelab.noise.presets import FORMULAS

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9+-]*)|(?P<range>\.\.)|(?P<sign>[(),>|]))"
)
_MAX_LENGTH = 10_000
_MAX_DEPTH = 20
_SHOWN = 80
"""The number of characters of a wrong text that a message shows."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int

    def __str__(self) -> str:
        return repr(self.text) if self.text else "the end"


class _Parser:
    """A recursive-descent parser, with a method for each rule of the grammar. Errors name their place."""

    def __init__(self, text: str, presets: dict[str, Noise]) -> None:
        self.text = text
        self.presets = presets
        self.tokens = list(self._split_tokens())
        self.next = 0
        self.depth = 0

    def _split_tokens(self) -> list[_Token]:
        tokens, place = [], 0
        stop = len(self.text.rstrip())
        while place < stop:
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                place += len(self.text[place:]) - len(self.text[place:].lstrip())
                raise self.error(f"unexpected character {self.text[place]!r}", place)
            kind = match.lastgroup
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            place = match.end()
        return [*tokens, _Token("end", "", stop)]

    def error(self, what: str, place: int) -> ValueError:
        if not self.text.strip():
            return ValueError("noise: the text is empty; write a preset such as type-1, or gaussian(0.1, 0.05)")
        start = max(0, place - _SHOWN // 2)
        shown = self.text[start : start + _SHOWN].strip()
        return ValueError(f"noise: {what}; at character {place + 1} of {shown!r}")

    def peek(self, text: str) -> bool:
        token = self.tokens[self.next]
        return token.kind in ("sign", "range") and token.text == text

    def eat(self, text: str) -> bool:
        is_next = self.peek(text)
        self.next += is_next
        return is_next

    def expect(self, text: str) -> None:
        token = self.tokens[self.next]
        if not self.eat(text):
            raise self.error(f"expected {text!r}, found {token}", token.place)

    def parse(self) -> Noise:
        noise = self.noise()
        token = self.tokens[self.next]
        if token.kind != "end":
            raise self.error(f"expected '>', '|' or the end, found {token}", token.place)
        return noise

    def noise(self) -> Noise:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error(f"brackets are nested over {_MAX_DEPTH} deep", self.tokens[self.next].place)
        choices = [self.chain()]
        while self.eat("|"):
            choices.append(self.chain())
        self.depth -= 1
        return choices[0] if len(choices) == 1 else Mixture(tuple(choices))

    def chain(self) -> Noise:
        steps = [self.item()]
        while self.eat(">"):
            steps.append(self.item())
        return steps[0] if len(steps) == 1 else Chain(tuple(steps))

    def item(self) -> Noise:
        if self.eat("("):
            inner = self.noise()
            self.expect(")")
            return inner
        token = self.tokens[self.next]
        if token.kind != "name":
            raise self.error(f"expected the name of a noise, found {token}", token.place)
        self.next += 1
        if token.text in self.presets:
            return self.presets[token.text]
        kinds = list_terms()
        if token.text not in kinds:
            raise self.error(str(make_unknown_name_error("noise", token.text, [*kinds, *FORMULAS])), token.place)
        kind, levels = kinds[token.text], self.levels()
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        if len(levels) != len(names):
            form = f"{token.text}({', '.join(names)})" if names else token.text
            count = "1 number is" if len(levels) == 1 else f"{len(levels)} numbers are"
            raise self.error(f"write {form}; {count} given", token.place)
        try:
            return kind(*levels)
        except ValueError as error:
            raise self.error(str(error), token.place) from None

    def levels(self) -> list[Level]:
        levels: list[Level] = []
        if self.eat("(") and not self.eat(")"):
            levels.append(self.level())
            while self.eat(","):
                levels.append(self.level())
            self.expect(")")
        return levels

    def level(self) -> Level:
        place = self.tokens[self.next].place
        low = self.number()
        if not self.eat(".."):
            return low
        high = self.number()
        try:
            return LevelRange(low, high)
        except ValueError as error:
            raise self.error(str(error), place) from None

    def number(self) -> float:
        token = self.tokens[self.next]
        if token.kind != "number":
            raise self.error(f"expected a number, found {token}", token.place)
        self.next += 1
        return float(token.text)


def parse_noise(text: str) -> Noise:
    """Read the text form of a noise, or the name of a preset.

    Args:
        text: The text, at most 10,000 characters.

    Returns:
        The noise.

    Raises:
        ValueError: The text is not a noise. The message names the place.

    >>> parse_noise("gaussian(0.2, 0.05) > multiplicative(0.2,0.1)")
    Chain(steps=(Gaussian(mean=0.2, std=0.05), Multiplicative(mean=0.2, std=0.1)))
    >>> str(parse_noise("gaussian(.3, 5e-2)"))
    'type-1'
    >>> parse_noise("gaussian(0.1 0.2)")
    Traceback (most recent call last):
    ValueError: noise: expected ')', found '0.2'; at character 14 of 'gaussian(0.1 0.2)'
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"noise: the text has {len(text)} characters; at most {_MAX_LENGTH} are allowed")
    return _Parser(re.sub(r"\s", " ", text), PRESETS).parse()


for _name, _formula in FORMULAS.items():
    PRESETS[_name] = _Parser(_formula, PRESETS).parse()
