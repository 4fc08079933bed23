"""Comments in structured header fields (RFC 5322 3.2.2).

Answers one question: where does this comment end. What may stand in it is for the field's own parser to say.
"""

import re

_MAX_DEPTH = 32
# Possessive: nothing is tried twice.
_PART = re.compile(r"[^()\\]++|\\.|[()]", re.DOTALL)


def comment_end(text: str, at: int) -> int | None:
    """The index behind the comment whose parenthesis opens at `at`.

    None where it does not end, or comments nest more than 32 deep. Time is linear, and nothing recurses.
    """
    depth = 0
    while found := _PART.match(text, at):
        at = found.end()
        if found.group() == "(":
            depth += 1
            if depth > _MAX_DEPTH:
                return None
        elif found.group() == ")":
            depth -= 1
            if depth == 0:
                return at
    return None
