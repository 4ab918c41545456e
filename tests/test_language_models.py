"""Language models: the bundled one, tiny ones in both runtimes, servers, and missing ones.

GGUF files are tested in test_gguf.py.
"""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tiny_models import save_tiny_gguf, save_tiny_language_model

from rag.errors import ModelFailed, ModelTooSlow, ModelUnavailable
from rag.models.files import convert_once
from rag.models.language_model import ChoiceModel, GenerationLimits, Message
from rag.models.registry import LANGUAGE_MODEL_RUNTIMES, load_language_model

PROMPT = [Message("system", "You answer in one sentence."), Message("user", "What is carbon?")]
RELATED = "Eelgrass meadows hold much carbon, and lose it when the water warms."


def generate(model, messages=PROMPT, tokens=24, seconds=60.0, stop=None):
    limits = GenerationLimits(tokens, seconds)
    return "".join(model.stream(messages, limits, stop or threading.Event()))


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny_language_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    return load_language_model(str(tiny_folder))


@pytest.fixture(scope="session")
def gguf_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="session")
def in_openvino(gguf_folder):
    """Tiny model with random weights in OpenVINO."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTNOTE_CACHE", str(gguf_folder / "cache"))
        return load_language_model(str(save_tiny_gguf(gguf_folder / "random.gguf")))


@pytest.fixture(params=["in_openvino", "tiny"])
def model(request):
    return request.getfixturevalue(request.param)


# --- loading ---------------------------------------------------------------------------------


def test_none_means_no_model():
    assert load_language_model("none") is None


@pytest.mark.parametrize("runtime", LANGUAGE_MODEL_RUNTIMES, ids=lambda runtime: runtime.title)
def test_every_registered_runtime_can_open_models(runtime):
    module = importlib.import_module(f"rag.models.runtimes.{runtime.module}")
    assert callable(module.open_language_model)


def test_bundled_model_is_loaded_once():
    assert load_language_model("bundled") is load_language_model("bundled")


def test_bundled_model_loads_without_pytorch():
    code = (
        "import sys; from rag.models.registry import load_language_model;"
        "load_language_model('bundled');"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    run = run_python(code)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def test_model_in_a_folder_is_named_after_it_and_has_its_own_context(tiny, tiny_folder):
    assert (tiny.name, tiny.context_tokens) == (str(tiny_folder), 512)


def test_bundled_model_says_which_it_is(bundled):
    assert bundled.name == "Qwen2.5-Coder-1.5B-Instruct"
    assert bundled.context_tokens == 32768


def test_folder_of_openvino_files_loads(in_openvino, gguf_folder):
    (file,) = gguf_folder.glob("cache/models/*/openvino_model.xml")
    model = load_language_model(str(file.parent))
    assert model.name == file.parent.name
    assert generate(model, tokens=8) == generate(in_openvino, tokens=8)


# --- generation ------------------------------------------------------------------------------


def test_same_prompt_gets_the_same_reply(model):
    first = generate(model, tokens=8)
    generate(model, [Message("user", "Name a river.")], tokens=3)
    assert first
    assert generate(model, tokens=8) == first


def test_bundled_model_answers_to_the_point(bundled):
    assert "carbon" in generate(bundled).lower()


def test_reply_has_no_more_tokens_than_allowed(bundled):
    text = generate(bundled, tokens=3)
    assert 0 < len(text.split()) <= 3


@pytest.mark.parametrize("way", ["close", "stop"])
def test_next_generation_can_start_after_one_was_abandoned(model, way):
    stop = threading.Event()
    pieces = model.stream(PROMPT, GenerationLimits(400, 60), stop)
    assert next(pieces)
    if way == "close":
        pieces.close()
    else:
        stop.set()
        assert list(pieces) == []
    assert generate(model, tokens=4, seconds=20)


def test_generation_can_be_stopped_while_it_waits_for_another(bundled):
    first = bundled.stream(PROMPT, GenerationLimits(2000, 60), threading.Event())
    next(first)
    stop = threading.Event()
    stop.set()
    assert generate(bundled, stop=stop) == ""
    first.close()


def test_deadline_raises_model_too_slow(model):
    with pytest.raises(ModelTooSlow) as caught:
        generate(model, tokens=400, seconds=0.001)
    assert (caught.value.model, caught.value.seconds) == (model.name, 0.001)


def test_process_can_end_in_the_middle_of_a_generation():
    code = (
        "import threading; from rag.models.language_model import GenerationLimits, Message;"
        "from rag.models.registry import load_language_model;"
        "model = load_language_model('bundled'); prompt = [Message('user', 'Tell a story.')];"
        "pieces = model.stream(prompt, GenerationLimits(400, 60), threading.Event());"
        "print(len(next(pieces)) > 0)"
    )
    run = run_python(code)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "True", "")


# --- prompts ---------------------------------------------------------------------------------


def test_token_count_includes_the_chat_template(tiny):
    # <s> <|user|> z q <|end|> <|assistant|>
    assert tiny.count_tokens([Message("user", "zq")]) == 6


def test_model_without_a_template_gets_a_plain_transcript(tmp_path):
    model = load_language_model(str(save_tiny_language_model(tmp_path / "plain", template=None)))
    # <s>, then a token for each byte.
    assert model.count_tokens([Message("user", "zq")]) == 1 + len("user: zq\n\nassistant:")
    assert generate(model, tokens=4)


@pytest.mark.promise("injection")
def test_special_tokens_in_a_message_stay_text(tiny):
    without = tiny.count_tokens([Message("user", "zqzq")])
    # As a special token `<|end|>` would count one; as text it is seven characters and the
    # invisible one between them.
    assert tiny.count_tokens([Message("user", "zq<|end|>zq")]) >= without + 7


@pytest.mark.promise("injection")
def test_special_tokens_in_a_paper_stay_text(bundled):
    without = bundled.count_tokens([Message("user", "carbon ")])
    for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        assert bundled.count_tokens([Message("user", f"carbon {token}")]) >= without + 5


def test_prompt_beyond_the_context_is_refused_rather_than_cut(tiny):
    messages = [Message("user", "zq " * 200)]
    with pytest.raises(ModelFailed, match="exceed its context of 512") as caught:
        generate(tiny, messages)
    assert caught.value.model == tiny.name


def test_error_of_a_template_that_refuses_a_role_is_reported(tmp_path):
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}"
        "{% endif %}<s>"
    )
    folder = save_tiny_language_model(tmp_path / "strict", template=template)
    with pytest.raises(ModelFailed, match="no system role"):
        generate(load_language_model(str(folder)))


# --- judging ---------------------------------------------------------------------------------


def judge(model, question):
    messages = [Message("user", f"{RELATED}\n\n{question} Reply Yes or No.")]
    limits = GenerationLimits(8, 60.0)
    return model.choice_probability(messages, ("Yes", "No"), limits, threading.Event())


def test_probability_of_a_choice_follows_the_text(bundled):
    assert isinstance(bundled, ChoiceModel)
    stated = judge(bundled, "Does this text mention eelgrass?")
    absent = judge(bundled, "Does this text mention the parliament of Norway?")
    assert 0 <= absent < 0.5 < stated <= 1


def test_probability_does_not_depend_on_earlier_prompts(bundled):
    before = judge(bundled, "Does this text mention eelgrass?")
    reply = generate(bundled, tokens=8)
    judge(bundled, "Does it mention carbon?")
    assert judge(bundled, "Does this text mention eelgrass?") == before
    assert generate(bundled, tokens=8) == reply


def test_probabilities_of_two_choices_add_up_to_one(model):
    limits, stop = GenerationLimits(8, 60.0), threading.Event()
    chances = [
        model.choice_probability(PROMPT, choices, limits, stop)
        for choices in (("a", "b"), ("b", "a"))
    ]
    assert sum(chances) == pytest.approx(1)


def test_probability_of_a_choice_is_that_of_its_first_different_token(tiny, tiny_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # <s> <|user|> z <|end|> <|assistant|>, then "a", which both choices begin with.
    text = "<s><|user|>z<|end|><|assistant|>a"
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    logits = AutoModelForCausalLM.from_pretrained(tiny_folder)(**inputs).logits[0, -1]
    first, second = (logits[tokenizer.convert_tokens_to_ids(letter)].exp() for letter in "bc")
    chance = tiny.choice_probability(
        [Message("user", "z")], ("ab", "ac"), GenerationLimits(8, 60.0), threading.Event()
    )
    assert chance == pytest.approx((first / (first + second)).item(), abs=1e-5)


@pytest.mark.parametrize("choices", [("a", "a"), ("ab", "a")])
def test_choices_must_differ_in_a_token(tiny, choices):
    with pytest.raises(ValueError, match="do not differ"):
        tiny.choice_probability(PROMPT, choices, GenerationLimits(8, 60.0), threading.Event())


def test_stopped_judgement_tells_nothing(model):
    stop = threading.Event()
    stop.set()
    assert model.choice_probability(PROMPT, ("a", "b"), GenerationLimits(8, 60.0), stop) is None


def test_judgement_that_takes_too_long_fails(bundled):
    with pytest.raises(ModelTooSlow):
        bundled.choice_probability(PROMPT, ("a", "b"), GenerationLimits(8, 0.0), threading.Event())


def test_threads_can_judge_and_generate_at_once(bundled):
    question = "Does this text mention eelgrass?"
    expected, text = judge(bundled, question), generate(bundled, tokens=8)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(judge(bundled, question))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert generate(bundled, tokens=8) == text
    for thread in threads:
        thread.join()
    assert results == [expected] * 3


# --- models that cannot be used --------------------------------------------------------------


def test_missing_model_is_reported_with_the_download_command():
    with pytest.raises(ModelUnavailable, match="hf download nobody/no-such-model"):
        load_language_model("nobody/no-such-model")


def delete(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def pickle_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncate_weights(folder):
    os.truncate(folder / "model.safetensors", 5000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(delete("config.json"), "no config.json", id="no config"),
        pytest.param(delete("tokenizer.json"), "no tokenizer", id="no tokenizer"),
        pytest.param(delete("model.safetensors"), "no weights", id="no weights"),
        pytest.param(pickle_weights, "only pickled weights", id="pickled weights"),
        pytest.param(truncate_weights, "cannot load", id="truncated weights"),
        pytest.param(write("config.json", "{"), "cannot load", id="half a config"),
        pytest.param(write("tokenizer.json", "no"), "cannot load", id="bad tokenizer"),
        pytest.param(
            write("config.json", '{"model_type": "zebra"}'), "cannot load", id="unknown type"
        ),
    ],
)
def test_incomplete_or_damaged_folder_is_refused_with_the_reason(
    tiny_folder, tmp_path, damage, message
):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelUnavailable, match=message) as caught:
        load_language_model(str(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", ["", "<net", "<net name='x' version='11'></net>"])
def test_broken_openvino_model_is_refused(tmp_path, content):
    (tmp_path / "openvino_model.xml").write_text(content)
    with pytest.raises(ModelUnavailable, match="cannot load"):
        load_language_model(str(tmp_path))


def test_interrupted_conversion_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path))

    def fail(scratch):
        (scratch / "half").touch()
        raise OSError("disk full")

    def succeed(scratch):
        (scratch / "config.json").touch()

    with pytest.raises(OSError, match="disk full"):
        convert_once("x-1", "config.json", "the model x", fail)
    assert list((tmp_path / "models").iterdir()) == []
    assert convert_once("x-1", "config.json", "the model x", succeed).name == "x-1"
    assert convert_once("x-1", "config.json", "the model x", fail).name == "x-1"


# --- servers ---------------------------------------------------------------------------------


class ChatServer(ThreadingHTTPServer):
    """OpenAI-compatible server on this machine.

    `reply(handler, request)` answers a chat request; `requests` lists what was received.
    """

    daemon_threads = True

    def __init__(self, reply, models, tokenize):
        super().__init__(("127.0.0.1", 0), ChatHandler)
        self.reply = reply
        self.models = models
        self.tokenize = tokenize
        self.requests = []
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class ChatHandler(BaseHTTPRequestHandler):
    """Handler of one request to a `ChatServer`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send(*self.server.models)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers, request))
        self.close_connection = True
        if self.path == "/tokenize":
            self.send(*self.server.tokenize(request))
        else:
            self.server.reply(self, request)

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


MODEL_LIST = (200, json.dumps({"object": "list", "data": [{"id": "tiny", "max_model_len": 777}]}))


def chunk(text="", finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    content = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps(content | {"choices": [choice]})


def send_greeting(handler, _):
    handler.send_events([chunk("Hello"), chunk(" there"), chunk(finish="stop")])


@pytest.fixture
def serve():
    """Function that starts a server; all servers are closed after the test."""
    servers = []

    def start(reply=send_greeting, models=MODEL_LIST, tokenize=lambda _: (404, "{}")):
        servers.append(ChatServer(reply, models, tokenize))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_reply_of_a_server_equals_the_reply_of_its_model(serve, bundled):
    def reply(handler, request):
        messages = [Message(turn["role"], turn["content"]) for turn in request["messages"]]
        limits = GenerationLimits(request["max_tokens"], 60)
        pieces = bundled.stream(messages, limits, threading.Event())
        handler.send_events([*map(chunk, pieces), chunk(finish="length")])

    assert generate(load_language_model(serve(reply).address)) == generate(bundled)


def test_request_is_greedy_and_carries_the_key(serve, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_API_KEY", "sesame")
    server = serve()
    model = load_language_model(server.address)
    assert model.name == f"tiny at {server.address.removeprefix('http://')}"
    assert model.context_tokens == 777
    assert generate(model) == "Hello there"
    path, headers, request = server.requests[-1]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sesame"
    assert (request["temperature"], request["max_tokens"], request["stream"]) == (0, 24, True)
    assert request["messages"][1] == {"role": "user", "content": "What is carbon?"}


def send_next_tokens(**log_probs):
    entries = [{"token": token, "logprob": value} for token, value in log_probs.items()]
    content = {"token": "x", "logprob": 0.0, "top_logprobs": entries}
    body = json.dumps({"choices": [{"logprobs": {"content": [content]}}]})
    return lambda handler, _: handler.send(200, body)


@pytest.mark.parametrize(
    ("log_probs", "expected"),
    [
        ({"Yes": math.log(0.6), "No": math.log(0.2), "Perhaps": math.log(0.1)}, 0.75),
        # "N" begins "No"; "Yes" is not listed, so it counts as the least likely token.
        ({"N": math.log(0.9), "The": math.log(0.1)}, 0.1),
        ({"Perhaps": -0.1, "": -3.0}, None),
    ],
)
def test_server_tells_the_probability_of_a_choice(serve, log_probs, expected):
    server = serve(send_next_tokens(**log_probs))
    chance = judge(load_language_model(server.address), "Is it so?")
    assert chance == (expected and pytest.approx(expected))
    request = server.requests[-1][2]
    assert (request["max_tokens"], request["temperature"], request["logprobs"]) == (1, 0, True)


def test_error_of_a_server_is_reported_when_it_should_judge(serve):
    server = serve(lambda handler, _: handler.send(503, "busy"))
    with pytest.raises(ModelFailed, match="the server says 503"):
        judge(load_language_model(server.address), "Is it so?")


@pytest.mark.parametrize(
    "reply",
    [
        lambda handler, _: handler.send(400, '{"error": "no logprobs"}'),
        lambda handler, _: handler.send(200, '{"choices": [{"message": {"content": "Yes"}}]}'),
        lambda handler, _: handler.send(200, '{"choices": [{"logprobs": null}]}'),
        lambda handler, _: handler.send(200, "<html>"),
    ],
    ids=["400", "nothing", "null", "not JSON"],
)
def test_server_that_tells_no_probabilities_is_asked_once(serve, reply):
    server = serve(reply)
    model = load_language_model(server.address)
    assert [judge(model, "Is it so?"), judge(model, "Is it so?")] == [None, None]
    paths = [path for path, *_ in server.requests]
    assert paths.count("/v1/chat/completions") == 1


def test_name_after_the_hash_sign_chooses_the_model(serve):
    server = serve()
    named = load_language_model(f"{server.address}/v1#other")
    listed = load_language_model(server.address)
    assert named.name.startswith("other at")
    assert named.context_tokens == 4096
    assert named.fingerprint != listed.fingerprint
    generate(named)
    assert server.requests[-1][2]["model"] == "other"


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
    ids=["messages", "content", "404", "not JSON", "a list"],
)
def test_server_counts_tokens_or_they_are_estimated(serve, tokenize, expected):
    model = load_language_model(serve(tokenize=tokenize).address)
    assert model.count_tokens(PROMPT) == expected


def test_server_that_cannot_count_is_asked_once(serve):
    server = serve()
    model = load_language_model(server.address)
    assert model.count_tokens(PROMPT) == model.count_tokens(PROMPT)
    assert len(server.requests) == 1


def send_half_a_reply(handler, _):
    handler.send_events([chunk("Hel")], end=b"")


def send_less_than_announced(handler, _):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(f"data: {chunk('Hel')}\n\n".encode())


def close_connection(handler, _):
    handler.connection.close()


def send_events(*events):
    return lambda handler, _: handler.send_events(events)


def send(status, body, kind="application/json"):
    return lambda handler, _: handler.send(status, body, kind)


FAILING_REPLIES = {
    "half": (send_half_a_reply, "broke off"),
    "short": (send_less_than_announced, "broke off"),
    "reset": (close_connection, "broke off"),
    "empty": (send_events(), "broke off"),
    "half JSON": (send_events("{half"), "cannot understand"),
    "text": (send_events('"text"'), "cannot understand"),
    "delta": (send_events('{"choices": [{"delta": 3}]}'), "cannot understand"),
    "error": (send_events('{"error": {"message": "no memory"}}'), "no memory"),
    "HTML": (send(200, "<html>Welcome</html>", "text/html"), "broke off"),
    "not JSON": (send(200, "not json"), "broke off"),
    "404": (send(404, '{"error": {"message": "no model"}}'), "says 404: .*no model"),
    "500": (send(500, "<html>\n oh </html>", "text/html"), "says 500: "),
    "302": (send(302, ""), "says 302"),
}


@pytest.mark.parametrize(("reply", "message"), FAILING_REPLIES.values(), ids=FAILING_REPLIES.keys())
def test_failure_of_a_server_is_reported_in_one_line_and_not_retried(serve, reply, message):
    server = serve(reply)
    model = load_language_model(server.address)
    with pytest.raises(ModelFailed, match=message) as caught:
        generate(model)
    assert caught.value.model == model.name
    assert "\n" not in str(caught.value)
    assert [path for path, *_ in server.requests].count("/v1/chat/completions") == 1


@pytest.mark.parametrize("first", ["", "Hel"], ids=["before a word", "after a word"])
def test_hanging_server_raises_model_too_slow_at_the_deadline(serve, first):
    is_over = threading.Event()

    def hang(handler, _):
        if first:
            send_half_a_reply(handler, _)
        is_over.wait(20)

    model = load_language_model(serve(hang).address)
    with pytest.raises(ModelTooSlow):
        generate(model, seconds=0.3)
    is_over.set()


@pytest.mark.parametrize("first", ["", "Hel"], ids=["before a word", "after a word"])
def test_stopping_closes_the_connection_at_once(serve, first):
    is_started, is_closed = threading.Event(), threading.Event()

    def wait_for_the_end(handler, _):
        if first:
            send_half_a_reply(handler, _)
        is_started.set()
        handler.connection.settimeout(20)
        if handler.connection.recv(1) == b"":
            is_closed.set()

    stop = threading.Event()
    model = load_language_model(serve(wait_for_the_end).address)
    pieces = model.stream(PROMPT, GenerationLimits(24, 60), stop)
    reader = threading.Thread(target=list, args=[pieces])
    reader.start()
    assert is_started.wait(10)
    stop.set()
    assert is_closed.wait(10)
    reader.join()


def test_server_that_went_away_is_reported(serve):
    server = serve()
    model = load_language_model(server.address)
    server.close()
    with pytest.raises(ModelFailed, match=r"no server answers at .*is it running"):
        generate(model)


def test_server_that_is_down_is_unavailable():
    message = r"no server answers at http://127\.0\.0\.1:9/v1.*is it running"
    with pytest.raises(ModelUnavailable, match=message):
        load_language_model("http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["http://", "http://[", "http://host:port", "https:// /"])
def test_malformed_address_is_unavailable(name):
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
def test_server_without_a_model_list_needs_the_name_of_the_model(serve, models):
    server = serve(models=models)
    with pytest.raises(ModelUnavailable, match="#MODEL"):
        load_language_model(server.address)
    assert generate(load_language_model(f"{server.address}#tiny")) == "Hello there"


def test_prompt_beyond_the_context_of_a_server_is_refused(serve):
    with pytest.raises(ModelFailed, match="exceed its context of 777"):
        generate(load_language_model(serve().address), [Message("user", "word " * 400)])
