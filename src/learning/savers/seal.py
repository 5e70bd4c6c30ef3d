"""Bytes on their way into storage: compressed, then encrypted if there is a key, else with a checksum.

    first byte    the version of this format, and flags: compressed, encrypted
    encrypted     4 bytes that name the key, 12 bytes nonce, then AES-256-GCM over the rest
    else          4 bytes CRC-32, then the rest

Both the checksum and the encryption cover what the bytes are about as well: their thread, and their place in it. So
bytes that somebody moved to another place, or to another customer's thread, are found out as surely as changed ones.
"""

import hashlib
import os
import threading
import zlib
from collections.abc import Sequence

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .dictionary import DICTIONARY
from .errors import InvalidRequest, NotStorable, Unreadable

VERSION = 0x10
COMPRESSED, ENCRYPTED = 0x01, 0x02
LEVEL = 3
SMALLEST = 64
"""Fewer bytes than this are not worth compressing."""


class Sealer:
    """Seals records and opens them again.

    Args:
        keys: AES keys of 32 bytes. The first encrypts, all of them decrypt: put a new key in front to change keys. The
            old one is needed until all threads that it has encrypted are gone. With a key, a record that is not
            encrypted is refused.
        max_bytes: the most that a record may become when it is opened, so that a small one cannot fill the memory.
    """

    def __init__(self, keys: Sequence[bytes] = (), max_bytes: int = 256 * 1024 * 1024):
        if any(not isinstance(key, bytes) or len(key) != 32 for key in keys):
            raise InvalidRequest("A key is 32 bytes: os.urandom(32), kept in a safe place.")
        self._ciphers = {_name(key): AESGCM(key) for key in keys}
        self._first = _name(keys[0]) if keys else b""
        self._secret = hashlib.blake2b(b"names of items", key=keys[0], digest_size=32).digest() if keys else b""
        self._max_bytes = max_bytes
        self._dictionary = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._dictionary.precompute_compress(level=LEVEL)
        self._tools = threading.local()

    def digest(self, data: bytes, about: bytes) -> bytes:
        """A name of 16 bytes for data: the same for the same bytes, within what they are about and under one key."""
        return hashlib.blake2b(about + data, digest_size=16, key=self._secret).digest()

    def seal(self, data: bytes, about: bytes) -> bytes:
        """The data as it is stored.

        Raises:
            NotStorable: if it is more than may be opened again.
        """
        if len(data) > self._max_bytes:
            raise NotStorable(f"A value of {len(data):,} bytes is more than the {self._max_bytes:,} allowed")
        flags = VERSION
        if len(data) >= SMALLEST:
            compressed = self._compressor.compress(data)
            if len(compressed) < len(data):
                data, flags = compressed, flags | COMPRESSED
        if self._first:
            head = bytes([flags | ENCRYPTED]) + self._first
            nonce = os.urandom(12)
            return head + nonce + self._ciphers[self._first].encrypt(nonce, data, head + about)
        head = bytes([flags])
        return head + zlib.crc32(data, zlib.crc32(head + about)).to_bytes(4, "big") + data

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """The data that was sealed.

        Raises:
            Unreadable: if a byte of it has changed, if it is about something else, if it is not encrypted though it has
                to be, if it is encrypted with another key, or if it is too big.
        """
        flags = sealed[0] if sealed else 0
        if flags & ~(COMPRESSED | ENCRYPTED) != VERSION:
            raise Unreadable("A record is damaged, or was written by another version of this library.")
        if flags & ENCRYPTED:
            data = self._decrypted(sealed, about)
        elif self._first:
            raise Unreadable("A record is not encrypted, and this saver reads encrypted ones only.")
        else:
            data = sealed[5:]
            if zlib.crc32(data, zlib.crc32(sealed[:1] + about)).to_bytes(4, "big") != sealed[1:5]:
                raise Unreadable("A record is damaged, or not where it belongs: its checksum is wrong.")
        return self._decompressed(data) if flags & COMPRESSED else data

    def _decrypted(self, sealed: bytes, about: bytes) -> bytes:
        head, nonce, data = sealed[:5], sealed[5:17], sealed[17:]
        cipher = self._ciphers.get(head[1:])
        if cipher is None:
            raise Unreadable("A record is encrypted with a key that this saver was not given.")
        try:
            return cipher.decrypt(nonce, data, head + about)
        except (InvalidTag, ValueError) as error:
            raise Unreadable("A record is damaged, or not where it belongs: it does not decrypt.") from error

    def _decompressed(self, data: bytes) -> bytes:
        try:
            size = zstandard.frame_content_size(data)
            if size > self._max_bytes:
                raise Unreadable(f"A record would be {size:,} bytes, more than the {self._max_bytes:,} allowed.")
            if size < 0:
                raise Unreadable("A record is damaged: it does not tell its size.")
            return self._decompressor.decompress(data)
        except zstandard.ZstdError as error:
            raise Unreadable(f"A record is damaged: {error}.") from error

    # zstandard's objects are for one thread at a time

    @property
    def _compressor(self) -> zstandard.ZstdCompressor:
        if not hasattr(self._tools, "compressor"):
            self._tools.compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=self._dictionary)
        return self._tools.compressor

    @property
    def _decompressor(self) -> zstandard.ZstdDecompressor:
        if not hasattr(self._tools, "decompressor"):
            self._tools.decompressor = zstandard.ZstdDecompressor(dict_data=self._dictionary)
        return self._tools.decompressor


def _name(key: bytes) -> bytes:
    return hashlib.blake2b(b"name of the key", key=key, digest_size=4).digest()
