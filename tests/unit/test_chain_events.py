import base64
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from listener.chain.answers import InnerInstruction
from listener.chain.events import EMIT_CPI_TAG, MAX_STACK, ParsedLogs, cpi_events, parse_logs

OURS_KEY, OTHER_KEY = Pubkey([7] * 32), Pubkey([8] * 32)
OURS, OTHER = str(OURS_KEY), str(OTHER_KEY)
SYSTEM = "1" * 32
GAP = ParsedLogs(truncated=True)


def invoke(program: str, depth: int = 1) -> str:
    return f"Program {program} invoke [{depth}]"


def success(program: str) -> str:
    return f"Program {program} success"


def data(raw: bytes) -> str:
    return f"Program data: {base64.b64encode(raw).decode()}"


def found(*lines: str) -> ParsedLogs:
    return parse_logs(lines, OURS)


def test_what_the_program_wrote_is_its_events_in_their_order() -> None:
    logs = (
        invoke("ComputeBudget111111111111111111111111111111"),
        success("ComputeBudget111111111111111111111111111111"),
        invoke(OURS),
        "Program log: Instruction: AssignTask",
        invoke(SYSTEM, 2),
        success(SYSTEM),
        data(b"one"),
        data(b"two"),
        f"Program {OURS} consumed 5000 of 200000 compute units",
        f"Program return: {OURS} AQ==",
        success(OURS),
    )
    assert found(*logs) == ParsedLogs(((0, b"one"), (1, b"two")))


@pytest.mark.parametrize(
    "forged",
    [
        f"Program log: {data(b'event')}",
        f"Program log: x\n{data(b'event')}",
        f"Program log: {invoke(OURS, 2)}",
        f"Program log: {success(OTHER)}",
        f" {data(b'event')}",
        "program data: ZXZlbnQ=",
    ],
)
def test_what_a_program_prints_is_no_event_and_moves_no_stack(forged: str) -> None:
    assert found(invoke(OTHER), forged, data(b"of the other"), success(OTHER)) == ParsedLogs()
    assert found(invoke(OURS), forged, success(OURS)) == ParsedLogs()


def test_data_of_another_program_on_top_of_the_stack_is_no_event() -> None:
    logs = (invoke(OURS), invoke(OTHER, 2), data(b"forged"), success(OTHER), data(b"ours"), success(OURS))
    assert found(*logs) == ParsedLogs(((0, b"ours"),))


def test_the_program_counts_where_another_called_it() -> None:
    logs = (invoke(OTHER), data(b"forged"), invoke(OURS, 2), data(b"ours"), success(OURS), data(b"more"))
    assert found(*logs, success(OTHER)) == ParsedLogs(((0, b"ours"),))


def test_the_program_below_itself_counts_too() -> None:
    logs = (invoke(OURS), data(b"a"), invoke(OURS, 2), data(b"b"), success(OURS), data(b"c"), success(OURS))
    assert found(*logs) == ParsedLogs(((0, b"a"), (1, b"b"), (2, b"c")), calls_itself=True)


def test_a_failed_call_leaves_the_stack() -> None:
    logs = (invoke(OURS), invoke(OTHER, 2), f"Program {OTHER} failed: custom program error: 0x1\nx", data(b"a"))
    assert found(*logs, success(OURS)) == ParsedLogs(((0, b"a"),))


@pytest.mark.parametrize("at", range(5))
def test_a_truncated_log_counts_for_nothing_wherever_it_was_cut(at: int) -> None:
    logs = [invoke(OURS), data(b"a"), data(b"b"), success(OURS)]
    logs.insert(at, "Log truncated")
    assert found(*logs) == GAP


@pytest.mark.parametrize(
    "logs",
    [
        (),
        (invoke(OURS), data(b"a")),
        (invoke(OTHER), invoke(OURS, 2), data(b"a"), success(OURS)),
        (data(b"a"), invoke(OURS), success(OURS)),
        (invoke(OURS), success(OURS), data(b"a")),
        (success(OURS),),
        (invoke(OURS), data(b"a"), success(OTHER)),
        (invoke(OURS, 2), data(b"a"), success(OURS)),
        (invoke(OURS), data(b"a"), invoke(OTHER, 3), success(OTHER), success(OURS)),
        (invoke(OURS), data(b"a"), f"Program {OTHER} failed: x", success(OURS)),
    ],
    ids=[
        "no line",
        "unclosed",
        "an unclosed caller",
        "data before all",
        "data after all",
        "an end alone",
        "another end",
        "no first call",
        "a skipped height",
        "another failed",
    ],
)
def test_a_log_whose_stack_does_not_fit_counts_for_nothing(logs: tuple[str, ...]) -> None:
    assert found(*logs) == GAP


def test_a_stack_deeper_than_any_runtime_allows_counts_for_nothing() -> None:
    def deep(height: int) -> list[str]:
        return [*(invoke(OURS, at + 1) for at in range(height)), *[success(OURS)] * height]

    assert found(*deep(MAX_STACK)) == ParsedLogs(calls_itself=True)
    assert found(*deep(MAX_STACK + 1)) == GAP


@pytest.mark.parametrize("text", ["%%%", "ZXZlbnQ", "ZXZl bnQ=", "ZXZlbnQ=\n", "\ud800", "é", "Zg==Zg=="])
def test_what_is_not_one_base64_text_is_no_event_but_keeps_its_number(text: str) -> None:
    assert found(invoke(OURS), f"Program data: {text}", data(b"a"), success(OURS)) == ParsedLogs(((1, b"a"),))


def reference(lines: list[str]) -> list[bytes] | None:
    """Written anew and slowly: what lies between a line and its call's end is found from the line itself."""
    stack: list[str] = []
    written = []
    for line in lines:
        if line.startswith("Program log: "):
            continue
        words = line.split(" ")
        if words[-2:-1] == ["invoke"]:
            stack.append(words[1])
        elif words[-1] == "success" and (not stack or stack.pop() != words[1]):
            return None
        elif line.startswith("Program data: "):
            if not stack:
                return None
            written += [base64.b64decode(words[2])] if stack[-1] == OURS else []
        if line == "Log truncated" or (words[-2:-1] == ["invoke"] and words[-1] != f"[{len(stack)}]"):
            return None
    return written if lines and not stack else None


LINES = st.sampled_from(
    [
        *(invoke(program, depth) for program in (OURS, OTHER) for depth in (1, 2, 3)),
        *(success(program) for program in (OURS, OTHER)),
        *(data(raw) for raw in (b"a", b"b", b"")),
        f"Program log: {data(b'forged')}",
        f"Program log: {success(OURS)}",
        "Log truncated",
    ]
)


@st.composite
def calls(draw: st.DrawFn, depth: int = 1) -> list[str]:
    """One well-formed call with everything below it."""
    program = draw(st.sampled_from([OURS, OTHER]))
    lines = [invoke(program, depth)]
    for _ in range(draw(st.integers(0, 3))):
        if depth < 4 and draw(st.booleans()):
            lines += draw(calls(depth + 1))
        else:
            lines.append(draw(st.sampled_from([data(b"a"), data(b"b"), f"Program log: {data(b'forged')}"])))
    return [*lines, success(program)]


@given(st.lists(calls(), min_size=1, max_size=3))
def test_well_formed_logs_give_what_was_written_while_the_program_was_on_top(parts: list[list[str]]) -> None:
    lines = [line for part in parts for line in part]
    parsed = parse_logs(lines, OURS)
    assert not parsed.truncated
    assert [raw for _, raw in parsed.events] == reference(lines)


@given(
    st.lists(LINES, max_size=10)
    | st.lists(calls(), max_size=2).flatmap(lambda parts: st.permutations(list(chain.from_iterable(parts))))
)
def test_shuffled_lines_give_events_only_from_a_stack_that_fits(lines: list[str]) -> None:
    parsed = parse_logs(lines, OURS)
    wanted = reference(lines)
    assert parsed.truncated == (wanted is None)
    assert [raw for _, raw in parsed.events] == (wanted or [])


ANY_TEXT = st.text(st.characters())
ANY_LINES = st.lists(
    ANY_TEXT
    | ANY_TEXT.map("Program ".__add__)
    | st.binary().map(data)
    | LINES.filter(lambda line: OURS not in line)
)


@given(ANY_LINES)
def test_arbitrary_lines_never_raise_and_give_no_event_while_the_program_is_not_on_top(lines: list[str]) -> None:
    assert parse_logs(lines, OURS).events == ()
    assert parse_logs([invoke(OTHER), *lines, success(OTHER)], OURS).events == ()
    ends = (success(OTHER), f"Program {OTHER} failed")
    called = [line for line in lines if not line.startswith(ends)]  # else ours is on top again, and may write
    assert parse_logs([invoke(OURS), invoke(OTHER, 2), *called, success(OTHER), success(OURS)], OURS).events == ()


KEYS = (OTHER_KEY, OURS_KEY)
BY_OTHER, BY_OURS = 0, 1


def inner(program: int, height: int | None, raw: bytes = EMIT_CPI_TAG + b"event") -> InnerInstruction:
    return InnerInstruction(program, (), raw, height)


def emitted(top: Pubkey, *called: InnerInstruction) -> list[bytes]:
    return cpi_events(top, called, KEYS, OURS_KEY)


def test_the_program_emits_by_calling_itself() -> None:
    assert emitted(OURS_KEY, inner(BY_OTHER, 2, b""), inner(BY_OURS, 2)) == [b"event"]
    assert emitted(OTHER_KEY, inner(BY_OURS, 2, b"call"), inner(BY_OURS, 3)) == [b"event"]


@pytest.mark.parametrize(
    ("top", "called"),
    [
        (OTHER_KEY, [inner(BY_OURS, 2)]),
        (OURS_KEY, [inner(BY_OTHER, 2)]),
        (OURS_KEY, [inner(BY_OTHER, 2, b""), inner(BY_OURS, 3)]),
        (OTHER_KEY, [inner(BY_OURS, 2, b"call"), inner(BY_OTHER, 2, b""), inner(BY_OURS, 3)]),
        (OURS_KEY, [inner(BY_OURS, 2, b"assign"), inner(BY_OURS, 2, EMIT_CPI_TAG[:7])]),
        (OURS_KEY, [inner(BY_OURS, 2, b"x" + EMIT_CPI_TAG)]),
    ],
    ids=["called by another", "another was called", "below another", "after another", "no tag", "tag not first"],
)
def test_an_emitted_event_needs_the_program_as_caller_and_as_callee(
    top: Pubkey, called: list[InnerInstruction]
) -> None:
    assert emitted(top, *called) == []


@pytest.mark.parametrize("wrong", [inner(BY_OURS, None), inner(BY_OURS, 1), inner(BY_OURS, 4), inner(2, 2)])
def test_inner_instructions_that_cannot_stand_where_they_do_count_for_nothing(wrong: InnerInstruction) -> None:
    assert emitted(OURS_KEY, inner(BY_OURS, 2), wrong) == []


def test_a_caller_that_has_returned_calls_no_more() -> None:
    returned = (inner(BY_OTHER, 2, b""), inner(BY_OURS, 3, b""), inner(BY_OTHER, 2, b""))
    assert emitted(OTHER_KEY, *returned, inner(BY_OURS, 4)) == []


@given(st.lists(st.builds(inner, st.integers(0, 3), st.none() | st.integers(0, 6))))
def test_arbitrary_inner_instructions_never_raise(called: list[InnerInstruction]) -> None:
    assert set(emitted(OURS_KEY, *called)) <= {b"event"}
