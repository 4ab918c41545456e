"""The benchmark of verification: what it changes in a sentence, and the table it prints."""

import json
import sys

from eval.benchmarks import support


def test_one_thing_is_changed_in_every_way_that_the_sentence_allows():
    sentence = "In tests FP8 is 50% faster than INT8 without tuning."
    assert dict(support.changed(sentence, "GPT-9")) == {
        "number": "In tests FP8 is 10% faster than INT8 without tuning.",
        "unit": "In tests FP8 is 50x faster than INT8 without tuning.",
        "negation out": "In tests FP8 is 50% faster than INT8 with tuning.",
        "negation in": "In tests FP8 is not 50% faster than INT8 without tuning.",
        "direction": "In tests FP8 is 50% slower than INT8 without tuning.",
        "name": "In tests GPT-9 is 50% faster than INT8 without tuning.",
        "comparison": "In tests INT8 is 50% faster than FP8 without tuning.",
    }
    assert list(support.changed("Barley tolerates salt.", "GPT-9")) == []


def test_a_sentence_is_shortened_at_its_first_comma():
    assert support.shortened("Barley tolerates much salt now, and wheat does not tolerate it.") == [
        "Barley tolerates much salt now.",
        "And wheat does not tolerate it.",
    ]
    assert support.shortened("Barley tolerates salt, wheat less.") == []


def test_rare_terms_weigh_more():
    weight = support.rarity(["Barley tolerates salt.", "Wheat tolerates heat."])
    assert weight("barley") > weight("toler")


def test_the_table_holds_both_weightings(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "scitldr"
    folder.mkdir()
    corpus = [
        {"_id": "a", "title": "Salt", "text": "Barley tolerates salt well. It grows."},
        {"_id": "b", "title": "Ferries", "text": "A planner orders ferry stops."},
    ]
    asked = [("a", "Barley tolerates salt."), ("b", "The planner orders stops.")]
    rows = [{"_id": f"{doc}-0", "doc": doc, "text": text, "split": "dev"} for doc, text in asked]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries_known_item.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path))
    monkeypatch.setattr(support, "digested", lambda: iter(()))
    monkeypatch.setattr(sys, "argv", ["support"])
    support.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "plain",
        "accepted",
        "rejected",
        "idf",
        "accepted",
        "rejected",
    ]
    assert lines[1].split()[1:4] == ["own", "abstract", "2"]
    assert lines[1].count("1.000 [1.000, 1.000]") == len(support.THRESHOLDS)
