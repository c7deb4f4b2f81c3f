"""Packets as their receivers read them: golden bytes, and readers written from the published layouts."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from triportrait.motion.exports import LIVE_LINK_CURVES
from triportrait.motion.packets import LiveLinkPackets, VmcPackets, bundle, osc, turned_from, unity_quaternion
from triportrait.types import ARKIT_EXPRESSIONS, Motion


def row(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0, gaze: tuple[float, float] = (0.0, 0.0), **curves: float) -> Motion:
    expression = np.zeros((1, len(ARKIT_EXPRESSIONS)), np.float32)
    for name, value in curves.items():
        expression[0, ARKIT_EXPRESSIONS.index(name)] = value
    rotation, shift, eyes = (np.array([values], np.float32) for values in ((pitch, yaw, roll), (0, 0, 0), gaze))
    return Motion(expression, rotation, shift, eyes)


def test_live_link_face_is_what_its_receivers_expect() -> None:
    device = "0123456789ABCDEF-0123456789ABCDEF-01"
    (packet,) = LiveLinkPackets("Ana", device)(row(0.1, 0.2, 0.3, (0.05, -0.25), jawOpen=0.5, eyeBlinkLeft=1.0), 77)
    # Receivers read the version from four bytes, and the identifier with the '$' that is its length.
    assert packet[:5] == b"\x06\x00\x00\x00$" and packet[5:41].decode() == device and len(packet) == 45 + 3 + 17 + 4 * 61
    assert struct.unpack("!i", packet[41:45]) == (3,) and packet[45:48] == b"Ana"
    frame, part, rate, denominator, count = struct.unpack("!if2iB", packet[48:65])
    assert (frame, part, rate, denominator, count) == (77, 0.0, 25, 1, 61)
    numbers = struct.unpack("!61f", packet[65:])
    assert numbers[17] == 0.5 and numbers[0] == 1.0 and LIVE_LINK_CURVES[17] == "jawOpen"
    # Looking aside: outwards for one eye, inwards for the other; yaw, pitch, roll of the head and of both eyes.
    aside = {LIVE_LINK_CURVES[index] for index in np.nonzero(numbers[:52])[0]} - {"jawOpen", "eyeBlinkLeft"}
    assert aside == {"eyeLookInLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight"}
    assert numbers[52:] == pytest.approx([0.2, 0.1, 0.3, -0.25, 0.05, 0.0, -0.25, 0.05, 0.0])


def test_osc_is_version_1() -> None:
    # The examples of the specification.
    assert osc("/oscillator/4/frequency", 440.0) == b"/oscillator/4/frequency\0,f\0\0\x43\xdc\0\0"
    expected = b"/foo\0\0\0\0,iisff\0\0" + bytes.fromhex("000003e8ffffffff") + b"hello\0\0\0" + bytes.fromhex("3f9df3b640b5b22d")
    assert osc("/foo", 1000, -1, "hello", 1.234, 5.678) == expected
    assert bundle([osc("/a")]) == b"#bundle\0" + bytes(7) + b"\1" + bytes([0, 0, 0, 8]) + b"/a\0\0,\0\0\0"


def messages(packet: bytes) -> list[tuple]:
    """A reader of OSC bundles."""
    assert packet[:16] == b"#bundle\0" + bytes(7) + b"\1"

    def text(data: bytes) -> tuple[str, bytes]:
        end = data.index(b"\0")
        return data[:end].decode(), data[(end // 4 + 1) * 4 :]

    found, at = [], 16
    while at < len(packet):
        (size,) = struct.unpack_from(">i", packet, at)
        address, rest = text(packet[at + 4 : at + 4 + size])
        tags, rest = text(rest)
        values: list = []
        for tag in tags[1:]:
            if tag == "s":
                value, rest = text(rest)
            else:
                (value,), rest = struct.unpack(f">{tag}", rest[:4]), rest[4:]
            values.append(value)
        assert not rest
        found.append((address, *values))
        at += 4 + size
    return found


def test_vmc_has_all_curves_the_head_and_the_eyes() -> None:
    packets = VmcPackets()(row(0.0, 0.3, 0.0, (0.1, 0.0), jawOpen=0.25), 50)
    assert all(len(packet) <= 1200 for packet in packets)
    found = [message for packet in packets for message in messages(packet)]
    assert found[:2] == [("/VMC/Ext/OK", 1), ("/VMC/Ext/T", 2.0)] and found[-1] == ("/VMC/Ext/Blend/Apply",)
    curves = {message[1]: message[2] for message in found if message[0] == "/VMC/Ext/Blend/Val"}
    assert len(curves) == 52 and curves["JawOpen"] == 0.25 and curves["EyeLookUpLeft"] > 0.1
    bones = {message[1]: message[2:] for message in found if message[0] == "/VMC/Ext/Bone/Pos"}
    assert list(bones) == ["Head", "LeftEye", "RightEye"]
    # To the subject's left, a left-handed turn about y is negative.
    assert bones["Head"] == pytest.approx([0, 0, 0, 0, -np.sin(0.15), 0, np.cos(0.15)], abs=1e-6)


def test_angles_in_unitys_axes() -> None:
    # Down is positive about x in both; a tilt that the picture shows counter-clockwise is clockwise from behind.
    assert unity_quaternion(np.array([0.2, 0.0, 0.0])) == pytest.approx([np.sin(0.1), 0, 0, np.cos(0.1)])
    assert unity_quaternion(np.array([0.0, 0.0, 0.2])) == pytest.approx([0, 0, -np.sin(0.1), np.cos(0.1)])
    turned = turned_from(row(0.1, 0.4, 0.2), np.array([0.1, 0.4, 0.2]))
    assert np.abs(turned.rotation_rad).max() < 1e-6
