"""Reads {"json": [metrics], "text": exposition} from stdin and checks that Prometheus' own parser reads the text, and that
its samples are those of the JSON, each once and no others. Needs `prometheus_client`."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

both = json.load(sys.stdin)
expected = {}


def expect(name, labels, value):
    key = (name, tuple(sorted(labels.items())))
    assert key not in expected, f"{key} twice in the JSON"
    expected[key] = float(value)


for metric in both["json"]:
    name, labels = metric["name"], metric["labels"]
    match metric["type"]:
        case "counter":
            expect(f"{name}_total", labels, metric["value"])
        case "gauge":
            expect(name, labels, metric["value"])
        case "vector":
            for position, value in enumerate(metric["values"]):
                expect(f"{name}_total", {**labels, "position": str(position)}, value)
        case "histogram":
            for bound, value in metric["buckets"].items():
                expect(f"{name}_bucket", {**labels, "le": bound}, value)
            expect(f"{name}_count", labels, metric["count"])
            expect(f"{name}_sum", labels, metric["sum"])

found = {}
for family in text_string_to_metric_families(both["text"]):
    assert family.documentation, f"{family.name} has no help"
    assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is {family.type}"
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in found, f"{key} twice in the text"
        found[key] = sample.value

missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
assert not missing and not extra, f"missing in the text: {sorted(missing)}; only there: {sorted(extra)}"
wrong = [(key, expected[key], found[key]) for key in expected if expected[key] != found[key]]
assert not wrong, f"other values: {wrong}"
assert len(found) > 100, f"only {len(found)} samples"
print(f"{len(found)} samples agree")
