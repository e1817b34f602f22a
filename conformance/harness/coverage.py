"""The contract's rows (``contract.yaml``) against the rows that cases name."""
import yaml

from .case import ROOT


def rows():
    """Row id to its sentence, in the file's order."""
    out = {}
    for section in yaml.safe_load((ROOT / "contract.yaml").read_text()):
        for row_id, sentence in section["rows"].items():
            if row_id in out:
                raise ValueError(f"contract.yaml: {row_id} twice")
            out[row_id] = f"{section['section']}: {sentence}"
    return out


def uncovered(cases):
    """(rows without a case, rows that cases name and the contract does not have)."""
    contract = rows()
    named = {row for case in cases for row in case.rows}
    return {row: text for row, text in contract.items() if row not in named}, sorted(named - set(contract))
