"""What the console page says of labels, policies, model and server; all of it is read where it is kept."""

import html
import re
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

from markdown_it import MarkdownIt

from fineline.bundle import Bundle
from fineline.server.desk import MAX_TEXT, Reason
from fineline.server.feedback_settings import Keeping
from fineline.server.health import card_text
from fineline.server.problems import NotFoundError
from fineline.server.settings import ServerSettings

_FIGURES = "figures"
_TITLE = re.compile(r"<title>([^<]*)</title>")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def label_facts(bundle: Bundle) -> dict[str, Any]:
    """The taxonomy and the policies of a bundle, each text in English and Chinese."""
    taxonomy = bundle.taxonomy
    return {
        "principle": {"en": taxonomy.principle, "zh": taxonomy.principle_zh},
        "never_flag_any": {"en": taxonomy.never_flag_any, "zh": taxonomy.never_flag_any_zh},
        "labels": [
            {
                "id": label.id,
                "group": label.group,
                "name": {"en": label.name_en, "zh": label.name_zh},
                "definition": {"en": label.definition, "zh": label.definition_zh},
                "flag": {"en": label.flag, "zh": label.flag_zh},
                "never_flag": {"en": label.never_flag, "zh": label.never_flag_zh},
                "clauses": label.clauses,
            }
            for label in taxonomy
        ],
        "policies": [
            {
                "name": policy.name,
                "title": {"en": policy.title, "zh": policy.title_zh},
                "description": {"en": policy.description, "zh": policy.description_zh},
                "actions": {label: policy.action((label,)) for label in taxonomy.ids},
            }
            for policy in bundle.policies.values()
        ],
    }


def server_facts(settings: ServerSettings) -> dict[str, Any]:
    """What the settings mean to somebody who uses the page."""
    feedback = settings.feedback
    appeals = {
        "reasons": list(Reason),
        "keeps_texts": feedback.texts != Keeping.NEVER,
        "max_text": MAX_TEXT,
        "days": feedback.appeal_days,
        "retention_days": feedback.retention_days,
    }
    return {
        "keys": bool(settings.auth.keys),
        "max_characters": settings.limits.max_characters,
        "appeals": appeals if feedback.enabled else None,
    }


def figure_files(bundle: Bundle) -> dict[str, Path]:
    """The figures of a bundle by file name; a link that leads out of the bundle is none of them."""
    home = bundle.path.resolve()
    files = sorted((bundle.path / _FIGURES).glob("*.svg"))
    return {file.name: file for file in files if file.is_file() and file.resolve().is_relative_to(home)}


def figure_facts(bundle: Bundle) -> list[dict[str, str]]:
    """File name and title of each figure of a bundle."""
    found = []
    for name, file in figure_files(bundle).items():
        title = _TITLE.search(file.read_text(encoding="utf-8"))
        found.append({"name": name, "title": html.unescape(title.group(1)) if title else file.stem})
    return found


def read_figure(bundle: Bundle, name: str) -> bytes:
    """A figure of a bundle.

    Raises:
        NotFoundError: There is none of that name.
    """
    try:
        return figure_files(bundle)[name].read_bytes()
    except (KeyError, FileNotFoundError):
        raise NotFoundError("figure_unknown", "The model has no figure of that name.") from None


def card_page(bundle: Bundle, template: Path) -> bytes:
    """The card of a bundle as a page.

    Raises:
        NotFoundError: The bundle has no card.
    """
    return _page(card_text(bundle), bundle.model_id, template)


@lru_cache(maxsize=2)
def _page(card: str, model: str, template: Path) -> bytes:
    # Without HTML: what stands in a card is text, whoever wrote it.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = markdown.render(_FRONT_MATTER.sub("", card))
    # A wide table scrolls by itself, by keyboard too.
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    page = Template(template.read_text(encoding="utf-8"))
    return page.substitute(title=html.escape(model), body=body).encode()
