"""Shift the stamps inside serialised messages, so that a bag can be played again as if time went on."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from ov3d_perception.bags.typestore import typestore
from ov3d_perception.errors import BagError

SECOND = 1_000_000_000
_STAMP_END = 12  # bytes: encapsulation, seconds, nanoseconds
_TF = "tf2_msgs/msg/TFMessage"


def shift_stamps(data: bytes, msgtype: str, by_ns: int) -> bytes:
    """CDR bytes with the header stamp (of a TFMessage: every transform's) moved by ``by_ns``.

    Stamps of zero ("none") stay, as do messages without a header and stamps deeper inside a message.
    """
    if by_ns == 0:
        return data
    if msgtype == _TF:
        return _shift_transforms(data, by_ns)
    if not _starts_with_header(msgtype) or len(data) < _STAMP_END:
        return data
    form = "<iI" if data[1] & 1 else ">iI"  # the second byte of the encapsulation tells the byte order
    sec, nanosec = struct.unpack_from(form, data, 4)
    if sec == 0 and nanosec == 0:
        return data
    shifted = bytearray(data)
    struct.pack_into(form, shifted, 4, *divmod(sec * SECOND + nanosec + by_ns, SECOND))
    return bytes(shifted)


def header_stamp(data: bytes) -> int:
    """The stamp (ns) at the head of the CDR bytes of a message that begins with a header, without decoding it.

    Raises BagError where the bytes end before it.
    """
    if len(data) < _STAMP_END:
        raise BagError(
            f"A message of {len(data)} bytes ends before its stamp", "Leave the topic out, or record the bag anew"
        )
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return sec * SECOND + nanosec


@cache
def _starts_with_header(msgtype: str) -> bool:
    if msgtype not in typestore().fielddefs:
        return False
    fields = typestore().fielddefs[msgtype][1]
    return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"


def _shift_transforms(data: bytes, by_ns: int) -> bytes:
    message: Any = typestore().deserialize_cdr(data, _TF)
    for edge in message.transforms:
        stamp = edge.header.stamp
        if stamp.sec or stamp.nanosec:
            stamp.sec, stamp.nanosec = divmod(stamp.sec * SECOND + stamp.nanosec + by_ns, SECOND)
    return bytes(typestore().serialize_cdr(message, _TF))
