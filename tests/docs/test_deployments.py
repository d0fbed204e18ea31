"""The rules of one deployment among several, as the documentation makes them: the tests of the rules hold for it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import ROOT
from tests.docs.blocks import blocks_of

PAGE = ROOT / "docs" / "how-to" / "several-deployments.md"
OURS = 'deployment="shop"'
BARE = re.compile(r"\b(streamgauge:[\w:]+|ALERTS)(?![\w:{.*(])")
HEXADECIMAL = re.compile(r"(?<=values: )(0x\d+)(?=[},\n])")
"""To YAML; promtool means a zero, and how often it comes."""


def labelled(series: str, label: str) -> str:
    """A series, or only its labels, with one more."""
    name, _brace, rest = series.partition("{")
    return f"{name}{{{label}" + (", " + rest if rest.strip() not in ("", "}") else "}")


def of_one(test: dict[str, Any]) -> dict[str, Any]:
    """What happens in one deployment; in another one beside it the numbers are others."""
    test["input_series"] = [
        {"series": labelled(each["series"], label), "values": values}
        for each in test["input_series"]
        for label, values in ((OURS, each["values"]), ('deployment="blog"', "7x100"))
    ]
    for asked in test.get("promql_expr_test", ()):
        asked["expr"] = BARE.sub(r"\1{}", asked["expr"]) if "__name__" not in asked["expr"] else asked["expr"]
        asked["expr"] = asked["expr"].replace("{", f"{{{OURS}, ").replace(", }", "}")
        is_counted = "count(" in asked["expr"]
        for sample in asked.get("exp_samples") or ():
            sample["labels"] = sample["labels"] if is_counted else labelled(sample["labels"], OURS)
    for asked in test.get("alert_rule_test", ()):
        asked["exp_alerts"] = [
            alert | {"exp_labels": alert["exp_labels"] | {"deployment": "shop"}}
            for alert in asked.get("exp_alerts") or ()
        ]
    return test


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "rules").glob("*.test.yml")), ids=lambda path: path.stem)
def test_rules_of_a_deployment_are_the_rules(path: Path, tmp_path: Path) -> None:
    """Each case of each rule: the same numbers and the same alerts, with the deployment's label."""
    [program] = [block.text for block in blocks_of(PAGE.read_text()) if block.title == "rules_for.py"]
    (tmp_path / "dashboards").symlink_to(ROOT / "dashboards")
    subprocess.run([sys.executable, "-c", program, "shop"], cwd=tmp_path, check=True)
    tests = yaml.safe_load(HEXADECIMAL.sub(r"'\1'", path.read_text()))
    tests["rule_files"] = [f"rules-shop/{Path(name).name}" for name in tests["rule_files"]]
    # Cases of hours take most of the time, and no other kind of rule.
    tests["tests"] = [of_one(test) for test in tests["tests"] if not re.search(r"eval_time: \d+h", yaml.dump(test))]
    (tmp_path / "test.yml").write_text(yaml.dump(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
