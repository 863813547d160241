"""What a run would do: for every node of the graph its key, whether its product is there, and if not, why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compression.data.corpus import fingerprint as corpus_fingerprint
from compression.data.corpus import pinned
from compression.data.corpus_config import CorpusConfig
from compression.data.load import fingerprint
from compression.data.sources import resolve
from compression.runtime import Runtime
from flows.graph import SOURCE, Graph, Node
from flows.spec import Study
from tasks.artifact_store import ArtifactReference, file_digest
from tasks.invocation import Input, StageInvocation, implementation_of, key_of
from tasks.model_source import model_digest, resolve_model
from tasks.records import lookup
from tasks.settings import Settings
from tasks.stages.base import External, Stage

Status = Literal["reuse", "run"]


@dataclass(frozen=True)
class NodePlan:
    """What would happen to one node.

    Attributes:
        node: the node.
        status: `reuse` its product, or `run` it.
        reason: why it would run; empty when reused.
        key: its cache key; None while an input is not computed.
        parts: what the key is made of; None likewise.
        reference: its product, when reused.
    """

    node: Node
    status: Status
    reason: str
    key: str | None = None
    parts: dict[str, Any] | None = None
    reference: ArtifactReference | None = None


@dataclass
class Preparer:
    """Turns nodes into invocations once their inputs are known; plan and run share it, so they agree on every key."""

    study: Study
    stages: Mapping[str, Stage]
    roots: tuple[Path, ...]
    settings: Settings
    download: bool = False
    runtime: Runtime = field(init=False)
    _fingerprints: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    _corpora: dict[CorpusConfig, tuple[CorpusConfig, str | None]] = field(default_factory=dict)
    _source: Input | None = None
    _externals: dict[External, Input] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runtime = self.settings.runtime()

    def source(self) -> Input | None:
        """The study's pretrained model; None while it has to be downloaded first."""
        if self._source is None:
            teacher = self.study.teacher
            folder = resolve_model(teacher.model, teacher.revision, self.roots, download=self.download)
            if folder is not None:
                self._source = Input(digest=model_digest(folder), folder=folder)
        return self._source

    def invocation(self, node: Node, products: Mapping[str, ArtifactReference]) -> StageInvocation | str:
        """The node's invocation, or what it waits for.

        Args:
            node: the node.
            products: node id -> product, of the nodes that are computed.

        Returns:
            The invocation; or the reason why there is none yet.
        """
        stage, config = self.stages[node.kind], node.config.model_dump(mode="json")
        corpus, content = stage.corpus(node.config), None
        if corpus is not None:
            # Looked for first: a missing file is told even while inputs are not computed.
            read = self._corpus(corpus)
            if read is None:
                return f"the hub has to be asked for the commit of corpus {corpus.name} first"
            corpus, content = read
            config["corpus"] = corpus.model_dump(mode="json")
        inputs: dict[str, Input] = {}
        for role, given in node.inputs.items():
            if given == SOURCE:
                source = self.source()
                if source is None:
                    return f"{self.study.teacher.model} has to be downloaded first"
                inputs[role] = source
            elif given in products:
                inputs[role] = Input.of(products[given])
            else:
                return f"its input `{role}` has to be computed first"
        for role, external in node.external.items():
            found = self._locate(external)
            if found is None:
                return f"{external.reference} has to be downloaded first"
            inputs[role] = found
        return StageInvocation(
            implementation=implementation_of(stage),
            config=config,
            inputs=inputs,
            task=node.task,
            data=self._fingerprint(node, stage.reads(node.config)),
            corpus=content,
            seed=node.seed,
            roots=self.roots,
            label=node.label,
        )

    def check_external(self, graph: Graph) -> None:
        """Look for every model, file and corpus from outside before anything runs, downloading models that are missing.

        Args:
            graph: the study's graph.

        Raises:
            UserError: one cannot be had.
        """
        for external in dict.fromkeys(external for node in graph.nodes.values() for external in node.external.values()):
            self._locate(external)
        for node in graph.nodes.values():
            if (corpus := self.stages[node.kind].corpus(node.config)) is not None:
                self._corpus(corpus)

    def _locate(self, external: External) -> Input | None:
        """A model or file from outside; None while it has to be downloaded first."""
        if external not in self._externals:
            if external.kind == "file":
                path = resolve(external.reference, self.roots)
                return self._externals.setdefault(external, Input(digest=file_digest(path), folder=path))
            folder = resolve_model(external.reference, external.revision, self.roots, download=self.download)
            if folder is None:
                return None
            self._externals[external] = Input(digest=model_digest(folder), folder=folder)
        return self._externals[external]

    def _fingerprint(self, node: Node, splits: Sequence[Any]) -> str | None:
        if node.task is None:
            return None
        identity = (node.task.name, tuple(splits))
        if identity not in self._fingerprints:
            self._fingerprints[identity] = fingerprint(node.task, self.roots, splits)
        return self._fingerprints[identity]

    def _corpus(self, corpus: CorpusConfig) -> tuple[CorpusConfig, str | None] | None:
        """A corpus, with its commit if it is one of the hub, and its fingerprint; None while the hub must be asked."""
        if corpus not in self._corpora:
            fixed = pinned(corpus, self.roots, online=self.download)
            if fixed is None:
                return None
            self._corpora[corpus] = fixed, corpus_fingerprint(fixed, self.roots)
        return self._corpora[corpus]


def plan_graph(graph: Graph, preparer: Preparer, before: Mapping[str, Mapping[str, Any]]) -> list[NodePlan]:
    """Look every node up in the cache without running anything.

    Args:
        graph: the study's graph.
        preparer: makes the invocations.
        before: label -> key parts of the study's last run, to say what changed.

    Returns:
        One plan a node, in the graph's order.
    """
    plans: list[NodePlan] = []
    products: dict[str, ArtifactReference] = {}
    for node in graph.nodes.values():
        invocation = preparer.invocation(node, products)
        if isinstance(invocation, str):
            plans.append(NodePlan(node, "run", invocation))
            continue
        parts = invocation.key_parts(preparer.runtime)
        key = key_of(parts)
        reference, reason = lookup(preparer.settings, key)
        if reference is not None:
            products[node.id] = reference
            plans.append(NodePlan(node, "reuse", "", key, parts, reference))
            continue
        if reason == "never computed" and (last := before.get(node.label)) and (changed := differences(last, parts)):
            reason = f"changed: {'; '.join(changed)}"
        plans.append(NodePlan(node, "run", reason, key, parts))
    return plans


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> list[str]:
    """Name every leaf in which two sets of key parts differ.

    Args:
        before: the earlier parts.
        after: the later ones.
        path: where in the whole these are.

    Returns:
        Lines such as `config.temperature 2 -> 4`; digests are shortened.

    Example:
        >>> differences({"config": {"rank": 1}, "seed": 0}, {"config": {"rank": 2}, "seed": 0})
        ['config.rank 1 -> 2']
    """
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        here = f"{path}.{name}" if path else name
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, here)
        elif old != new and path == "code":
            lines.append(f"code of {name} {'is new' if old is None else 'is gone' if new is None else 'changed'}")
        elif old != new:
            lines.append(f"{here} {_short(old)} -> {_short(new)}")
    return lines


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
