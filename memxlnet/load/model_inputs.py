"""The entries of a step that a model takes."""

import inspect
from collections.abc import Mapping
from typing import Any

from memxlnet.errors import SettingsError

TYPES_AS_WORDS = frozenset(
    {"codegen", "ctrl", "flaubert", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "openai-gpt", "xlm"}
)
"""Kinds of models (`model_type`) that look ``token_type_ids`` up among their words, and whose tokenizers give none."""


def model_inputs(step: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Keep the entries of a step or batch that a model's ``forward`` names.

    Models of the kinds `TYPES_AS_WORDS` (GPT-2 and others) get no ``token_type_ids``, although their ``forward`` names
    them: to every token they would add the embedding of the word with the id 0 or 1.

    Args:
        step: A step of the time-step-major loader, or a batch.
        model: A torch module; wrappers (`DistributedDataParallel`, `torch.compile`) are looked through.

    Returns:
        The entries whose names are parameters of ``forward``, the tensors themselves; ``token_type_ids`` as above.

    Raises:
        SettingsError: It is not a step, such as a whole group.
    """
    if not isinstance(step, Mapping):
        raise SettingsError(
            f"step: expected one step or batch, found {type(step).__name__}; a group is a sequence of them"
        )
    # Only a wrapper passes everything on; a model may well have a submodule of this name.
    while _takes_anything(model.forward):
        wrapped = [name for name in ("_orig_mod", "module") if hasattr(model, name)]
        if not wrapped:
            break
        model = getattr(model, wrapped[0])
    names = set(inspect.signature(model.forward).parameters)
    if getattr(getattr(model, "config", None), "model_type", None) in TYPES_AS_WORDS:
        names.discard("token_type_ids")
    return {name: value for name, value in step.items() if name in names}


def _takes_anything(forward: Any) -> bool:
    kinds = {parameter.kind for parameter in inspect.signature(forward).parameters.values()}
    return kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
