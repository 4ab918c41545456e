"""Benchmark of verification: the details it changes in a sentence, and the table it prints."""

import json
import sys

from eval.benchmarks import support


def test_every_kind_of_detail_in_a_sentence_is_changed():
    sentence = "In tests FP8 is 50% faster than INT8 without tuning."
    assert dict(support.change_details(sentence, "GPT-9")) == {
        "number": "In tests FP8 is 10% faster than INT8 without tuning.",
        "unit": "In tests FP8 is 50x faster than INT8 without tuning.",
        "negation out": "In tests FP8 is 50% faster than INT8 with tuning.",
        "negation in": "In tests FP8 is not 50% faster than INT8 without tuning.",
        "direction": "In tests FP8 is 50% slower than INT8 without tuning.",
        "name": "In tests GPT-9 is 50% faster than INT8 without tuning.",
        "comparison": "In tests INT8 is 50% faster than FP8 without tuning.",
    }
    assert list(support.change_details("Barley tolerates salt.", "GPT-9")) == []


def test_a_sentence_is_shortened_at_its_first_comma():
    sentence = "Barley tolerates much salt now, and wheat does not tolerate it."
    assert support.shorten_sentence(sentence) == [
        "Barley tolerates much salt now.",
        "And wheat does not tolerate it.",
    ]
    assert support.shorten_sentence("Barley tolerates salt, wheat less.") == []


def test_the_sample_library_gives_true_and_false_sentences():
    cases = list(support.sample_cases())
    kinds = {(case.kind, case.is_true) for case in cases}
    assert ("shortened", True) in kinds
    assert {("number", False), ("name", False), ("direction", False)} <= kinds


def test_rare_terms_weigh_more():
    idf = support.fit_idf(["Barley tolerates salt.", "Wheat tolerates heat."])
    assert idf("barley") > idf("toler")


def test_a_table_is_printed_for_both_weightings(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "scitldr"
    folder.mkdir()
    corpus = [
        {"_id": "a", "title": "Salt", "text": "Barley tolerates salt well. It grows."},
        {"_id": "b", "title": "Ferries", "text": "A planner orders ferry stops."},
    ]
    descriptions = [("a", "Barley tolerates salt."), ("b", "The planner orders stops.")]
    rows = []
    for document, text in descriptions:
        rows.append({"_id": f"{document}-0", "doc": document, "text": text, "split": "dev"})
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries_known_item.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path))
    monkeypatch.setattr(support, "sample_cases", lambda: iter(()))
    monkeypatch.setattr(sys, "argv", ["support"])
    support.main()
    lines = capsys.readouterr().out.splitlines()
    first_words = [line.split()[0] for line in lines]
    assert first_words == ["plain", "accepted", "rejected", "idf", "accepted", "rejected"]
    assert lines[1].split()[1:4] == ["own", "abstract", "2"]
    assert lines[1].count("1.000 [1.000, 1.000]") == len(support.THRESHOLDS)
