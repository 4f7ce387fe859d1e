"""Texts on which tokenizers are known to differ from their parts: what every build is checked on besides its own."""

from typing import Final

from tokenizers import Tokenizer

PLAIN_QUESTION: Final = "Who was it?"
PLAIN_CONTEXT: Final = "The lamp of the harbour was lit in 1898 by (one) keeper; it's still there."

HARD_TEXTS: Final = (
    "",
    " ",
    ".",
    "  leading and trailing blanks \t\n ",
    "two  blanks,   three,\tone tab,\r\nlines\n\n\nand \u00a0\u3000\u2003\u200b others",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m Vi\u1ec7t Nam \u1e69",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m Vie\u0323\u0302t s\u0307\u0323",
    "\u0301first a mark, then \ufb01ve \u2460 \u00bd \uff21\uff22 \u2122 \u0130\u0131 \u00df \u01c5 \u2126",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1eb\U0001f1f7 ok\u200dok \u2764\ufe0f",
    "\u5728136\u6b21\u6bd4\u8d5b\u4e2d\uff0c \u4ed6 scored 24 \u5206\u3002\u30ab\u3099\u30ac \uac00\u1100\u1161",
    "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651\u0629\u060c \u0648 \ufefb \u0661\u0662\u0663 \u0640",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937 \u0958 \u0967\u0968 \u0e44\u0e17\u0e22 \u0b95\u0bcb",
    "\x00null \x01\x1b[0m \x7f \x85 \ufeff \ufffd \ufffe \u0378 \ue000 \U000e0001 \u202eright \u00adsoft",
    "unbrokenword" * 12,
    "0123456789" * 4 + " 3.14159 1,000,000 1990s 50% $5 #1",
    "... --- ``quoted'' \"yes\" 'no' (a)[b]{c}<d> a/b a_b a@b.c \u201chi\u201d \u2026 \u2014 !?!?!? '''",
    "don't we'll I'M O'Neil rock'n'roll e-mail U.S.A. iPhone \u2581low \u0120low ##ing",
)
"""Each is used as a context and as a question."""

_HARD_CHARACTERS = (
    "\t\n\r\v\x0c\x1c\x85\u00a0\u1680\u2003\u2028\u202f\u3000"
    "\x00\x01\x7f\u00ad\u200b\u200c\u200d\u2060\ufeff\ufffd\ufffe\u0378\ue000"
    "\u0301\u0327\u0345\u0640\u064e\u093c\u094d\u09be\u0e33\u0f71\u1161\u3099\uff9e\ufe0f\U0001f3fd"
    "\u00e9\u0130\u00df\u01c5\u0344\u03a3\u2126\u2581\u0120\u4e2d\uac00\ufb01\uff21\U0001f600\U00020000"
)

CHARACTER_TEXTS: Final = tuple(f"ab{one}c {one}{one} {one}d" for one in _HARD_CHARACTERS)
"""One hard character each, so that none hides another: a text with one may be tokenized in another way as a whole."""

_ADDED_TOKENS = 12


def added_token_texts(backend: Tokenizer) -> list[str]:
    """Texts in which the first and the last added tokens of a tokenizer stand, also within words."""
    contents = [token.content for token in backend.get_added_tokens_decoder().values()]
    some = list(dict.fromkeys([*contents[:_ADDED_TOKENS], *contents[-_ADDED_TOKENS:]]))
    if not some:
        return []
    return [
        "".join(f"a {token} b{token}c " for token in some),
        "".join(some),
        some[0],
        " ".join(token[:-1] for token in some),
    ]
