"""Who looks at a page, and how: the person, the language, the light."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from starlette.requests import Request

from polydetr.errors import PolydetrError
from polydetr.web.words import COOKIE, Words, language_of

Role = Literal["viewer", "editor", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "editor", "admin")
"""From who only looks to who decides; each may what those before it may."""
THEMES = ("system", "light", "dark")
THEME_COOKIE = "polydetr_theme"
SESSION_COOKIE = "polydetr_session"


class SomeOne(Protocol):
    """A person, by name and role."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...


@dataclass(frozen=True)
class Anybody:
    """Who looks where nobody has to sign in, or before that."""

    name: str
    role: Role


class NotAllowed(PolydetrError):
    """The person who looks may not do that; ``ended``: nobody is signed in any more."""

    def __init__(self, message: str, *, hint: str | None = None, ended: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.ended = ended


@dataclass(frozen=True)
class Viewer:
    """One page's reader. base: what stands before every address of the pages, such as ``/studio``. now: the person as
    of this moment, None where the session has ended; asked before everything that changes something.
    """

    words: Words
    theme: str
    base: str
    person: SomeOne
    has_people: bool
    now: Callable[[], Awaitable[SomeOne | None]] = field(repr=False)

    @property
    def dark(self) -> bool | None:
        """As the frame wants it; None: as the system has it."""
        return {"light": False, "dark": True}.get(self.theme)

    def may(self, role: Role) -> bool:
        """Whether a button of this role is shown; that it may be pressed is ``require``'s."""
        return ROLES.index(self.person.role) >= ROLES.index(role)

    async def require(self, role: Role) -> SomeOne:
        """The person, who has at least this role now.

        Raises:
            NotAllowed.
        """
        person = await self.now()
        if person is None:
            raise NotAllowed(self.words("people.ended"), hint=self.words("people.ended.hint"), ended=True)
        if ROLES.index(person.role) < ROLES.index(role):
            wanted = self.words(f"people.role.{role}")
            raise NotAllowed(self.words("people.role.needed", role=wanted), hint=self.words("people.role.hint"))
        return person


def taste_of(request: Request) -> tuple[Words, str]:
    """The words and the theme that a request asks for."""
    language = language_of(request.cookies.get(COOKIE), request.headers.get("accept-language"))
    theme = request.cookies.get(THEME_COOKIE, "system")
    return Words(language), theme if theme in THEMES else "system"
