"""Interleaved packets to access units: the quirks of cameras.md 16, each named by its id."""

from collections.abc import Callable
from typing import Any

import pytest

from services.ingest.rtsp.errors import MessageError

IDR = b"\x65\x88" + bytes(range(1, 200))
SLICE = b"\x41\x9a" + bytes(range(1, 120))
SEI = b"\x06\x05\x04abcd\x80"
Make = Callable[..., Any]


def fragments(nal: bytes, size: int = 50, *, both: bool = False) -> list[bytes]:
    """FU-A packets of one NAL unit."""
    if both:
        return [bytes(((nal[0] & 0xE0) | 28, 0xC0 | (nal[0] & 31))) + nal[1:]]
    pieces = [nal[place : place + size] for place in range(1, len(nal), size)]
    found = []
    for index, piece in enumerate(pieces):
        flags = (0x80 if index == 0 else 0) | (0x40 if index == len(pieces) - 1 else 0)
        found.append(bytes(((nal[0] & 0xE0) | 28, flags | (nal[0] & 31))) + piece)
    return found


def test_units_come_out_as_they_went_in(make_camera: Make, parameter_sets: tuple[bytes, ...]) -> None:
    camera = make_camera()
    sps, pps, _ = parameter_sets
    camera.unit(sps, pps, SEI, *fragments(IDR))
    for _ in range(30):
        camera.unit(*fragments(SLICE))
    assert camera.finish() == [(sps, pps, SEI, IDR), *[(SLICE,)] * 30]
    assert camera.parser.units_lost == 0


def test_the_first_key_picture_keeps_its_leading_sei(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(SLICE)
    camera.unit(SEI, IDR)
    assert camera.finish() == [(SEI, IDR)]
    assert camera.parser.units_skipped == 1


def test_bytes_split_anywhere_give_the_same_units(make_camera: Make) -> None:
    whole = make_camera()
    stream = b""
    for payloads in ([SEI, *fragments(IDR)], fragments(SLICE), [SLICE]):
        for number, payload in enumerate(payloads):
            stream += whole.packet(payload, marker=number == len(payloads) - 1)
        whole.next_unit()
    camera = make_camera()
    rest = b""
    for place in range(0, len(stream), 7):
        data = rest + stream[place : place + 7]
        used = camera.parser.feed(bytearray(data + bytes(32)), 0, len(data), camera.now_us)
        rest = data[used:]
    assert rest == b""
    assert camera.finish() == [(SEI, IDR), (SLICE,), (SLICE,)]


def test_h01_a_camera_without_marker_bits(make_camera: Make) -> None:
    camera = make_camera()
    for payloads in ([IDR], [SLICE], [SLICE]):
        camera.unit(*payloads, marker=False)
    camera.unit(SLICE)
    assert camera.finish() == [(IDR,), (SLICE,), (SLICE,), (SLICE,)]


def test_h02_and_h03_a_marker_on_parameter_sets_and_on_sei_ends_nothing(
    make_camera: Make, parameter_sets: tuple[bytes, ...]
) -> None:
    camera = make_camera()
    sps, pps, _ = parameter_sets
    for payload in (sps, pps, SEI, IDR):
        camera.send(payload, marker=True)
    assert camera.finish() == [(sps, pps, SEI, IDR)]


def test_h24_parameter_sets_with_their_own_time_join_the_slice(
    make_camera: Make, parameter_sets: tuple[bytes, ...]
) -> None:
    camera = make_camera()
    sps, pps, _ = parameter_sets
    camera.unit(IDR)
    camera.stamp -= 1_000
    camera.send(sps, marker=True)
    camera.send(pps, marker=True)
    camera.stamp += 1_000
    camera.unit(IDR)
    assert camera.finish() == [(IDR,), (sps, pps, IDR)]
    assert camera.sink.fragments[0].media_90k == 3_600


def test_h04_start_codes_inside_a_packet_are_cut(make_camera: Make, parameter_sets: tuple[bytes, ...]) -> None:
    camera = make_camera(sets=())
    sps, pps, _ = parameter_sets
    camera.unit(b"\0\0\0\1" + sps + b"\0\0\0\1" + pps + b"\0\0\1" + IDR)
    camera.unit(b"\0\0\0\1" + SLICE)
    assert camera.finish() == [(sps, pps, IDR), (SLICE,)]


def test_a_start_code_inside_sei_is_the_cameras_own_business(make_camera: Make) -> None:
    odd = b"\x06\x05\x10ab\0\0\x01\x65cd\x80"
    camera = make_camera()
    camera.unit(odd, IDR)
    assert camera.finish() == [(odd, IDR)]


def test_h05_a_fragment_with_start_and_end(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(*fragments(IDR, both=True))
    assert camera.finish() == [(IDR,)]


def test_h06_several_units_in_one_fragmented_one(make_camera: Make, parameter_sets: tuple[bytes, ...]) -> None:
    camera = make_camera(sets=())
    sps, pps, _ = parameter_sets
    camera.unit(*fragments(sps + b"\0\0\0\1" + pps + b"\0\0\0\1" + IDR))
    assert camera.finish() == [(sps, pps, IDR)]


def test_h07_the_first_fragments_type_wins(make_camera: Make) -> None:
    camera = make_camera()
    first, *rest = fragments(IDR)
    camera.unit(first, *[bytes((part[0], (part[1] & 0xC0) | 1)) + part[2:] for part in rest])
    assert camera.finish() == [(IDR,)]


def test_h08_empty_fragments_add_nothing(make_camera: Make) -> None:
    camera = make_camera()
    first, *rest = fragments(IDR)
    camera.unit(first, b"\x7c\x05", *rest)
    assert camera.finish() == [(IDR,)]


def test_h09_an_aggregate_with_zero_padding(make_camera: Make, parameter_sets: tuple[bytes, ...]) -> None:
    camera = make_camera(sets=())
    sps, pps, _ = parameter_sets
    packed = b"".join(len(nal).to_bytes(2, "big") + nal for nal in (sps, pps, IDR))
    camera.unit(b"\x78" + packed + bytes(5))
    assert camera.finish() == [(sps, pps, IDR)]


def test_h10_bytes_behind_the_sequence_set_are_no_change(make_camera: Make, parameter_sets: tuple[bytes, ...]) -> None:
    camera = make_camera()
    sps, pps, _ = parameter_sets
    camera.unit(sps, pps, IDR)
    camera.unit(sps + bytes(3), pps, IDR)
    camera.finish()
    assert camera.parser.fault is None
    assert len({fragment.init.sha256 for fragment in camera.sink.fragments}) == 1


def test_h11_without_sprop_the_sets_in_the_stream_are_awaited(
    make_camera: Make, parameter_sets: tuple[bytes, ...]
) -> None:
    camera = make_camera(sets=(b"\x67garbage",))
    sps, pps, _ = parameter_sets
    camera.unit(IDR)
    camera.unit(sps, pps, IDR)
    assert camera.finish() == [(sps, pps, IDR)]


def test_h15_a_picture_of_many_slices_is_one_unit(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(*[IDR] * 8)
    camera.unit(*[part for _ in range(8) for part in fragments(SLICE)])
    assert camera.finish() == [(IDR,) * 8, (SLICE,) * 8]


def test_h21_new_parameter_sets_make_a_new_init_at_the_key_picture(
    make_camera: Make, parameter_sets: tuple[bytes, ...]
) -> None:
    camera = make_camera()
    sps, pps, other = parameter_sets
    camera.unit(sps, pps, IDR)
    camera.unit(SLICE)
    camera.unit(other, pps, IDR)
    camera.unit(SLICE)
    assert camera.finish() == [(sps, pps, IDR), (SLICE,), (other, pps, IDR), (SLICE,)]
    assert [fragment.init.codec for fragment in camera.sink.fragments] == ["avc1.42c014", "avc1.42c015"]
    assert camera.parser.fault is None


def test_slices_that_use_new_sets_before_a_key_picture_end_the_session(
    make_camera: Make, parameter_sets: tuple[bytes, ...]
) -> None:
    camera = make_camera()
    sps, pps, other = parameter_sets
    camera.unit(sps, pps, IDR)
    camera.unit(other, SLICE)
    assert camera.parser.fault is not None
    assert camera.parser.fault.detail == "parameter_change"


def test_n06_packets_before_the_play_reply_are_ignored(make_camera: Make) -> None:
    camera = make_camera()
    camera.parser.playing = False
    camera.unit(IDR)
    camera.parser.playing = True
    camera.unit(IDR)
    assert camera.finish() == [(IDR,)]
    assert camera.parser.rejected["before_play"] == 1


def test_n07_data_on_a_channel_never_set_up_is_counted(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(IDR)
    camera.raw(b"$\x08\x00\x14" + bytes(20))
    camera.unit(SLICE)
    assert camera.finish() == [(IDR,), (SLICE,)]
    assert camera.parser.foreign == 1


def test_n08_odd_channel_numbers(make_camera: Make) -> None:
    camera = make_camera()
    camera.use(96, rtp_channel=5)
    camera.unit(IDR)
    assert camera.finish() == [(IDR,)]


def test_n09_stray_bytes_and_text_between_frames(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(IDR)
    camera.raw(b"\r\n\r\nxyz" + camera.packet(SLICE, marker=True))
    camera.next_unit()
    camera.raw(b"RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n" + camera.packet(SLICE, marker=True))
    assert camera.finish() == [(IDR,), (SLICE,), (SLICE,)]
    assert camera.texts == [b"RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n"]


def test_n09_endless_stray_bytes_end_the_session(make_camera: Make) -> None:
    camera = make_camera()
    with pytest.raises(MessageError):
        camera.raw(b"x" * 3_000)


def test_p02_another_ssrc_is_a_new_run_without_a_lost_unit(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(IDR)
    camera.unit(SLICE)
    camera.ssrc, camera.seq, camera.stamp = 99, 5, 3_000_000_000
    camera.unit(IDR)
    camera.unit(SLICE)
    assert camera.finish() == [(IDR,), (SLICE,), (IDR,), (SLICE,)]
    assert [fragment.run for fragment in camera.sink.fragments] == [0, 1]
    assert [end.run for end in camera.sink.runs] == [0, 1]
    first, second = camera.sink.fragments
    assert first.end_us <= second.start_us


def test_p03_payload_type_35_is_taken_and_junk_is_dropped(make_camera: Make) -> None:
    camera = make_camera()
    camera.use(35)
    camera.unit(IDR)
    camera.payload_type = 50
    camera.send(b"junk")
    camera.seq -= 1
    camera.payload_type = 35
    camera.unit(SLICE)
    assert camera.finish() == [(IDR,), (SLICE,)]
    assert camera.parser.rejected["payload_type_50"] == 1


def test_p04_header_extensions_and_padding(make_camera: Make) -> None:
    camera = make_camera()
    camera.send(IDR, marker=True, first=0x90, middle=b"\xab\xac\0\1abcd")
    camera.next_unit()
    camera.send(SLICE + b"\0\0\3", marker=True, first=0xA0)
    assert camera.finish() == [(IDR,), (SLICE,)]


def test_loss_drops_the_damaged_unit_and_flags_what_follows(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(IDR)
    first, second, *rest = fragments(SLICE)
    camera.send(first)
    camera.seq = (camera.seq + 1) & 0xFFFF
    for part in rest[:-1]:
        camera.send(part)
    camera.send((rest or [second])[-1], marker=True)
    camera.next_unit()
    camera.unit(SLICE)
    camera.unit(IDR)
    assert camera.finish() == [(IDR,), (SLICE,), (IDR,)]
    assert camera.parser.units_lost == 1
    assert [loss.count for loss in camera.sink.losses] == [1]
    assert [fragment.broken_refs for fragment in camera.sink.fragments] == [True, False]


def test_a_long_loss_is_a_hole_with_its_sequence_numbers(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(IDR)
    camera.unit(SLICE)
    camera.seq = (camera.seq + 40) & 0xFFFF
    camera.next_unit(90_000)
    camera.unit(SLICE)
    camera.unit(SLICE)
    assert camera.finish() == [(IDR,), (SLICE,), (SLICE,), (SLICE,)]
    (hole,) = camera.sink.holes
    assert (hole.cause, hole.detail, hole.evidence["packets"]) == ("network_loss", "tcp_backpressure", 40)
    assert hole.to_us - hole.from_us == pytest.approx(1_000_000, abs=1_000)
    assert len(camera.sink.runs) == 1


def test_a_unit_without_end_is_thrown_away_at_eight_mebibytes(make_camera: Make) -> None:
    camera = make_camera()
    camera.unit(IDR)
    first, middle, *_ = fragments(SLICE + bytes(70_000), 60_000)
    camera.send(first)
    for _ in range(150):
        camera.send(bytes((middle[0], middle[1] & 0x3F)) + b"\x55" * 60_000)
    camera.next_unit()
    camera.unit(IDR)
    assert camera.finish() == [(IDR,), (IDR,)]
    assert camera.sink.findings[0].kind == "unit_too_large"


def test_a_signature_is_seen_and_kept(make_camera: Make) -> None:
    signed = b"\x06\x05\x18" + bytes.fromhex("005bc93f2d715e95ada4796f90877a6f") + b"proof\x80"
    camera = make_camera()
    camera.unit(signed, IDR)
    camera.unit(IDR)
    assert camera.finish() == [(signed, IDR), (IDR,)]
    assert [fragment.signed_sei for fragment in camera.sink.fragments] == ["present", "absent"]


def test_h16_h265_trail_n_of_type_0_is_a_picture(make_camera: Make) -> None:
    sets = tuple(
        bytes.fromhex(text)
        for text in (
            "40010c01ffff01600000030090000003000003003fba0240",
            "42010101600000030090000003000003003fa010206165ba4a4c2e6808000003000800000300c840",
            "4401c073c089",
        )
    )
    camera = make_camera(codec="h265", sets=sets)
    idr, trail = b"\x26\x01\xac" + bytes(range(1, 90)), b"\x00\x01\xd0" + bytes(range(1, 90))
    camera.unit(idr)
    camera.unit(trail)
    start, end = b"\x62\x01\x80" + trail[2:40], b"\x62\x01\x40" + trail[40:]
    for _ in range(120):
        camera.unit(start, end)
    packed = b"".join(len(nal).to_bytes(2, "big") + nal for nal in (sets[0], trail))
    camera.unit(b"\x60\x01" + packed)
    assert camera.finish() == [(idr,), *[(trail,)] * 121, (sets[0], trail)]
    assert camera.sink.fragments[0].init.codec.startswith("hvc1.1.")
