"""Turn MediaPipe's face and person networks (.tflite, Apache-2.0) into the tracker's .onnx files -> src/triportrait/face/data/.

Run it in a virtual environment of its own, because `onnx` and `mediapipe` want different versions of protobuf:

    python3 -m venv /tmp/onnx && /tmp/onnx/bin/pip install onnx flatbuffers tflite
    /tmp/onnx/bin/python scripts/convert_tracker_models.py .venv/lib/python3.11/site-packages/mediapipe/modules

MODULES is the folder `mediapipe/modules` of the wheel mediapipe 0.10.21, installed or unpacked. A segmenter with six classes that a user
brings (`selfie_multiclass_256x256.tflite`) is converted by `--segmenter IN.tflite OUT.onnx`.

What differs from the source graph: channels come before rows and columns, pictures go in as bytes, and the mesh's seven answers leave as
one list of 478 points, put together as MediaPipe's `LandmarksRefinementCalculator` does it. Weights stay in half precision on disk and
are computed with in single precision.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tflite
from flatbuffers import encode, flexbuffers, number_types, packer
from flatbuffers.table import Table
from onnx import TensorProto, helper, numpy_helper

DATA = Path(__file__).parents[1] / "src" / "triportrait" / "face" / "data"
#: Our file -> MediaPipe's.
FILES = {
    "face_detector_near": "face_detection/face_detection_short_range.tflite",
    "face_detector_far": "face_detection/face_detection_full_range_sparse.tflite",
    "face_mesh": "face_landmark/face_landmark_with_attention.tflite",
    "person_mask": "selfie_segmentation/selfie_segmentation.tflite",
}
SOURCE = "converted from MediaPipe 0.10.21, Copyright The MediaPipe Authors, Apache License 2.0"
#: Points of the mesh, and of its refinement: an iris has five points, whose depth is the mean over the first 16 points of its eye.
MESH_POINTS, IRIS_POINTS, EYE_RING = 468, 5, 16
#: Answers of the mesh network that refine points, in the order in which later ones overrule earlier ones.
REFINED = ("output_lips", "output_left_eye", "output_right_eye", "output_left_iris", "output_right_iris")
NUMPY_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
OPERATION_NAMES = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
NHWC_TO_NCHW, NCHW_TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
#: TFLite's axis of a picture -> ours.
PICTURE_AXIS = {0: 0, 1: 2, 2: 3, 3: 1}


class Operation:
    """One operation of the source: its ``name``, numbers of the tensors that go in and come out, and its options."""

    def __init__(self, model: Any, operator: Any) -> None:
        code = model.OperatorCodes(operator.OpcodeIndex())
        self.name = OPERATION_NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if self.name == "CUSTOM":
            self.name = code.CustomCode().decode()
        self.inputs = operator.InputsAsNumpy().tolist()
        self.outputs = operator.OutputsAsNumpy().tolist()
        self._operator = operator

    def options(self, kind: Callable[[], Any]) -> Any:
        """The options table of a built-in operation, read as ``kind``."""
        table, found = self._operator.BuiltinOptions(), kind()
        found.Init(table.Bytes, table.Pos)
        return found

    @property
    def custom(self) -> dict[str, Any]:
        """Options of an operation of MediaPipe's own."""
        return flexbuffers.Loads(bytes(self._operator.CustomOptionsAsNumpy()))


class Source:
    """A .tflite file: ``constants`` by tensor number, dense and in the file's precision, and the ``operations`` on the others.

    It takes bytes of a picture minus ``mean``, over ``deviation``.
    """

    def __init__(self, path: Path) -> None:
        model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        self.graph = model.Subgraphs(0)
        self.mean, self.deviation = _normalisation(model)
        self.constants: dict[int, np.ndarray] = {}
        for number in range(self.graph.TensorsLength()):
            tensor = self.graph.Tensors(number)
            buffer = model.Buffers(tensor.Buffer())
            if buffer.DataLength():
                values = np.frombuffer(buffer.DataAsNumpy().tobytes(), NUMPY_TYPES[tensor.Type()])
                self.constants[number] = values.reshape(self.shape(number)) if tensor.Sparsity() is None else _dense(tensor, values)
        self.operations: list[Operation] = []
        for index in range(self.graph.OperatorsLength()):
            operation = Operation(model, self.graph.Operators(index))
            if operation.name in ("DENSIFY", "DEQUANTIZE") and operation.inputs[0] in self.constants:
                self.constants[operation.outputs[0]] = self.constants[operation.inputs[0]]
            else:
                self.operations.append(operation)

    def shape(self, number: int) -> tuple[int, ...]:
        """Of a tensor, in TFLite's order of axes."""
        tensor = self.graph.Tensors(number)
        return tuple(tensor.ShapeAsNumpy().tolist()) if tensor.ShapeLength() else ()

    def name(self, number: int) -> str:
        """Of a tensor."""
        return self.graph.Tensors(number).Name().decode()


def _normalisation(model: Any) -> tuple[float, float]:
    """Mean and deviation by which bytes become the input, from the file's metadata (TFLite's ModelMetadata; fields by their number)."""
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    for entry in entries:
        if entry.Name() == b"TFLITE_METADATA":
            data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            root = Table(data, encode.Get(packer.uoffset, data, 0))
            # Graph, its first input, what is done to it; of that, the options.
            unit = _tables(_tables(_tables(root, 3)[0], 2)[0], 4)[0]
            options = Table(data, unit.Indirect(unit.Pos + unit.Offset(6)))
            mean, deviation = (_numbers(options, field)[0] for field in (0, 1))
            return mean, deviation
    raise SystemExit("the file does not say how bytes become its input")


def _tables(table: Table, field: int) -> list[Table]:
    start = table.Vector(table.Offset(4 + 2 * field))
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(table.VectorLen(table.Offset(4 + 2 * field)))]


def _numbers(table: Table, field: int) -> list[float]:
    start = table.Vector(table.Offset(4 + 2 * field))
    return [table.Get(number_types.Float32Flags, start + 4 * index) for index in range(table.VectorLen(table.Offset(4 + 2 * field)))]


def _dense(tensor: Any, values: np.ndarray) -> np.ndarray:
    """A tensor that is stored block by block, of which only some are there (TFLite's SparsityParameters), with its zeros."""
    sparsity = tensor.Sparsity()
    shape = tensor.ShapeAsNumpy().tolist()
    order = sparsity.TraversalOrderAsNumpy().tolist()
    block_axes = sparsity.BlockMapAsNumpy().tolist() if sparsity.BlockMapLength() else []
    levels = [sparsity.DimMetadata(level) for level in range(sparsity.DimMetadataLength())]
    block = [1] * len(shape)
    for index, axis in enumerate(block_axes):
        block[axis] = levels[order.index(len(shape) + index)].DenseSize()
    compressed = [None if level.Format() == 0 else (_indices(level, "Segments"), _indices(level, "Indices")) for level in levels]
    out = np.zeros(shape, values.dtype)

    def fill(level: int, at: list[int], position: int) -> None:
        if level == len(levels):
            place = [0] * len(shape)
            for axis, index in zip(order, at, strict=True):
                if axis < len(shape):
                    place[axis] += index * block[axis]
                else:
                    place[block_axes[axis - len(shape)]] += index
            out[tuple(place)] = values[position]
            return
        kept = compressed[level]
        if kept is None:
            size = levels[level].DenseSize()
            for index in range(size):
                fill(level + 1, [*at, index], position * size + index)
        else:
            segments, indices = kept
            for entry in range(int(segments[position]), int(segments[position + 1])):
                fill(level + 1, [*at, int(indices[entry])], entry)

    fill(0, [], 0)
    return out


def _indices(level: Any, what: str) -> np.ndarray:
    kinds = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
    vector = kinds[getattr(level, f"Array{what}Type")()]()
    table = getattr(level, f"Array{what}")()
    vector.Init(table.Bytes, table.Pos)
    return vector.ValuesAsNumpy()


class Target:
    """An ONNX graph while it is written."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """One node with one answer; the answer's name."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        """A constant of the graph; its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(values, kind)), name))
        return name

    def weights(self, values: np.ndarray) -> str:
        """A constant that keeps the precision it has on disk and is single precision in the graph; its name."""
        name = self.constant(values, values.dtype)
        return name if values.dtype == np.float32 else self.add("Cast", name, to=TensorProto.FLOAT)

    def part(self, of: str, start: list[int], end: list[int], axes: list[int]) -> str:
        """``of[start:end]`` along ``axes``."""
        return self.add("Slice", of, *(self.constant(value, np.int64) for value in (start, end, axes)))


class Converter:
    """Writes what a source does into a target."""

    def __init__(self, source: Source) -> None:
        self.source, self.target = source, Target()
        self._known: dict[int, str] = {}
        picture = self.target.add("Cast", "picture", to=TensorProto.FLOAT)
        picture = self.target.add("Transpose", picture, perm=NHWC_TO_NCHW)
        picture = self.target.add("Sub", picture, self.target.constant(source.mean))
        picture = self.target.add("Mul", picture, self.target.constant(1.0 / source.deviation))
        self._known[source.graph.Inputs(0)] = picture
        for operation in source.operations:
            write = getattr(self, f"_{operation.name.lower()}", None)
            if write is None:
                raise SystemExit(f"the operation {operation.name} is unknown here")
            self._known[operation.outputs[0]] = write(operation)

    def answers(self) -> dict[str, str]:
        """Name in the source -> name in the target of what comes out, in TFLite's order of axes."""
        found = {}
        for number in self.source.graph.OutputsAsNumpy().tolist():
            found[self.source.name(number)] = self._in_tflite_order(number)
        return found

    def _in(self, number: int) -> str:
        """A tensor in our order of axes."""
        if number in self._known:
            return self._known[number]
        values = self.source.constants[number]
        self._known[number] = self.target.weights(values.transpose(NHWC_TO_NCHW) if values.ndim == 4 else values)
        return self._known[number]

    def _in_tflite_order(self, number: int) -> str:
        name = self._in(number)
        return self.target.add("Transpose", name, perm=NCHW_TO_NHWC) if len(self.source.shape(number)) == 4 else name

    def _activated(self, name: str, function: int) -> str:
        kinds = tflite.ActivationFunctionType
        if function == kinds.NONE:
            return name
        if function == kinds.RELU:
            return self.target.add("Relu", name)
        if function == kinds.RELU6:
            return self.target.add("Clip", name, self.target.constant(0.0), self.target.constant(6.0))
        raise SystemExit(f"the activation {function} is unknown here")

    def _pads(self, number: int, kernel: tuple[int, int], strides: tuple[int, int], padding: int) -> list[int]:
        """Rows and columns before and after (top, left, bottom, right) that TFLite's SAME padding adds."""
        if padding != tflite.Padding.SAME:
            return [0, 0, 0, 0]
        _, height, width, _ = self.source.shape(number)
        missing = [
            max((-(-side // stride) - 1) * stride + size - side, 0)
            for side, size, stride in zip((height, width), kernel, strides, strict=True)
        ]
        return [missing[0] // 2, missing[1] // 2, missing[0] - missing[0] // 2, missing[1] - missing[1] // 2]

    def _convolved(self, operation: Operation, options: Any, weights: np.ndarray, groups: int) -> str:
        """``weights`` [out, in / groups, rows, columns]."""
        kernel, strides = weights.shape[2:], (options.StrideH(), options.StrideW())
        inputs = [self._in(operation.inputs[0]), self.target.weights(weights)]
        inputs += [self._in(number) for number in operation.inputs[2:] if number >= 0]
        pads = self._pads(operation.inputs[0], kernel, strides, options.Padding())
        dilations = (options.DilationHFactor(), options.DilationWFactor())
        if max(dilations) > 1 and any(pads):
            raise SystemExit("a dilated convolution with padding is unknown here")
        answer = self.target.add("Conv", *inputs, kernel_shape=kernel, strides=strides, pads=pads, group=groups, dilations=dilations)
        return self._activated(answer, options.FusedActivationFunction())

    def _conv_2d(self, operation: Operation) -> str:
        weights = self.source.constants[operation.inputs[1]].transpose(0, 3, 1, 2)
        return self._convolved(operation, operation.options(tflite.Conv2DOptions), weights, 1)

    def _depthwise_conv_2d(self, operation: Operation) -> str:
        weights = self.source.constants[operation.inputs[1]].transpose(3, 0, 1, 2)
        return self._convolved(operation, operation.options(tflite.DepthwiseConv2DOptions), weights, len(weights))

    def _convolution2dtransposebias(self, operation: Operation) -> str:
        weights = self.source.constants[operation.inputs[1]].transpose(3, 0, 1, 2)
        inputs = (self._in(operation.inputs[0]), self.target.weights(weights), self._in(operation.inputs[2]))
        return self.target.add("ConvTranspose", *inputs, strides=weights.shape[2:])

    def _prelu(self, operation: Operation) -> str:
        """x where positive, else its channel's slope times x; written as slope x + (1 - slope) max(x, 0) in convolutions of one pixel.

        ONNX Runtime keeps those in the layout of its other convolutions, and runs the mesh in half the time that its PRelu needs.
        """
        slope = self.source.constants[operation.inputs[1]].reshape(-1, 1, 1, 1)
        linear = self.target.weights(slope)
        positive = self.target.add("Sub", self.target.constant(1.0), linear)
        x = self._in(operation.inputs[0])
        parts = ((x, linear), (self.target.add("Relu", x), positive))
        return self.target.add("Add", *(self.target.add("Conv", *part, kernel_shape=(1, 1), group=len(slope)) for part in parts))

    def _two(self, operation: Operation, kind: str, options: Any) -> str:
        per_channel = len(self.source.shape(operation.outputs[0])) == 4
        inputs = []
        for number in operation.inputs:
            constant = self.source.constants.get(number)
            is_row = per_channel and constant is not None and constant.ndim == 1
            inputs.append(self.target.weights(constant.reshape(-1, 1, 1)) if is_row else self._in(number))
        return self._activated(self.target.add(kind, *inputs), options.FusedActivationFunction())

    def _add(self, operation: Operation) -> str:
        return self._two(operation, "Add", operation.options(tflite.AddOptions))

    def _mul(self, operation: Operation) -> str:
        return self._two(operation, "Mul", operation.options(tflite.MulOptions))

    def _relu(self, operation: Operation) -> str:
        return self.target.add("Relu", self._in(operation.inputs[0]))

    def _logistic(self, operation: Operation) -> str:
        return self.target.add("Sigmoid", self._in(operation.inputs[0]))

    def _hard_swish(self, operation: Operation) -> str:
        return self.target.add("HardSwish", self._in(operation.inputs[0]))

    def _pooled(self, operation: Operation, kind: str) -> str:
        options = operation.options(tflite.Pool2DOptions)
        kernel, strides = (options.FilterHeight(), options.FilterWidth()), (options.StrideH(), options.StrideW())
        pads = self._pads(operation.inputs[0], kernel, strides, options.Padding())
        return self.target.add(kind, self._in(operation.inputs[0]), kernel_shape=kernel, strides=strides, pads=pads)

    def _max_pool_2d(self, operation: Operation) -> str:
        return self._pooled(operation, "MaxPool")

    def _average_pool_2d(self, operation: Operation) -> str:
        return self._pooled(operation, "AveragePool")

    def _mean(self, operation: Operation) -> str:
        axes = sorted(PICTURE_AXIS[int(axis)] for axis in self.source.constants[operation.inputs[1]].reshape(-1))
        return self.target.add("ReduceMean", self._in(operation.inputs[0]), axes=axes, keepdims=1)

    def _pad(self, operation: Operation) -> str:
        before, after = self.source.constants[operation.inputs[1]][list(NHWC_TO_NCHW)].T
        return self.target.add("Pad", self._in(operation.inputs[0]), self.target.constant([*before, *after], np.int64))

    def _resize_bilinear(self, operation: Operation) -> str:
        options = operation.options(tflite.ResizeBilinearOptions)
        mode = "align_corners" if options.AlignCorners() else "half_pixel" if options.HalfPixelCenters() else "asymmetric"
        _, height, width, channels = self.source.shape(operation.outputs[0])
        size = self.target.constant([1, channels, height, width], np.int64)
        return self.target.add("Resize", self._in(operation.inputs[0]), "", "", size, mode="linear", coordinate_transformation_mode=mode)

    def _depth_to_space(self, operation: Operation) -> str:
        block = operation.options(tflite.DepthToSpaceOptions).BlockSize()
        return self.target.add("DepthToSpace", self._in(operation.inputs[0]), blocksize=block, mode="DCR")

    def _reshape(self, operation: Operation) -> str:
        shape = self.source.shape(operation.outputs[0])
        answer = self.target.add("Reshape", self._in_tflite_order(operation.inputs[0]), self.target.constant(shape, np.int64))
        return self.target.add("Transpose", answer, perm=NHWC_TO_NCHW) if len(shape) == 4 else answer

    def _concatenation(self, operation: Operation) -> str:
        axis = operation.options(tflite.ConcatenationOptions).Axis()
        if len(self.source.shape(operation.outputs[0])) == 4:
            axis = PICTURE_AXIS[axis % 4]
        return self.target.add("Concat", *map(self._in, operation.inputs), axis=axis)

    def _strided_slice(self, operation: Operation) -> str:
        options = operation.options(tflite.StridedSliceOptions)
        begin, end, steps = (self.source.constants[number].tolist() for number in operation.inputs[1:4])
        shape = self.source.shape(operation.inputs[0])
        begin = [0 if options.BeginMask() >> axis & 1 else value for axis, value in enumerate(begin)]
        end = [shape[axis] if options.EndMask() >> axis & 1 else value for axis, value in enumerate(end)]
        if options.ShrinkAxisMask() or options.NewAxisMask() or set(steps) != {1}:
            raise SystemExit("a slice that steps or drops axes is unknown here")
        axes = [PICTURE_AXIS[axis] if len(shape) == 4 else axis for axis in range(len(shape))]
        return self.target.part(self._in(operation.inputs[0]), begin, end, axes)

    def _landmarks2transformmatrix(self, operation: Operation) -> str:
        """Points [1, n, 3] to the matrix [1, 4, 4] that takes places of a square picture of some of them into the places of the points.

        The square lies along the line between two points, is ``scale`` times the box of the points along it, and as many pixels
        across as the picture.
        """
        target, options = self.target, operation.custom
        if options["target_rotation_radians"]:
            raise SystemExit("a region that is turned further is unknown here")
        points = target.part(self._in(operation.inputs[0]), [0], [2], [2])
        ends = (options["left_rotation_idx"], options["right_rotation_idx"])
        left, right = (target.add("Gather", points, target.constant([end], np.int64), axis=1) for end in ends)
        along = target.add("Sub", right, left)
        length = target.add("Sqrt", target.add("ReduceSum", target.add("Mul", along, along), target.constant([2], np.int64)))
        cosine, sine = (target.part(target.add("Div", along, length), [axis], [axis + 1], [2]) for axis in (0, 1))
        minus_sine = target.add("Neg", sine)
        turn = target.add("Concat", *(target.add("Concat", *row, axis=2) for row in ((cosine, minus_sine), (sine, cosine))), axis=1)
        chosen = target.add("Gather", points, target.constant(options["subset_idxs"], np.int64), axis=1)
        upright = target.add("MatMul", chosen, turn)
        low, high = (target.add(f"Reduce{kind}", upright, axes=[1], keepdims=1) for kind in ("Min", "Max"))
        middle = target.add("Mul", target.add("Add", low, high), target.constant(0.5))
        back = target.add("Transpose", turn, perm=(0, 2, 1))
        pixels = np.array([options["output_width"], options["output_height"]], np.float32)
        unit = target.constant(np.array([options["scale_x"], options["scale_y"]]) / pixels)
        linear = target.add("Mul", turn, target.add("Mul", target.add("Sub", high, low), unit))
        corner = target.add("MatMul", target.constant(-0.5 * pixels[None, None]), target.add("Transpose", linear, perm=(0, 2, 1)))
        moved = target.add("Transpose", target.add("Add", target.add("MatMul", middle, back), corner), perm=(0, 2, 1))
        rows = target.add("Concat", linear, target.constant(np.zeros((1, 2, 1))), moved, axis=2)
        return target.add("Concat", rows, target.constant(np.eye(4)[None, 2:]), axis=1)

    def _affine(self, matrix: str) -> tuple[str, str]:
        """Linear part transposed [1, 2, 2] and movement [1, 1, 2] of a matrix [1, 4, 4]."""
        linear = self.target.part(matrix, [0, 0], [2, 2], [1, 2])
        moved = self.target.part(matrix, [0, 3], [2, 4], [1, 2])
        return tuple(self.target.add("Transpose", part, perm=(0, 2, 1)) for part in (linear, moved))  # type: ignore[return-value]

    def _transformtensorbilinear(self, operation: Operation) -> str:
        """A picture seen through a matrix, bilinear between pixel centres; 0 where it would need pixels beyond the border."""
        target, options = self.target, operation.custom
        columns, rows = options["output_width"], options["output_height"]
        _, height, width, _ = self.source.shape(operation.inputs[0])
        linear, moved = self._affine(self._in(operation.inputs[1]))
        across, down = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
        places = target.constant(np.stack([across, down], -1).reshape(1, -1, 2))
        # -1..1 from the first pixel's centre to the last one's.
        place = target.add("Sub", target.add("Add", target.add("MatMul", places, linear), moved), target.constant(0.5))
        half = np.array([width - 1, height - 1]) / 2
        place = target.add("Sub", target.add("Mul", place, target.constant(1 / half)), target.constant(1.0))
        grid = target.add("Reshape", place, target.constant([1, rows, columns, 2], np.int64))
        seen = target.add("GridSample", self._in(operation.inputs[0]), grid, align_corners=1, mode="bilinear", padding_mode="zeros")
        farthest = target.add("ReduceMax", target.add("Abs", grid), axes=[3], keepdims=0)
        inside = target.add("Cast", target.add("LessOrEqual", farthest, target.constant(1.0)), to=TensorProto.FLOAT)
        return target.add("Mul", seen, target.add("Unsqueeze", inside, target.constant([1], np.int64)))

    def _transformlandmarks(self, operation: Operation) -> str:
        linear, moved = self._affine(self._in(operation.inputs[1]))
        return self.target.add("Add", self.target.add("MatMul", self._in(operation.inputs[0]), linear), moved)


def mesh_points(source: Source, target: Target, answers: dict[str, str]) -> str:
    """The answers of the mesh network as one list [478, 3] in pixels of its picture.

    Lips, eyes and irises have places of their own; depths are the mesh's, and an iris lies as deep as its eye's ring on average.
    """
    regions = [operation.custom["subset_idxs"] for operation in source.operations if operation.name == "Landmarks2TransformMatrix"]
    iris = [list(range(MESH_POINTS + first, MESH_POINTS + first + IRIS_POINTS)) for first in (0, IRIS_POINTS)]
    mesh = target.add("Reshape", answers["output_mesh_identity"], target.constant([MESH_POINTS, 3], np.int64))
    pieces = [target.part(mesh, [0], [2], [1])]
    row_of = np.zeros(MESH_POINTS + 2 * IRIS_POINTS, np.int64)
    row_of[:MESH_POINTS] = np.arange(MESH_POINTS)
    count = MESH_POINTS
    for name, numbers in zip(REFINED, [*regions, *iris], strict=True):
        pieces.append(target.add("Reshape", answers[name], target.constant([len(numbers), 2], np.int64)))
        row_of[numbers] = np.arange(count, count + len(numbers))
        count += len(numbers)
    places = target.add("Gather", target.add("Concat", *pieces, axis=0), target.constant(row_of, np.int64), axis=0)
    depths = [target.part(mesh, [2], [3], [1])]
    for eye in regions[1:]:
        ring = target.add("Gather", depths[0], target.constant(eye[:EYE_RING], np.int64), axis=0)
        mean = target.add("ReduceMean", ring, axes=[0], keepdims=1)
        depths.append(target.add("Expand", mean, target.constant([IRIS_POINTS, 1], np.int64)))
    return target.add("Concat", places, target.add("Concat", *depths, axis=0), axis=1)


def convert(path: Path, kind: str) -> onnx.ModelProto:
    """One of MediaPipe's files as a checked ONNX model whose metadata say that it holds ``kind``."""
    source = Source(path)
    converter = Converter(source)
    answers = converter.answers()
    target = converter.target
    shapes = [source.shape(number) for number in source.graph.OutputsAsNumpy()]
    #: Name of an answer -> what it is in the target, and its shape.
    given: dict[str, tuple[str, tuple[int, ...]]]
    if kind == "face_mesh":
        flag = target.add("Reshape", answers["conv_faceflag"], target.constant([1], np.int64))
        given = {
            "landmarks": (mesh_points(source, target, answers), (MESH_POINTS + 2 * IRIS_POINTS, 3)),
            "presence": (target.add("Sigmoid", flag), (1,)),
        }
    elif kind.startswith("face_detector"):
        boxes, scores = answers.values()
        scores = target.add("Reshape", scores, target.constant([-1], np.int64))
        first = target.constant([0], np.int64)
        given = {
            "boxes": (target.add("Squeeze", boxes, first), shapes[0][1:]),
            "scores": (target.add("Sigmoid", scores), shapes[1][1:2]),
        }
    else:
        first = target.constant([0], np.int64)
        given = {"mask": (target.add("Squeeze", next(iter(answers.values())), first), shapes[0][1:])}
    nodes = target.nodes + [helper.make_node("Identity", [inner], [outer]) for outer, (inner, _) in given.items()]
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, source.shape(source.graph.Inputs(0)))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, (_, shape) in given.items()],
        target.constants,
    )
    # Version 8 of the format is what ONNX Runtime reads from 1.14 on.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"format": f"triportrait.{kind}.1", "config": json.dumps({}), "source": SOURCE})
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", type=Path, nargs="?", help="the folder mediapipe/modules of the wheel")
    parser.add_argument("--segmenter", type=Path, nargs=2, metavar=("IN.tflite", "OUT.onnx"), help="a segmenter with six classes")
    options = parser.parse_args()
    jobs = []
    if options.modules:
        jobs += [(options.modules / source, DATA / f"{kind}.onnx", kind) for kind, source in FILES.items()]
    if options.segmenter:
        jobs.append((*options.segmenter, "class_segmenter"))
    for source, out, kind in jobs:
        onnx.save(convert(source, kind), out)
        print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
