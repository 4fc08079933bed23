"""What an edit does, in the words of a policy: for `filterd check` and `filterd explain`."""

from filterd.policy.verdict import (
    TAG_FIELD,
    AddField,
    AddRecipient,
    ChangeSender,
    Edit,
    PrefixSubject,
    RedirectTo,
    RemoveField,
    RemoveRecipient,
    RewriteField,
)


def action_words(edit: Edit) -> str | None:
    """The action and what it is done to; None for what no rule asks for."""
    match edit:
        case AddField(name, _) if name == TAG_FIELD:
            return "tag"
        case AddField(name, _):
            return f"add_header {name}"
        case RemoveField(name, _):
            return f"remove_header {name}"
        case RewriteField(name, _, _):
            return f"rewrite_header {name}"
        case PrefixSubject(text):
            return f"subject_prefix {text}"
        case AddRecipient(address):
            return f"add_recipient {address}"
        case RemoveRecipient(address):
            return f"remove_recipient {address}"
        case RedirectTo(address):
            return f"redirect {address}"
        case ChangeSender(address):
            return f"change_sender {address or '<>'}"
    return None


def edit_words(edit: Edit) -> str | None:
    """The same with the text that it came to."""
    match edit:
        case AddField(name, text):
            return f"adds      {name}: {text}"
        case RewriteField(name, text, _):
            return f"rewrites  {name}: {text}"
    words = action_words(edit)
    return f"edits     {words}" if words else None
