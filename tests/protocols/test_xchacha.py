"""XChaCha20-Poly1305 against the vectors of draft-irtf-cfrg-xchacha-03."""

import pytest
from cryptography.exceptions import InvalidTag

from didmpc.protocols.crypto import xchacha

PLAINTEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
KEY = bytes(range(0x80, 0xA0))
NONCE = bytes(range(0x40, 0x58))
AAD = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
SEALED = bytes.fromhex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54"
    "c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f6"
    "15c68b13b52ec0875924c1c7987947deafd8780acf49"
)


def test_the_block_function_gives_the_subkey_of_section_2_2_1() -> None:
    key = bytes(range(32))
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    expected = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    assert xchacha.hchacha20(key, nonce).hex() == expected


def test_sealing_gives_the_ciphertext_of_appendix_a_3_1() -> None:
    assert xchacha.encrypt(KEY, NONCE, PLAINTEXT, AAD) == SEALED
    assert xchacha.decrypt(KEY, NONCE, SEALED, AAD) == PLAINTEXT


@pytest.mark.parametrize("place", [0, 50, len(SEALED) - 1])
def test_a_changed_ciphertext_does_not_open(place: int) -> None:
    changed = bytearray(SEALED)
    changed[place] ^= 1
    with pytest.raises(InvalidTag):
        xchacha.decrypt(KEY, NONCE, bytes(changed), AAD)


def test_a_nonce_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="24"):
        xchacha.encrypt(KEY, NONCE[:12], PLAINTEXT, AAD)
