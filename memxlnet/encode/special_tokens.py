"""The special tokens that every row needs, ``pad`` and ``cls``, and what to do where a tokenizer lacks them."""

from typing import Any, NamedTuple

from memxlnet.errors import TokenizerError


class Cls(NamedTuple):
    """The token that segments without an answer point to.

    Attributes:
        token_id: Its id.
        is_last: Whether it is the last of several special tokens with this id in a row, not the first.
    """

    token_id: int
    is_last: bool


def read_pad(tokenizer: Any) -> int:
    """Return the id of the padding token.

    Raises:
        TokenizerError: The tokenizer has none.
    """
    pad_id = _id_of(tokenizer, "pad")
    if pad_id is not None:
        return pad_id
    if tokenizer.pad_token is None and _id_of(tokenizer, "eos") is not None:
        advice = "set tokenizer.pad_token = tokenizer.eos_token"
    else:
        advice = _adding("pad", tokenizer.pad_token or "[PAD]")
    raise TokenizerError(f"{_name(tokenizer)}: expected a pad token, found {_found(tokenizer, 'pad')}; {advice}")


def read_cls(tokenizer: Any, prefix: tuple[int, ...], middle: tuple[int, ...], suffix: tuple[int, ...]) -> Cls:
    """Return the token that segments without an answer point to: ``cls``, which must stand in each row.

    Where a row holds it more than once, the last one counts if it stands after both texts, since a model that reads
    from left to right knows both only there; else the first one.

    Args:
        tokenizer: A transformers fast tokenizer.
        prefix: Ids of the special tokens before the first text of a pair.
        middle: Those between the texts.
        suffix: Those after the second text.

    Raises:
        TokenizerError: It is missing from the template of a pair; with the steps that put one there.
    """
    special = (*prefix, *middle, *suffix)
    cls_id = _id_of(tokenizer, "cls")
    if cls_id is not None and cls_id in special:
        return Cls(cls_id, is_last=cls_id in suffix and special.count(cls_id) > 1)
    names = list(dict.fromkeys(tokenizer.convert_ids_to_tokens(list(special))))
    raise TokenizerError(
        f"{_name(tokenizer)}: expected a cls token in the template of a pair, to which segments without an answer "
        f"point, found {_found(tokenizer, 'cls')} and a template with "
        f"{', '.join(map(repr, names)) or 'no special tokens'}; {_cls_advice(tokenizer, cls_id, special, names)}"
    )


def _cls_advice(tokenizer: Any, cls_id: int | None, special: tuple[int, ...], names: list[str]) -> str:
    """Return steps after which the template holds the cls token."""
    eos_id, bos_id = _id_of(tokenizer, "eos"), _id_of(tokenizer, "bos")
    if eos_id is not None and eos_id in special:
        return "set tokenizer.cls_token = tokenizer.eos_token"
    if not set(special) <= {bos_id}:
        return f"set tokenizer.cls_token to a token of the template ({' or '.join(map(repr, names))})"
    # The kind of GPT-2, Llama and Qwen: nothing stands after a text.
    steps = []
    if eos_id is None:
        steps.append(
            "tokenizer.add_special_tokens({'eos_token': '</s>'}), after which the model's embeddings must be resized"
            if cls_id is None
            else "tokenizer.eos_token = tokenizer.cls_token"
        )
    # transformers makes the template from these two flags alone.
    steps += ["tokenizer.add_bos_token = True"] * (bos_id in special)
    steps.append("tokenizer.add_eos_token = True")
    steps.append("tokenizer.cls_token = tokenizer.eos_token")
    return f"let eos take its place after each text: {'; '.join(steps)}"


def _id_of(tokenizer: Any, name: str) -> int | None:
    """Return the id of a named special token; None where it is not set, or not in the vocabulary.

    transformers gives the id of ``unk`` for a token that the vocabulary lacks.
    """
    token = getattr(tokenizer, f"{name}_token", None)
    token_id = None if token is None else tokenizer.backend_tokenizer.token_to_id(str(token))
    return None if token_id is None else int(token_id)


def _found(tokenizer: Any, name: str) -> str:
    token = getattr(tokenizer, f"{name}_token", None)
    if token is None:
        return "none"
    return repr(str(token)) + (", which is not in the vocabulary" if _id_of(tokenizer, name) is None else "")


def _adding(name: str, token: Any) -> str:
    added = f"{{'{name}_token': {str(token)!r}}}"
    return f"add it with tokenizer.add_special_tokens({added}) and resize the model's embeddings"


def _name(tokenizer: Any) -> str:
    return f"tokenizer {type(tokenizer).__name__}"
