"""What is deployed agrees with the server and with itself: commands, ports, paths, secrets, users, grace periods."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from fineline.cli import app
from fineline.config import build

pytest.importorskip("fastapi")

from fineline.server.run import _GRACE
from fineline.server.settings import ServerSettings, read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "serving/deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICE = COMPOSE["services"]["fineline"]
CLUSTER = {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))}
POD = CLUSTER["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
IMAGE_SETTINGS = read_settings(DEPLOY / "server.toml")
CLUSTER_TOML = tomllib.loads(CLUSTER["ConfigMap"]["data"]["server.toml"])
CLUSTER_SETTINGS = build(ServerSettings, CLUSTER_TOML, "server.toml of the config map")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BOTH = pytest.mark.parametrize("settings", [IMAGE_SETTINGS, CLUSTER_SETTINGS], ids=["image", "cluster"])


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, each with its words, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def words_of(name: str) -> str:
    return [words for found, words in instructions() if found == name][-1]


def copied() -> set[str]:
    """What the Dockerfile takes from the repository."""
    lines = [words.split() for name, words in instructions() if name == "COPY" and "--from=" not in words]
    return {source for words in lines for source in words[:-1]}


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def paths_within(settings: ServerSettings) -> dict[str, str]:
    database = settings.feedback.url.removeprefix("sqlite:///")
    return {"keys": settings.auth.keys, "secret": settings.feedback.secret_file, "database": database}


# --- the image


def test_everything_the_image_is_built_from_is_there_and_passes_the_ignore_file():
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied() == allowed
    assert all((ROOT / source).exists() for source in copied())


def test_the_image_has_what_the_wheel_needs():
    project, wheel = PYPROJECT["project"], PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["readme"], *project["license-files"], *wheel["force-include"], "serving/fineline"}
    assert needed <= copied()
    assert "serving/models" in wheel["force-include"], "the bundle comes with the wheel"
    extra = re.search(r"\$\{wheel\}\[(\w+)\]", DOCKERFILE).group(1)
    assert "fineline[serve]" in project["optional-dependencies"][extra]


def test_the_wheel_builds_from_what_is_copied_and_holds_no_training_code(tmp_path):
    for source in copied():
        target = tmp_path / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if source == "serving/models":  # seventy megabytes that say nothing here
            target.mkdir()
            (target / "README.md").write_text("")
        elif (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / source, target)
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()[-1]
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(tmp_path / built)], capture_output=True, text=True, check=True
    ).stdout
    modules = {line.split("/")[0] for line in listing.splitlines() if ".py " in line}
    assert modules == {"fineline"}
    assert "fineline/server/run.py" in listing


def test_the_image_runs_as_nobody_and_stops_on_the_signal_that_drains():
    user, group = map(int, words_of("USER").split(":"))
    assert user and group
    assert words_of("STOPSIGNAL") == "SIGTERM"
    order = [name for name, _ in instructions()]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert order.count("FROM") == 2
    assert "--from=build" in DOCKERFILE


@pytest.mark.parametrize(
    "given", [json.loads(words_of("CMD")), CONTAINER["args"]], ids=["image", "cluster"]
)  # compose keeps the image's
def test_commands_are_real(given):
    command = get_command(app).commands[given[0]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in given if word.startswith("--")} <= known
    assert json.loads(words_of("ENTRYPOINT")) == list(PYPROJECT["project"]["scripts"])
    copies = [words.split() for name, words in instructions() if name == "COPY"]
    assert given[given.index("--config") + 1] in [words[-1] for words in copies]


# --- ports, paths, probes


@BOTH
def test_every_place_names_the_same_port(settings):
    port = settings.listen.port
    assert settings.listen.host == "0.0.0.0"
    assert words_of("EXPOSE") == str(port)
    assert SERVICE["ports"] == [f"127.0.0.1:{port}:{port}"]
    named = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    assert named == {"http": port}
    assert {CLUSTER["Service"]["spec"]["ports"][0]["targetPort"]} == set(named)
    for check in (words_of("HEALTHCHECK"), " ".join(SERVICE["healthcheck"]["test"])):
        assert f"http://127.0.0.1:{port}/" in check


def test_probes_ask_routes_that_are_open_to_all(make_app):
    from fastapi.testclient import TestClient

    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes["liveness"] == "/healthz", "a server that drains is alive"
    with TestClient(make_app()) as client:
        for path in probes.values():
            assert client.get(path).status_code == 200


@BOTH
def test_what_is_written_and_what_is_secret_is_mounted(settings):
    paths = paths_within(settings)
    mounts = {one["mountPath"]: one["name"] for one in CONTAINER["volumeMounts"]}
    work = words_of("WORKDIR")
    assert work in mounts
    assert work in [volume.split(":")[1] for volume in SERVICE["volumes"]]
    if settings is IMAGE_SETTINGS:
        assert str(Path(paths["database"]).parent) == work
    else:
        assert paths["database"].startswith("postgresql://")
    for secret in (paths["keys"], paths["secret"]):
        assert Path(secret).parent == Path("/run/secrets")
        assert "/run/secrets" in mounts
        assert Path(secret).name in SERVICE["secrets"]
        assert Path(secret).name in COMPOSE["secrets"]
    assert CONTAINER["args"][-1] == f"/etc/fineline/{next(iter(CLUSTER['ConfigMap']['data']))}"
    sources = {volume["name"] for volume in POD["spec"]["volumes"]}
    assert set(mounts.values()) == sources


@BOTH
def test_nobody_judges_without_a_key(settings):
    assert settings.auth.keys
    assert not settings.auth.insecure_no_auth
    assert settings.feedback.texts == "never"


# --- stopping


@BOTH
def test_a_stopping_server_is_given_the_time_that_it_may_take(settings):
    # It waits for requests, and then once more for connections that stay open.
    longest = 2 * (settings.limits.deadline_seconds + _GRACE)
    pause = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert seconds(SERVICE["stop_grace_period"]) > longest
    assert POD["spec"]["terminationGracePeriodSeconds"] > longest + pause
    assert settings.limits.drain_seconds >= 1


# --- privileges


def test_the_container_may_write_nowhere_else_and_has_no_privilege():
    user, group = map(int, words_of("USER").split(":"))
    pod, own = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"]
    assert (pod["runAsUser"], pod["runAsGroup"]) == (user, group)
    assert own["readOnlyRootFilesystem"]
    assert not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert SERVICE["read_only"]
    assert SERVICE["user"] == f"{user}:{group}"
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(SERVICE)
    assert set(CONTAINER["resources"]["limits"]) == {"cpu", "memory"}


def test_the_cluster_selects_its_own_pods():
    labels = POD["metadata"]["labels"]
    selectors = [
        CLUSTER["Deployment"]["spec"]["selector"]["matchLabels"],
        CLUSTER["Service"]["spec"]["selector"],
        CLUSTER["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        CLUSTER["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selectors)
    assert CLUSTER["PodDisruptionBudget"]["spec"]["minAvailable"] < CLUSTER["Deployment"]["spec"]["replicas"]


# --- the commands of the guide, and the server itself


def guide_commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (DEPLOY / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["fineline"]]


def test_the_image_starts_with_the_secrets_of_the_guide(tmp_path, start_server, tiny_bundle, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert {words[2] for words in guide_commands()} == {"web", "operator", "verdicts.key"}
    printed = {words[2]: runner.invoke(app, words).stdout for words in guide_commands()}
    settings = (DEPLOY / "server.toml").read_text().replace("/run/secrets", str(tmp_path))
    (tmp_path / "server.toml").write_text(settings.replace("/var/lib/fineline", str(tmp_path)))
    quick = (tmp_path / "server.toml").read_text().replace("drain_seconds = 5", "drain_seconds = 0.1")
    (tmp_path / "server.toml").write_text(quick.replace('"0.0.0.0"', '"127.0.0.1"'))
    given = json.loads(words_of("CMD"))[1:]
    given[given.index("--config") + 1] = str(tmp_path / "server.toml")
    with start_server(tmp_path, *given, "--bundle", tiny_bundle) as server:
        check = json.loads(words_of("HEALTHCHECK").split("CMD", 1)[1])
        check[0], check[-1] = sys.executable, check[-1].replace("http://127.0.0.1:8000", server.url)
        subprocess.run(check, check=True, timeout=60)
        assert ask(server.url, "").status_code == 401
        assert ask(server.url, printed["web"].split()[0]).status_code == 200
    assert server.process.returncode is not None
    gone = subprocess.run(check, capture_output=True, timeout=60, check=False)
    assert gone.returncode != 0, "a health check that cannot fail checks nothing"


def ask(url: str, key: str) -> Any:
    import httpx

    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{url}/v1/classify", json={"input": "How was your day?"}, headers=headers)
