"""A short link leads to the invitation it was made for, whatever its server does."""

import pytest

from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages import shorten_url
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.messages.shorten_url import ShortLink


def test_a_short_link_is_found_in_what_a_person_pastes() -> None:
    invitation = Invitation(from_=Identity.peer4().did)
    link = ShortLink.to(invitation, "https://mediator.example/?_oobid=abc")
    assert ShortLink.find(f" <{link}>\n") == link
    assert len(str(link)) < 100


@pytest.mark.parametrize("pasted", ["", "hello", "https://x.example/?_oob=abc", "did:peer:2.x", "file.txt"])
def test_other_texts_are_no_short_links(pasted: str) -> None:
    assert ShortLink.find(pasted) is None


def test_an_exchanged_invitation_is_noticed() -> None:
    mine, theirs = (Invitation(from_=Identity.peer4().did) for _ in range(2))
    link = ShortLink.to(mine, "https://mediator.example/?_oobid=abc")
    assert link.check(mine) is mine
    with pytest.raises(LocalMisuse, match="another invitation"):
        link.check(theirs)


def test_a_link_of_another_program_has_no_fingerprint_and_is_taken() -> None:
    link = ShortLink.find("https://mediator.example/?_oobid=abc")
    assert link is not None
    invitation = Invitation(from_=Identity.peer4().did)
    assert link.check(invitation) is invitation


def test_the_messages_say_what_they_were_given() -> None:
    asked = shorten_url.request("https://mediator.example/?_oob=x", 60)
    assert shorten_url.parse_request(asked) == shorten_url.LinkRequest("https://mediator.example/?_oob=x", 60)
    answer = shorten_url.shortened(asked, "https://mediator.example/?_oobid=y", 1000)
    assert shorten_url.parse_shortened(answer) == "https://mediator.example/?_oobid=y"
    with pytest.raises(MessageError):
        shorten_url.parse_request(answer)
