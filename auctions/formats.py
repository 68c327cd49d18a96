"""Formats by name: the code behind a ruleset."""

from auctions.bidding import Auction
from auctions.dutch import Dutch, FixedPrice
from auctions.english import English
from auctions.gong import Gong
from auctions.hybrid import Hybrid
from auctions.rounds import Rounds
from auctions.rulesets import Terms

FORMATS: dict[str, type[Auction]] = {
    "english": English,
    "rounds": Rounds,
    "gong": Gong,
    "dutch": Dutch,
    "hybrid": Hybrid,
    "fixed_price": FixedPrice,
}


def start(terms: Terms) -> Auction:
    """Return the state of an auction that has just been created under `terms`."""
    return FORMATS[terms.ruleset.format](terms)
