"""What the composites share: a line for messages, errors as messages, and a picture where nothing can be clicked."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import ipywidgets as widgets

from meshlab.errors import MeshlabError
from meshlab.markup import BAD, bullets, safe, short

P = ParamSpec("P")
Self = TypeVar("Self", bound="Panel")


class Panel:
    """A composite of controls.  ``ui`` is what is shown, ``message`` the line for what went wrong.

    In a notebook without widgets (a page on the web, a printed one) the picture of
    ``to_png`` stands for it.
    """

    def __init__(self) -> None:
        self.message = shown("message")
        self.ui: widgets.Widget = self.message

    def say(self, *texts: str) -> None:
        """Show messages about what went wrong, in place of those before; none takes them away."""
        told = f"<div role='alert' style='color:{BAD}'>{bullets(texts, len(texts))}</div>" if texts else ""
        if self.message.value != told:
            self.message.value = told

    def to_png(self) -> bytes | None:
        """A picture of what is shown; None when there is nothing to draw."""
        return None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        bundle: dict[str, Any] = dict(self.ui._repr_mimebundle_())
        bundle["text/plain"] = repr(self)
        png = self.to_png()
        return bundle if png is None else bundle | {"image/png": b64encode(png).decode()}


def guarded(method: Callable[Concatenate[Self, P], Any]) -> Callable[Concatenate[Self, P], None]:
    """What a control calls: whatever it raises becomes a message in the panel, and the kernel goes on."""

    @wraps(method)
    def run(panel: Self, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(panel, *args, **kwargs)
        except MeshlabError as error:
            panel.say(error.message, error.hint)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            panel.say(f"{error.strerror or error}{where}", "check that the store is there and can be read")
        except Exception as error:
            panel.say(f"unexpected {type(error).__name__}: {short(str(error))}", "please report this")

    return run


def shown(name: str) -> Any:
    """A place for HTML, with a class of its own for those who style pages."""
    return widgets.HTML().add_class(f"meshlab-{name}")


def picture(name: str = "") -> Any:
    """A place for a picture, which takes no room while it has none: see ``put``."""
    image = widgets.Image(format="png", layout={"max_width": "880px", "display": "none"})
    return image.add_class(f"meshlab-{name}") if name else image


def put(image: Any, png: bytes) -> None:
    """Show a picture, or none."""
    image.value = png
    image.layout.display = None if png else "none"


def line(text: str) -> str:
    """A text as one line of HTML."""
    return f"<div style='line-height:1.4'>{safe(text)}</div>"
