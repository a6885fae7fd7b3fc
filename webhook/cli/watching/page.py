"""Templates of pages that open anywhere, offline: the name of a package and a template in, it out.

The frame of every page is here (`page.html`, `page.css`, `page.js`); its content belongs in its
command. Needs Jinja, which the webhook's own image does not have.
"""

from typing import Any

from webhook.cli.exits import Unusable


class PageError(Unusable):
    """A page can't be drawn; the message says what is missing."""


def template(package: str, name: str) -> Any:
    """Load a template of a package's folder `templates`. Raises `PageError` without Jinja."""
    try:
        import jinja2  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PageError("--html needs Jinja: pip install 'podgrace[prove]'") from error
    loaders = [jinja2.PackageLoader(where, "templates") for where in (package, __package__)]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template(name)
