import pytest
from fake_stages import STAGES, FakeStage, Nothing
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.errors import UserError
from flows.derivation import ResolvedStage, ResolvedVariant
from flows.graph import SOURCE, build_graph
from flows.spec import Study


def stage(kind, value=0, *, teacher=False):
    return ResolvedStage(kind, Nothing(value=value, teacher=teacher))


TEACHER = stage("finetune")


def variant(name, *stages):
    return ResolvedVariant(name, "", (*stages, stage("evaluate")), 1)


def study(tasks=("sst2", "mrpc"), seeds=(0, 1), **teacher):
    return Study.model_validate(
        {
            "name": "s",
            "teacher": {"model": "m", **teacher},
            "tasks": list(tasks),
            "seeds": list(seeds),
            "variants": {"v": ["finetune"]},
        }
    )


def kinds(graph):
    counted = {}
    for node in graph.nodes.values():
        counted[node.kind] = counted.get(node.kind, 0) + 1
    return counted


def test_equal_prefixes_are_one_node():
    variants = [
        variant("a", stage("finetune"), stage("distill", 1)),
        variant("b", stage("finetune"), stage("distill", 2)),
        variant("c", stage("finetune")),
    ]
    graph = build_graph(study(), variants, TEACHER, STAGES)
    assert kinds(graph) == {"finetune": 4, "distill": 8, "evaluate": 12}
    assert len(graph.cells) == 12


def test_what_uses_neither_task_nor_seed_is_shared_by_all_of_them():
    graph = build_graph(
        study(), [variant("a", stage("general"), stage("factorize"), stage("distill"))], TEACHER, STAGES
    )
    assert kinds(graph) == {"general": 1, "factorize": 1, "distill": 4, "evaluate": 4}


def test_a_chain_without_chance_is_one_cell_for_all_seeds():
    graph = build_graph(study(), [variant("a", stage("factorize"))], TEACHER, STAGES)
    assert [(cell.task, cell.seed) for cell in graph.cells] == [("sst2", None), ("mrpc", None)]
    assert kinds(graph) == {"factorize": 1, "evaluate": 2}


def test_the_teacher_of_a_student_is_the_teacher_s_own_row():
    variants = [variant("teacher", TEACHER), variant("student", stage("distill", teacher=True))]
    graph = build_graph(study(tasks=["sst2"]), variants, TEACHER, STAGES)
    assert kinds(graph) == {"finetune": 2, "distill": 2, "evaluate": 4}
    for cell in graph.cells[2:]:
        student = graph.nodes[cell.chain[0]]
        assert graph.nodes[student.inputs["teacher"]].seed == cell.seed


def test_one_teacher_for_all_seeds():
    variants = [variant("teacher", TEACHER), variant("student", stage("distill", teacher=True))]
    graph = build_graph(study(tasks=["sst2"], seed=7), variants, TEACHER, STAGES)
    assert kinds(graph) == {"finetune": 1, "distill": 2, "evaluate": 3}
    assert {node.seed for node in graph.nodes.values() if node.kind == "finetune"} == {7}
    assert [cell.seed for cell in graph.cells] == [None, 0, 1], "one teacher is one value, not one a seed"
    assert "finetune teacher · sst2 · seed 7" in {node.label for node in graph.nodes.values()}


def test_a_fine_tuned_teacher_is_the_source():
    graph = build_graph(
        study(tasks=["sst2"], finetuned=True), [variant("student", stage("distill", teacher=True))], None, STAGES
    )
    assert all(node.inputs["teacher"] == SOURCE for node in graph.nodes.values() if node.kind == "distill")


class Ensemble(FakeStage):
    """Learns from the teachers of the seeds 0 to 2."""

    kind, produces, uses_seed, splits = "ensemble", "classifier", True, ("train",)

    def roles(self, config):
        return ("teacher@0", "teacher@1", "teacher@2")


ENSEMBLE = {**STAGES, "ensemble": Ensemble()}


def test_teachers_of_chosen_seeds_are_those_of_the_cells_with_these_seeds():
    student = variant("student", stage("ensemble"))
    for variants in ([student, variant("teacher", TEACHER)], [variant("teacher", TEACHER), student]):
        graph = build_graph(study(tasks=["sst2"], seeds=[1, 5]), variants, TEACHER, ENSEMBLE)
        assert sorted(node.seed for node in graph.nodes.values() if node.kind == "finetune") == [0, 1, 2, 5]
        for node in graph.nodes.values():
            if node.kind == "ensemble":
                teachers = [graph.nodes[node.inputs[f"teacher@{seed}"]] for seed in range(3)]
                assert [teacher.seed for teacher in teachers] == [0, 1, 2]
        cells = [(cell.variant, cell.seed) for cell in graph.cells]
        assert sorted(cells) == [("student", 1), ("student", 5), ("teacher", 1), ("teacher", 5)]
        labels = {node.label for node in graph.nodes.values() if node.kind == "finetune"}
        assert labels == {f"finetune teacher · sst2 · seed {seed}" for seed in (0, 1, 2, 5)}


def test_teachers_of_chosen_seeds_stand_beside_the_one_teacher_of_a_study():
    variants = [variant("teacher", TEACHER), variant("student", stage("ensemble"))]
    graph = build_graph(study(tasks=["sst2"], seed=7), variants, TEACHER, ENSEMBLE)
    assert sorted(node.seed for node in graph.nodes.values() if node.kind == "finetune") == [0, 1, 2, 7]


def test_several_teachers_need_a_teacher_that_the_study_fine_tunes():
    with pytest.raises(UserError, match=r"`teacher\.finetuned` says there is one"):
        build_graph(study(tasks=["sst2"], finetuned=True), [variant("student", stage("ensemble"))], None, ENSEMBLE)


def test_labels_name_variant_task_and_seed():
    graph = build_graph(study(tasks=["sst2"], seeds=[3]), [variant("small", stage("distill"))], TEACHER, STAGES)
    assert [node.label for node in graph.nodes.values()] == [
        "distill small · sst2 · seed 3",
        "evaluate small · sst2 · seed 3",
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["finetune", "distill", "factorize", "general"]), st.integers(0, 2)), max_size=4
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 3),
)
def test_any_study_gives_an_ordered_graph_whose_nodes_are_all_used(chains, seeds):
    variants = [variant(f"v{place}", *(stage(*given) for given in chain)) for place, chain in enumerate(chains)]
    graph = build_graph(study(seeds=range(seeds)), variants, TEACHER, STAGES)
    seen = {SOURCE}
    for node in graph.nodes.values():
        assert set(node.inputs.values()) <= seen
        seen.add(node.id)
    assert {identity for cell in graph.cells for identity in cell.chain} == set(graph.nodes)
    assert len({(cell.variant, cell.task, cell.seed) for cell in graph.cells}) == len(graph.cells)
    assert {cell.variant for cell in graph.cells} == {each.name for each in variants}
    assert len({node.label for node in graph.nodes.values()}) == len(graph.nodes), "labels tell nodes apart"


@pytest.mark.parametrize("other", [{"value": 1}, {"teacher": True}])
def test_another_configuration_is_another_node(other):
    variants = [variant("a", stage("finetune")), variant("b", ResolvedStage("finetune", Nothing(**other)))]
    graph = build_graph(study(tasks=["sst2"], seeds=[0], seed=0), variants, TEACHER, STAGES)
    assert kinds(graph)["finetune"] == 2
