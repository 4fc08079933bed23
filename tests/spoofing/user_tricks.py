"""Our own users: logged in as one, and writing as another, so that our signature would speak for it.

Sources: "Composition Kills" 6.2, "Weak Links in Authentication Chains" A1.
"""

from spoofing.cast import USER_IP, Attack, Honest, mail

_KNOWN = "Composition Kills 6.2"

_FROM: dict[str, tuple[bytes, ...]] = {
    "another": (b"From: ceo@home.example",),
    "another, upper case": (b"From: CEO@HOME.EXAMPLE",),
    "another, with the name of the user": (b'From: "eve@home.example" <ceo@home.example>',),
    "two fields, the user first": (b"From: eve@home.example", b"From: ceo@home.example"),
    "two fields, another first": (b"From: ceo@home.example", b"From: eve@home.example"),
    "two fields, a space before the colon": (b"From: eve@home.example", b"From : ceo@home.example"),
    "two authors": (b"From: eve@home.example, ceo@home.example",),
    "two authors, another first": (b"From: <ceo@home.example>, <eve@home.example>",),
    "a group": (b"From: eve: ceo@home.example;",),
    "a comment": (b"From: ceo@home.example (eve@home.example)",),
    "a route": (b"From: <@eve@home.example:ceo@home.example>",),
    "a quoted local part": (b'From: "eve@home.example"@home.example',),
    "no From": (b"Sender: eve@home.example",),
    "an empty From": (b"From: ", b"Sender: eve@home.example"),
    "Sender of the user": (b"From: ceo@home.example", b"Sender: eve@home.example"),
    "Resent-From of the user": (b"Resent-From: eve@home.example", b"From: ceo@home.example"),
    "a name below": (b"From: eve@sub.home.example",),
    "other letters": ("From: ceo@ｈｏｍｅ。example".encode(),),
    "another domain": (b"From: ceo@bank.example",),
}


def attacks() -> list[Attack]:
    return [
        Attack(f"user: {name}", mail(*fields), b"<eve@home.example>", b"phone", USER_IP, user="eve", known=_KNOWN, twin="user", ends="unsigned")
        for name, fields in _FROM.items()
    ]  # fmt: skip


def honest() -> list[Honest]:
    return [
        Honest(name, mail(*fields), b"<eve@home.example>", b"phone", USER_IP, user="eve", author="home.example")
        for name, fields in {
            "user": (b"From: eve@home.example",),
            "user with a name": (b"From: Eve (the CEO) <eve@HOME.example>", b"Sender: ceo@home.example"),
            "user of a list": (b"From: list@sub.home.example",),
        }.items()
    ]  # fmt: skip
