"""Formats by name: the code behind a ruleset."""

from auctions.bidding import Auction
from auctions.english import English
from auctions.rulesets import Terms

FORMATS: dict[str, type[Auction]] = {"english": English}


def start(terms: Terms) -> Auction:
    """Return the state of an auction that has just been created under `terms`."""
    return FORMATS[terms.ruleset.format](terms)
