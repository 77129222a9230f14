"""conforms.py DEVICES BROKERS FOLDER

Holds what a gateway answers at its two addresses against the OpenAPI documents that it serves there:

- each document is valid by the schema of OpenAPI 3.1, its schemas are JSON Schema, and its examples
  are as its schemas say;
- schemathesis, with its settings beside this file, finds nothing;
- it has seen every answer that is documented, but for those that take an unwell gateway.

The examples are put to use: what they have for a key, a secret and a token is replaced by what
KEYWARD_KEY and KEYWARD_SECRET hold, which have to admit the device pump-1. KEYWARD_CALLER is a token of
--caller-token-file. FOLDER is for files that hold these.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import requests
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

KEY = "kwk_0123456789abcdefghjkmnpqrs"
SECRET = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge"
TOKEN = "eyJ0eXAiOiJhdCtqd3QifQ.eyJzdWIiOiJwdW1wLTEifQ.c2lnbmF0dXJl"

# Answers to what is not asked here: a body of more than 16 KiB, and a gateway that cannot tell.
# src/gateway/http/tests.rs sees these.
ELSEWHERE = {"413", "429", "503"}


def main():
    devices, brokers, folder = sys.argv[1:]
    credentials = {"deviceId": "pump-1", "key": os.environ["KEYWARD_KEY"], "secret": os.environ["KEYWARD_SECRET"]}
    authed = requests.post(f"{devices}/auth/device", json=credentials)
    authed.raise_for_status()
    os.environ["KEYWARD_TOKEN"] = authed.json()["token"]
    found = [*look(devices, Path(folder, "devices")), *look(brokers, Path(folder, "brokers"))]
    sys.exit("\n".join(found) or 0)


def look(address, folder):
    """What is wrong at this address."""
    folder.mkdir()
    served = requests.get(f"{address}/openapi.json", headers={"X-Keyward-Caller": os.environ["KEYWARD_CALLER"]})
    served.raise_for_status()
    document = served.json()
    yield from invalid(document)
    text = served.text
    for example, real in {KEY: "KEYWARD_KEY", SECRET: "KEYWARD_SECRET", TOKEN: "KEYWARD_TOKEN"}.items():
        text = text.replace(example, os.environ[real])
    (folder / "openapi.json").write_text(text)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", Path(__file__).with_name("schemathesis.toml")]
    command += ["run", "openapi.json", "--url", address, "--no-color"]
    command += ["--report", "ndjson", "--report-ndjson-path", "events"]
    if subprocess.run(command, cwd=folder).returncode != 0:
        yield f"{address}: schemathesis has found something"
    for missing in sorted(set(documented(document)) - set(seen(folder / "events"))):
        yield f"{address}: documented, and never seen: {' '.join(missing)}"


def invalid(document):
    for error in OPENAPI_31_VALIDATOR.iter_errors(document):
        yield f"no OpenAPI 3.1: {error}"
    for place, part in parts(document, "#"):
        schema = part.get("schema")
        if not isinstance(schema, dict):
            continue
        # References are to the document.
        schema = {**schema, "components": document["components"]}
        try:
            schema = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        except ValueError as error:
            yield f"{place}: no JSON Schema: {error}"
            continue
        examples = [example["value"] for example in part.get("examples", {}).values()]
        for example in examples + [part[name] for name in ["example"] if name in part]:
            for error in schema.iter_errors(example):
                yield f"{place}: an example that is none: {error}"


def parts(node, place):
    """All objects in a document, and where they are."""
    if isinstance(node, dict):
        yield place, node
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, inner in pairs:
        yield from parts(inner, f"{place}/{name}")


def documented(document):
    for path, item in document["paths"].items():
        if "$ref" in item:
            item = document["components"]["pathItems"][item["$ref"].rsplit("/", 1)[1]]
        for method, operation in item.items():
            if isinstance(operation, dict):
                for status in operation["responses"]:
                    if status not in ELSEWHERE:
                        yield f"{method.upper()} {path}", status


def seen(events):
    """Which operation has answered with which status."""
    for line in events.read_text().splitlines():
        scenario = json.loads(line).get("ScenarioFinished", {})
        recorder = scenario.get("recorder", {})
        for interaction in recorder.get("interactions", {}).values():
            # Not those that try another method.
            if interaction["response"] and recorder["label"].startswith(interaction["request"]["method"] + " "):
                yield recorder["label"], str(interaction["response"]["status_code"])


main()
