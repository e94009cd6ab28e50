"""The flights' train code in Python: scikit-learn's histogram boosting, written as ONNX by skl2onnx.

The mesh starts it like any other (`command: [python3, train.py]`), with a contract of files:
in  DRIFTMESH_DATA_MANIFEST, DRIFTMESH_HYPERPARAMETERS (paths of JSON files)
out DRIFTMESH_OUTPUT/model.onnx and DRIFTMESH_OUTPUT/metrics.json
Judged forward in time: fitted on the first three quarters of the days, judged on the last, then fitted again on all.
The model has one input per feature, [-1, 1], and the outputs `label` [-1] and `probabilities` [-1, 2].
"""

import json
import os
import sys
import time

import numpy as np
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import brier_score_loss, roc_auc_score

DAY_MS = 86_400_000
OPSETS = {"": 17, "ai.onnx.ml": 3}
DEFAULTS = {
    "trees": 160,
    "leaves": 8,
    "learning_rate": 0.06,
    "min_rows": 100,
    "l2": 1.0,
    "bins": 128,
    "category_smoothing": 200.0,
    "change_weight": 16.0,
}


class Refused(Exception):
    """What cannot be learned from, said in one sentence."""


def main():
    started = time.monotonic()
    settings = settings_from(read_json("DRIFTMESH_HYPERPARAMETERS"))
    manifest = read_json("DRIFTMESH_DATA_MANIFEST")
    features = manifest["features"]
    times, columns, label = read_table(manifest)
    weights = np.where((manifest["changeMs"] > 0) & (times >= manifest["changeMs"]), settings["change_weight"], 1.0)
    metrics = judge(features, times, columns, label, weights, settings)
    codes, trees = fit(features, columns, label, weights, settings)
    output = path("DRIFTMESH_OUTPUT")
    os.makedirs(output, exist_ok=True)
    with open(os.path.join(output, "model.onnx"), "wb") as file:
        file.write(as_onnx(features, codes, trees).SerializeToString(deterministic=True))
    metrics["seconds"] = round(time.monotonic() - started, 3)
    with open(os.path.join(output, "metrics.json"), "w", encoding="utf-8") as file:
        json.dump(metrics, file, indent=2)
    print(f"{metrics['rows']} rows, AUC {metrics['auc']:.4f}, Brier {metrics['brier']:.4f}, {metrics['seconds']} s")


def path(name):
    value = os.environ.get(name)
    if not value:
        raise Refused(f"the environment variable {name} is not set")
    return value


def read_json(name):
    with open(path(name), encoding="utf-8") as file:
        return json.load(file)


def settings_from(given):
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise Refused(f"hyperparameters: {', '.join(unknown)} not known; there are {', '.join(DEFAULTS)}")
    return DEFAULTS | given


def read_table(manifest):
    """Event times, one array per feature (float32 or object), labels; in order of event time, excluded blocks left out."""
    names = [feature["name"] for feature in manifest["features"]]
    parts = [pq.read_table(file["path"], columns=["event_time", *names, "label"]) for file in manifest["files"]]

    def column(name):
        return np.concatenate([part[name].to_numpy() for part in parts])

    times = column("event_time").astype(np.int64)
    kept = np.ones(len(times), dtype=bool)
    for block in manifest["excluded"]:
        kept &= ~((times >= block["fromMs"]) & (times < block["toMs"]))
    order = np.flatnonzero(kept)[np.argsort(times[kept], kind="stable")]
    columns = []
    for feature in manifest["features"]:
        values = column(feature["name"])[order]
        if feature["type"] == "number":
            values = values.astype(np.float32)
            if not np.isfinite(values).all():
                raise Refused(f"column {feature['name']} has {(~np.isfinite(values)).sum()} values that are not finite numbers")
        columns.append(values)
    label = column("label")[order]
    if not np.isin(label, (0, 1)).all():
        raise Refused("column label has values other than 0 and 1")
    if len(np.unique(label)) < 2:
        raise Refused(f"the labels of all {len(label)} rows are the same: nothing to learn")
    return times[order], columns, label.astype(np.int64)


def judge(features, times, columns, label, weights, settings):
    days, first = np.unique(times // DAY_MS, return_index=True)
    cut = first[len(days) * 3 // 4] if len(days) >= 4 else len(times) * 3 // 4
    early = [values[:cut] for values in columns]
    codes, trees = fit(features, early, label[:cut], weights[:cut], settings)
    held = label[cut:]
    model = trees.predict_proba(encoded(features, codes, [values[cut:] for values in columns]))[:, 1]
    mean = label[:cut].mean()
    names = [feature["name"] for feature in features]
    hours = columns[names.index("hour")].astype(np.int64) if "hour" in names else times % DAY_MS // 3_600_000
    by_hour = {hour: label[:cut][hours[:cut] == hour].mean() for hour in np.unique(hours[:cut])}
    hourly = np.array([by_hour.get(hour, mean) for hour in hours[cut:]])
    constant = np.full(len(held), mean)
    metrics = {"rows": len(label), "holdout_rows": len(held)}
    for name, answer in (("", model), ("_constant", constant), ("_hourly", hourly)):
        metrics[f"brier{name}"] = float(brier_score_loss(held, answer))
        metrics[f"auc{name}"] = float(roc_auc_score(held, answer)) if len(np.unique(held)) == 2 else 0.5
    return metrics


def fit(features, columns, label, weights, settings):
    """Codes of each category (its smoothed share of label 1; None for numbers), and the trees on the encoded columns."""
    mean = np.average(label, weights=weights)
    codes = []
    for feature, values in zip(features, columns, strict=True):
        if feature["type"] == "number":
            codes.append(None)
            continue
        names, place = np.unique(values.astype(str), return_inverse=True)
        rows, positive = np.bincount(place), np.bincount(place, weights=label)
        smoothing = settings["category_smoothing"]
        share = ((positive + smoothing * mean) / (rows + smoothing)).astype(np.float32)
        codes.append({"known": dict(zip(names.tolist(), share.tolist(), strict=True)), "unknown": float(np.float32(mean))})
    trees = HistGradientBoostingClassifier(
        max_iter=settings["trees"],
        max_leaf_nodes=settings["leaves"],
        learning_rate=settings["learning_rate"],
        min_samples_leaf=settings["min_rows"],
        l2_regularization=settings["l2"],
        max_bins=min(255, settings["bins"]),
        early_stopping=False,
        random_state=0,
    )
    trees.fit(encoded(features, codes, columns), label, sample_weight=weights)
    return codes, trees


def encoded(features, codes, columns):
    out = np.empty((len(columns[0]), len(features)), dtype=np.float32)
    for at, (code, values) in enumerate(zip(codes, columns, strict=True)):
        out[:, at] = values if code is None else [code["known"].get(value, code["unknown"]) for value in values]
    return out


def as_onnx(features, codes, trees):
    """The trees as skl2onnx writes them, behind one input per feature."""
    converted = to_onnx(
        trees,
        initial_types=[("features", FloatTensorType([None, len(features)]))],
        options={"zipmap": False},
        target_opset=OPSETS,
    )
    nodes, inputs, parts = [], [], []
    for feature, code in zip(features, codes, strict=True):
        name = feature["name"]
        kind = TensorProto.FLOAT if code is None else TensorProto.STRING
        inputs.append(helper.make_tensor_value_info(name, kind, ["n", 1]))
        parts.append(name if code is None else f"{name}_code")
        if code is not None:
            encoder = {"keys_strings": list(code["known"]), "values_floats": list(code["known"].values())}
            nodes.append(
                helper.make_node("LabelEncoder", [name], [parts[-1]], domain="ai.onnx.ml", default_float=code["unknown"], **encoder)
            )
    nodes.append(helper.make_node("Concat", parts, ["features"], axis=1))
    graph = converted.graph
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2]),
    ]
    whole = helper.make_graph([*nodes, *graph.node], "flight-delay", inputs, outputs, list(graph.initializer))
    # skl2onnx declares the oldest opsets its own nodes need; LabelEncoder with defaults needs these.
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    try:
        main()
    except (Refused, KeyError, OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(1)
