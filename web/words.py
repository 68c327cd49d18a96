"""From codes to sentences: what a refusal, a fault or an error says to a person, in both languages.

A code is stable; its sentence is not.  Facts come as the rings keep them and are written here:
`minimum_minor` (with `currency`) becomes `%(minimum)s` as money, `closed_at` or `closed_at_ms` becomes
`%(closed)s` as a time with milliseconds, `rate_bp` becomes `%(rate)s`.  Every code that the code base
raises has a line here (`tests/web/test_words.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from market.errors import BadInput
from market.money import DECIMALS, parse_amount
from web.render import ABSENT, N_, _, _gettext, instant_text, money, share

SENTENCES: dict[str, str] = {
    # --- requests
    "bad_input": N_("What was sent cannot be taken. Nothing was changed."),
    "not_found": N_("There is nothing at this address, or it is not open to you."),
    "not_allowed": N_("Your role does not allow this. Nothing was changed."),
    "method": N_("This address does not take that kind of request."),
    "too_large": N_("What was sent is larger than allowed here. Nothing was changed."),
    "internal": N_("Something failed on our side. What was accepted before is safe. Try again, or report the code."),
    "unavailable": N_("The database does not answer, so nothing is accepted now. Try again in a moment."),
    "sign_in_first": N_("Sign in to go on."),
    "csrf": N_("This form was open for too long, or did not come from our page. Nothing was changed. Send it again."),
    "origin": N_("The request did not come from our own pages. Nothing was changed."),
    "host": N_("This server does not answer under that name."),
    "too_many_requests": N_("Too many requests. Go on in %(seconds)s s."),
    "key_unknown": N_("The API key is not known, or was revoked."),
    "scope_missing": N_("The API key does not have the scope %(scope)s."),
    "json": N_("One JSON object in UTF-8 was expected."),
    "required": N_("This is needed."),
    "unknown_field": N_("This field is not known here."),
    "duplicate_field": N_("This field was given twice."),
    "type": N_("Expected %(expected)s."),
    "too_long": N_("Expected %(expected)s."),
    "missing": N_("This is needed: %(expected)s."),
    "length": N_("Expected %(expected)s."),
    "hidden_character": N_("Control, direction and invisible characters are not taken here."),
    "whole_number": N_("Expected %(expected)s."),
    "range": N_("Expected %(expected)s."),
    "number": N_("Expected %(expected)s."),
    "percent": N_("Expected %(expected)s."),
    "date": N_("Enter a date such as 2026-11-22."),
    "instant": N_("Enter a date and time such as 2026-11-22T16:30."),
    "choice": N_("Expected one of: %(expected)s."),
    "amount_format": N_("Enter digits only, at most two decimals, for example 1310000.50."),
    "currency_unknown": N_("The currency is not known here; use its ISO code, for example CNY."),
    # --- parties
    "sign_in_failed": N_("Name or password is not right. Try again."),
    "sign_in_slowed": N_("Too many tries. Try again in %(seconds)s s."),
    "link_used": N_("This sign-in link was used already, or is too old."),
    "email_format": N_("Enter a mail address, for example li.wei@example.com."),
    "email_taken": N_("This address cannot be used. Sign in with it, or use another."),
    "name_taken": N_("A party of this name, or one that looks the same, is registered already."),
    "name_format": N_("Use 2 to 120 characters, without control or invisible ones."),
    "password_short": N_("Use at least 12 characters."),
    "password_long": N_("Use at most 200 characters."),
    "password_known": N_("The password contains your name or address. Use another."),
    "password_wrong": N_("The present password is not right."),
    "passwords_differ": N_("The two passwords differ."),
    "iban_format": N_("Enter an account number of 8 to 34 letters and digits."),
    "country_format": N_("Enter the two letters of the country, for example CN."),
    "declaration_missing": N_("This declaration is needed to go on."),
    "party_status": N_("The party's state is “%(status)s”; this can no longer be decided."),
    "reason_missing": N_("Give the reason; the party will read it."),
    "objects_down": N_("The store of files does not answer. Bidding goes on; try the file again in a moment."),
    "object_damaged": N_("The file in the store is not the one that was put there. It is not shown."),
    "limit_out_of_range": N_("The limit is beyond what can be counted."),
    "rank_fixed": N_("The rank of priority is fixed once the party has bid."),
    "head_format": N_("Write the number of the entry, a colon and its hash, as the receipt has them."),
    "not_text": N_("This is not a journal as we give them out: it is not UTF-8 text."),
    # --- what waits for somebody (homes), and the stages of a board
    "need_tape_faulty": N_("Tape %(name)s was not kept. Faults: %(faults)s"),
    "need_tape_needs_mapping": N_("Tape %(name)s needs a column mapping"),
    "need_tape_refused": N_("Tape %(name)s was refused"),
    "need_lot_draft": N_("Lot %(lot)s is a draft"),
    "need_lot_unsold": N_("Lot %(lot)s was not sold: list it again, or take its accounts back"),
    "need_lot_defaulted": N_("The buyer of lot %(lot)s did not pay: list it again"),
    "need_deposit": N_("Pay the deposit of %(amount)s for lot %(lot)s, reference %(reference)s"),
    "need_balance": N_("Pay the balance of %(amount)s for lot %(lot)s, reference %(reference)s"),
    "need_outbid": N_("You do not lead on lot %(lot)s: the standing is %(price)s"),
    "need_admission": N_("Parties that wait for admission: %(count)s"),
    "need_lots": N_("Lots that wait for a decision: %(count)s"),
    "need_participations": N_("Bidders that ask to take part: %(count)s"),
    "need_paused": N_("Lot %(lot)s is paused: resume it, or withdraw it"),
    "need_taken_back": N_(
        "The bank took the payment for lot %(lot)s back, but its accounts are with the buyer: "
        "claim %(amount)s from him, reference %(reference)s"
    ),
    "need_claim_open": N_(
        "The bank took money back that was used or sent on (lot %(lot)s): claim %(amount)s, reference %(reference)s"
    ),
    "need_claim": N_("Pay %(amount)s that the bank took back (lot %(lot)s), reference %(reference)s"),
    "need_leader_unpaid": N_(
        "Bidder %(bidder)s leads on lot %(lot)s, but the bank took the deposit back: his bid binds, he is barred"
    ),
    "need_lines": N_("Statement lines that wait for a person: %(count)s"),
    "need_payouts": N_("Pay-outs that are due: %(count)s"),
    "need_troubled": N_("Work that keeps failing: %(count)s"),
    "board_tapes": N_("Tapes kept"),
    "board_portfolios": N_("Portfolios"),
    "board_preparing": N_("Lots being prepared"),
    "board_on_sale": N_("Lots on sale"),
    "board_sold": N_("Sold, waiting for the balance"),
    "board_paid": N_("Paid"),
    "board_closed_out": N_("Closed out"),
    "board_admission": N_("Admission of parties"),
    "board_lots": N_("Lots to decide"),
    "board_participations": N_("Bidders to admit"),
    "board_lines": N_("Statement lines to match"),
    "board_payouts": N_("Pay-outs due"),
    "board_troubled": N_("Work that keeps failing"),
    "money_expected": N_("Expected from sales"),
    "money_received": N_("Paid out to you"),
    "money_late": N_("Late"),
    "money_deposits": N_("Deposits held for you"),
    "money_to_pay": N_("To pay"),
    "money_bought": N_("Bought"),
    "too_many_keys": N_("At most %(limit)s keys can be active. Revoke one first."),
    "key_retired": N_("Key %(key)s was retired and may not sign any more. Give this node the new key."),
    # --- what is typed (market/inputs.py)
    # --- collateral
    "vin_format": N_("A VIN has 17 letters and digits, without I, O and Q."),
    "vin_check_digit": N_("The check digit of this VIN is wrong: expected %(expected)s. Look for a typing mistake."),
    "vin_model_year": N_("By the VIN the model year is %(expected)s."),
    "lien_format": N_("“%(found)s” is not understood. Write one lien a line: rank; holder; amount."),
    "account_unknown": N_("%(found)s is not the number of one of your overdue accounts."),
    "collateral_bound": N_("This item is in lot %(lot)s, so it can no longer be changed."),
    "picture_size": N_("The picture is empty or larger than allowed: %(expected)s."),
    "picture_format": N_("This is not a JPEG, PNG or WebP picture."),
    "picture_pixels": N_("The picture has %(found)s pixels; %(expected)s."),
    "picture_broken": N_("The picture is damaged or not complete."),
    "picture_repeated": N_("This picture is there already."),
    "too_many": N_("That is too many: %(expected)s."),
    # --- lots: what a ruleset asks of a listing
    "opening_low": N_("The opening is %(found)s of the appraisal; at least %(expected)s is needed."),
    "second_opening_low": N_("The opening is %(found)s; after the failed auction at least %(expected)s is needed."),
    "second_too_late": N_("Bidding opens on %(found)s; the second auction opens by %(expected)s."),
    "appraisal_missing": N_("An appraisal is needed: the opening is measured against it."),
    "deposit_share": N_("The deposit is %(found)s of the opening; %(expected)s is allowed."),
    "notice_short": N_("Whole days of notice before bidding opens: %(found)s. At least %(expected)s are needed."),
    "opens_in_past": N_("Bidding would open at %(found)s, which has passed."),
    "too_short": N_("Bidding lasts %(found)s h; at least %(expected)s h are needed."),
    "reserve_is_opening": N_("The reserve is the opening: %(expected)s."),
    "reserve_low": N_("The reserve lies below the opening."),
    "bad_times": N_("Bidding must close after it opens."),
    "ruleset_fault": N_("The ruleset cannot honour these terms: %(sentence)s"),
    "lot_status": N_("The lot's state is “%(status)s”, so this can no longer be done."),
    "four_eyes": N_("You made this lot, so another person must decide."),
    "content_unknown": N_("This is not one of your own that is free to sell."),
    "content_in_lot": N_("This is in lot %(lot)s already."),
    "accounts_not_free": N_("%(free)s of %(expected)s accounts are free; the others are listed or sold elsewhere."),
    # --- taking part
    "auction_over": N_("This auction is over."),
    "agreement_changed": N_("The lot or the agreement changed since you opened the page. Read it again."),
    "own_lot": N_("This is your own lot; its creditor does not bid."),
    "conflict_of_interest": N_("There is a conflict of interest: the platform and its people do not bid."),
    "defaulted_buyer": N_("Your party bought this lot and did not pay, so it may not bid again."),
    "party_not_admitted": N_("Your party is not admitted yet."),
    "participation_status": N_("This was decided already."),
    "no_priority": N_("This ruleset knows no priority buyers."),
    # --- bidding (auctions/messages.REFUSALS)
    "not_admitted": N_("Your party is not admitted to this auction, so the bid was refused."),
    "barred": N_("Your party may bid no more in this auction."),
    "withdrawn": N_("The lot was withdrawn. The bid was refused."),
    "closed": N_("Bidding has ended. The bid was refused."),
    "paused": N_("Bidding was paused at %(paused)s. The bid was refused."),
    "not_open_yet": N_("Bidding opens at %(opens)s. Your bid arrived at %(arrived)s and was refused."),
    "too_late": N_("Bidding ended at %(closed)s. Your bid arrived at %(arrived)s and was refused."),
    "already_leading": N_("You lead at %(price)s already; under these rules nobody bids against himself."),
    "proxy_off": N_("This ruleset has no automatic bids."),
    "proxy_binding": N_("A maximum of %(maximum)s is binding and cannot be taken back."),
    "no_proxy": N_("There is no automatic bidding to stop."),
    "below_minimum": N_("%(amount)s is below the minimum, now %(minimum)s. The bid was refused."),
    "not_a_step": N_("A bid must be the opening plus a multiple of %(step)s. Nearest: %(lower)s or %(upper)s."),
    "maximum_below_amount": N_("The maximum of %(maximum)s is below the bid of %(amount)s."),
    "not_above_maximum": N_(
        "You lead with a maximum of %(maximum)s; a new one must differ and, where it binds, be higher."
    ),
    "above_limit": N_("The bid is above your limit for this lot, %(limit)s."),
    "wrong_action": N_("The rules of this lot know no such bid. It was refused."),
    "wait_for_stage": N_("Nobody can bid before %(starts)s. The bid was refused."),
    "not_in_stage": N_("This cannot be done now. See what the rules let you do, and when."),
    "not_your_turn": N_("It is not your turn. Your turn begins at %(turn)s."),
    "no_turn_left": N_("You have no turn left."),
    "no_offer": N_("You made no offer before the opening, so you have no turn."),
    "round_taken": N_("Somebody was first in this round. The next one begins at %(starts)s, at %(price)s."),
    "step_moved": N_(
        "The price has fallen to %(price)s since you looked. The bid was refused; take this price or wait."
    ),
    "not_the_price": N_("The price is %(price)s, not %(amount)s. The bid was refused."),
    "taken": N_("Somebody was first, at %(price)s. The bid was refused."),
    "nothing_sealed": N_("You have handed in nothing that could be taken back."),
    "already_created": N_("The auction has begun already."),
    "limit_in_use": N_("The party leads with more than the new limit."),
    "not_paused": N_("The auction is not paused."),
    "busy": N_("The system is busy and did not take this. Send it again under the same key."),
    "unknown_outcome": N_("No answer yet; your bid may have been recorded. Do not bid again: ask under the same key."),
    "clock_off": N_("This server's clock is being set right. Nothing was recorded. Send it again."),
    "database_down": N_("The database does not answer. Nothing was accepted. Lots that end now are extended."),
    "journal_broken": N_(
        "The journal of this auction does not agree with its hashes. Nothing is accepted until it is mended."
    ),
    "job_needed": N_("This work cannot be let go: money or an admission depends on it. Mend the cause and try again."),
    "job_busy": N_("This work is done already, or is being done now."),
    "key_in_use": N_("The first call under this key still runs. Ask again in a moment under the same key."),
    "answer_unknown": N_(
        "A call under this key began and its answer is not known. Look whether it was done; then use a new key."
    ),
    "idempotency_key": N_("An Idempotency-Key has 1 to 64 letters, digits, underscores, points or hyphens."),
    "key_reused": N_("This key was used for another command. That one stands; this one was not recorded."),
    # --- the socket's errors (docs/live-protocol.md), as `clearlot bid` and `watch` say them
    "auction_unknown": N_("There is no auction %(auction)s, or it is not open to you."),
    "key_answered": N_(
        "The key %(id)s was used for another bid, which stands: entry %(sequence)s, %(amount)s, %(outcome)s. "
        "Nothing was bid now."
    ),
    "message_format": N_("The message is not one of the protocol. Expected %(expected)s."),
    "name_twice": N_("The name %(field)s stands twice in the message."),
    "type_missing": N_("The message has no type. Expected %(expected)s."),
    "type_unknown": N_("The type %(found)s is not known. Expected %(expected)s."),
    "field_unknown": N_("The field %(field)s is not known here. Expected %(expected)s."),
    "field_type": N_("The field %(field)s is %(found)s; expected %(expected)s."),
    "field_value": N_("The field %(field)s is %(found)s; expected %(expected)s."),
    "session_ended": N_("The session or key is no longer valid. What was accepted before stands."),
    "rate_limited": N_("These are more bids in a second than one party may send. This one was not recorded."),
    "too_many_watched": N_("One connection can watch no more auctions. Expected %(expected)s."),
    # --- rules in words (market/lots.rules_in_words)
    "rule_whole_steps": N_(
        "The first bid is at least the opening of %(opening)s; bids rise in whole steps of %(step)s."
    ),
    "rule_step": N_("The first bid is at least the opening of %(opening)s; each next one is at least %(step)s higher."),
    "rule_step_table": N_("How much a bid must rise depends on the price, by a table of %(rows)s bands."),
    "rule_step_share": N_("A bid must rise by at least %(share)s of the standing."),
    "rule_proxy_off": N_("A bid is as it is; the system does not bid for anybody."),
    "rule_proxy_optional": N_("A bid is as it is; who wants may leave a secret maximum, up to which the system bids."),
    "rule_proxy_always": N_("Every bid is a secret maximum; the price is what the second highest makes necessary."),
    "rule_reserve_opening": N_("The opening is the reserve: whoever bids it wins if nobody bids more."),
    "rule_reserve_none": N_("There is no reserve."),
    "rule_reserve_open": N_("There is an open reserve; below it the lot is not sold."),
    "rule_reserve_hidden": N_("There is a hidden reserve; only whether it is reached is shown."),
    "rule_priority": N_("Priority buyers may match the standing; the lower rank goes first, then the earlier bid."),
    "rule_leader_may_raise": N_("The leader may raise his own bid."),
    "rule_leader_may_not_raise": N_("The leader cannot bid against himself; he may raise his maximum."),
    "rule_extension_from_bid": N_(
        "A bid in the last %(window)s min moves the end to its arrival plus %(extension)s min, again and again."
    ),
    "rule_extension_from_end": N_("A bid in the last %(window)s min moves the end by %(extension)s min."),
    "rule_extension_cap": N_("The end moves at most %(most)s times."),
    "rule_hard_end": N_("The end never moves by more than %(after)s min in all."),
    "rule_no_extension": N_("The end does not move."),
    "rule_countdown": N_("The first bid starts a clock of %(seconds)s s."),
    "rule_arrival": N_(
        "The arrival at our server decides whether a bid is in time; the result follows %(seconds)s s after the end."
    ),
    "rule_pause": N_("A pause stops time; near the end at least %(minutes)s min are left after it."),
    "rule_outage_extend": N_("If bidders could not reach us near the end, the end moves by the time that was lost."),
    "rule_outage_reschedule": N_("If bidders could not reach us at the end, the auction is paused and gets new times."),
    "rule_outage_close_as_of": N_("If bidders could not reach us at the end, the auction closes as of its end."),
    "rule_deposit_back": N_("Who does not win gets the deposit back within %(hours)s hours."),
    "rule_default_to_debtor_debt": N_(
        "The deposit of a buyer who does not pay covers costs, then the shortfall, then the debtor's debts."
    ),
    "rule_default_to_creditor": N_(
        "The deposit of a buyer who does not pay covers costs, then the shortfall; the rest is the creditor's."
    ),
    "rule_default_return": N_(
        "The deposit of a buyer who does not pay covers costs and shortfall; the rest goes back."
    ),
    "rule_runner_up": N_("If the buyer does not pay, the runner-up may be awarded."),
    "rule_reauction": N_("If the buyer does not pay, the lot is auctioned again and he may not bid."),
    # --- tapes, accounts, portfolios
    "account_move": N_("The account's state is “%(status)s”; it cannot become “%(wanted)s”."),
    "tape_repeated": N_("This file was received before, as tape %(found)s."),
    "tape_status": N_("The tape's state is “%(status)s”; this cannot be done now."),
    "date_range": N_("Expected %(expected)s."),
    "mapping_unknown": N_("This format is not known. Choose another."),
    "mapping_missing": N_("No column was named for this field; it is needed."),
    "mapping_field": N_("Each field can have one column only, of its own type."),
    "mapping_format": N_("Choose the form in which the column writes its dates."),
    "mapping_rule": N_("This way to find balances is not known."),
    "reason": N_("Give the reason in 10 to 500 characters; it stands on record."),
    "name": N_("Use 3 to 120 characters."),
    "selection_empty": N_("No account is selected."),
    "selection_changed": N_("Accounts were listed or replaced meanwhile: %(found)s. Nothing was made; choose anew."),
    "not_overdue": N_(
        "Not all selected accounts can be sold: %(found)s. Select overdue ones that are neither listed nor sold."
    ),
    "several_currencies": N_("The selection holds several currencies (%(found)s). Choose one."),
    "several_cutoffs": N_("The selection holds several cut-off dates (%(found)s). Choose the accounts of one tape."),
    "column_missing": N_("The file has no column %(field)s."),
    "ragged": N_("The row has %(found)s, the header %(expected)s."),
    "header_repeated": N_("The header stands again among the rows."),
    "header_empty": N_("A column has no name."),
    "header_duplicate": N_("Two columns have the same name."),
    "header_character": N_("The name of a column holds characters that cannot be seen."),
    "header_length": N_("The name of a column is too long."),
    "header_quotes": N_("The quotes of the header do not close."),
    "encoding": N_("The file is neither UTF-8 nor GB18030 throughout."),
    "not_a_table": N_("This is not a table. Send CSV or XLSX."),
    "empty": N_("The file is empty."),
    "no_rows": N_("The file has a header and no rows."),
    "too_many_rows": N_("The file has too many rows: %(expected)s."),
    "too_many_columns": N_("The file has too many columns: %(expected)s."),
    "too_many_faults": N_("The file has more faults than can be listed; the rest was not read."),
    "record_too_long": N_("A row is too long: %(expected)s."),
    "quote": N_("A quote stands inside a cell."),
    "quote_open": N_("A quote is not closed."),
    "archive_broken": N_("The file is damaged or breaks off."),
    "archive_entries": N_("The workbook's parts are not as they should be."),
    "archive_names": N_("The workbook names parts outside of itself."),
    "archive_locked": N_("The workbook has a password."),
    "macros": N_("The workbook has macros."),
    "outside_links": N_("The workbook links to other files."),
    "formula": N_("A cell holds a formula. Save the values."),
    "cell_error": N_("A cell holds an error."),
    "several_sheets": N_("More than one sheet has data."),
    "sheet_form": N_("The sheet is not written as Excel or LibreOffice write it."),
    "xml_entities": N_("The workbook holds a document type or entities."),
    "identity": N_("The parts do not add up."),
    "balance_identity": N_("The legal balance is below principal, interest and fees."),
    "balance_negative": N_("More was repaid than was lent."),
    "dpd_outside_status": N_("The days past due are outside the range of the status."),
    "creditor_unknown": N_("There is no party “%(found)s” with a person; name the creditor, or give its number."),
    "amount_negative": N_("The amount is negative; expected %(expected)s."),
    "amount_range": N_("The amount is too large; expected %(expected)s."),
    "rate_range": N_("The rate is too high."),
    "repeated": N_("Another row has the same loan number."),
    "blank_ends": N_("There are blanks at the ends."),
    "currency": N_("Expected %(expected)s."),
    # --- money
    "not_due_yet": N_("The buyer still has time to pay, so the sale cannot be treated as defaulted yet."),
    "refusal_in_writing": N_(
        "Until the time to pay has run out, a default needs the buyer's refusal in writing: name the letter, its date "
        "and what it says, in at least 10 characters."
    ),
    "sale_move": N_("The sale's state is “%(status)s”; this can no longer be done."),
    "auction_not_closed": N_("The auction has not closed yet, so it cannot be settled."),
    "accounts_not_listed": N_("Only %(found)s of %(expected)s accounts are still listed. Nothing was changed."),
    "accounts_not_under_contract": N_(
        "Only %(found)s of %(expected)s accounts are under contract. Nothing was changed."
    ),
    "ledger_key_reused": N_("This key of a ledger entry was used with other content. Nothing was posted."),
    "balance_below_zero": N_("There is not enough on %(account)s: %(short)s short. Nothing was posted."),
    "reversal_of_reversal": N_("A reversal cannot be reversed. Post the right entry anew."),
    "line_decided": N_("This statement line was decided already."),
    "payee_known": N_("The payment %(reference)s has its payee already."),
    "line_waits": N_("This statement line waits; there is no decision to take back."),
    "line_taken_back": N_("This line was taken back by the bank already; it cannot be taken back again."),
    "bank_account_differs": N_("The two lines stand on different bank accounts."),
    "match_final": N_(
        "This cannot be taken back: payment %(reference)s is no longer open, and what followed from it stands."
    ),
    "reference_unknown": N_("No payment with this reference is expected."),
    "reference_repeated": N_("Each payment stands once; add its amounts up."),
    "share_too_much": N_("%(found)s is more than what is missing of this payment: %(expected)s."),
    "shares_sum": N_("The shares come to %(found)s; the line has %(expected)s."),
    "too_few_shares": N_("A split has at least two payments; for one, take a suggestion."),
    "amount_zero": N_("An amount above zero is expected."),
    "due_closed": N_("The state of payment %(reference)s is “%(status)s”; it takes no more money."),
    "wrong_direction": N_("Money that came in cannot match money that goes out, nor the other way round."),
    "amount_differs": N_("The line says %(found)s, but %(expected)s was to be sent. A pay-out is matched exactly."),
    "file_empty": N_("The file is empty."),
    "file_too_large": N_("The file is too large."),
    "too_many_lines": N_("The file has too many lines."),
    "format_unknown": N_(
        "This is not a bank statement that can be read. Expected camt.052, 053 or 054, or MT940 or MT942."
    ),
    "xml_forbidden": N_("XML with a document type or entities is not taken."),
    "xml_broken": N_("The XML is broken."),
    "xml_too_deep": N_("The XML is nested too deeply."),
    "field_missing": N_("A field that must be there is missing."),
    "field_format": N_("A field is not written as the format asks."),
    "date_format": N_("A date is not written as the format asks."),
    "balance_missing": N_("Opening and closing balance are needed; a notification has none and cannot be booked."),
    "statement_balance": N_("Opening balance plus entries is not the closing balance."),
    "chain_broken": N_("The opening balance is not the closing balance of the statement before."),
    "currency_differs": N_("The currency is not that of the account."),
    "number_skipped": N_("A statement number is skipped. Upload the missing one, or tick that you agree."),
    "entry_seen": N_("This entry was booked before."),
    "calendar_unknown": N_("This calendar is not known."),
}


def say(code: str, facts: Mapping[str, object] | None = None) -> str:
    """The sentence of `code` with its `facts`, in the language that is spoken now; an unknown code says itself."""
    sentence = SENTENCES.get(code)
    if sentence is None:
        return _("This was refused (%(code)s).", code=code)
    return _gettext(sentence) % _Facts(written(facts or {}))


def written(facts: Mapping[str, object]) -> dict[str, str]:
    """Facts as people read them; money by `currency` (CNY, where none is given)."""
    currency = str(facts.get("currency", "CNY"))
    words: dict[str, str] = {}
    for name, value in facts.items():
        if name.endswith("_minor") and (value is None or isinstance(value, int)):
            words[name.removesuffix("_minor")] = money(value, currency, whole=True)
        elif name.endswith("_at") and isinstance(value, datetime):
            words[name.removesuffix("_at")] = instant_text(value, "time")
        elif name.endswith("_at_ms") and isinstance(value, int):
            words[name.removesuffix("_at_ms")] = instant_text(datetime.fromtimestamp(value / 1000, UTC), "time")
        elif name.endswith("_bp") and isinstance(value, int):
            words[name.removesuffix("_bp")] = share(value)
        elif name == "expected":
            words[name] = expected(str(value))
        elif name == "found" and isinstance(value, str):
            words[name] = found(value)
        elif name in ("status", "wanted") and isinstance(value, str):
            words[name] = state(value)[1]
        else:
            words[name] = ABSENT if value is None else str(value)
    return words


# What a reader of forms expected (market/inputs.py), as patterns, since the numbers in it vary.
EXPECTED: tuple[tuple[str, str], ...] = (
    (r"(\d+) to (\d+) characters", N_("%(a)s to %(b)s characters")),
    (r"a whole number from (\S+) to (\S+)", N_("a whole number from %(a)s to %(b)s")),
    (r"digits, at most (\d+) decimals, up to (\S+)", N_("digits, at most %(a)s decimals, up to %(b)s")),
    (r"digits with at most (\d+) decimals", N_("digits with at most %(a)s decimals")),
    (r"digits without decimals", N_("digits without decimals")),
    (r"digits, with or without decimals", N_("digits, with or without decimals")),
    (r"a percentage from 0 to (\S+), at most two decimals", N_("a percentage from 0 to %(a)s, at most two decimals")),
    (r"a date such as 2026-11-22", N_("a date such as 2026-11-22")),
    (r"a date and time such as 2026-11-22T16:30", N_("a date and time such as 2026-11-22T16:30")),
    (r"an amount", N_("an amount")),
    (r"text", N_("text")),
    (r"yes or no", N_("yes or no")),
    (r"opening and closing balance: camt.053 or MT940", N_("opening and closing balance: camt.053 or MT940")),
    (r"an account of ours", N_("an account of ours")),
    (r"a new entry", N_("a new entry")),
    (r"the one after (\S+)", N_("the one after %(a)s")),
    (r"an ISO 4217 code that is listed here", N_("an ISO 4217 code that is listed here")),
    (r"a bank statement", N_("a bank statement")),
    (r"well-formed XML", N_("well-formed XML")),
    (r"XML without document type and entities", N_("XML without document type and entities")),
    (r"at most (\d+) (?:bytes|lines|levels)", N_("at most %(a)s")),
    (r"a date as 2026-11-22", N_("a date such as 2026-11-22")),
    (r"at least one statement", N_("at least one statement")),
    # of tapes (market/tape.py, market/sheets.py)
    (r"at most ([\d.,]+)", N_("at most %(a)s")),
    (r"not negative", N_("not negative")),
    (r"a file of another kind \((.+)\)", N_("a file of another kind (%(a)s)")),
    (r"a file of another kind", N_("a file of another kind")),
    (r"at most (\d+) per cent", N_("at most %(a)s per cent")),
    (r"at most (\d+) characters", N_("at most %(a)s characters")),
    (r"at most (\d+) columns", N_("at most %(a)s columns")),
    (r"at most (\d+) rows", N_("at most %(a)s rows")),
    (r"at most (\d+) bytes", N_("at most %(a)s bytes")),
    (r"a date such as (.+)", N_("a date such as %(a)s")),
    (r"a date from (\S+) to the cut-off date, (\S+)", N_("a date from %(a)s to the cut-off date, %(b)s")),
    (r"a date from (\S+) to (\S+)", N_("a date from %(a)s to %(b)s")),
    (r"(\d+) cells", N_("%(a)s cells")),
    (r"one of (.+)", N_("one of %(a)s")),
    (r"the sum of (.+)", N_("the sum of %(a)s")),
    (r"([A-Z]{3}), the tape's currency", N_("%(a)s, the tape's currency")),
    (r"not the name of column (\d+)", N_("not the name of column %(a)s")),
)


def expected(text: str) -> str:
    """What was expected, in the language that is spoken now, where the pattern is known."""
    for pattern, sentence in EXPECTED:
        if match := re.fullmatch(pattern, text):
            return _gettext(sentence) % dict(zip("ab", match.groups(), strict=False))
    return found(_gettext(text)) if text else ""


def found(text: str) -> str:
    """What was found instead: an amount with its currency as everywhere, all else as it stood."""
    match = re.fullmatch(r"([A-Z]{3}) (-?)([0-9.]+)", text)
    if match is None or match[1] not in DECIMALS:
        return text
    try:
        amount_minor = parse_amount(match[3], match[1])
    except BadInput:
        return text
    return money(-amount_minor if match[2] else amount_minor, match[1])


class _Facts(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return ABSENT  # an error's own sentence must not fail for want of a fact


# --- states: the meaning (a chip's colour and icon) and the word --------------------------------------

STATES: dict[str, tuple[str, str]] = {
    # parties
    "registered": ("waiting", N_("Waiting for admission")),
    "admitted": ("paid", N_("Admitted")),
    "refused": ("overdue", N_("Refused")),
    "suspended": ("disputed", N_("Suspended")),
    # tapes and files
    "received": ("waiting", N_("Received")),
    "reading": ("info", N_("Being read")),
    "needs_mapping": ("closing", N_("Needs a mapping")),
    "faulty": ("overdue", N_("Faulty, not kept")),
    "kept": ("paid", N_("Kept")),
    "repeated": ("waiting", N_("Seen before")),
    # overdue accounts
    "performing": ("waiting", N_("Performing")),
    "overdue": ("overdue", N_("Overdue")),
    "listed": ("info", N_("Listed")),
    "under_contract": ("closing", N_("Under contract")),
    "closed_out": ("paid", N_("Closed out")),
    "repaid": ("paid", N_("Repaid")),
    "replaced": ("waiting", N_("Replaced")),
    # lots
    "draft": ("waiting", N_("Draft")),
    "submitted": ("waiting", N_("Waiting for approval")),
    "approved": ("info", N_("Approved")),
    "published": ("info", N_("Published")),
    "live": ("open", N_("Live")),
    "sold": ("paid", N_("Sold")),
    "unsold": ("waiting", N_("Unsold")),
    "settled": ("paid", N_("Settled")),
    "withdrawn": ("disputed", N_("Withdrawn")),
    # auctions
    "upcoming": ("waiting", N_("Upcoming")),
    "open": ("open", N_("Open")),
    "paused": ("disputed", N_("Paused")),
    "closed": ("waiting", N_("Closed")),
    "reserve_not_met": ("waiting", N_("Reserve not met")),
    # participation
    "requested": ("waiting", N_("Asked to take part")),
    "awaiting_deposit": ("closing", N_("Waiting for the deposit")),
    "released": ("waiting", N_("Deposit released")),
    "forfeited": ("overdue", N_("Deposit forfeited")),
    "bought": ("paid", N_("Bought")),
    # sales and payments
    "awaiting_balance": ("closing", N_("Waiting for the balance")),
    "paid": ("paid", N_("Paid")),
    "late": ("overdue", N_("Late")),
    "defaulted": ("overdue", N_("Defaulted")),
    "cancelled": ("waiting", N_("Cancelled")),
    "needs_payee": ("closing", N_("Payee not known")),
    "due": ("closing", N_("Due")),
    "sent": ("paid", N_("Sent")),
    # statement lines
    "waiting": ("waiting", N_("Waiting for a person")),
    "matched": ("paid", N_("Matched")),
    "returned": ("waiting", N_("Returned")),
    "not_ours": ("waiting", N_("Not ours")),
    "taken_back": ("overdue", N_("Taken back by the bank")),
    "takes_back": ("waiting", N_("Takes another line back")),
}


def state(status: str) -> tuple[str, str]:
    """The meaning and the word of a state; one that has none is shown as it is."""
    meaning, words = STATES.get(status, ("waiting", status))
    return meaning, _gettext(words)


ROLE_NAMES: dict[str, str] = {
    "asset_manager": N_("Asset manager"),
    "investor": N_("Investor"),
    "operator": N_("Operator"),
    "platform": N_("Platform"),
    "servicer": N_("Servicer"),
    "debtor": N_("Debtor"),
}

# At most five links for each role; guests see the market.
LINKS: dict[str, tuple[tuple[str, str], ...]] = {
    "asset_manager": (
        ("/home", N_("Home")), ("/tapes", N_("Tapes")), ("/portfolios", N_("Portfolios")), ("/lots", N_("Lots")),
        ("/sales", N_("Sales")),
    ),
    "investor": (
        ("/home", N_("Home")), ("/lots", N_("Lots")), ("/bids", N_("Bids and deposits")), ("/sales", N_("Purchases")),
    ),
    "operator": (
        ("/home", N_("Home")), ("/parties", N_("Parties")), ("/lots", N_("Lots")),
        ("/reconciliation", N_("Reconciliation")), ("/ledger", N_("Ledger")),
    ),
    "": (("/lots", N_("Lots")), ("/rules", N_("Rules in words")), ("/verify", N_("Verify a journal"))),
}  # fmt: skip


# Pages that are reached from one of the header's: they light its link up.
UNDER: dict[str, str] = {
    "/accounts": "/portfolios", "/collateral": "/lots", "/participations": "/lots", "/floor": "/lots",
    "/statements": "/reconciliation", "/payouts": "/reconciliation", "/payments": "/reconciliation",
    "/trace": "/ledger",
}  # fmt: skip


def is_under(path: str, address: str) -> bool:
    """Whether the page at `path` belongs to the header's link to `address`."""
    first = "/" + path.split("/")[1]
    return address in (first, UNDER.get(first))


# Who did what, by the audit trail's `action`.
ACTIONS: dict[str, str] = {
    "job.let_go": N_("Work that failed was let go"),
    "job.try_again": N_("Work that failed was tried again"),
    "key.make": N_("API key made"),
    "key.revoke": N_("API key revoked"),
    "lot.approve": N_("Lot approved"),
    "lot.create": N_("Lot begun"),
    "lot.edit": N_("Lot changed"),
    "lot.publish": N_("Lot published"),
    "lot.put_away": N_("Lot put away"),
    "lot.send_back": N_("Lot sent back"),
    "lot.submit": N_("Lot submitted"),
    "lot.terms": N_("Terms of the lot set"),
    "lot.withdraw": N_("Lot withdrawn from sale"),
    "open_bank_account": N_("Bank account of the platform opened"),
    "participation.approve": N_("Bidder let in"),
    "participation.ask": N_("Asked to take part in an auction"),
    "participation.refuse": N_("Bidder refused"),
    "party.admitted": N_("Party admitted"),
    "party.refused": N_("Party refused"),
    "party.register": N_("Party registered"),
    "party.suspended": N_("Party suspended"),
    "payout.payee": N_("Payee of a payment named"),
    "person.password": N_("Password changed"),
    "person.sign_in": N_("Signed in"),
    "statement_line.take_back": N_("Statement line taken back by another one"),
    "statement_line.undo": N_("Decision about a statement line taken back"),
}


def action_name(action: str) -> str:
    """What was done, in words; an action that has none is shown as it is."""
    return _gettext(ACTIONS.get(action, action))


def role_name(role: str) -> str:
    """What a role is called."""
    return _gettext(ROLE_NAMES.get(role, role))


def main_role(roles: Collection[str]) -> str:
    """The role whose home and links a person sees; "" for none."""
    return next((role for role in ("operator", "asset_manager", "investor") if role in roles), "")


def links(roles: Collection[str]) -> list[tuple[str, str]]:
    """The header's links for somebody with these roles."""
    return [(address, _gettext(words)) for address, words in LINKS[main_role(roles)]]
