"""Labelled data in: formats, item-by-item validation, contact sheets.

data = read_data("train.json", images="photos")
report = check(data, read_data("val.json", images="photos"))
"""

from __future__ import annotations

from visionllm_adapters.data.check import DataReport, check
from visionllm_adapters.data.faults import Fault
from visionllm_adapters.data.formats import read_data
from visionllm_adapters.data.hub import from_rows
from visionllm_adapters.data.records import Change, DataSet, Exchange, Record, Reference, Thing

__all__ = [
    "Change",
    "DataReport",
    "DataSet",
    "Exchange",
    "Fault",
    "Record",
    "Reference",
    "Thing",
    "check",
    "from_rows",
    "read_data",
]
