"""The files for operators say nothing that the server does not know."""

import json
import re
from pathlib import Path

import pytest
import typer

from slowfast_cli.main import app
from slowfast_mllm.serve.metrics import Metrics

yaml = pytest.importorskip("yaml")
DEPLOY = Path(__file__).parents[2] / "deploy"
RUNS = r'("serve"|slowfast (serve|keys)).*'


def test_the_dashboard_asks_for_what_the_server_counts() -> None:
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    told = {
        family.name + suffix
        for family in Metrics().registry.collect()
        for suffix in suffixes.get(family.type, [""])
    }
    dashboard = json.loads((DEPLOY / "grafana/dashboards/slowfast.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"slowfast_\w+", target["expr"])
    }
    assert asked <= told
    assert len(asked) > 10
    (source,) = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )["datasources"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}


@pytest.mark.parametrize("name", ["Dockerfile", "slowfast.service", "compose.yaml"])
def test_commands_have_the_options_that_are_given(name: str) -> None:
    verbs = typer.main.get_command(app).commands
    commands = [verbs["serve"], *verbs["keys"].commands.values()]
    known = {option for c in commands for parameter in c.params for option in parameter.opts}
    text = (DEPLOY / name).read_text()
    lines = [line for line in text.splitlines() if re.search(RUNS, line)]
    assert lines
    for line in lines:
        told = re.search(RUNS, line)
        assert told
        assert set(re.findall(r"--[a-z-]+", told[0])) <= known, line


def test_the_files_name_each_other_as_they_are() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    build = services["slowfast"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    for service in services.values():
        for volume in service["volumes"]:
            place = volume.split(":")[0]
            assert (
                (DEPLOY / place).exists() if place.startswith(".") else place in compose["volumes"]
            )
        assert set(service.get("depends_on", ())) <= services.keys()
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    docker = (DEPLOY / "Dockerfile").read_text()
    (port,) = re.findall(r"^EXPOSE (\d+)", docker, re.M)
    assert job["static_configs"] == [{"targets": [f"slowfast:{port}"]}]
    let_in = set(re.findall(r"^!(.+)", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.M))
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", docker, re.M)
    assert {name for line in copied for name in line.split()} == let_in
    assert all((DEPLOY.parent / name).exists() for name in let_in)
