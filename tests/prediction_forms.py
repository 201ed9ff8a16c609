"""The same five predictions in every plausible form of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cifarlab.predictions_file import Classes, ForeignPredictions, read_table, resolve

NAMES = ("airplane", "automobile", "Polar Bear", "cat")
IDS = [3, 0, 2, 1, 2]
LABELS = [3, 0, 2, 2, 2]


def words(ids: list[int]) -> list[str]:
    return [NAMES[k] for k in ids]


def scores(ids: list[int]) -> list[list[float]]:
    return [[9.5 if k == best else -k - 1e-3 for k in range(4)] for best in ids]


def lines(*rows: object) -> str:
    return "\n".join(str(row) for row in rows) + "\n"


def table_lines(rows: list[list[float]], *, header: str = "", by: str = ",", index: bool = False) -> str:
    body = [by.join(map(str, [*([n] if index else []), *row])) for n, row in enumerate(rows)]
    return lines(*([header] if header else []), *body)


def read(
    path: Path, text: str | bytes, names: tuple[str, ...] = NAMES, count: int = 5, files: tuple[str, ...] = ()
) -> ForeignPredictions:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return resolve(read_table(path), Classes(names), count, "test", files)


WITHOUT_LABELS = {
    "one id a line": lines(*IDS),
    "no newline at the end": "\n".join(map(str, IDS)),
    "Windows": "\r\n".join(map(str, IDS)) + "\r\n",
    "as numpy.savetxt writes": lines(*(f"{k:.18e}" for k in IDS)),
    "with a comment": "# from the vendor\n" + lines(*IDS),
    "a quote in a comment that has no end": '# by "x", "model v2\n' + lines(*IDS) + '\n#, "the end\n',
    "empty lines at the end": lines(*IDS) + "\n\n",
    "one name a line": lines(*words(IDS)),
    "names in any case": lines(*(name.upper() for name in words(IDS))),
    "names of a tutorial": lines("cat", "plane", "polar bear", "car", "Polar Bear"),
    "header": lines("prediction", *IDS),
    "another header": lines("Y pred", *words(IDS)),
    "an unknown header above numbers": lines("modell-antwort", *IDS),
    "quoted": lines('"prediction"', *(f'"{name}"' for name in words(IDS))),
    "index": lines("index,prediction", *(f"{n},{k}" for n, k in enumerate(IDS))),
    "index in another order": lines("index,prediction", "4,2", "0,3", "2,2", "1,0", "3,1"),
    "index after": lines("prediction;id", *(f"{NAMES[k]};{n}" for n, k in enumerate(IDS))),
    "index from one": lines("id,label", *(f"{n + 1},{NAMES[k]}" for n, k in enumerate(IDS))),
    "as pandas writes": lines(",pred", *(f"{n},{k}" for n, k in enumerate(IDS))),
    "tabs without header": lines(*(f"{n}\t{k}" for n, k in enumerate(IDS))),
    "spaces after commas": lines("index, prediction", *(f"{n}, {k}" for n, k in enumerate(IDS))),
    "further columns": lines("epoch,predicted,confidence", *(f"7,{k},0.5" for k in IDS)),
    "a row number of pandas beside the index": lines(",id,pred", "0,4,2", "1,0,3", "2,2,2", "3,1,0", "4,3,1"),
    "twice the same": lines("pred,class", *(f"{k},{k}" for k in IDS)),
    "scores": table_lines(scores(IDS)),
    "scores and spaces": table_lines(scores(IDS), by=" "),
    "scores with an index": table_lines(scores(IDS), index=True),
    "named scores": lines("cat,airplane,polar bear,automobile", *(f"{r[3]},{r[0]},{r[2]},{r[1]}" for r in scores(IDS))),
    "named scores with a word before": lines(
        "p_cat,p_airplane,p_polar_bear,P car", *(f"{r[3]},{r[0]},{r[2]},{r[1]}" for r in scores(IDS))
    ),
    "scores as pandas writes": table_lines(scores(IDS), header=",0,1,2,3", index=True),
    "scores as pandas writes without index": table_lines(scores(IDS), header="0,1,2,3"),
    "scores with other names": table_lines(scores(IDS), header="id,p_a,p_b,p_c,p_d", index=True),
}
WITH_LABELS = {
    "three columns": lines("index,prediction,label", *(f"{n},{IDS[n]},{LABELS[n]}" for n in (1, 0, 4, 3, 2))),
    "as evaluate writes": lines(
        "index,name,label,predicted,confidence",
        *(f"{n},,{NAMES[LABELS[n]]},{NAMES[k]},0.91" for n, k in enumerate(IDS)),
    ),
    "usual names": lines("y_true,y_pred", *(f"{LABELS[n]},{k}" for n, k in enumerate(IDS))),
    "other usual names": lines("Actual,Outputs", *(f"{LABELS[n]},{k}" for n, k in enumerate(IDS))),
    "short names": lines("gt,argmax", *(f"{LABELS[n]},{k}" for n, k in enumerate(IDS))),
    "expected": lines("answers,expected,class", *(f"{k},{LABELS[n]},x" for n, k in enumerate(IDS))),
    "files, and labels that show the order": lines("file,y,yhat", *(f"{n}.png,{LABELS[n]},{IDS[n]}" for n in range(5))),
    "scores and target": lines(
        "target,airplane,automobile,polar bear,cat",
        *(",".join(map(str, [LABELS[n], *row])) for n, row in enumerate(scores(IDS))),
    ),
}
JSON_WITHOUT_LABELS = {
    "list": IDS,
    "list of names": words(IDS),
    "list of texts": [str(k) for k in IDS],
    "floats": [float(k) for k in IDS],
    "object": {"model": "x", "predictions": IDS},
    "by index": {str(n): k for n, k in reversed(list(enumerate(IDS)))},
    "objects": [{"prediction": k, "confidence": 0.5} for k in IDS],
    "objects with index": [{"index": n, "class": NAMES[IDS[n]]} for n in (2, 1, 0, 4, 3)],
    "rows of scores": scores(IDS),
    "named scores": [{"cat": r[3], "automobile": r[1], "airplane": r[0], "polar bear": r[2]} for r in scores(IDS)],
    "logits": {"logits": scores(IDS)},
    "labels alone": {"labels": IDS},
    "labels with an index": {"labels": IDS[::-1], "index": [4, 3, 2, 1, 0]},
    "an unknown name": {"foo": IDS},
    "lists of other lengths": {"classes": list(NAMES), "losses": [0.5], "predictions": IDS},
    "by class": {name: [row[k] for row in scores(IDS)] for k, name in enumerate(NAMES)},
}
JSON_WITH_LABELS = {
    "object": {"predictions": IDS, "labels": LABELS},
    "shuffled": {"index": [4, 3, 2, 1, 0], "y_pred": IDS[::-1], "targets": LABELS[::-1]},
    "plural names": {"predicted_labels": IDS, "labels": LABELS},
    "logits": {"logits": scores(IDS), "labels": LABELS, "predictions": IDS},
    "logits alone": {"logits": scores(IDS), "truth": LABELS},
    "objects": [{"label": NAMES[LABELS[n]], "pred": k} for n, k in enumerate(IDS)],
}
ARRAYS = [
    np.array(IDS),
    np.array(IDS, dtype=np.uint8)[:, None],
    np.array(scores(IDS), np.float16),
    np.array(words(IDS)),
]
