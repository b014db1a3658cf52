"""The console page as files: headers, types, what may be read of a bundle, messages in both languages."""

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fineline.server import console
from fineline.server.auth import AuthSettings
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.models import ModelSlot
from fineline.server.settings import EngineSettings, ServerSettings
from fineline.taxonomy import load_taxonomy

SOURCE = Path(console.__file__).parent
FOLDER = SOURCE / "console"
ASSETS = sorted(file.name for file in FOLDER.iterdir() if file.name not in ("index.html", "card.html"))
TEXTS = {file.name: file.read_text(encoding="utf-8") for file in sorted(FOLDER.iterdir())}
MESSAGES = {language: json.loads(TEXTS[f"messages.{language}.json"]) for language in ("en", "zh")}
SECRET = "not for the web"
FIGURE = '<svg xmlns="http://www.w3.org/2000/svg"><title>Errors &amp; shares</title></svg>'


@pytest.fixture(scope="module")
def client(make_app):
    with TestClient(make_app()) as client:
        yield client


@pytest.fixture
def own(tiny_bundle, tmp_path):
    """A server on a copy of the bundle that a test may change, and its folder."""
    from fineline.server.app import create_app

    folder = tmp_path / "models" / "one"
    shutil.copytree(tiny_bundle, folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "shares.svg").write_text(FIGURE, encoding="utf-8")
    (tmp_path / "models" / "secret.svg").write_text(SECRET, encoding="utf-8")
    settings = ServerSettings(
        engine=EngineSettings(bundle=str(folder), sessions=1), feedback=FeedbackSettings(enabled=False)
    )
    with TestClient(create_app(settings, ModelSlot(settings))) as client:
        yield client, folder


# --- what is served, and how


def test_the_page_runs_only_what_this_server_sends(client):
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(entry.strip().split(" ", 1) for entry in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors", "trusted-types")} == {"'none'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", response.text)


@pytest.mark.parametrize("name", ASSETS)
def test_a_file_has_its_type_and_is_sent_once(client, name):
    types = {"js": "text/javascript", "css": "text/css", "json": "application/json", "svg": "image/svg+xml"}
    first = client.get(f"/console/{name}")
    assert first.status_code == 200
    assert first.text == TEXTS[name]
    assert first.headers["content-type"].split(";")[0] == types[name.rpartition(".")[2]]
    assert "content-security-policy" in first.headers
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = client.get(f"/console/{name}", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(f"/console/{name}", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["index.html", "card.html", "console.py", "no.js", "..%2fconsole.py", "%2e%2e/app.py"])
def test_nothing_else_is_served(client, error_of, name):
    error_of(client.get(f"/console/{name}"), 404)


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_takes_anything_from_elsewhere(name):
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|//[a-z]+\.[a-z]+/", TEXTS[name])


def test_nothing_moves_and_no_markup_is_made_from_strings():
    assert not re.search(r"transition|animation|scroll-behavior", TEXTS["console.css"])
    scripts = "".join(text for name, text in TEXTS.items() if name.endswith(".js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|smooth", scripts)
    assert scripts.count("localStorage.") == 2
    assert "sessionStorage" not in scripts
    assert "document.cookie" not in scripts


def test_the_page_is_no_part_of_the_api_document(client):
    assert not [path for path in client.get("/openapi.json").json()["paths"] if path in ("/", "/console")]
    assert "console" not in client.get("/openapi.json").text


def test_the_page_is_there_before_the_model_is(make_app, error_of):
    client = TestClient(make_app())  # no "with": the start-up has not run
    assert client.get("/").status_code == 200
    for path in ("facts.json", "card", "figures/a.svg"):
        error_of(client.get(f"/console/{path}"), 503, "not_ready")


# --- what it says


def test_facts_are_those_of_taxonomy_policies_and_settings(client, make_app, tmp_path):
    facts = client.get("/console/facts.json").json()
    assert [label["id"] for label in facts["labels"]] == list(load_taxonomy().ids)
    violence = next(label for label in facts["labels"] if label["id"] == "violence")
    assert violence["definition"]["zh"] == load_taxonomy()["violence"].definition_zh
    assert violence["never_flag"]["en"] == list(load_taxonomy()["violence"].never_flag)
    actions = {policy["name"]: policy["actions"] for policy in facts["policies"]}
    assert (actions["cn_measures"]["insult"], actions["international"]["insult"]) == ("block", "review")
    assert all(policy["title"]["zh"] and policy["description"]["zh"] for policy in facts["policies"])
    assert (facts["keys"], facts["appeals"], facts["figures"]) == (False, None, [])
    kept = FeedbackSettings(url=f"sqlite:///{tmp_path}/a.db", texts="plain", appeal_days=7)
    with TestClient(make_app(feedback=kept)) as other:
        appeals = other.get("/console/facts.json").json()["appeals"]
    assert (appeals["keeps_texts"], appeals["days"], appeals["retention_days"]) == (True, 7, 180)


def test_facts_say_whether_keys_are_asked_for(make_app, tmp_path):
    from fineline.server.keys import new_key, write_keys

    write_keys(tmp_path / "keys.toml", [new_key("me", ["judge"])[1]])
    with TestClient(make_app(auth=AuthSettings(keys=str(tmp_path / "keys.toml")))) as client:
        assert client.get("/console/facts.json").json()["keys"] is True
        assert client.get("/").status_code == 200


def test_messages_stand_in_both_languages_with_the_same_blanks():
    english, chinese = MESSAGES["en"], MESSAGES["zh"]
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert re.search(r"[\u4e00-\u9fff]", chinese[key]) or key == "clause.gbt45654-A", key
        assert text.isascii() or key == "judging", key


def test_every_message_is_used_and_every_one_used_is_there():
    page = "".join(text for name, text in TEXTS.items() if name.endswith((".js", ".html")))
    quoted, keyed = re.findall(r'"([a-z_]+)"', page), re.findall(r"\b(model_\w+):", page)
    named = {*quoted, *keyed, *re.findall(r'data-t(?:-label)?="([\w.]+)"', page)}
    made = {"action", "means", "alone", "reason", "group", "clause", "error"}
    whole = {key for key in MESSAGES["en"] if key.partition(".")[0] not in made}
    assert whole <= named
    used = set(re.findall(r'\bt\("([\w.]+)"', page)) | set(re.findall(r'data-t(?:-label)?="([\w.]+)"', page))
    assert used <= set(MESSAGES["en"])


def test_the_messages_know_every_value_of_the_server():
    from fineline.policy import Action
    from fineline.server.desk import Reason
    from fineline.taxonomy import GROUPS, OWN_GROUP

    sources = {clause.split()[0] for label in load_taxonomy() for clause in label.clauses}
    expected = {f"action.{x}" for x in Action} | {f"alone.{x}" for x in Action} | {f"means.{x}" for x in Action}
    expected |= (
        {f"reason.{x}" for x in Reason}
        | {f"group.{x}" for x in (*GROUPS, OWN_GROUP)}
        | {f"clause.{x}" for x in sources}
    )
    assert expected == {key for key in MESSAGES["en"] if "." in key and not key.startswith("error.")}


def test_every_error_the_messages_explain_is_one_of_the_server():
    server = "".join(file.read_text(encoding="utf-8") for file in SOURCE.glob("*.py"))
    codes = {key.removeprefix("error.") for key in MESSAGES["en"] if key.startswith("error.")}
    for code in codes - {"empty", "network", "unreadable", "other", "http_404"}:
        assert f'"{code}"' in server, code


# --- the bundle's card and figures


def test_figures_are_those_of_the_bundle(own):
    client, folder = own
    assert client.get("/console/facts.json").json()["figures"] == [{"name": "shares.svg", "title": "Errors & shares"}]
    figure = client.get("/console/figures/shares.svg")
    assert figure.text == FIGURE
    assert figure.headers["content-type"] == "image/svg+xml"
    assert figure.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert figure.headers["content-security-policy"].endswith("sandbox")
    (folder / "figures" / "shares.svg").unlink()
    assert client.get("/console/figures/shares.svg").json()["error"]["code"] == "figure_unknown"


@pytest.mark.parametrize(
    "path",
    [
        "../bundle.json",
        "..%2fbundle.json",
        "%2e%2e%2fbundle.json",
        "..%5cbundle.json",
        "..%2f..%2fsecret.svg",
        "%2fetc%2fpasswd",
        "....//bundle.json",
        "shares.svg%00",
        ".",
        "link.svg",
        "folder.svg",
        "notes.txt",
    ],
)
def test_no_path_leads_out_of_the_figures(own, error_of, path):
    client, folder = own
    (folder / "figures" / "link.svg").symlink_to(folder.parent / "secret.svg")
    (folder / "figures" / "folder.svg").mkdir()
    (folder / "figures" / "notes.txt").write_text(SECRET, encoding="utf-8")
    error_of(client.get(f"/console/figures/{path}"), 404, marker=SECRET)
    assert [figure["name"] for figure in client.get("/console/facts.json").json()["figures"]] == ["shares.svg"]


def test_the_card_is_shown_as_text_whatever_is_in_it(own, error_of):
    client, folder = own
    card = "---\nlicense: x\n---\n\n# A & B\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n<script>alert(1)</script>\n\n"
    card += "[bad](javascript:alert(1)) ![Shares.](figures/shares.svg)\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    response = client.get("/console/card")
    page = response.text
    assert "<h1>A &amp; B</h1>" in page
    assert page.index('tabindex="0"><table>') < page.index("<td>2</td>") < page.index("</table></div>")
    assert "license" not in page
    assert "<script" not in page
    assert 'href="javascript' not in page
    assert '<img src="figures/shares.svg" alt="Shares."' in page
    assert "<title>tiny@0.0.1: model card</title>" in page
    assert "script-src 'self'" in response.headers["content-security-policy"]
    (folder / "README.md").unlink()
    error_of(client.get("/console/card"), 404, "card_missing")
