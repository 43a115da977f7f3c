"""The library of executable operations and token classes of the embedded drafter, in one fixed order.

An operation says what a target token is, given the source token; a token class says what targets, or sources,
are on their own. What each means is decided by its code (`Operation.holds`, `TokenClass.contains`).
"""

from __future__ import annotations

from functools import cache

from describe.drafting.rules.classes import token_class_list
from describe.drafting.rules.code import code_operations
from describe.drafting.rules.forms import Operation, TokenClass
from describe.drafting.rules.inflection import derivation_operations, inflection_operations
from describe.drafting.rules.lexical import lexical_operations
from describe.drafting.rules.numbers import number_operations
from describe.drafting.rules.sequences import sequence_operations
from describe.drafting.rules.spelling import spelling_operations
from describe.drafting.rules.surface import surface_operations

__all__ = ["Operation", "TokenClass", "operations", "token_classes"]


@cache
def operations() -> tuple[Operation, ...]:
    """Every operation of the library; the order and the names are the same in every process."""
    return (
        *surface_operations(),
        *spelling_operations(),
        *inflection_operations(),
        *derivation_operations(),
        *sequence_operations(),
        *number_operations(),
        *lexical_operations(),
        *code_operations(),
    )


@cache
def token_classes() -> tuple[TokenClass, ...]:
    """Every token class of the library, in a fixed order."""
    return token_class_list()
