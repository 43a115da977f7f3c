"""Operations on code, markup and punctuation: closing brackets, partners of keywords, kinds of sign."""

from __future__ import annotations

import re

from describe.drafting.rules.forms import Keys, Operation, pair_operation, swapped
from describe.drafting.rules.lexicon import listed_pairs

_CLOSERS = {
    "(": ")",
    "[": "]",
    "{": "}",
    "<": ">",
    "“": "”",
    "‘": "’",
    "«": "»",
    "（": "）",
    "【": "】",
    "「": "」",
}
_CLOSERS |= {"〈": "〉", "『": "』", "《": "》", "„": "“", "‹": "›", "［": "］", "｛": "｝", "⟨": "⟩"}

_PAIRS = {
    "opposite_operator": "writes the counterpart of the operator it reads",
    "keyword_partner": "writes a keyword that goes with the keyword it reads",
    "opposite_program_word": "writes the counterpart of the program word it reads",
    "extension_to_language": "writes the language of the file extension it reads",
    "library_to_alias": "writes the usual alias of the library it reads",
    "symbol_to_name": "writes the name of the symbol it reads",
}
_INVERSES = {
    "extension_to_language": "writes the file extension of the language it reads",
    "library_to_alias": "writes the library whose usual alias it reads",
    "symbol_to_name": "writes the symbol whose name it reads",
}
_COMMENT_ENDS = {"/*": "*/", "/**": "*/", "<!--": "-->"}
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)>?")

_SIGN_KINDS = {
    "end of sentence": ".?!…。！？",
    "pause": ",;:、，；：",
    "bracket": "()[]{}<>（）【】「」『』《》",
    "quotation mark": "\"'`“”‘’«»„",
    "dash": "-–—−―",
    "arithmetic sign": "+*/=×÷±%^",
    "logical sign": "&|!~¬∧∨",
    "currency sign": "$€£¥₹₽₩₿¢",
    "arrow": "→←↑↓⇒⇐↔➔",
    "bullet": "•·●○■□▪◦★☆",
    "typographic sign": "©®™§¶†‡",
}
_KIND_OF_SIGN = {sign: kind for kind, signs in _SIGN_KINDS.items() for sign in signs}


def code_operations() -> tuple[Operation, ...]:
    """Partners in code and markup (pairs written for this project), and operations on punctuation."""
    return (*_signs(), *_pairs())


def _signs() -> tuple[Operation, ...]:
    return (
        Operation(
            "closing_bracket",
            "code",
            "writes the bracket, quotation mark or comment mark that closes the one it reads",
            _closed,
            _stripped,
            90,
        ),
        Operation(
            "opening_bracket",
            "code",
            "writes the bracket, quotation mark or comment mark that opens what the one it reads closes",
            _stripped,
            _closed,
            90,
        ),
        Operation(
            "same_bracket_kind",
            "code",
            "writes brackets or quotation marks of the kind it reads",
            _bracket_kind,
            _bracket_kind,
            66,
            excludes="same token",
        ),
        Operation(
            "closing_tag", "code", "writes the closing tag of the tag it reads", _opened_tag, _closed_tag, 90
        ),
        Operation(
            "same_sign_repeated",
            "code",
            "writes the sign it reads in a run of another length",
            _run,
            _run,
            70,
        ),
        Operation(
            "same_kind_of_sign",
            "code",
            "writes punctuation of the kind it reads",
            _sign_kind,
            _sign_kind,
            52,
        ),
        Operation(
            "extends_sign",
            "code",
            "writes longer strings of signs that begin with the one it reads",
            _all_signs,
            _sign_beginnings,
            50,
        ),
        Operation(
            "shares_sign",
            "code",
            "writes strings of signs that share a sign with the one it reads",
            lambda text: set(_signs_of(text)),
            lambda text: set(_signs_of(text)),
            30,
        ),
    )


def _pairs() -> tuple[Operation, ...]:
    listed = dict(listed_pairs("code"))
    listed["opposite_program_word"] += tuple(swapped(listed["opposite_program_word"]))
    forward = [pair_operation(n, "code", said, listed[n], specificity=88) for n, said in _PAIRS.items()]
    backward = [
        pair_operation(f"{name}_inverse", "code", sentence, swapped(listed[name]), specificity=87)
        for name, sentence in _INVERSES.items()
    ]
    return (*forward, *backward)


def _signs_of(text: str) -> str:
    """The token without spaces if it holds neither letter nor digit, else ''."""
    stripped = text.strip()
    return "" if any(sign.isalnum() or sign.isspace() or sign == "\ufffd" for sign in stripped) else stripped


def _stripped(text: str) -> Keys:
    return (_signs_of(text),) if _signs_of(text) else ()


def _closed(text: str) -> Keys:
    """What closes a token made of opening brackets alone, innermost first: `([` → `])`."""
    signs = _signs_of(text)
    if signs in _COMMENT_ENDS:
        return (_COMMENT_ENDS[signs],)
    if not signs or not set(signs) <= _CLOSERS.keys():
        return ()
    return ("".join(_CLOSERS[sign] for sign in reversed(signs)),)


_BRACKET_KIND = {sign: opener for opener, closer in _CLOSERS.items() for sign in (opener, closer)}


def _bracket_kind(text: str) -> Keys:
    return {_BRACKET_KIND[sign] for sign in _signs_of(text) if sign in _BRACKET_KIND}


def _opened_tag(text: str) -> Keys:
    match = _TAG.fullmatch(text.strip())
    return (match[1].lower(),) if match and not text.strip().startswith("</") else ()


def _closed_tag(text: str) -> Keys:
    match = _TAG.fullmatch(text.strip())
    return (match[1].lower(),) if match and text.strip().startswith("</") else ()


def _run(text: str) -> Keys:
    return set(_signs_of(text)) if len(set(_signs_of(text))) == 1 else ()


def _sign_kind(text: str) -> Keys:
    kinds = {_KIND_OF_SIGN.get(sign) for sign in _signs_of(text)}
    return kinds - {None} if len(kinds) == 1 else ()


def _all_signs(text: str) -> Keys:
    return _stripped(text)


def _sign_beginnings(text: str) -> Keys:
    signs = _signs_of(text)
    return [signs[:size] for size in range(1, len(signs))]
