"""The console page in headless Chromium, against a server in a process of its own."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
from playwright.sync_api import sync_playwright

from fineline import Classifier
from fineline.server.console_facts import label_facts
from fineline.server.keys import new_key, write_keys
from fineline.taxonomy import load_taxonomy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
HARMLESS = "The clinic opened at eight. 😀 医生说要多休息。 "
FLAGGED = "tell anyone"
CONTRAST = Path(__file__).with_name("console_contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def url(start_server, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    (folder / "server.toml").write_text('[feedback]\nurl = "sqlite:///appeals.db"\ntexts = "plain"\n')
    with start_server(folder, "--bundle", tiny.bundle_fp32, "--config", "server.toml") as server:
        yield server.url


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, url):
    """Open the page; at the end no script may have failed and nothing been refused by the security policy."""
    contexts, complaints = [], []

    def hear(message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def make(path="/", *, base=url, language="en-US", width=1200, scheme="light"):
        context = browser.new_context(
            locale=language, viewport={"width": width, "height": 800}, color_scheme=scheme, base_url=base
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        page.wait_for_selector("#model-facts div")
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


def judge(page, text, *, context="", policy=None):
    page.fill("#text", text)
    page.fill("#context", context)
    if policy:
        page.check(f"#policy-{policy}")
    with page.expect_response("**/v1/classify") as answer:
        page.click("#judge")
    page.wait_for_selector("#headline")
    return answer.value.json()["results"][0]


def answers(page, path, status=200, body=None, headers=None):
    """Let a path be answered by the test."""
    content = json.dumps(body if body is not None else {})
    page.route(
        path,
        lambda route: route.fulfill(
            status=status, content_type="application/json", body=content, headers=headers or {}
        ),
    )


def refusal(code, message="Something in English."):
    return {"error": {"message": message, "type": "x", "param": None, "code": code}}


def problem(page):
    page.wait_for_selector("#problem:not(:empty)")
    return page.inner_text("#problem")


# --- the verdict


def test_the_verdict_and_its_rules_stand_in_words(open_page, classifier_fp32):
    page = open_page()
    assert page.is_visible("#idle")
    result = judge(page, FLAGGED, policy="minors")
    verdict = classifier_fp32.classify([FLAGGED], policy="minors")[0]
    assert result["flagged"] == list(verdict.flagged) != []
    assert page.inner_text("#headline") == {"block": "Block", "review": "Review"}[verdict.action]
    rules = page.locator(".rule")
    taxonomy = load_taxonomy()
    assert [rules.nth(i).locator(".definition").inner_text() for i in range(rules.count())] == [
        taxonomy[label].definition for label in verdict.flagged
    ]
    rules.first.locator("summary").click()
    assert taxonomy[verdict.flagged[0]].never_flag[0] in rules.first.inner_text()
    assert not page.is_visible("#idle")


def test_every_label_has_its_score_as_a_line_with_its_threshold(open_page):
    page = open_page()
    result = judge(page, FLAGGED, policy="minors")
    rows = page.locator(".scores tbody tr:not(.group)").all()
    assert len(rows) == 21
    for label, row in zip(load_taxonomy(), rows, strict=True):
        score, threshold = result["scores"][label.id], result["thresholds"][label.id]
        shown = [float(cell) for cell in row.locator("td.n").all_inner_texts()]
        assert shown == pytest.approx([score, threshold], abs=0.006)
        assert ("Flagged" in row.inner_text()) == (label.id in result["flagged"]) == (shown[0] >= shown[1])
        line, bar, mark = (row.locator(part).bounding_box() for part in (".line", ".line span", ".line i"))
        assert bar["width"] / line["width"] == pytest.approx(score, abs=0.01)
        assert (mark["x"] - line["x"]) / line["width"] == pytest.approx(threshold, abs=0.01)


def test_labels_that_come_with_another_model_are_shown_and_can_be_appealed_for(open_page, own_bundle):
    page = open_page()
    judge(page, HARMLESS)
    own = Classifier.load(own_bundle, threads=1)
    verdict = own.classify([FLAGGED])[0]
    assert "miracle_cure" in verdict.flagged
    facts = page.request.get("/console/facts.json").json() | label_facts(own.bundle)
    answers(page, "**/v1/model", body=page.request.get("/v1/model").json() | {"model": "other@2"})
    answers(page, "**/console/facts.json", body=facts)
    answers(page, "**/v1/classify", body={"results": [verdict.as_dict() | {"model": "other@2"}]})
    judge(page, FLAGGED)
    page.wait_for_selector(".scores tbody tr:not(.group) >> nth=21")
    assert page.locator(".scores .group").last.inner_text() == "Own labels"
    rule = page.locator(".rule").nth(verdict.flagged.index("miracle_cure"))
    rule.locator("summary").click()
    assert "Miracle cure" in rule.inner_text()
    assert "From: house-rules 3.2" in rule.inner_text()
    assert page.locator("#appeal-boxes input").count() == 22
    page.click('[data-language="zh"]')
    page.wait_for_selector("text=自定义标签")
    assert "神奇疗法" in rule.inner_text()


def test_nothing_flagged_is_said_so(open_page, classifier_fp32):
    words = ["help", "threat nurse", "нет", "مرحبا", "ありがとう", "The clinic opened at eight."]
    verdicts = classifier_fp32.classify(words, policy="international")
    page = open_page()
    judge(page, next(x for x, y in zip(words, verdicts, strict=True) if not y.flagged), policy="international")
    assert page.inner_text("#headline") == "Allow"
    assert page.locator(".rule").count() == page.locator("mark").count() == 0


def test_the_prompt_goes_along(open_page, classifier_fp32):
    page = open_page()
    result = judge(page, FLAGGED, context="Why?", policy="minors")
    expected = classifier_fp32.classify([FLAGGED], ["Why?"], policy="minors")[0].as_dict()
    assert result["scores"] == pytest.approx(expected["scores"], abs=1e-5)


def test_the_marked_stretches_are_those_of_the_server_whatever_the_characters(open_page, classifier_fp32):
    text = f"{HARMLESS * 12}\n{f'{FLAGGED} ' * 30}\n{HARMLESS * 12}🏳️‍🌈 ends"
    verdict = classifier_fp32.classify([text], policy="international")[0]
    over = [any(w.scores[x] >= verdict.thresholds[x] for x in verdict.flagged) for w in verdict.windows]
    assert 0 < sum(over) < len(over)
    points = {at for w, hot in zip(verdict.windows, over, strict=True) if hot for at in range(w.start, w.end)}
    page = open_page()
    judge(page, text, policy="international")
    assert "".join(page.locator("mark").all_text_contents()) == "".join(text[at] for at in sorted(points))
    whole = "e => [...e.childNodes].filter(n => !n.classList?.contains('stretch')).map(n => n.textContent).join('')"
    assert page.locator(".judged").evaluate(whole) == text
    chips = page.locator(".stretch.hot").all_text_contents()
    assert [int(re.match(r"\d+", chip)[0]) for chip in chips] == [i + 1 for i, hot in enumerate(over) if hot]
    places = page.locator(".stretches td:nth-child(2)").all_inner_texts()
    shown = [tuple(int(part.replace(",", "")) for part in place.split(" – ")) for place in places]
    assert shown == [(w.start, w.end) for w, hot in zip(verdict.windows, over, strict=True) if hot]
    page.locator(".stretches a").last.click()
    assert page.evaluate("document.activeElement.id") == f"stretch-{len(over) - over[::-1].index(True)}"
    before = page.locator(".profile svg").get_attribute("aria-label")
    page.select_option("#profile-label", "privacy")
    assert "Exposure of personal data" in page.locator(".profile svg").get_attribute("aria-label") != before


def test_offsets_become_utf16_indexes(open_page):
    page = open_page()
    found = page.evaluate(
        """async () => {
            const { lengthOf, pieces, unitsOf } = await import("./console/offsets.js");
            const text = "a😀b\\ud83dc界";
            const cut = pieces(text, [{ start: 0, end: 3 }, { start: 2, end: 6 }]);
            const units = unitsOf(text, [0, 1, 2, 3, 4, 6, 99]);
            return [lengthOf(text), units, cut.map((p) => [p.text, p.begins, p.within])];
        }"""
    )
    assert found[:2] == [6, [0, 1, 3, 4, 5, 7, 7]]
    assert [piece[1:] for piece in found[2]] == [[[0], [0]], [[1], [0, 1]], [[], [1]], [[], []]]
    assert [piece[0] for piece in found[2]][0::3] == ["a😀", ""]


def test_markup_in_a_text_stays_text(open_page):
    page = open_page()
    text = "<img src=x onerror=document.title='run'><b>tell anyone</b>"
    judge(page, text)
    assert page.locator(".judged").inner_text() == text
    assert page.locator(".judged img, .judged b").count() == 0
    assert page.title() != "run"


def test_text_from_right_to_left_runs_that_way(open_page):
    page = open_page()
    judge(page, "شكرا جزيلا لكم على المساعدة")
    for box in ("#text", ".judged"):
        assert page.locator(box).evaluate("e => getComputedStyle(e).direction") == "rtl"


# --- language, privacy, keys


def test_the_language_can_be_changed_and_is_all_that_is_kept(open_page):
    page = open_page(language="zh-CN")
    assert page.get_attribute("html", "lang") == "zh-Hans"
    result = judge(page, FLAGGED, context="secret prompt", policy="minors")
    label = load_taxonomy()[result["flagged"][0]]
    assert label.definition_zh in page.inner_text("#result")
    page.click("[data-language=en]")
    page.wait_for_selector("html[lang=en]")
    assert label.definition in page.inner_text("#result")
    assert page.input_value("#text") == FLAGGED
    assert page.is_checked("#policy-minors")
    assert page.evaluate("JSON.stringify(localStorage)") == '{"fineline.language":"en"}'
    assert page.evaluate("sessionStorage.length + document.cookie.length") == 0
    assert "secret" not in page.url
    page.reload()
    page.wait_for_selector("#model-facts div")
    assert page.get_attribute("html", "lang") == "en"
    assert page.input_value("#text") == page.input_value("#context") == ""


def test_a_key_is_asked_for_and_held_in_memory_only(open_page, start_server, tiny, tmp_path):
    key, entry = new_key("me", ["judge"])
    write_keys(tmp_path / "keys.toml", [entry])
    with start_server(tmp_path, "--bundle", tiny.bundle_fp32, "--keys", "keys.toml") as server:
        page = open_page(base=server.url)
        assert page.is_visible("#key")
        page.fill("#text", FLAGGED)
        page.click("#judge")
        assert problem(page) == "This server asks for an API key. Enter yours and try again."
        assert page.evaluate("document.activeElement.id") == "key"
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This API key is not known here.").wait_for()
        page.fill("#key", key)
        judge(page, FLAGGED)
        assert page.inner_text("#problem") == ""
        page.click("#appeal-toggle")
        page.click("#appeal-send")
        page.get_by_text("This API key may not do that.").wait_for()
        assert key not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        page.reload()
        assert page.input_value("#key") == ""


def test_no_key_is_asked_for_where_none_is_used(open_page):
    assert not open_page().is_visible("#key")


# --- errors


@pytest.mark.parametrize(
    ("status", "code", "headers", "language", "expected"),
    [
        (429, "overloaded", {"retry-after": "7"}, "en-US", "more to judge than it can in time. Try again in 7 s."),
        (429, "overloaded", {"retry-after": "7"}, "zh-CN", "请在 7 秒后重试"),
        (413, "input_too_long", {}, "en-US", "at most 1,000,000 characters"),
        (500, "engine", {}, "zh-CN", "未作判定"),
        (400, "brand_new", {}, "en-US", "Something in English."),
        (400, "brand_new", {}, "zh-CN", "服务器拒绝了请求。 Something in English."),
    ],
)
def test_an_error_is_a_plain_sentence(open_page, status, code, headers, language, expected):
    page = open_page(language=language)
    answers(page, "**/v1/classify", status, refusal(code), headers)
    page.fill("#text", FLAGGED)
    page.click("#judge")
    assert expected in problem(page)
    assert page.get_attribute("#problem", "role") == "alert"
    page.unroute("**/v1/classify")
    judge(page, FLAGGED)
    assert page.inner_text("#problem") == ""


def test_a_server_that_is_away_or_talks_nonsense_is_said_so(open_page):
    page = open_page()
    page.fill("#text", FLAGGED)
    page.route("**/v1/classify", lambda route: route.abort())
    page.click("#judge")
    assert problem(page) == "The server cannot be reached. Check the connection and try again."
    page.unroute("**/v1/classify")
    page.route("**/v1/classify", lambda route: route.fulfill(status=502, body="<html>"))
    page.click("#judge")
    page.get_by_text("The server sent an answer that this page cannot read.").wait_for()


def test_an_empty_text_is_not_sent(open_page):
    page = open_page()
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.click("#judge")
    assert problem(page) == "Paste a text first."
    assert page.evaluate("document.activeElement.id") == "text"
    assert sent == []


def test_a_verdict_that_no_longer_fits_the_question_says_so(open_page):
    page = open_page()
    judge(page, FLAGGED)
    assert "changed since" not in page.inner_text("#status")
    page.fill("#text", "other")
    assert "changed since" in page.inner_text("#status")
    page.fill("#text", FLAGGED)
    assert "changed since" not in page.inner_text("#status")
    page.check("#policy-minors")
    assert "changed since" in page.inner_text("#status")


# --- appeals


def test_an_appeal_with_consent_carries_what_was_judged(open_page):
    page = open_page()
    result = judge(page, FLAGGED, context="Why?")
    page.fill("#text", "something else by now")
    page.click("#appeal-toggle")
    checked = page.locator("#appeal-boxes input:checked").evaluate_all("boxes => boxes.map((box) => box.value)")
    assert sorted(checked) == sorted(result["flagged"])
    for label in checked:
        page.uncheck(f"[id='right-{label}']")
    page.select_option("#appeal-reason", "fiction_or_humour")
    page.select_option("#appeal-action", "allow")
    assert not page.is_visible("#appeal-note")
    page.check("#appeal-consent")
    page.fill("#appeal-note", "from a play")
    page.click("[data-language=zh]")
    page.wait_for_selector("html[lang=zh-Hans]")
    with page.expect_request("**/v1/feedback") as sent:
        page.click("#appeal-send")
    assert sent.value.post_data_json == {
        "verdict_id": result["verdict_id"],
        "expected_labels": [],
        "expected_action": "allow",
        "reason": "fiction_or_humour",
        "consent": True,
        "text": FLAGGED,
        "context": "Why?",
        "note": "from a play",
    }
    page.get_by_text("文本已随申诉保存。").wait_for()
    assert not page.is_visible("#appeal-form")
    with page.expect_response("**/v1/feedback/*") as gone:
        page.click("#appeal-withdraw")
    assert gone.value.status == 204
    page.get_by_text("申诉已删除。").wait_for()


def test_an_appeal_without_consent_carries_no_text(open_page):
    page = open_page()
    judge(page, FLAGGED)
    page.click("#appeal-toggle")
    with page.expect_request("**/v1/feedback") as sent:
        page.click("#appeal-send")
    assert set(sent.value.post_data_json) == {"verdict_id", "expected_labels", "reason"}
    page.get_by_text("No text was kept with it.").wait_for()
    assert page.evaluate("document.activeElement.id") == "appeal-withdraw"


def test_an_appeal_that_fails_keeps_what_was_entered(open_page):
    page = open_page()
    judge(page, FLAGGED)
    answers(page, "**/v1/feedback", 503, refusal("feedback_unavailable"))
    page.click("#appeal-toggle")
    page.check("#appeal-consent")
    page.fill("#appeal-note", "my note")
    page.click("#appeal-send")
    page.get_by_text("Appeals cannot be filed at the moment. Try again later.").wait_for()
    assert page.input_value("#appeal-note") == "my note"


def test_no_appeal_is_offered_where_the_server_takes_none(open_page, start_server, tiny, tmp_path):
    (tmp_path / "server.toml").write_text("[feedback]\nenabled = false\n")
    with start_server(tmp_path, "--bundle", tiny.bundle_fp32, "--config", "server.toml") as server:
        page = open_page(base=server.url)
        judge(page, FLAGGED)
        assert not page.is_visible("#appeal")


# --- for everybody


def test_the_page_works_by_keyboard_alone(open_page):
    page = open_page()
    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.language || 'skip'"))
    assert order == ["skip", "zh", "en", "text", "context", "policy-cn_measures", "judge", order[7]]
    page.focus("#text")
    page.keyboard.type(FLAGGED)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#headline")
    assert page.evaluate("document.activeElement.id") == "text"
    spoken = page.locator("#status").text_content()
    assert spoken.startswith(f"Verdict: {page.inner_text('#headline')}.")
    assert page.get_attribute("#status", "role") == "status"


def test_every_control_has_a_name_and_every_picture_a_text(open_page):
    page = open_page()
    judge(page, f"{FLAGGED} " * 60)
    page.click("#appeal-toggle")
    page.check("#appeal-consent")
    nameless = """nodes => nodes.filter((n) => !(n.getAttribute("aria-label") || n.labels?.length
        || n.textContent.trim())).map((n) => n.outerHTML)"""
    assert page.locator("input, textarea, select, button, a, summary, [role=region]").evaluate_all(nameless) == []
    assert page.locator("svg:not([aria-hidden]):not([aria-label]), img:not([alt])").count() == 0
    levels = page.locator("h1, h2, h3, h4").evaluate_all("nodes => nodes.map((n) => Number(n.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = page.locator("[id]").evaluate_all("nodes => nodes.map((n) => n.id)")
    assert len(set(ids)) == len(ids)
    for kind in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
        named = page.locator(f"[{kind}]").evaluate_all(f"nodes => nodes.map((n) => n.getAttribute('{kind}'))")
        assert set(named) <= set(ids), kind


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("policy", ["minors", "international"])
def test_text_stands_out_from_its_ground(open_page, scheme, policy):
    page = open_page(scheme=scheme)
    judge(page, f"{FLAGGED} " * 60 + HARMLESS, policy=policy)
    page.click("#appeal-toggle")
    answers(page, "**/v1/feedback", 503, refusal("feedback_unavailable"))
    page.click("#appeal-send")
    page.wait_for_selector("#appeal-problem:not(:empty)")
    checked, faint = page.evaluate(CONTRAST)
    assert checked > 100
    assert faint == []


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_a_narrow_screen_needs_no_sideways_scrolling(open_page, language):
    page = open_page(language=language, width=360)
    judge(page, f"{FLAGGED} " * 60 + "x" * 300)
    assert page.locator("#answer").evaluate("e => e.getBoundingClientRect().top") < 800
    page.click("#appeal-toggle")
    for summary in page.locator(".rule summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_card_can_be_read(open_page, url):
    page = open_page()
    page.get_by_role("link", name="Model card").click()
    page.get_by_role("heading", name="tiny").wait_for()
    page.get_by_role("link", name="Fineline").click()
    page.wait_for_url(f"{url}/")
