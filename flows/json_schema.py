"""JSON Schema of study files (draft 2020-12), by which editors complete and check them."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from compression.analysis.published import load_published
from compression.architecture.config import StudentConfig
from compression.architecture.presets import PRESETS
from compression.data.config import TaskConfig
from compression.data.corpus_config import CorpusConfig
from compression.data.glue import GLUE_TASKS
from flows.chain_rules import TEACHER_KIND
from flows.spec import PublishedRowsConfig, Study, TeacherConfig, VariantConfig
from tasks.stages.base import Stage

Schema = dict[str, Any]


def study_schema(registry: Mapping[str, Stage] | None = None) -> Schema:
    """Write the schema of study files.

    Args:
        registry: stages by kind; those of `tasks.stages.registry` by default.

    Returns:
        The schema, as JSON values.

    Example:
        >>> study_schema()["title"]
        'bertpress study'
    """
    if registry is None:
        from tasks.stages.registry import stages

        registry = stages()
    models: list[type[BaseModel]] = [Study, *(stage.config_model for stage in registry.values())]
    references, together = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    definitions: dict[str, Schema] = together["$defs"]
    configs = {kind: references[stage.config_model, "validation"] for kind, stage in registry.items()}
    for name in _reachable(configs, definitions):
        # A study gives stages in layers, none of which need be complete.
        definitions[name].pop("required", None)
    definitions["StageEntry"] = _stage_entry(configs)
    _complete_teacher(definitions, configs)
    _complete_variant(definitions, registry)
    definitions[TaskConfig.__name__]["properties"]["labels"]["anyOf"][0]["items"] = {"type": ["string", "integer"]}
    _allow_bare_string(definitions, TaskConfig.__name__, list(GLUE_TASKS), "A GLUE task, by name")
    definitions[StudentConfig.__name__]["properties"]["preset"]["anyOf"][0]["enum"] = list(PRESETS)
    _allow_bare_string(definitions, StudentConfig.__name__, list(PRESETS), "A shape with random weights, by name")
    _allow_bare_string(definitions, PublishedRowsConfig.__name__, list(load_published().tables), "A table, by its id")
    _allow_bare_string(definitions, CorpusConfig.__name__, None, "A file, or a data set")
    _allow_one_file(definitions)
    study = definitions.pop(Study.__name__)
    study["properties"]["defaults"] |= {"properties": _nullable(configs), "additionalProperties": False}
    study["properties"]["variants"]["additionalProperties"] = False
    for definition in (study, *definitions.values()):
        definition["description"] = _first_line(definition.get("description", ""))
    start = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "bertpress study"}
    return start | {name: value for name, value in study.items() if name != "title"} | {"$defs": definitions}


def _reachable(start: object, definitions: Mapping[str, Schema]) -> set[str]:
    """Names of the definitions that are referred to, directly or through others."""
    found: set[str] = set()
    waiting = list(_references(start))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(definitions[name])
    return found


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/$defs/")
        for inner in schema.values():
            yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)


def _nullable(configs: Mapping[str, Schema]) -> Schema:
    """Stage configurations that may be left empty: `- finetune:`."""
    return {kind: {"anyOf": [reference, {"type": "null"}]} for kind, reference in configs.items()}


def _stage_entry(configs: Mapping[str, Schema]) -> Schema:
    mappings = [
        {"type": "object", "properties": {kind: config}, "required": [kind], "additionalProperties": False}
        for kind, config in _nullable(configs).items()
    ]
    bare = {"enum": list(configs), "description": "A stage with the study's defaults"}
    return {"description": "One stage of a chain", "anyOf": [bare, *mappings]}


def _complete_teacher(definitions: dict[str, Schema], configs: Mapping[str, Schema]) -> None:
    properties = definitions[TeacherConfig.__name__]["properties"]
    described = {"description": properties["finetune"]["description"]}
    properties["finetune"] = described | configs.get(TEACHER_KIND, {"type": "object"})


def _complete_variant(definitions: dict[str, Schema], registry: Mapping[str, Stage]) -> None:
    mapping = definitions[VariantConfig.__name__]
    entries = {"type": "array", "items": {"$ref": "#/$defs/StageEntry"}}
    kinds = "|".join(registry)
    paths = {"pattern": rf"^(\*|({kinds})(\[[0-9]+\])?)\.[^.]+(\.[^.]+)*$"}
    properties = mapping["properties"]
    for field in ("stages", "then"):
        properties[field] = entries | {"description": properties[field]["description"]}
    properties["from"] = {"type": "string", "description": properties["from"]["description"]}
    properties["without"]["items"] = {"enum": list(registry)}
    for field in ("set", "matrix"):
        properties[field]["propertyNames"] = paths
    mapping["oneOf"] = [{"required": ["stages"]}, {"required": ["from"]}]
    description = mapping.pop("description")
    chain = entries | {"description": "The chain; `evaluate` is added at its end"}
    definitions[VariantConfig.__name__] = {"description": description, "anyOf": [chain, mapping]}


def _allow_one_file(definitions: dict[str, Schema]) -> None:
    if CorpusConfig.__name__ in definitions:
        mapping = definitions[CorpusConfig.__name__]["anyOf"][1]
        mapping["properties"]["files"]["anyOf"].insert(0, {"type": "string"})


def _allow_bare_string(definitions: dict[str, Schema], name: str, strings: list[str] | None, description: str) -> None:
    """Let a model be given as one of some strings, or as any string."""
    if name in definitions:
        mapping = definitions[name]
        bare = ({"type": "string"} if strings is None else {"enum": strings}) | {"description": description}
        definitions[name] = {"description": mapping.pop("description"), "anyOf": [bare, mapping]}


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
