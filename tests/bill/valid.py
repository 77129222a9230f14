"""valid.py <BILL: says what is wrong with a bill of materials, and fails if anything is.

By the schema of CycloneDX 1.5, and by SPDX for licences. The libraries are those that checkov brings along.
"""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing

text = sys.stdin.read()
found = []
if error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
    found.append(f"schema: {error.data.message}")
licensing = get_spdx_licensing()
bill = json.loads(text)
for component in [bill["metadata"]["component"], *bill["components"]]:
    for license in component["licenses"]:
        errors = licensing.validate(license["expression"], strict=True).errors
        found += [f"{component['name']}: {error}" for error in errors]
sys.exit("\n".join(found) or None)
