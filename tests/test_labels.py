"""Labels of generated sentences: digests, the share of false ones, sheets and agreement."""

import hashlib
import json

import pytest

from eval.harness import labels as module
from eval.harness.figures import compute_figures
from eval.harness.labels import (
    LabelCounts,
    LabelRecord,
    count_labels,
    digest_statement,
    label_agreement,
    load_labels,
    unlabelled_statements,
)
from eval.harness.metrics import METRICS, score_reply
from eval.harness.questions import Question
from eval.harness.replies import Footnote, Reply, Statement
from eval.harness.report import render_page
from eval.harness.runs import Row, Run
from rag import UsageError

QUESTION = Question("q1", "dev", "base", "fact", "How salty?", False, (), ())
SALT = Footnote(1, "salt", "Barley tolerates 8 grams.", True, 18, 43, "Salt", "Salt harms crops.")
RYE = Footnote(2, "rye", "Rye stands the cold.", True, 0, 20, "Rye")
TRUE = Statement("Barley tolerates 8 grams.", "generated", (1,))
FALSE = Statement("Rye tolerates salt.", "generated", (2, 1), heading="Rye")
NEW = Statement("Rye was sown in winter.", "generated", (2,))
NOT_GENERATED = (
    Statement("Barley tolerates 8 grams.", "quoted", (1,)),
    Statement("2 papers are about salt.", "computed", (1, 2)),
    Statement("Salt is salty.", "generated", ()),
)
REPLY = Reply((TRUE, FALSE, NEW, *NOT_GENERATED), (SALT, RYE))
FALSE_DIGEST = digest_statement(FALSE.text, ["rye:0-20", "salt:18-43"])
TRUE_DIGEST = digest_statement(TRUE.text, ["salt:18-43"])


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """Write labels to a file that is taken for the shipped one."""
    file = tmp_path / "labels.jsonl"
    rows = [
        {"digest": TRUE_DIGEST, "label": "supported", "labels": ["supported"] * 2, "split": "dev"},
        {"digest": FALSE_DIGEST, "label": "not in the sources", "labels": []},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    monkeypatch.setattr(module, "labels_file", lambda: file)
    module.shipped_labels.cache_clear()
    yield file
    module.shipped_labels.cache_clear()


def test_digest_is_of_the_sentence_and_of_the_sorted_spans():
    content = "Rye tolerates salt.\nrye:0-20\nsalt:18-43"
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == FALSE_DIGEST
    assert digest_statement(FALSE.text, ["salt:18-43", "rye:0-20", "rye:0-20"]) == FALSE_DIGEST
    assert digest_statement(FALSE.text, ["salt:18-44", "rye:0-20"]) != FALSE_DIGEST


def test_only_generated_sentences_with_sources_are_counted():
    labels = {TRUE_DIGEST: "supported", FALSE_DIGEST: "contradicted"}
    counts = count_labels(REPLY, labels)
    assert counts == LabelCounts(supported=1, contradicted=1, not_in_sources=0, unlabelled=1)
    assert (counts.false, counts.labelled) == (1, 2)


def test_metrics_are_the_false_share_of_labelled_sentences_and_the_number_of_others(shipped):
    scores = score_reply(QUESTION, REPLY, {})
    assert scores["false generated sentences"] == 0.5
    assert scores["unlabelled generated sentences"] == 1
    scores = score_reply(QUESTION, Reply((NEW,), (RYE,)), {})
    assert scores["false generated sentences"] is None
    assert scores["unlabelled generated sentences"] == 1
    scores = score_reply(QUESTION, Reply(NOT_GENERATED, (SALT, RYE)), {})
    assert scores["unlabelled generated sentences"] is None


def test_report_counts_labels_and_pools_the_share_over_sentences(shipped):
    rows = []
    for number, statements in enumerate([(TRUE, FALSE), (TRUE,), (TRUE, NEW)]):
        question = Question(f"q{number}", "dev", "base", "fact", "How?", False, (), ())
        reply = Reply(statements, (SALT, RYE))
        rows.append(Row(question, reply, score_reply(question, reply, {}, METRICS), 0.1))
    run = Run({"papers": 2}, {}, {"assistant": tuple(rows)}, {"assistant": "assistant"})
    figures = compute_figures(run)
    (counted,) = figures["labels"]
    assert counted["labels"] == {"supported": 3, "contradicted": 0, "not in the sources": 1}
    assert counted["unlabelled"] == 1
    assert (counted["false"]["mean"], counted["false"]["n"]) == (0.25, 4)
    assert "False generated sentences" in render_page(figures)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"digest": "a", "label": "true"}', "unknown label 'true'; choose from: supported"),
        ('{"digest": "a", "label": "supported", "labels": ["x"]}', "unknown label 'x'"),
        ('{"label": "supported"}', "line 1: not a label: 'digest'"),
        ("{", "line 1: not a label"),
        ("[]", "line 1: not a label"),
    ],
)
def test_invalid_labels_are_refused(tmp_path, line, message):
    file = tmp_path / "labels.jsonl"
    file.write_text(line)
    with pytest.raises(UsageError, match=message):
        load_labels(file)


def test_no_file_means_no_labels(tmp_path):
    assert load_labels(tmp_path / "nowhere.jsonl") == []


def test_shipped_labels_are_valid():
    digests = [record.digest for record in load_labels(module.labels_file())]
    assert len(set(digests)) == len(digests)


# --- sheets and agreement -------------------------------------------------------------------------


def write_run(folder, *replies):
    folder.mkdir()
    lines = []
    for number, reply in enumerate(replies):
        line = {"system": "assistant", "id": str(number), "question": "How salty?"}
        lines.append(json.dumps(line | {"reply": reply.to_dict()}))
    (folder / "replies.jsonl").write_text("\n".join(lines) + '\n{"system": "ass', encoding="utf-8")
    return folder


def test_sheet_holds_each_unlabelled_sentence_once_with_its_sources(shipped, tmp_path, footnote):
    first = write_run(tmp_path / "first", REPLY)
    second = write_run(tmp_path / "second", REPLY, Reply((TRUE,), (RYE, SALT), rewritten_query="x"))
    sheet = tmp_path / "sheet.jsonl"
    printed = footnote("eval", "label-sheet", first, second, "-o", sheet)
    assert (printed.code, printed.out) == (0, f"1 unlabelled sentence in {sheet}\n")
    (record,) = map(json.loads, sheet.read_text(encoding="utf-8").splitlines())
    quotation = {"title": "Rye", "before": "", "quote": "Rye stands the cold."}
    assert record == {
        "digest": digest_statement(NEW.text, ["rye:0-20"]),
        "question": "How salty?",
        "heading": "",
        "sentence": "Rye was sown in winter.",
        "sources": [{"span": "rye:0-20"} | quotation],
    }
    everything = unlabelled_statements([first], {})
    assert [row["heading"] for row in everything] == ["", "Rye", ""]
    assert [source["before"] for source in everything[1]["sources"]] == ["", "Salt harms crops."]


def test_sheet_of_a_folder_without_a_run_is_refused(tmp_path, footnote):
    printed = footnote("eval", "label-sheet", tmp_path, "-o", tmp_path / "sheet.jsonl")
    assert printed.code == 2
    assert "no run in" in printed.err


def test_agreement_is_cohens_kappa_of_the_first_two_labels(tmp_path, footnote):
    pairs = [("supported", "supported")] * 4 + [("contradicted", "not in the sources")] * 2
    pairs += [("supported", "contradicted")] * 2
    records = [LabelRecord(str(n), pair[0], pair) for n, pair in enumerate(pairs)]
    agreement = label_agreement([*records, LabelRecord("9", "supported")])
    assert (agreement["sentences"], agreement["agreement"]) == (8, 0.5)
    # By chance: supported .75 × .5, contradicted .25 × .25.
    assert agreement["kappa"] == pytest.approx((0.5 - 0.4375) / (1 - 0.4375))
    # Supported or not: they agree on 6 of 8; by chance on .75 × .5 + .25 × .5.
    assert agreement["kappa_supported"] == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    file = tmp_path / "labels.jsonl"
    rows = [{"digest": r.digest, "label": r.label, "labels": r.labels} for r in records]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    printed = footnote("eval", "label-agreement", file)
    assert printed.out == (
        "8 sentences with two labels; the labels agree on 0.500, kappa 0.111; "
        "supported or not: kappa 0.500\n"
    )
    assert footnote("eval", "label-agreement", file, "--json").json["sentences"] == 8


def test_agreement_needs_two_labels():
    with pytest.raises(UsageError, match="no sentence has two labels"):
        label_agreement([LabelRecord("a", "supported")])
