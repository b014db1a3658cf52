"""Documents: every command and snippet in them works, every link leads somewhere, nothing in them is of one machine."""

import contextlib
import io
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fineline import cli
from fineline.bundle import default_bundle_path
from fineline.errors import BundleError
from fineline.taxonomy import load_taxonomy

ROOT = Path(__file__).parents[1]
GUIDES = ("README.md", "CONTRIBUTING.md", "training/README.md", "serving/README.md", "eval/README.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A text such as "/v1/moderations" is a route, not a path: only roots where a person's files lie are machine paths.
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:home|root|Users|work|tmp|mnt|opt|srv|var|data)/|[A-Z]:\\)")
REGISTRY = re.compile(
    r"\bpypi\b|pythonhosted|npmjs|artifactory|nexus\.|index-url|extra-index|find-links|crates\.io|proxy\.golang|conda\.anaconda|"
    r"mirrors?\.\w+\.\w+|goproxy|docker\.io|ghcr\.io",
    re.IGNORECASE,
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def quoted(program: str) -> list[tuple[str, str, bool]]:
    """(document, command, whether it stands in a console block) of every call of a program that a guide quotes."""
    found = []
    for name in GUIDES:
        text = text_of(name)
        for language, body in FENCE.findall(text):
            if language == "console":
                found += [(name, line.split("  #")[0].strip(), True) for line in body.splitlines()]
        found += [(name, span, False) for span in INLINE.findall(FENCE.sub("", text))]
    return [entry for entry in dict.fromkeys(found) if entry[1].split()[:1] == [program] and " " in entry[1]]


def snippets(name: str) -> list[str]:
    return [body for language, body in FENCE.findall(text_of(name)) if language == "python"]


def parse(words: list[str]) -> None:
    """Parse a command line as ``fineline`` does, down to the last subcommand, and run nothing."""
    command: Any = typer.main.get_command(cli.app)
    context, name = None, "fineline"
    while True:
        context = command.make_context(name, list(words), parent=context)
        rest = [*context._protected_args, *context.args] if hasattr(command, "resolve_command") else []
        if not rest:
            return
        name, command, words = command.resolve_command(context, rest)


# --- commands


def test_guides_quote_the_commands_they_are_about():
    assert len(quoted("fineline")) > 10
    assert len(quoted("make")) > 8
    assert len(snippets("README.md")) == 2


@pytest.mark.parametrize(("document", "command", "whole"), quoted("fineline"))
def test_a_quoted_fineline_command_is_accepted(document, command, whole):
    words = shlex.split(command)[1:]
    if not whole and len(words) == 1:
        # A mention of the command: it exists, and its required arguments are said elsewhere.
        words.append("--help")
    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            parse(words)
        except typer.Exit as done:
            assert done.exit_code == 0 and "Usage:" in told.getvalue()
        except Exception as error:
            pytest.fail(f"{document}: '{command}': {getattr(error, 'message', '') or error!r}")


@pytest.mark.parametrize(
    "words",
    [["nope"], ["classify"], ["classify", "x", "--nope"], ["data", "nope"], ["train", "--nope", "x"], ["card", "x"]],
)
def test_the_check_of_commands_refuses_what_the_command_refuses(words):
    with pytest.raises(Exception) as caught:
        parse(words)
    assert getattr(caught.value, "exit_code", None) == 2


@pytest.mark.parametrize(("document", "command", "whole"), quoted("make"))
def test_a_quoted_make_target_exists_and_is_not_a_file(document, command, whole):
    makefile = text_of("Makefile")
    phony = re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)[1].split()
    for target in command.split()[1:]:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{document}: no target '{target}'"
        # A folder of that name (eval/, say) would make "make" do nothing.
        assert target in phony


def test_every_phony_target_has_a_rule():
    makefile = text_of("Makefile")
    for target in re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)[1].split():
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("line", [x.strip() for x in text_of("Makefile").splitlines() if "/fineline " in x])
def test_what_the_makefile_calls_is_accepted(line):
    command = line.split("/fineline ", 1)[1].split(" < ")[0].replace("$(MIRROR_OPTION)", "--mirror DIR")
    parse(shlex.split(command))


def test_modules_run_with_python_m_are_programs(source_env):
    quoted_modules = {found for name in GUIDES for found in re.findall(r"\B-m ([\w.]+)", text_of(name))}
    for module in sorted({"fineline.cli"} | quoted_modules):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, env=source_env, timeout=120
        )
        assert "Usage:" in done.stdout, f"'python -m {module}' does nothing: {done.stderr[-300:]}"


@pytest.mark.parametrize("document", GUIDES)
def test_a_pytest_path_in_a_guide_exists(document):
    for span in INLINE.findall(text_of(document)):
        if span.startswith("pytest "):
            assert all((ROOT / word).exists() for word in span.split()[1:] if "/" in word), span


# --- snippets


@pytest.fixture(scope="module")
def shipped() -> Path:
    try:
        return default_bundle_path()
    except BundleError:
        pytest.skip("serving/models/fineline-1 is not there: no model is shipped yet")


def run_snippet(code: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    return told.getvalue()


@pytest.mark.parametrize("code", snippets("README.md"))
def test_the_readmes_snippets_are_python(code):
    compile(code, "README.md", "exec")


@pytest.mark.model
def test_the_readmes_first_snippet_runs_and_lets_a_report_of_a_threat_pass(shipped):
    (code,) = (code for code in snippets("README.md") if "from fineline import" in code)
    assert run_snippet(code) == "allow () 0\n"


@pytest.fixture
def endpoint(shipped, source_env) -> Iterator[str]:
    """Address of ``fineline serve`` with the shipped model."""
    httpx = pytest.importorskip("httpx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", "from fineline.cli import main; main()", "serve", "--port", str(port)], env=source_env
    )
    try:
        for _ in range(240):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            assert process.poll() is None, "the endpoint stopped"
            time.sleep(0.25)
        else:
            pytest.fail("the endpoint was not ready in a minute")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.model
def test_the_readmes_openai_snippet_runs_against_the_endpoint(endpoint):
    pytest.importorskip("openai")
    (code,) = (code for code in snippets("README.md") if "from openai import" in code)
    assert "http://127.0.0.1:8000" in code
    # The client is never closed in the snippet; collecting it must not count as a leak of the test.
    code = code.replace("http://127.0.0.1:8000", endpoint) + "\nclient.close()\n"
    assert run_snippet(code) == "False\n"


# --- what the documents say


@pytest.mark.parametrize("document", GUIDES)
def test_a_relative_link_leads_to_a_file(document):
    for link in LINK.findall(text_of(document)):
        if "://" in link or link.startswith(("#", "mailto:")):
            continue
        if "fineline-1" in link and not (ROOT / "model_cards" / "fineline-1").is_dir():
            continue
        assert ((ROOT / document).parent / link.split("#")[0]).exists(), f"{document}: {link}"


def test_the_readme_counts_labels_and_demo_languages_as_they_are():
    readme = text_of("README.md")
    assert f"probabilities for {len(load_taxonomy())} labels" in readme


def test_the_readme_names_the_languages_of_the_card():
    pytest.importorskip("huggingface_hub")
    from fineline_eval.card import LANGUAGES

    listed = re.search(r"Languages other than ([a-z, ]+) work by transfer", text_of("README.md"))
    assert listed and listed[1].split(", ") == LANGUAGES


def tracked() -> list[str]:
    """Names of tracked documents: prose, lists, recipes and build files, but no code."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    names = [name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]
    return [name for name in names if Path(name).suffix in ("", ".md", ".txt", ".toml") and name != ".ci/run"]


def test_no_document_holds_a_path_of_one_machine_or_a_registry_host():
    names = tracked()
    if not names:
        pytest.skip("not a git checkout")
    assert {"README.md", "Makefile", "constraints.txt", "training/LOG.md"} <= set(names)
    found = [
        (name, number, match[0])
        for name in names
        for number, line in enumerate(text_of(name).splitlines(), 1)
        # A path inside the image that serving/deploy builds is no path of a machine.
        for pattern in ((REGISTRY,) if name.startswith("serving/deploy/") else (MACHINE_PATH, REGISTRY))
        for match in pattern.finditer(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["see /home/me/x", "(/root/.cache)", "C:\\Users", "--index-url x", "https://pypi.org/"]
)
def test_the_check_of_documents_finds_what_it_looks_for(text):
    assert MACHINE_PATH.search(text) or REGISTRY.search(text)


@pytest.mark.parametrize(
    "text", ["POST /v1/moderations", "training/data/x", "`../shared/data`", "pip install fineline"]
)
def test_the_check_of_documents_lets_the_rest_pass(text):
    assert not MACHINE_PATH.search(text) and not REGISTRY.search(text)
