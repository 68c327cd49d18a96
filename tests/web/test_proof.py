"""Proof as anybody outside takes it: journal, receipt, log and keys by their addresses, checked offline."""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from auctions.verify import main
from storage import outbox
from storage import proof as kept
from storage.tables import Auction
from tests.auctions.second import Second
from tests.web.conftest import Site, Visit
from tests.web.lot_world import World
from tests.web.test_rooms import bid
from web.cli import app
from web.proof import KEYS_ADDRESS, Signing, make_all_checkpoints, make_checkpoints, stored_bytes
from web.render import utc_now
from web.signatures import is_signed
from web.tasks import run_row


def checkpointed(site: Site) -> None:
    """What the jobs do every ten seconds."""
    make_checkpoints(site.app.state.jobs.context)


def saved(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_everything_is_checked_offline_by_both_verifiers(site: Site, tmp_path: Path, capfd: Any) -> None:
    world = World(site)
    _, auction_id = world.published()
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    number = bid(one, auction_id, "840000", "p1")
    early = one.get(f"/auctions/{auction_id}/receipts/{number}?as=json").json()
    assert json.loads(early["text"])["checkpoint"]["sequence"] >= int(number), "covered from the first moment"
    checkpointed(site)
    guest = site.guest()
    first = guest.get("/api/v1/log").json()
    bid(other, auction_id, "850000", "p2")
    checkpointed(site)
    newest = guest.get("/log/tree-head.json").json()
    sizes = [json.loads(each["text"])["size"] for each in (first, newest)]
    assert sizes[0] < sizes[1]
    receipt = one.get(f"/auctions/{auction_id}/receipts/{number}?as=json").json()
    assert receipt["log"], "the checkpoint is in the log by now"
    assert "number" in one.get(f"/auctions/{auction_id}/receipts/{number}?lang=en").text
    grown = guest.get(f"/api/v1/log/consistency?first={sizes[0]}&second={sizes[1]}").json()
    found = guest.get(f"/api/v1/log/inclusion?auction={auction_id}&sequence={number}").json()
    keys = guest.get(KEYS_ADDRESS).json()
    assert keys == guest.get("/api/v1/keys").json()
    leaves = guest.get("/api/v1/log/leaves?limit=1000").json()["leaves"]
    assert len(leaves) == sizes[1]
    assert found["log"]["leaf"] == leaves[found["log"]["index"]]
    heads = guest.get("/api/v1/log/heads?limit=1").json()
    assert heads["heads"] == [newest]
    assert guest.get(f"/api/v1/log/heads?before={heads['next']}").json()["heads"][0]["text"] != newest["text"]
    page = guest.get("/log?lang=en").text
    assert keys["keys"][0]["key_id"] in page
    assert json.loads(newest["text"])["root"][:16] in page
    checkpoint = guest.get(f"/auctions/{auction_id}/checkpoint.json").json()

    journal = guest.get(f"/auctions/{auction_id}/journal.jsonl").content
    proofs = [early, receipt, checkpoint, grown, found]
    arguments = [saved(tmp_path, "journal.jsonl", journal), "--keys", saved(tmp_path, "keys.json", json.dumps(keys))]
    for at, each in enumerate(proofs):
        arguments += ["--proof", saved(tmp_path, f"{at}.json", json.dumps(each, indent=1))]
    assert main(arguments, is_signed) == 0, capfd.readouterr().out
    second = Second()
    assert second.both(journal, proofs=proofs, keys=keys, is_signed=is_signed).good
    cut = journal[: journal[:-1].rindex(b"\n") + 1]
    codes = {problem.code for problem in second.both(cut, proofs=proofs, keys=keys, is_signed=is_signed).problems}
    second.close()
    assert codes == {"other_head"}
    done = CliRunner().invoke(app, ["journal", "verify", *arguments])
    assert done.exit_code == 0, done.output
    saved(tmp_path, "journal.jsonl", cut)
    assert CliRunner().invoke(app, ["journal", "verify", *arguments]).exit_code == 1

    for address in (
        "inclusion?auction=999&sequence=1",
        "consistency?first=1&second=99999",
        f"consistency?first={sizes[1]}&second={sizes[0]}",
    ):
        assert guest.get(f"/api/v1/log/{address}").status_code == 404, address
    for address in (
        "inclusion?auction=0&sequence=1",
        "inclusion",
        "leaves?first=-1",
        "heads?limit=9999",
        "consistency?first=a&second=2",
    ):
        assert guest.get(f"/api/v1/log/{address}").status_code == 422, address


def test_a_tree_head_is_kept_in_the_object_store(demo_site: Site) -> None:
    World(demo_site).published()
    checkpointed(demo_site)
    context = demo_site.app.state.jobs.context
    for row in demo_site.db.read(outbox.due, at=utc_now(), limit=99):
        if row.task == "keep_tree_head":
            run_row(context, row.id, row.task)
    content = stored_bytes(demo_site.guest().get("/api/v1/log").json())
    digest = sha256(content).hexdigest()
    with demo_site.app.state.objects.get(digest) as file:
        assert file.read() == content


def test_nothing_is_opened_that_the_ruleset_does_not_open(
    demo_site: Site,
) -> None:
    world = World(demo_site)
    _, auction_id = world.published(ruleset="ebay-proxy", step="", lasts=timedelta(seconds=6))
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    bid(one, auction_id, "840000", "w1")
    bid(other, auction_id, "950000", "w2")

    def journal(visit: Visit) -> str:
        return visit.get(f"/auctions/{auction_id}/journal.jsonl").text

    assert '"facts"' not in journal(one)
    world.until(lambda: demo_site.db.read(lambda session: session.get_one(Auction, auction_id).outcome) == "sold")
    assert '"facts"' not in journal(one), "this ruleset opens nothing"
    assert opened_in(journal(one)) == []


def opened_in(text: str) -> list[Any]:
    from auctions.verify import read_lines, verify

    verdict = verify(read_lines(text.encode()))
    assert verdict.good
    return verdict.opened


def test_a_key_is_rotated_and_old_receipts_stay_good(demo_site: Site, tmp_path: Path) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    number = bid(one, auction_id, "840000", "k1")
    address = f"/auctions/{auction_id}/receipts/{number}?as=json"
    old = one.get(address).json()
    new = Signing(Ed25519PrivateKey.generate().private_bytes_raw())
    new.register(demo_site.db)
    before = demo_site.app.state.signing
    demo_site.app.state.signing = new
    receipt = one.get(address).json()
    assert receipt["key_id"] != old["key_id"]
    keys = one.get(KEYS_ADDRESS).json()
    assert [each["until_ms"] is None for each in keys["keys"]] == [False, True]
    journal = one.get(f"/auctions/{auction_id}/journal.jsonl").content
    second = Second()
    assert second.both(journal, proofs=[old, receipt], keys=keys, is_signed=is_signed).good
    # Retired at once: what it signed before is good, and it signs no more.
    demo_site.db.in_transaction(kept.retire_key, before.signer.key_id, at=utc_now())
    demo_site.app.state.signing = Signing.__new__(Signing)
    demo_site.app.state.signing.__dict__.update(before.__dict__, _seen_at=utc_now() - timedelta(hours=1))
    assert one.get(address).status_code == 409
    room = one.get(f"/lots/{lot_id}")
    assert room.status_code == 200
    assert "checkpoint.json" not in room.text, "who bids still sees the room"
    keys = one.get(KEYS_ADDRESS).json()
    assert second.both(journal, proofs=[old], keys=keys, is_signed=is_signed).good
    second.close()


def test_the_commands_for_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.database import Database

    monkeypatch.setenv("CLEARLOT_DATA", str(tmp_path))
    database = Database(f"sqlite:///{tmp_path / 'clearlot.db'}")
    database.upgrade()
    names = []
    for _ in range(2):
        done = CliRunner().invoke(app, ["keys", "rotate"])
        assert done.exit_code == 0, done.output
        names.append(done.output.split()[2].rstrip(";"))
    listed = CliRunner().invoke(app, ["keys", "list"]).output.splitlines()
    assert [line.split()[0] for line in listed] == names
    assert listed[1].endswith("in use")
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600
    assert CliRunner().invoke(app, ["keys", "retire", names[1]]).exit_code == 0
    assert CliRunner().invoke(app, ["keys", "retire", "nothing"]).exit_code == 1
    monkeypatch.setenv("CLEARLOT_DATABASE_URL", f"sqlite:///{tmp_path / 'clearlot.db'}")
    shown = CliRunner().invoke(app, ["keys", "rotate"]).output
    assert shown.startswith("CLEARLOT_SIGNING_KEY=")
    database.close()


def test_what_ended_long_ago_gets_its_checkpoint_too(demo_site: Site) -> None:
    world = World(demo_site)
    _, auction_id = world.published()
    make_all_checkpoints(demo_site.app.state.jobs.context)
    assert demo_site.guest().get(f"/api/v1/log/inclusion?auction={auction_id}&sequence=1").status_code == 200
