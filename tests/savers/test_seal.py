"""Sealed bytes come back as they were, from where they belong, or not at all."""

import os
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from learning.savers import InvalidRequest, NotStorable, Unreadable
from learning.savers.dictionary import DICTIONARY
from learning.savers.seal import COMPRESSED, VERSION, Sealer

KEY = bytes(range(32))
SEALERS = {"plain": Sealer(), "encrypted": Sealer([KEY])}


@pytest.fixture(params=SEALERS)
def sealer(request: pytest.FixtureRequest) -> Sealer:
    return SEALERS[request.param]


@given(data=st.binary() | st.binary(min_size=1, max_size=8).map(lambda part: part * 100), about=st.binary())
@pytest.mark.parametrize("kind", SEALERS)
def test_what_is_sealed_opens_where_it_belongs_and_nowhere_else(kind: str, data: bytes, about: bytes):
    sealed = SEALERS[kind].seal(data, about)

    assert SEALERS[kind].open(sealed, about) == data
    with pytest.raises(Unreadable):
        SEALERS[kind].open(sealed, about + b"x")


@pytest.mark.parametrize("data", [b"short", b"long enough to be compressed " * 20], ids=["short", "long"])
def test_a_changed_a_missing_and_an_added_byte_are_found_out(sealer: Sealer, data: bytes):
    sealed = sealer.seal(data, b"about")

    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(Unreadable):
                sealer.open(bytes(changed), b"about")
        with pytest.raises(Unreadable):
            sealer.open(sealed[:place], b"about")
    with pytest.raises(Unreadable):
        sealer.open(sealed + b"\0", b"about")


def forged(data: bytes) -> bytes:
    """A record as somebody would write it who knows the format and has no key."""
    head = bytes([VERSION | COMPRESSED])
    return head + zlib.crc32(data, zlib.crc32(head + b"about")).to_bytes(4) + data


def test_a_bomb_is_refused_before_it_goes_off():
    dictionary = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    bomb = zstandard.ZstdCompressor(dict_data=dictionary).compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(Unreadable, match="50,000,000 bytes, more than the 1,000,000 allowed"):
        Sealer(max_bytes=1_000_000).open(forged(bomb), b"about")

    streamed = zstandard.ZstdCompressor(dict_data=dictionary, write_content_size=False).compressobj()
    endless = streamed.compress(bytes(50_000_000)) + streamed.flush()
    with pytest.raises(Unreadable, match="does not tell its size"):
        Sealer(max_bytes=1_000_000).open(forged(endless), b"about")


def test_what_could_not_be_opened_again_is_not_sealed():
    small = Sealer(max_bytes=1000)
    assert small.open(small.seal(bytes(1000), b"about"), b"about") == bytes(1000)
    with pytest.raises(NotStorable, match="1,001 bytes is more than the 1,000 allowed"):
        small.seal(bytes(1001), b"about")


def test_a_record_whose_compressed_bytes_make_no_sense_is_damaged():
    dictionary = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    data = zstandard.ZstdCompressor(dict_data=dictionary).compress(os.urandom(500) * 3)
    for broken in (b"no frame at all", data[:-10]):
        with pytest.raises(Unreadable, match=r"A record is damaged: .*\."):
            Sealer().open(forged(broken), b"about")


def test_keys_change_without_a_pause():
    old, new = Sealer([KEY]), Sealer([os.urandom(32), KEY])
    sealed = old.seal(b"secret", b"about")

    assert new.open(sealed, b"about") == b"secret"
    with pytest.raises(Unreadable, match="a key that this saver was not given"):
        old.open(new.seal(b"secret", b"about"), b"about")
    with pytest.raises(Unreadable, match="encrypted with a key"):
        Sealer().open(sealed, b"about")


def test_two_seals_of_the_same_bytes_differ_where_there_is_a_key():
    assert len({SEALERS["encrypted"].seal(b"same", b"about") for _ in range(100)}) == 100


def test_names_tell_nothing_across_threads_or_keys():
    plain, one, other = Sealer(), Sealer([KEY]), Sealer([KEY[::-1]])
    names = {
        plain.digest(b"hello", b"ana"),
        plain.digest(b"hello", b"ben"),
        one.digest(b"hello", b"ana"),
        other.digest(b"hello", b"ana"),
    }

    assert len(names) == 4
    assert one.digest(b"hello", b"ana") == Sealer([KEY]).digest(b"hello", b"ana")


@pytest.mark.parametrize("key", [b"short", b"x" * 33, "x" * 32, None])
def test_a_key_of_another_size_is_refused(key: object):
    with pytest.raises(InvalidRequest, match=r"A key is 32 bytes: os\.urandom"):
        Sealer([key])
