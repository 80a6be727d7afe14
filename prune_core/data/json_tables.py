"""JSON and JSON Lines as tables: records, records by key, columns, orient="split", and SQuAD."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd


def parse(text: str, lines: bool) -> tuple[Any, list[int]]:
    """Return (content of the file, line of each record); no lines for a single document.

    Only a newline ends a line: U+2028, U+2029 and U+0085 may occur inside a string.
    """
    if not lines:
        try:
            return json.loads(text), []
        except json.JSONDecodeError:
            if not text.lstrip().startswith("{"):  # else JSON Lines with the suffix .json
                raise
    records, numbers = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON ({error.msg})") from None
            numbers.append(number)
    return records, numbers


def records(content: Any) -> pd.DataFrame:
    """Convert JSON to a table: records, records by key, columns, or SQuAD's published format."""
    if isinstance(content, Mapping):
        if (
            {"columns", "data"}
            <= set(content)
            <= {"columns", "data", "index", "index_names", "column_names"}
        ):  # orient="split"
            return pd.DataFrame(content["data"], columns=content["columns"])
        by_key = all(
            isinstance(value, Mapping) and len(value) < len(content) for value in content.values()
        )
        return records(list(content.values())) if by_key else pd.DataFrame(content)
    if content and isinstance(content[0], Mapping) and "paragraphs" in content[0]:
        return pd.DataFrame(
            {
                "question": qa["question"],
                "context": paragraph["context"],
                "answers": {
                    key: [answer[key] for answer in qa.get("answers", [])]
                    for key in ("text", "answer_start")
                },
            }
            for article in content
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        )
    if not all(isinstance(record, Mapping) for record in content):
        return pd.DataFrame([row if isinstance(row, list) else [row] for row in content]).rename(
            columns=lambda place: f"column {place + 1}"
        )
    flat = pd.json_normalize(list(content), sep=".")
    # json_normalize flattens nested fields to dotted names; SQuAD answers are also needed whole
    nested = dict.fromkeys(
        key
        for record in content
        for key, value in record.items()
        if isinstance(value, Mapping) and {"text", "answer_start"} <= set(value)
    )
    answers = pd.DataFrame(
        {key: [record.get(key) for record in content] for key in nested}, index=flat.index
    )
    return pd.concat([flat, answers], axis=1)
