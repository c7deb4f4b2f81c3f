"""Near-surface rendering of a view-aligned field on one CPU core, compiled. Its plain twin is :mod:`triportrait.avatar.oneshot.volume`.

Live rays are taken in batches. All rays of a batch take one sample at a time; rays that have become opaque leave the batch, so that the
decoder only ever works on samples that count. The decoder is a register-blocked matrix product written in LLVM's vector types: 16 lanes
everywhere, which LLVM splits on machines with narrower registers. A ray's result does not depend on the rays beside it, nor on the number
of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from triportrait.compiling import njit
from triportrait.concurrency import after_fork_in_child
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array

#: Channels are padded to whole vectors of this many numbers.
LANES = 16
#: Rays that are marched together; a multiple of every row count below.
_BATCH = 64
#: Samples per block of the decoder's matrix products: as many as the registers hold.
_ROWS = 8 if binding.get_host_cpu_features().get("avx512f") else 2
#: No reassociation and no assumption of finite numbers: the same sums in the same order everywhere.
_MATH = {"contract", "nsz", "arcp"}
#: Numbers that the decoder gets beside the plane features: colour, matte, three nearnesses, depth.
_EXTRA = 8
_OUTPUTS = 5
#: Rays with less matte than this hit nothing: their source position is that of the guide.
_NOTHING = 1e-3


@dataclass(frozen=True, slots=True)
class PackedField:
    """Planes of one portrait and the decoder of samples, as the kernel wants them; made by :func:`pack_field`.

    Args:
        front, across, down: float32 [h, w, c], channels last and padded to whole vectors.
        picture: float32 [s, s, 4], the photograph's premultiplied colours and matte.
        prior: float32 [k, k], depth of the fitted head, as w.
        first, second, last: float32 [inputs + 1, outputs], transposed and padded weights; the last row is the bias.
        range_dm: depth at which w is 1, relative to the head's origin.
    """

    front: Array
    across: Array
    down: Array
    picture: Array
    prior: Array
    first: Array
    second: Array
    last: Array
    range_dm: float


@dataclass(frozen=True, slots=True)
class SurfaceRender:
    """What :func:`render_near_surface` returns, at the guide's size s.

    Args:
        rgb: float32 [s, s, 3], premultiplied.
        alpha: float32 [s, s].
        depth: float32 [s, s], mean camera depth of what was hit, decimetres; inf where nothing was.
        source_place: float32 [s, s, 2], mean position (x, y) of what was hit in the photograph, 0..1; where a ray hits nothing, that of the
            guide; 0 where no ray was sent.
        source_depth: float32 [s, s], its camera depth in the photograph; as above, inf where no ray was sent.
    """

    rgb: Array
    alpha: Array
    depth: Array
    source_place: Array
    source_depth: Array


def pack_field(
    front: Array, across: Array, down: Array, picture: Array, prior: Array, layers: Sequence[tuple[Array, Array]], range_dm: float
) -> PackedField:
    """Lay out planes and weights for the kernel; once per portrait.

    Args:
        front, across, down: [c, h, w] over (u, v), (u, w) and (v, w).
        picture: [4, s, s], premultiplied, averaged to the size that is drawn (``ViewPlanes.for_size``).
        prior: [k, k].
        layers: weight [outputs, inputs] and bias [outputs] of the decoder's three layers; its inputs are the summed plane features, colour
            (3), matte, tanh of 2, 8 and 32 times the depth behind the prior, and depth.
        range_dm: half the extent of the planes in depth.

    Raises:
        ValueError: shapes do not fit together.
    """
    channels = front.shape[0]
    (w0, b0), (w1, b1), (w2, b2) = layers
    hidden = w0.shape[0]
    if w0.shape[1] != channels + _EXTRA or w1.shape != (hidden, hidden) or w2.shape != (_OUTPUTS, hidden):
        raise ValueError(f"decoder layers {w0.shape}, {w1.shape}, {w2.shape} do not fit planes of {channels} channels")
    wide, padded = _whole(hidden), _whole(channels)
    first = np.zeros((padded + _EXTRA + 1, wide), np.float32)
    first[:channels, :hidden], first[padded:-1, :hidden], first[-1, :hidden] = w0.T[:channels], w0.T[channels:], b0
    second = np.zeros((wide + 1, wide), np.float32)
    second[:hidden, :hidden], second[-1, :hidden] = w1.T, b1
    last = np.zeros((wide + 1, LANES), np.float32)
    last[:hidden, :_OUTPUTS], last[-1, :_OUTPUTS] = w2.T, b2

    def plane(array: Array) -> Array:
        result = np.zeros((*array.shape[1:], padded), np.float32)
        result[..., :channels] = array.transpose(1, 2, 0)
        return result

    colours = np.ascontiguousarray(picture.transpose(1, 2, 0), np.float32)
    return PackedField(
        front=plane(front),
        across=plane(across),
        down=plane(down),
        picture=colours,
        prior=np.ascontiguousarray(prior, np.float32),
        first=first,
        second=second,
        last=last,
        range_dm=range_dm,
    )


def render_near_surface(
    field: PackedField,
    guide: Array,
    target: tuple[Array, Array],
    source: tuple[Array, Array],
    samples: int = 10,
    half_dm: float = 0.35,
    offset: Array | None = None,
    focal: float = FOCAL_IN_WIDTHS,
    opaque_below: float = 5e-5,
    threads: int = 1,
) -> SurfaceRender:
    """Draw one frame.

    Args:
        field: from :func:`pack_field`.
        guide: [s, s] camera depth round which samples lie, decimetres; no ray is sent where it is not finite.
        target, source: rotation_rad [3] and translation [3] of the head in the frame and in the photograph.
        samples, half_dm: of the slab, see :class:`triportrait.avatar.oneshot.volume.Slab`.
        offset: [s, s, 3] decimetres of head space, see :func:`triportrait.avatar.oneshot.volume.carry_to_source`.
        focal: focal length in image widths, of both cameras.
        opaque_below: a ray ends when less than this share of its light is left.
        threads: rays are shared out to so many; the picture is the same for any number.
    """
    size = guide.shape[0]
    if guide.shape != (size, size) or (offset is not None and offset.shape != (size, size, 3)):
        raise ValueError(f"guide {guide.shape} and offset {None if offset is None else offset.shape} are no square pictures of one size")
    guide = np.ascontiguousarray(guide, np.float32)
    moves = np.zeros((0, 3), np.float32) if offset is None else np.ascontiguousarray(offset, np.float32).reshape(-1, 3)
    rays = np.flatnonzero(np.isfinite(guide.reshape(-1)))
    rgb, place = np.zeros((size, size, 3), np.float32), np.zeros((size, size, 2), np.float32)
    alpha = np.zeros((size, size), np.float32)
    depth, away = np.full((2, size, size), np.inf, np.float32)
    sent = _Sent(guide.reshape(-1), moves, size)
    carried = _Carried(*_rigid(target, source), float(source[1][2]), focal)
    planes = _Planes(field.front, field.across, field.down, field.picture, field.prior, field.range_dm)
    decoder = _Decoder(field.first.reshape(-1), field.second.reshape(-1), field.last.reshape(-1), field.second.shape[1])
    slab = _Slab(samples, half_dm, opaque_below)
    sums = _Sums(rgb.reshape(-1, 3), alpha.reshape(-1), depth.reshape(-1), place.reshape(-1, 2), away.reshape(-1))

    def march(first: int, last: int) -> None:
        _march(rays[first:last], sent, carried, planes, decoder, slab, sums)

    batches = -(-len(rays) // _BATCH)
    # Whole batches per thread: the same rays stand beside each other however many threads there are.
    cuts = [_BATCH * (batches * part // threads) for part in range(threads + 1)]
    if threads == 1:
        march(0, len(rays))
    else:
        list(_pool(threads).map(march, cuts[:-1], cuts[1:]))
    return SurfaceRender(rgb, alpha, depth, place, away)


def _rigid(target: tuple[Array, Array], source: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """``turn`` [3, 3] and ``shift`` [3] from the target's camera (x right, y up, -z away) to the source's; the source's own rotation."""
    turn_source = matrix_from_euler(np.asarray(source[0], np.float64))
    turn = turn_source @ matrix_from_euler(np.asarray(target[0], np.float64)).T
    shift = turn @ ((0.0, 0.0, CAMERA_DISTANCE_DM) - np.asarray(target[1], np.float64)) + np.asarray(source[1], np.float64)
    return turn, shift, turn_source


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "near-surface")


# A forked child has the pools but not their threads.
after_fork_in_child(_pool.cache_clear)


def _whole(channels: int) -> int:
    return -(-channels // LANES) * LANES


# -- vectors ----------------------------------------------------------------------------------------------------------------

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _data(context, builder, array_type, array):
    """Pointer to the first number of an array."""
    return context.make_array(array_type)(context, builder, array).data


def _at(builder, pointer, index):
    return builder.gep(pointer, [index])


def _load(builder, pointer, index):
    return builder.load(builder.bitcast(_at(builder, pointer, index), _VECTOR.as_pointer()), align=4)


def _store(builder, vector, pointer, index):
    builder.store(vector, builder.bitcast(_at(builder, pointer, index), _VECTOR.as_pointer()), align=4)


def _splat(builder, number):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def _multiply_add(builder, a, b, c):
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32"), [a, b, c])


def _tile(rows: int, vectors: int):
    """``out[r, :] = max(x[r, :] w + b, low)`` for ``rows`` rows and ``vectors`` vectors of columns, all sums in registers."""

    @intrinsic
    def tile(typing, x, x_start, x_stride, count, w, w_start, w_stride, out, out_start, out_stride, low):
        signature = types.void(
            x, types.int64, types.int64, types.int64, w, types.int64, types.int64, out, types.int64, types.int64, types.float32
        )

        def generate(context, builder, signature, arguments):
            x, x_start, x_stride, count, w, w_start, w_stride, out, out_start, out_stride, low = arguments
            x, w, out = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 4, 7))
            bias = builder.add(w_start, builder.mul(count, w_stride))
            sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)] for _ in range(rows)]
            for column in range(vectors):
                start = _load(builder, w, builder.add(bias, _INDEX(LANES * column)))
                for row in range(rows):
                    builder.store(start, sums[row][column])
            starts = [builder.add(x_start, builder.mul(x_stride, _INDEX(row))) for row in range(rows)]
            with cgutils.for_range(builder, count, intp=_INDEX) as loop:
                line = builder.add(w_start, builder.mul(loop.index, w_stride))
                weights = [_load(builder, w, builder.add(line, _INDEX(LANES * column))) for column in range(vectors)]
                for row in range(rows):
                    number = _splat(builder, builder.load(_at(builder, x, builder.add(starts[row], loop.index))))
                    for column in range(vectors):
                        total = _multiply_add(builder, number, weights[column], builder.load(sums[row][column]))
                        builder.store(total, sums[row][column])
            floor = _splat(builder, low)
            for row in range(rows):
                base = builder.add(out_start, builder.mul(out_stride, _INDEX(row)))
                for column in range(vectors):
                    total = builder.load(sums[row][column])
                    total = builder.select(builder.fcmp_ordered(">", total, floor), total, floor)
                    _store(builder, total, out, builder.add(base, _INDEX(LANES * column)))
            return context.get_dummy_value()

        return signature, generate

    return tile


_tile1, _tile2, _tile3, _tile4 = (_tile(_ROWS if columns < 4 else max(_ROWS - 2, 2), columns) for columns in (1, 2, 3, 4))
#: Rows of the widest tile: 4 vectors by 6 rows fill 32 registers.
_ROWS4 = max(_ROWS - 2, 2)


@intrinsic
def _blend(typing, out, out_start, front, across, down, at, share):
    """``out[start:start + 16] = sum of 4 corners of 3 planes``: ``at`` holds 12 int64 positions, ``share`` 12 float32 weights."""
    signature = types.void(out, types.int64, front, across, down, at, share)

    def generate(context, builder, signature, arguments):
        out, front, across, down = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 3, 4))
        places, shares = (cgutils.unpack_tuple(builder, arguments[i], 12) for i in (5, 6))
        total = None
        for corner in range(12):
            values = _load(builder, (front, across, down)[corner // 4], places[corner])
            part = _splat(builder, shares[corner])
            total = builder.fmul(part, values) if total is None else _multiply_add(builder, part, values, total)
        _store(builder, total, out, arguments[1])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _float_of_bits(typing, bits):
    """The float32 whose bits are an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), generate


# -- the kernel -------------------------------------------------------------------------------------------------------------

_F = np.float32
_0, _1, _HALF = _F(0), _F(1), _F(0.5)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_MATH, inline="always")
def _exp(x):
    """e to the power x in float32, within 2e-7: halves and quarters of ln 2 by Cody and Waite, a polynomial, the exponent's bits."""
    x = min(max(x, _F(-87.0)), _F(87.0))
    whole = np.floor(x * _F(1.44269504) + _HALF)
    r = (x - whole * _F(0.693359375)) + whole * _F(2.12194440e-4)
    p = _F(1.9875691500e-4)
    p = p * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    p = p * (r * r) + r + _1
    return p * _float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_MATH, inline="always")
def _softplus(x):
    """log(1 + e^x), by the series of the inverse hyperbolic tangent."""
    t = _exp(-abs(x))
    s = t / (_F(2) + t)
    q = s * s
    p = _F(1 / 13)
    p = p * q + _F(1 / 11)
    p = p * q + _F(1 / 9)
    p = p * q + _F(1 / 7)
    p = p * q + _F(1 / 5)
    p = p * q + _F(1 / 3)
    return max(x, _0) + _F(2) * (s * (p * q) + s)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _corner(place, count):
    """Left neighbour and the right one's share for a position in 0..1 along ``count`` texels; what lies outside repeats the border."""
    x = min(max(place * _F(count) - _HALF, _0), _F(count - 1))
    left = min(np.int64(x), count - 2)
    return left, x - _F(left)


@njit(nogil=True, cache=True, error_model="numpy")
def _dense(x, count, stride, weights, width, out, samples, low):
    """A layer for rows of ``x``, up to the next multiple of a tile's height beyond ``samples``."""
    vectors = width // LANES
    column = 0
    while vectors > 0:
        # 5 vectors are 3 and 2, not 4 and 1: thin tiles wait for their own sums.
        take = vectors if vectors <= 4 else (4 if vectors >= 8 else 3)
        start = column * LANES
        if take == 4:
            for row in range(0, samples, _ROWS4):
                _tile4(x, row * stride, stride, count, weights, start, width, out, row * width + start, width, low)
        elif take == 3:
            for row in range(0, samples, _ROWS):
                _tile3(x, row * stride, stride, count, weights, start, width, out, row * width + start, width, low)
        elif take == 2:
            for row in range(0, samples, _ROWS):
                _tile2(x, row * stride, stride, count, weights, start, width, out, row * width + start, width, low)
        else:
            for row in range(0, samples, _ROWS):
                _tile1(x, row * stride, stride, count, weights, start, width, out, row * width + start, width, low)
        column += take
        vectors -= take


class _Sent(NamedTuple):
    """Guide float32 [s * s], moves float32 [s * s, 3] or [0, 3], and the picture's side s."""

    guide: Array
    moves: Array
    size: int


class _Carried(NamedTuple):
    """From the target's camera to the source's: turn float64 [3, 3], shift [3], and the source's own rotation, depth and focal length."""

    turn: Array
    shift: Array
    turn_source: Array
    source_z: float
    focal: float


class _Planes(NamedTuple):
    """As in :class:`PackedField`."""

    front: Array
    across: Array
    down: Array
    picture: Array
    prior: Array
    range_dm: float


class _Decoder(NamedTuple):
    """Weights of :class:`PackedField`, flat, and the padded width of the hidden layers."""

    first: Array
    second: Array
    last: Array
    hidden: int


class _Slab(NamedTuple):
    """Samples per ray, half the way they are spread over, and the light below which a ray ends."""

    samples: int
    half_dm: float
    opaque_below: float


class _Sums(NamedTuple):
    """The arrays of :class:`SurfaceRender`, pixels in one row."""

    rgb: Array
    alpha: Array
    depth: Array
    place: Array
    away: Array


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_MATH)
def _march(rays, sent, carried, planes, decoder, slab, sums):
    """Rays int64 [n] (pixels) through the field, into ``sums``."""
    guide, moves, size = sent.guide, sent.moves, sent.size
    turn, shift, turn_source, source_z, focal = carried.turn, carried.shift, carried.turn_source, carried.source_z, carried.focal
    front, across, down, picture, prior, range_dm = planes.front, planes.across, planes.down, planes.picture, planes.prior, planes.range_dm
    first, second, last, hidden = decoder.first, decoder.second, decoder.last, decoder.hidden
    samples, half_dm, opaque_below = slab.samples, slab.half_dm, slab.opaque_below
    out_rgb, out_alpha, out_depth, out_place, out_away = sums.rgb, sums.alpha, sums.depth, sums.place, sums.away
    channels = front.shape[2]
    inputs = channels + _EXTRA
    # Rows beyond a batch: tiles may be higher than what is left.
    rows = _BATCH + LANES
    x = np.zeros(rows * inputs, np.float32)
    wide0, wide1 = np.zeros(rows * hidden, np.float32), np.zeros(rows * hidden, np.float32)
    answer = np.zeros(rows * LANES, np.float32)
    pixel = np.zeros(_BATCH, np.int64)
    # Of each ray: direction and the guide's point in the source camera, light left, sums of colour, depth and position.
    state = np.zeros((16, _BATCH), np.float32)
    ax, ay, az, px, py, pz, light = state[0], state[1], state[2], state[3], state[4], state[5], state[6]
    red, green, blue, far, where_x, where_y, where_z = state[7], state[8], state[9], state[10], state[11], state[12], state[13]
    sample = np.zeros((16, _BATCH), np.float32)
    u, v, w, ahead, inside = sample[0], sample[1], sample[2], sample[3], sample[4]
    own_red, own_green, own_blue, own_matte, weight = sample[5], sample[6], sample[7], sample[8], sample[9]
    step = _F(2 * half_dm / samples)
    away_scale, focal32, source_z32, camera = _F(1 / range_dm), _F(focal), _F(source_z), _F(CAMERA_DISTANCE_DM)
    front_width, across_width, down_width = front.shape[1] * channels, across.shape[1] * channels, down.shape[1] * channels
    flat_front, flat_across, flat_down = front.reshape(-1), across.reshape(-1), down.reshape(-1)
    no_floor = _F(-np.inf)
    for begin in range(0, len(rays), _BATCH):
        alive = min(_BATCH, len(rays) - begin)
        for j in range(alive):
            place = rays[begin + j]
            pixel[j] = place
            row, column = place // size, place % size
            dx, dy = ((column + 0.5) / size - 0.5) / focal, -((row + 0.5) / size - 0.5) / focal
            for axis in range(3):
                along = turn[axis, 0] * dx + turn[axis, 1] * dy - turn[axis, 2]
                there = shift[axis] + along * guide[place]
                if len(moves):
                    for k in range(3):
                        there += turn_source[axis, k] * moves[place, k]
                state[axis, j] = along
                state[3 + axis, j] = there
            light[j] = 1.0
            for k in range(7, 14):
                state[k, j] = 0.0
        for k in range(samples):
            if alive == 0:
                break
            t = _F(half_dm * ((k + 0.5) / samples * 2 - 1))
            for j in range(alive):
                z = pz[j] + az[j] * t
                scale = focal32 / max(camera - z, _F(0.1))
                u[j] = (px[j] + ax[j] * t) * scale + _HALF
                v[j] = _HALF - (py[j] + ay[j] * t) * scale
                w[j] = (source_z32 - z) * away_scale
            for j in range(alive):
                deep = w[j] * _HALF + _HALF
                i, a = _corner(u[j], front.shape[1])
                q, b = _corner(v[j], front.shape[0])
                f = q * front_width + i * channels
                f00, f01, f10, f11 = (_1 - a) * (_1 - b), a * (_1 - b), (_1 - a) * b, a * b
                i, a = _corner(u[j], across.shape[1])
                q, b = _corner(deep, across.shape[0])
                g = q * across_width + i * channels
                g00, g01, g10, g11 = (_1 - a) * (_1 - b), a * (_1 - b), (_1 - a) * b, a * b
                i, a = _corner(v[j], down.shape[1])
                q, b = _corner(deep, down.shape[0])
                h = q * down_width + i * channels
                h00, h01, h10, h11 = (_1 - a) * (_1 - b), a * (_1 - b), (_1 - a) * b, a * b
                for c in range(0, channels, LANES):
                    _blend(
                        x, j * inputs + c, flat_front, flat_across, flat_down,
                        (f + c, f + c + channels, f + c + front_width, f + c + front_width + channels,
                         g + c, g + c + channels, g + c + across_width, g + c + across_width + channels,
                         h + c, h + c + channels, h + c + down_width, h + c + down_width + channels),
                        (f00, f01, f10, f11, g00, g01, g10, g11, h00, h01, h10, h11),
                    )  # fmt: skip
                i, a = _corner(u[j], picture.shape[1])
                q, b = _corner(v[j], picture.shape[0])
                f00, f01, f10, f11 = (_1 - a) * (_1 - b), a * (_1 - b), (_1 - a) * b, a * b
                for c in range(4):
                    sample[5 + c, j] = (
                        f00 * picture[q, i, c] + f01 * picture[q, i + 1, c] + f10 * picture[q + 1, i, c] + f11 * picture[q + 1, i + 1, c]
                    )
                i, a = _corner(u[j], prior.shape[1])
                q, b = _corner(v[j], prior.shape[0])
                ahead[j] = w[j] - (
                    (prior[q, i] * (_1 - a) + prior[q, i + 1] * a) * (_1 - b) + (prior[q + 1, i] * (_1 - a) + prior[q + 1, i + 1] * a) * b
                )
            for j in range(alive):
                over = _1 / max(own_matte[j], _F(0.05))
                own_red[j], own_green[j], own_blue[j] = own_red[j] * over, own_green[j] * over, own_blue[j] * over
                # One exponential serves all three hyperbolic tangents: their scales are 1, 4 and 16 times the first.
                e = _exp(_F(-4) * abs(ahead[j]))
                e4 = (e * e) * (e * e)
                e16 = (e4 * e4) * (e4 * e4)
                sign = _1 if ahead[j] >= _0 else -_1
                base = j * inputs + channels
                x[base], x[base + 1], x[base + 2], x[base + 3] = own_red[j], own_green[j], own_blue[j], own_matte[j]
                x[base + 4] = sign * (_1 - e) / (_1 + e)
                x[base + 5] = sign * (_1 - e4) / (_1 + e4)
                x[base + 6] = sign * (_1 - e16) / (_1 + e16)
                x[base + 7] = w[j]
            _dense(x, inputs, inputs, first, hidden, wide0, alive, _0)
            _dense(wide0, hidden, hidden, second, hidden, wide1, alive, _0)
            _dense(wide1, hidden, hidden, last, LANES, answer, alive, no_floor)
            for j in range(alive):
                base = j * LANES
                border = max(abs(u[j] - _HALF), abs(v[j] - _HALF)) * _F(2)
                inside = min(max((_F(0.98) - border) * _F(1 / 0.06), _0), _1)
                density = _F(20) * _softplus(answer[base] + _F(6) * own_matte[j] - _F(4.5)) * inside
                passed = _exp(-density * step)
                share = light[j] * (_1 - passed)
                weight[j] = share
                light[j] *= passed
                copied = _1 / (_1 + _exp(-answer[base + 1] - _1))
                new = share * (_1 - copied)
                copied = share * copied
                red[j] += copied * own_red[j] + new / (_1 + _exp(-answer[base + 2]))
                green[j] += copied * own_green[j] + new / (_1 + _exp(-answer[base + 3]))
                blue[j] += copied * own_blue[j] + new / (_1 + _exp(-answer[base + 4]))
                far[j] += share * t
                where_x[j] += share * u[j]
                where_y[j] += share * v[j]
                where_z[j] += share * (pz[j] + az[j] * t)
            kept = 0
            for j in range(alive):
                if light[j] >= opaque_below and k + 1 < samples:
                    if kept < j:
                        pixel[kept] = pixel[j]
                        for c in range(14):
                            state[c, kept] = state[c, j]
                    kept += 1
                else:
                    place = pixel[j]
                    matte = _1 - light[j]
                    out_alpha[place] = matte
                    out_rgb[place, 0], out_rgb[place, 1], out_rgb[place, 2] = red[j], green[j], blue[j]
                    if matte > _F(_NOTHING):
                        out_depth[place] = guide[place] + far[j] / matte
                        out_place[place, 0], out_place[place, 1] = where_x[j] / matte, where_y[j] / matte
                        out_away[place] = camera - where_z[j] / matte
                    else:
                        scale = focal32 / max(camera - pz[j], _F(0.1))
                        out_place[place, 0], out_place[place, 1] = px[j] * scale + _HALF, _HALF - py[j] * scale
                        out_away[place] = camera - pz[j]
            alive = kept
