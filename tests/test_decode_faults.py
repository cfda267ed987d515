"""A bad row is one reject with its line, its raw text and a reason, and takes no good row with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2kernel.errors import FileFault, InvalidParameter, ProfileError, UnknownVenue
from k2kernel.sources.files import BLOCK_BYTES
from tests.decoding import PLAIN, dec, decode, decode_text, profile_of, utc

GOOD = "2024-03-04T10:00:{second:02}Z,{price}"

BAD_LINES = {
    "ragged, short": (b"2024-03-04T10:00:59Z", "ragged", "has 1 fields, not 2"),
    "ragged, long": (b"2024-03-04T10:00:59Z,1,2", "ragged", "has 3 fields, not 2"),
    "not UTF-8": (b"2024-03-04T10:00:59Z,\xff1", "text", "not in the profile's encoding"),
    "open quote": (b'"2024-03-04T10:00:59Z,1', "text", "a quote that does not end"),
    "open quote at the end": (b'2024-03-04T10:00:59Z,"1', "text", "a quote that does not end"),
    "lone carriage return": (b"2024-03-04T10:00:59Z,1\r1", "text", "a carriage return in its middle"),
    "no time": (b"yesterday,1", "value", "ts_event: 'yesterday' is not a time of layout iso8601"),
    "missing time": (b",1", "value", "ts_event: '' is not a time of layout iso8601"),
    "naive time": (b"2024-03-04T10:00:59,1", "value", "ts_event: '2024-03-04T10:00:59' is not a time"),
    "far future": (b"2262-03-04T10:00:59Z,1", "value", "years 1900 to 2261"),
    "no number": (b"2024-03-04T10:00:59Z,one", "value", "price: 'one' does not fit decimal(18,8) exactly"),
    "out of range": (b"2024-03-04T10:00:59Z,12345678901", "value", "price: '12345678901' does not fit"),
    "too precise": (b"2024-03-04T10:00:59Z,0.000000001", "value", "price: '0.000000001' does not fit"),
    "not a number": (b"2024-03-04T10:00:59Z,NaN", "value", "price: 'NaN' does not fit"),
}


@pytest.mark.parametrize("name", BAD_LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_bad_line_among_good_ones(tmp_path: Path, name: str, end: str, place: int) -> None:
    bad, error, reason = BAD_LINES[name]
    good = [GOOD.format(second=n, price=n).encode() for n in range(6)]
    lines = [b"time,price", *good[:place], bad, *good[place:]]
    done = decode_text(tmp_path, PLAIN, end.encode().join(lines) + end.encode())
    assert done.column("price") == dec(*map(str, range(6)))
    assert done.column("source_offset") == [n + 2 + (n >= place) for n in range(6)]
    (reject,) = done.rejected
    assert (reject["line"], reject["error"], reject["target"]) == (
        place + 2,
        error,
        "trades" if error == "value" else None,
    )
    assert reject["raw"].rstrip(b"\r") == bad
    assert reason in reject["reason"]


def test_every_fault_at_once_costs_no_good_row(tmp_path: Path) -> None:
    lines = [b"time,price"]
    for number, (bad, _, _) in enumerate(BAD_LINES.values()):
        lines += [GOOD.format(second=number, price=number).encode(), bad]
    done = decode_text(tmp_path, PLAIN, b"\n".join([*lines, b"", b"  "]))
    assert done.column("price") == dec(*map(str, range(len(BAD_LINES))))
    assert {row["line"]: row["raw"].rstrip(b"\r") for row in done.rejected} == {
        2 * n + 3: bad for n, (bad, _, _) in enumerate(BAD_LINES.values())
    }
    assert done.skipped == {"blank": 2}


def test_a_quote_inside_a_field_is_a_character_with_and_without_bad_neighbours(tmp_path: Path) -> None:
    toml = PLAIN.replace("[route.columns]", 'keep = ["name"]\n[route.columns]').replace('"price"]', '"price", "name"]')
    lines = [
        "time,price,name",
        GOOD.format(second=1, price=1) + ',5" pipe',
        GOOD.format(second=2, price=2) + ',"a ""b"", c"',
    ]
    clean = decode_text(tmp_path, toml, "\n".join(lines))
    dirty = decode_text(tmp_path, toml, "\n".join([*lines, "broken"]))
    assert clean.column("extra") == dirty.column("extra") == ['{"name":"5\\" pipe"}', '{"name":"a \\"b\\", c"}']
    assert set(dirty.reasons) == {4}


def test_a_quoted_line_feed_is_rejected_and_the_next_line_is_not(tmp_path: Path) -> None:
    text = 'time,price\n2024-03-04T10:00:01Z,1\n"2024-03-04T10:\n00:02Z",2\n2024-03-04T10:00:03Z,3\n'
    done = decode_text(tmp_path, PLAIN, text)
    assert done.column("price") == dec("1", "3")
    assert set(done.reasons) == {3, 4}


def test_a_line_longer_than_a_block_of_the_parser(tmp_path: Path) -> None:
    lines = [GOOD.format(second=1, price=1), '"' + "x" * (5 << 20), GOOD.format(second=2, price=2)]
    done = decode_text(tmp_path, PLAIN, "time,price\n" + "\n".join(lines))
    assert done.column("price") == dec("1", "2")
    assert set(done.reasons) == {3}


def test_blocks_of_a_large_file_number_their_lines_through(tmp_path: Path) -> None:
    rows, note = 100_000, "x" * 400
    path = tmp_path / "large.csv"
    body = f"2024-03-04T10:00:00Z,1,{note}\n" * (rows - 2) + f"bad,1,{note}\n2024-03-04T10:00:01Z,2,{note}"
    path.write_text(f"time,price,note\n{body}")
    assert path.stat().st_size > 2 * BLOCK_BYTES
    done = decode(profile_of(tmp_path, PLAIN), path)
    assert set(done.reasons) == {rows}
    assert done.column("source_offset") == [*range(2, rows), rows + 1]


def test_what_precedes_and_follows_the_rows(tmp_path: Path) -> None:
    toml = PLAIN.replace("[file]", "[file]\nskip_lines = 1\ncomment = '#'\ntrailer = 'END'")
    text = "\ufeffexported today\r\n# note\r\n\r\ntime,price\r\n2024-03-04T10:00:00Z,1\r\n#x\r\n\r\nEND 1\r\n"
    done = decode_text(tmp_path, toml, text)
    assert done.column("price") == dec("1")
    assert done.skipped == {"comment": 1, "blank": 1, "trailer": 1}
    assert done.column("source_offset") == [5]


def test_a_byte_order_mark_without_a_header(tmp_path: Path) -> None:
    toml = PLAIN.replace("[file]", "[file]\nheader = false")
    done = decode_text(tmp_path, toml, "\ufeff2024-03-04T10:00:00Z,1\n")
    assert done.column("ts_event") == [utc(2024, 3, 4, 10)]


def test_no_records(tmp_path: Path) -> None:
    done = decode_text(tmp_path, PLAIN.replace("[file]", "[file]\nno_records = '-- NONE'"), "time,price\n-- NONE --\n")
    assert (done.tables, done.skipped) == ({"trades": []}, {"no_records": 1})


def test_bad_json_lines(tmp_path: Path) -> None:
    toml = PLAIN.replace("[file]", "[file]\nformat = 'ndjson'").replace(
        'columns = ["time", "price"]', 'columns = { time = "t", price = "p" }'
    )
    lines = [
        '{"t":"2024-03-04T10:00:00Z","p":1.10}',
        '{"t":"2024-03-04T10:00:00Z","p":1',
        "[1, 2]",
        "7",
        '{"t":"2024-03-04T10:00:00Z","p":01}',
        '{"t":"2024-03-04T10:00:00Z","p":1-2}',
        '{"t":"2024-03-04T10:00:00Z"} x',
        '{"t":"2024-03-04T10:00:00Z","p":null}',
        "",
        '{"p":1}',
        '{"t":"2024-03-04T10:00:00Z","p":1e3}',
    ]
    done = decode_text(tmp_path, toml, "\n".join(lines))
    assert done.column("price") == dec("1.10", None, "1000")
    assert done.column("source_offset") == [1, 8, 11]
    assert {line: row["error"] for line, row in zip(done.reasons, done.rejected, strict=True)} == dict.fromkeys(
        (2, 3, 4, 5, 6, 7), "json"
    ) | {10: "value"}
    assert done.reasons[10] == "ts_event: is missing"
    assert done.rejected[0]["raw"].decode() == lines[1]


def test_a_row_that_sql_fails_on_is_one_reject(tmp_path: Path) -> None:
    toml = PLAIN.replace('price = "price"', 'price = { expr = "CAST(price AS DECIMAL(10,2)) / 4" }')
    done = decode_text(tmp_path, toml, "time,price\n2024-03-04T10:00:00Z,5\n2024-03-04T10:00:00Z,five\n")
    assert done.column("price") == dec("1.25")
    assert done.reasons == {3: "an SQL expression of the profile fails on it"}


@pytest.mark.parametrize(
    "expression",
    [
        "(SELECT 1)",
        "sum(price::INT)",
        "price; DROP TABLE x",
        "price FROM batch --",
        "no_such_column",
        "read_text('/etc/passwd')",
    ],
)
def test_sql_is_one_expression_over_the_row(tmp_path: Path, expression: str) -> None:
    toml = PLAIN.replace('price = "price"', f'price = {{ expr = "{expression}" }}')
    rows = "time,price\n" + "2024-03-04T10:00:00Z,5\n" * 2
    with pytest.raises(ProfileError):
        decode_text(tmp_path, toml, rows)


def test_an_undeclared_venue_of_some_rows(tmp_path: Path) -> None:
    toml = PLAIN.replace('{ constant = "XASX" }', '"mic"').replace('"price"]', '"price", "mic"]')
    text = "time,price,mic\n2024-03-04T10:00:00Z,1,XASX\n2024-03-04T10:00:00Z,2,XXXX\n2024-03-04T23:00:00Z,3,XNYS\n"
    done = decode_text(tmp_path, toml, text)
    assert done.column("price") == dec("1", "3")
    assert [str(day) for day in done.column("session")] == ["2024-03-04", "2024-03-04"]
    assert "venue: The venue 'XXXX' is not declared" in done.reasons[3]


def test_an_undeclared_venue_of_all_rows(tmp_path: Path) -> None:
    with pytest.raises(UnknownVenue, match=r"venues\.toml"):
        decode_text(tmp_path, PLAIN.replace("XASX", "XXXX"), "time,price\n2024-03-04T10:00:00Z,1\n")


def test_faults_of_a_whole_file(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match=r"has no column price \(for price\)\. It has cost, time: .* profile\?$"):
        decode_text(tmp_path, PLAIN, "time,cost\n2024-03-04T10:00:00Z,1\n")
    with pytest.raises(FileFault, match="has no header line"):
        decode_text(tmp_path, PLAIN, "\n\n")
    with pytest.raises(FileFault, match="its path does not match"):
        decode_text(
            tmp_path,
            PLAIN.replace('{ constant = "S" }', "{ path = '/(\\d+)\\.csv' }"),
            "time,price\n2024-03-04T10:00:00Z,1\n",
        )
    with pytest.raises(InvalidParameter, match="Give --symbol"):
        decode_text(
            tmp_path, PLAIN.replace('constant = "S"', 'option = "symbol"'), "time,price\n2024-03-04T10:00:00Z,1\n"
        )
    lookup = "{ path = '([a-z]+)\\.csv', lookup = { table = 'instruments', from = 'vendor_id', to = 'symbol' } }"
    with pytest.raises(FileFault, match=r"'data' is not in instruments\.vendor_id"):
        decode_text(tmp_path, PLAIN.replace('{ constant = "S" }', lookup), "time,price\n2024-03-04T10:00:00Z,1\n")


HEADERS = {
    "an index of pandas": ",time,price\n0,{},1\n",
    "a delimiter at the end": "time,price,\n{},1,\n",
    "two without a name": ",time,,price\n0,{},,1\n",
    "a delimiter in quotes": '"place, code","time",price\nA,{},1\n',
    "the same name twice": "time,price,price\n{},1,2\n",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_names_of_a_header_whatever_they_are(tmp_path: Path, kind: str) -> None:
    toml = PLAIN.replace('table = "trades"', 'table = "trades"\nkeep = ["*"]')
    text = HEADERS[kind].format("2024-03-04T10:00:00Z")
    assert decode_text(tmp_path, toml, text.encode()).column("price") == dec("1")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-be"])
def test_a_header_of_another_encoding_says_so(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(FileFault, match=r"its header has zero bytes\. Set file\.encoding"):
        decode_text(tmp_path, PLAIN, "time,price\n2024-03-04T10:00:00Z,1\n".encode(encoding))


def test_lines_that_end_in_carriage_returns_alone_are_said_to(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match="its lines end in carriage returns alone"):
        decode_text(tmp_path, PLAIN, b"time,price\r2024-03-04T10:00:00Z,1\r")
