"""Prices are looked up and never guessed; a budget is never passed, whatever is asked at a time."""

import asyncio
import json

import pytest
from chat_workshop import MODEL, PRICES, request
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.clients.prices import Price, Prices, Purse, load_prices
from describe.errors import InputError

DEEP = '{"a":' * 100_000


def own(tmp_path, text):
    path = tmp_path / "prices.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def test_the_packaged_prices_are_prices_of_a_day():
    prices = load_prices()
    assert prices.as_of == "2026-03"
    assert prices.of("gpt-4o-mini") == Price(0.15, 0.6)
    assert prices.cost("gpt-4o-mini", 1_000_000, 500_000) == pytest.approx(0.45)


def test_a_model_is_looked_up_whole_then_without_its_provider(tmp_path):
    prices = load_prices(own(tmp_path, {"cheap/gpt-4o": {"input": 1, "output": 2}}))
    assert prices.of("cheap/gpt-4o") == Price(1.0, 2.0)
    assert prices.of("openai/gpt-4o") == prices.of("router/openai/gpt-4o") == prices.of("gpt-4o")
    assert prices.of("gpt-4o") == Price(2.5, 10.0)
    for unknown in ("gpt-4o-2099", "gpt-4o/other", "", "/", "GPT-4O"):
        assert prices.of(unknown) is None and prices.cost(unknown, 1, 1) is None


def test_unknown_tokens_have_no_cost():
    assert PRICES.cost(MODEL, None, 1) is None and PRICES.cost(MODEL, 1, None) is None
    assert PRICES.cost(MODEL, 0, 0) == 0.0


@pytest.mark.parametrize("wrap", [lambda table: table, lambda table: {"models": table}])
def test_the_users_prices_stand_in_place_of_the_packaged(tmp_path, wrap):
    table = {"gpt-4o": {"input": 9, "output": 8.5}, "local": {"input": 0, "output": 0}}
    prices = load_prices(own(tmp_path, wrap(table)))
    assert prices.of("gpt-4o") == Price(9.0, 8.5) and prices.of("local") == Price(0.0, 0.0)
    assert prices.of("o3") == load_prices().of("o3")


@pytest.mark.parametrize(
    "text",
    ["", "not JSON", "[]", "3", "null", '{"m": 3}', '{"m": {"input": 1}}', '{"models": []}', '{"m": [1, 2]}', DEEP]
    + [f'{{"m": {{"input": 1, "output": {value}}}}}' for value in ("-1", "NaN", "1e999", '"x"', "null", "9" * 400)],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_bad_file_is_one_sentence(tmp_path, text):
    path = own(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_prices(path)
    said = str(caught.value)
    assert str(path) in said and "US dollars" in said and said.endswith(".") and "\n" not in said


def test_a_missing_folder_or_binary_file_is_the_same_sentence(tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.json", tmp_path, binary):
        with pytest.raises(InputError, match="cannot be used: write"):
            load_prices(path)


def test_a_budget_needs_a_price():
    with pytest.raises(InputError, match="'local' is not known, so --budget cannot be held") as caught:
        Purse(1.0, PRICES).check("local")
    assert '{"local": {"input": 0, "output": 0}}' in str(caught.value)
    Purse(None, PRICES).check("local")
    Purse(1.0, PRICES).check(MODEL)


def test_without_a_budget_nothing_is_set_aside_but_what_is_spent_is_counted():
    purse = Purse(None, PRICES)
    assert asyncio.run(purse.set_aside(request())) == 0.0
    purse.settle(0.0, 0.5)
    purse.settle(0.0, None)
    assert purse.spent == 0.5


@settings(deadline=None, max_examples=25)
@given(
    st.floats(0.0, 3.0),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 500), st.floats(0, 1)), min_size=1, max_size=12),
)
def test_the_budget_is_never_passed_by_what_is_asked_at_a_time(room, asked):
    tokens_of = [(request("x" * length).most_tokens, tokens) for length, tokens, _ in asked]
    most = max(PRICES.of(MODEL).cost(*tokens) for tokens in tokens_of)
    purse, under_way, refused = Purse(room * most, PRICES), [], []

    async def one(length, tokens, share):
        aside = await purse.set_aside(request("x" * length, max_tokens=tokens))
        if aside is None:
            refused.append(length)
            return
        under_way.append(aside)
        assert purse.spent + sum(under_way) <= purse.budget + 1e-12
        await asyncio.sleep(0.001)
        under_way.remove(aside)
        purse.settle(aside, share * aside)
        assert purse.spent + sum(under_way) <= purse.budget + 1e-12

    async def run():
        await asyncio.wait_for(asyncio.gather(*(one(*how) for how in asked)), 20)

    asyncio.run(run())
    assert purse.spent <= purse.budget + 1e-12 and (refused or purse.spent >= 0)
    assert not refused or room < len(asked)


def test_a_price_of_nothing_fits_any_budget():
    purse = Purse(0.0, Prices({MODEL: Price(0.0, 0.0)}))
    assert asyncio.run(purse.set_aside(request())) == 0.0


def test_an_answer_that_came_too_late_is_paid_for_until_the_budget_ends():
    purse = Purse(1.0, PRICES)
    assert purse.lose(0.4) and purse.lose(0.5) and not purse.lose(0.2)
    assert purse.spent == pytest.approx(1.1)  # that the last was lost was known only afterwards
    assert Purse(None, PRICES).lose(9.0)
