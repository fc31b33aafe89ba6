"""The text form of a noise: `gaussian(0.2, 0.05) > multiplicative(0.2, 0.1) | poisson(30)`.

Grammar, loosest first; `>` binds tighter than `|`:

    noise := chain ("|" chain)*
    chain := item (">" item)*
    item  := name ["(" level ("," level)* ")"] | preset | "(" noise ")"
    level := number [".." number]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

import daelab.noise.photographic  # noqa: F401  its noises are in the table too
from daelab.errors import unknown
from daelab.noise.kinds import Chain, Level, Mixture, Noise, Range, terms

# What photographs have, over wide ranges, for training blind; each image draws one line. A camera's
# noise comes with the rounding of a file or with JPEG, whose quantisation shapes it.
_REAL = (
    "awgn(0..55)",  # the literature's protocol, of any level
    "awgn(0..55) > quantised",  # the same in a file of 8 bits
    "camera(0.0001..0.02, 0..0.02) > quantised",  # a camera that demosaicks without a trace
    "demosaicked(0.0001..0.004, 0..0.005) > (quantised | jpeg(60..98))",  # a camera in daylight
    "demosaicked(0.0001..0.02, 0..0.02) > (quantised | jpeg(30..95))",  # at a high ISO, or a telephone
    "camera(0.0001..0.01, 0..0.01) > chroma(0..12, 1..6) > (quantised | jpeg(40..95))",  # low light
    "correlated(0..35, 0.4..1.5) > (quantised | jpeg(40..95))",  # scaled, or smoothed by the camera
    "grain(0..0.12, 0.3..1.5) > (quantised | jpeg(50..95))",  # film
    "awgn(0..15) > stripes(0..0.03) > quantised",  # a scanner
    "awgn(0..15) > salt-and-pepper(0..0.05) > quantised",  # dead pixels, dust, transmission
    "awgn(0..10) > jpeg(10..95)",  # a picture that was compressed hard
)

FORMULAS = {
    "type-1": "gaussian(0.3, 0.05)",
    "type-2": "multiplicative(0.8, 0.5)",
    "type-1+2": "gaussian(0.2, 0.05) > multiplicative(0.2, 0.1)",
    "type-2+1": "multiplicative(0.2, 0.2) > gaussian(0.2, 0.05)",
    "table-1": "type-1 | type-2 | type-1+2 | type-2+1",
    "published-code": "type-1 | type-2 | type-1+2 | (multiplicative(0.2, 0.2) > gaussian(0.1, 0.08))",
    "real": " | ".join(_REAL),
}

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9+-]*)|(?P<range>\.\.)|(?P<sign>[(),>|]))"
)
_LONGEST = 2000
_DEEPEST = 20


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


class _Parser:
    """Recursive descent over the tokens; every error shows the place with a caret."""

    def __init__(self, text: str, presets: dict[str, Noise]) -> None:
        self.text = text
        self.presets = presets
        self.tokens = list(self._tokens())
        self.next = 0
        self.depth = 0

    def _tokens(self) -> list[_Token]:
        found, place = [], 0
        stop = len(self.text.rstrip())
        while place < stop:
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                place += len(self.text[place:]) - len(self.text[place:].lstrip())
                raise self.error(f"{self.text[place]!r} has no meaning here", place)
            kind = match.lastgroup
            found.append(_Token(kind, match[kind], match.start(kind)))
            place = match.end()
        return [*found, _Token("end", "the end", stop)]

    def error(self, what: str, place: int) -> ValueError:
        return ValueError(f"noise: {what}\n  {self.text}\n  {' ' * place}^")

    def peek(self, text: str) -> bool:
        token = self.tokens[self.next]
        return token.kind in ("sign", "range") and token.text == text

    def eat(self, text: str) -> bool:
        found = self.peek(text)
        self.next += found
        return found

    def expect(self, text: str) -> None:
        token = self.tokens[self.next]
        if not self.eat(text):
            raise self.error(f"expected {text!r}, found {token.text!r}", token.place)

    def whole(self) -> Noise:
        noise = self.noise()
        token = self.tokens[self.next]
        if token.kind != "end":
            raise self.error(f"expected '>', '|' or the end, found {token.text!r}", token.place)
        return noise

    def noise(self) -> Noise:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error(f"more than {_DEEPEST} brackets deep", self.tokens[self.next].place)
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
            raise self.error(f"expected the name of a noise, found {token.text!r}", token.place)
        self.next += 1
        if token.text in self.presets:
            return self.presets[token.text]
        kinds = terms()
        if token.text not in kinds:
            raise self.error(str(unknown("noise", token.text, [*kinds, *FORMULAS])), token.place)
        kind, levels = kinds[token.text], self.levels()
        wanted = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        if len(levels) != len(wanted):
            form = f"{token.text}({', '.join(wanted)})" if wanted else token.text
            raise self.error(f"write {form}; {len(levels)} numbers given", token.place)
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
            return Range(low, high)
        except ValueError as error:
            raise self.error(str(error), place) from None

    def number(self) -> float:
        token = self.tokens[self.next]
        if token.kind != "number":
            raise self.error(f"expected a number, found {token.text!r}", token.place)
        self.next += 1
        return float(token.text)


def parse(text: str) -> Noise:
    """Read the text form of a noise, or the name of a preset.

    Raises:
        ValueError: the text is not a noise; the message shows the place with a caret.

    >>> parse("gaussian(0.2, 0.05) > multiplicative(0.2,0.1)")
    Chain(steps=(Gaussian(mean=0.2, std=0.05), Multiplicative(mean=0.2, std=0.1)))
    >>> str(parse("gaussian(.3, 5e-2)"))
    'type-1'
    >>> parse("gaussian(0.1 0.2)")
    Traceback (most recent call last):
    ValueError: noise: expected ')', found '0.2'
      gaussian(0.1 0.2)
                   ^
    """
    if len(text) > _LONGEST:
        raise ValueError(f"noise: the text has {len(text)} characters; at most {_LONGEST} are read")
    # on one line, so that the caret stands under its place
    return _Parser(re.sub(r"\s", " ", text), PRESETS).whole()


def preset_of(noise: Noise) -> str | None:
    """The name of the preset that equals `noise`, if one does."""
    return next((name for name, preset in PRESETS.items() if preset == noise), None)


PRESETS: dict[str, Noise] = {}
for _name, _formula in FORMULAS.items():
    PRESETS[_name] = _Parser(_formula, PRESETS).whole()
