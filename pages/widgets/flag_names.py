"""Replace command-line flags in messages by the names of fields on the Prune page."""

import re

FIELDS = {
    "--bad-rows skip": "“Bad rows: skip”",
    "--bad-rows merge": "“Bad rows: merge extra cells into the text”",
    "--header yes": "“First row names columns: yes”",
    "--header no": "“First row names columns: no”",
    "--quotes yes": "“Quotes enclose cells: yes”",
    "--quotes no": "“Quotes enclose cells: no”",
    "--quotes backslash": "“Quotes enclose cells: yes, escaped by a backslash”",
    "--label -": "“Label column: none”",
    "--separator": "“Separator”",
    "--encoding": "“Encoding”",
    "--text-pair": "“Second text”",
    "--text": "“Text column”",
    "--label": "“Label column”",
    "--split": "“Split, sheet or key”",
    "--calibration": "“Calibrate on other examples”",
}


def with_field_names(message: str) -> str:
    """Return the message with each flag replaced by the title of its field."""
    pattern = "|".join(rf"{re.escape(flag)}(?![\w-])" for flag in FIELDS)
    return re.sub(pattern, lambda match: FIELDS[match[0]], message)
