# SPDX-License-Identifier: Apache-2.0
"""Damage the graphs of an export and make their hashes right again, for ``export_mutants.py``."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

LAZY = "change.onnx"  # read only by policies that compare two exits
HUGE = 10**12
RNG = random.Random


def pick(rng: RNG, folder: Path, suffix: str = ".onnx") -> Path:
    """Return a random file."""
    return rng.choice(sorted(path for path in folder.iterdir() if path.name.endswith(suffix)))


def entry(data: bytes, name: str) -> dict:
    """Return the entry of a graph in export.json."""
    return {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def rehash(folder: Path, name: str, data: bytes) -> None:
    """Write a graph and its hash."""
    (folder / name).write_bytes(data)
    path = folder / "export.json"
    values = json.loads(path.read_text("utf-8"))
    for group in values["graphs"].values():
        for one in group if isinstance(group, list) else [group]:
            if one["file"] == name:
                one.update(entry(data, name))
    path.write_text(json.dumps(values), "utf-8")


def swap_entries(rng: RNG, folder: Path) -> bool:
    """Swap two graphs with their hashes."""
    a, b = pick(rng, folder), pick(rng, folder)
    data, other = a.read_bytes(), b.read_bytes()
    rehash(folder, a.name, other)
    rehash(folder, b.name, data)
    return False


def of_another_export(rng: RNG, folder: Path, others: list[Path]) -> bool:
    """Take a graph, the vocabulary or another value of another export."""
    other = rng.choice(others)
    if rng.random() < 0.6:
        rehash(folder, pick(rng, folder).name, pick(rng, other).read_bytes())
        return False
    path = folder / "export.json"
    values, theirs = (json.loads((one / "export.json").read_text("utf-8")) for one in (folder, other))
    key = rng.choice(sorted(theirs))
    path.write_text(json.dumps(values | {key: theirs[key]}), "utf-8")
    return False


def random_bytes(rng: RNG, folder: Path) -> bool:
    """Change, insert or remove bytes of a graph, in its weights or anywhere else."""
    path = pick(rng, folder)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 10, 100])):
        at = rng.randrange(len(data))
        how = rng.randrange(5)
        if how == 0:
            data[at : at + rng.randrange(8)] = rng.randbytes(rng.randrange(8))
        elif how == 1:
            begin = rng.randrange(len(data))
            data[at:at] = data[begin : begin + rng.randrange(300)]
        else:
            data[at] = rng.choice([rng.randrange(256), data[at] ^ (1 << rng.randrange(8)), 0, 255, 127, 128])
    rehash(folder, path.name, bytes(data) or b"a")
    return False


def other_format(rng: RNG, folder: Path) -> bool:
    """Replace a graph by bytes of another kind."""
    path = pick(rng, folder)
    data = path.read_bytes()
    kinds = [b"\x1c\x00\x00\x00ORTM" + data, b"\x00", data * 2, data[: len(data) // 2], b"PK\x03\x04" + data]
    kinds += [
        b"\x80\x04" + data,
        b"\x3a\x80\x80\x80\x80\x10\x00" + data,
        b"\x0b" * 100_000,
        b"\x3a\x02\x0a\x00" * 10**5,
    ]
    kinds += [b"\x08\x0a" * 1_500_000, b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f" + data, rng.randbytes(1000)]
    rehash(folder, path.name, rng.choice(kinds))
    return False


def edit(rng: RNG, folder: Path, change: Callable[[RNG, onnx.ModelProto], object]) -> bool:
    """Change a graph through the onnx package; returns what the change returned."""
    path = pick(rng, folder)
    model = onnx.load(path)
    result = change(rng, model)
    rehash(folder, path.name, model.SerializeToString())
    return bool(result) and path.name != LAZY


def opset(rng: RNG, model: onnx.ModelProto) -> None:
    """Change the version of the operators or of the format."""
    if rng.random() < 0.3:
        model.ir_version = rng.choice([0, -1, 1, 3, 11, 99, 2**62])
    if rng.random() < 0.8:
        model.opset_import[0].version = rng.choice([0, -1, 1, 7, 9, 11, 13, 17, 18, 19, 21, 22, 23, 24, 99, 2**62])
    if rng.random() < 0.2:
        model.opset_import[0].domain = rng.choice(["ai.onnx.ml", "com.microsoft", "x", "ai.onnx"])
    if rng.random() < 0.2:
        del model.opset_import[:]


def outside_tensor(rng: RNG, tensor: TensorProto) -> None:
    """Make the values of a tensor stand in another file, by one of many spellings."""
    places = ["/etc/passwd", "../../../../etc/passwd", "segment0.onnx", "/dev/zero", "*/_ORT_MEM_ADDR_/*", "", "."]
    pairs = [("location", rng.choice(places)), ("offset", "0"), ("length", "64"), ("checksum", "a")]
    rng.shuffle(pairs)
    if rng.random() < 0.7:
        tensor.ClearField("raw_data")
    tensor.data_location = rng.choice([TensorProto.EXTERNAL, TensorProto.EXTERNAL, TensorProto.DEFAULT])
    for key, value in pairs[: rng.choice([1, 2, 4, 4])] if rng.random() < 0.2 else pairs:
        tensor.external_data.add(key=key, value=value)


def outside(rng: RNG, model: onnx.ModelProto) -> bool:
    """Make weights stand in another file: of the graph, an attribute, a sparse tensor, a graph within, a function."""
    tensor = numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[0]), "outside")
    outside_tensor(rng, tensor)
    how = rng.randrange(6)
    if how == 0:
        outside_tensor(rng, rng.choice(model.graph.initializer))
    elif how == 1:
        model.graph.node.add(op_type="Constant", output=["outside"]).attribute.add(name="value", type=4, t=tensor)
    elif how == 2:
        model.graph.node[0].attribute.add(name="values", type=9, tensors=[tensor])
    elif how == 3:
        model.graph.sparse_initializer.add(values=tensor, indices=tensor, dims=[3])
    elif how == 4:
        inner = helper.make_graph([], "inner", [], [], [tensor])
        model.graph.node.add(op_type="If", output=["a"]).attribute.add(name="then_branch", type=5, g=inner)
    else:
        node = helper.make_node("Constant", [], ["a"])
        node.attribute.add(name="value", type=4, t=tensor)
        model.functions.add(name="F", domain="x", output=["a"], node=[node])
    return True


def names(rng: RNG, model: onnx.ModelProto) -> None:
    """Rename, drop, reorder or retype inputs and outputs."""
    side = rng.choice([model.graph.input, model.graph.output])
    one = rng.choice(side)
    how = rng.randrange(7)
    if how == 0:
        one.name = rng.choice(["", "a", "x", "\x1b[2J", "a" * 10_000, model.graph.node[0].output[0]])
    elif how == 1:
        one.type.tensor_type.elem_type = rng.randrange(24)
    elif how == 2:
        del side[rng.randrange(len(side))]
    elif how == 3:
        side.add().CopyFrom(one)
    elif how == 4:
        shape = one.type.tensor_type.shape
        rng.choice([lambda: shape.dim.add(dim_value=rng.choice([0, -1, 1, HUGE])), lambda: shape.ClearField("dim")])()
    elif how == 5:
        copies = [type(one).FromString(value.SerializeToString()) for value in side]
        rng.shuffle(copies)
        del side[:]
        side.extend(copies)
    else:
        for dim in one.type.tensor_type.shape.dim:
            dim.dim_value = rng.choice([0, 1, 2, -1, HUGE])


def weights(rng: RNG, model: onnx.ModelProto) -> None:
    """Change shapes, types or values of weights and constants."""
    for tensor in rng.sample(list(model.graph.initializer), rng.choice([1, 1, 3])):
        how = rng.randrange(5)
        if how == 0:
            tensor.dims[:] = [rng.choice([0, -1, 1, 2, 7, HUGE, 2**62]) for _ in range(rng.randrange(5))]
        elif how == 1:
            tensor.data_type = rng.randrange(26)
        elif how == 2:
            tensor.raw_data = rng.randbytes(rng.choice([0, len(tensor.raw_data), len(tensor.raw_data) + 1, 8]))
        elif how == 3 and tensor.data_type == TensorProto.INT64:
            array = numpy_helper.to_array(tensor).copy()
            array[...] = rng.choice([0, 1, -1, 2, 7, 2**31, HUGE, -HUGE, 2**63 - 1, -(2**63)])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        elif tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).copy()
            array[...] = rng.choice([0.0, float("nan"), float("inf"), 1e38, -1e38])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def attributes(rng: RNG, model: onnx.ModelProto) -> None:
    """Change or remove attributes, among them the flags and axes of operators."""
    nodes = [node for node in model.graph.node if node.attribute]
    for _ in range(rng.choice([1, 1, 3])):
        node = rng.choice(nodes)
        if not node.attribute:
            continue
        one = rng.choice(node.attribute)
        number = rng.choice([0, 1, -1, 2, 3, 9, 64, 2**31, HUGE, -HUGE, 2**63 - 1, -(2**63)])
        how = rng.randrange(5)
        if how == 0:
            node.attribute.remove(one)
        elif how == 1:
            one.type = rng.randrange(15)
        elif one.ints:
            one.ints[:] = [number] * rng.choice([0, 1, len(one.ints), 9])
        elif one.s:
            one.s = rng.choice([b"", b"SAME_UPPER", b"linear", b"a" * 10_000, b"\xff", b"\x1b[2J"])
        else:
            one.i, one.f = number, rng.choice([0.0, float("nan"), 1e38])


def operators(rng: RNG, model: onnx.ModelProto) -> None:
    """Rename operators, also to those of other domains."""
    known = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    for _ in range(rng.choice([1, 1, 2])):
        node = rng.choice(model.graph.node)
        node.op_type = rng.choice([rng.choice(known), rng.choice(["", "a", "EPContext", "Attention", "\x1b[2J"])])
        if rng.random() < 0.3:
            node.domain = rng.choice(["com.microsoft", "ai.onnx.ml", "x", "ai.onnx", "com.microsoft.nchwc"])
            model.opset_import.add(domain=node.domain, version=1)


def wiring(rng: RNG, model: onnx.ModelProto) -> None:
    """Change which values nodes take; remove, repeat and reorder nodes."""
    nodes = model.graph.node
    known = [name for node in nodes for name in node.output] + [one.name for one in model.graph.initializer]
    for _ in range(rng.choice([1, 1, 2, 5])):
        node = rng.choice(nodes)
        how = rng.randrange(6)
        if how == 0:
            nodes.remove(node)
        elif how == 1:
            nodes.add().CopyFrom(node)
        elif how == 2 and node.output:
            node.output[0] = rng.choice([*known, ""])
        elif how == 3:
            node.input.append(rng.choice(known))
        elif node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice([*known, *known, "", "x", "lengths"])


def large(rng: RNG, model: onnx.ModelProto) -> None:
    """Put a computation of enormous size between a node and the first output."""
    out = rng.choice(model.graph.output).name
    node = next(one for one in model.graph.node if out in one.output)
    node.output[list(node.output).index(out)] = "before"
    size = rng.choice([10**7, 10**8, 10**9, HUGE, 2**62])
    model.graph.initializer.extend(
        helper.make_tensor(name, TensorProto.INT64, dims, values)
        for name, dims, values in (("size", [1], [size]), ("n", [], [size]), ("nil", [], [0]), ("one", [], [1]))
    )
    how = rng.randrange(6)
    if how == 0:
        made = [helper.make_node("ConstantOfShape", ["size"], ["big"])]
    elif how == 1:
        made = [helper.make_node("Range", ["nil", "n", "one"], ["big"])]
    elif how == 2:
        names = ["before", *(f"d{step}" for step in range(40))]
        made = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in zip(names, names[1:], strict=False)]
        made.append(helper.make_node("Identity", [names[-1]], ["big"]))
    elif how == 3:
        made = [helper.make_node("Shape", ["before"], ["shape"]), helper.make_node("Mul", ["shape", "size"], ["wide"])]
        made += [helper.make_node("Expand", ["before", "wide"], ["big"])]
    elif how == 4:
        made = [helper.make_node("Shape", ["before"], ["shape"]), helper.make_node("Tile", ["before", "shape"], ["a"])]
        made += [helper.make_node("Reshape", ["a", "size"], ["big"])]
    else:
        steps = ["before", *(f"s{step}" for step in range(20_000)), "big"]
        made = [helper.make_node("Identity", [a], [b]) for a, b in zip(steps, steps[1:], strict=False)]
    model.graph.node.extend(made)
    model.graph.node.add(op_type=rng.choice(["Identity", "ReduceSum"]), input=["big"], output=[out])


def control_flow(rng: RNG, model: onnx.ModelProto) -> bool:
    """Add a loop without end, a branch, a scan, a function, a random or a stateful operator."""
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    names = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("c", 9), ("d", 9))]
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", names[:2], names[2:])
    kind = rng.choice(
        ["Loop", "If", "Scan", "SequenceMap", "RandomNormal", "Multinomial", "SequenceEmpty", "F", "Optional"]
    )
    model.graph.initializer.append(true)
    node = model.graph.node.add(op_type=kind, output=["loop"], domain="x" if kind == "F" else "")
    if kind in ("Loop", "If", "Scan", "SequenceMap"):
        node.input.extend(["", "true"] if kind == "Loop" else ["true"])
        node.attribute.add(name="body", type=5, g=body)
    elif kind == "F":
        inner = [helper.make_node("F", [], ["loop"], domain="x")]  # calls itself
        model.functions.add(name="F", domain="x", output=["loop"], node=inner)
    return True


def results(rng: RNG, model: onnx.ModelProto) -> None:
    """Change the values of an output: not a number, infinite, negative, enormous, of another shape."""
    out = rng.choice(model.graph.output)
    node = next(one for one in model.graph.node if out.name in one.output)
    node.output[list(node.output).index(out.name)] = "before"
    kind = out.type.tensor_type.elem_type
    values = (
        [float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e38] if kind == 1 else [0, -1, 2, 9, HUGE, 2**63 - 1]
    )
    dims = rng.choice([[], [1], [1, 1, 1, 1], [0], [2]])
    value = helper.make_tensor("value", kind, dims, [rng.choice(values)] * (0 if 0 in dims else 2 if 2 in dims else 1))
    model.graph.initializer.append(value)
    model.graph.node.add(op_type=rng.choice(["Mul", "Add", "Sub"]), input=["before", "value"], output=[out.name])


EDITS = [opset, outside, names, weights, attributes, operators, wiring, large, control_flow, results]
