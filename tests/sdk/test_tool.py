from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from torch import nn

from tests.sdk.model.reference import fresh_model, released_config
from visionllm_sdk.errors import ConfigError, ToolError
from visionllm_sdk.generation import (
    ForcedRequest,
    GenerationOptions,
    GenerationRequest,
    Generator,
    ToolJob,
    run_tools,
)
from visionllm_sdk.model.assembly import Model, load_model
from visionllm_sdk.model.conversation import ForcedCall, Turn, image_parts
from visionllm_sdk.model.extension import with_tool
from visionllm_sdk.registry import ToolRegistry, discover_tools
from visionllm_sdk.tool import (
    ForcedLayout,
    QueryTable,
    RoutedTool,
    RoutingToken,
    SuperLink,
    ToolClass,
    ToolLoss,
    ToolOptions,
    ToolRequest,
)

THIRD_PARTY = Path(__file__).parent / "third_party"
SECTION = {"use_depth": True, "depth_config": {"hidden": 5}}


class Note(BaseModel):
    """Result of the small tools below."""

    labels: tuple[str, ...]


class NoteTool(RoutedTool[ToolOptions, Note]):
    """The least that the contract asks for."""

    name = "note"
    description = "Notes what was named."
    tokens = (RoutingToken(text="[NOTE]"),)
    table = QueryTable(name="note", count=1)
    checkpoint_prefix = "note."
    needs_image = False
    options_type = ToolOptions
    result_type = Note

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoteTool | None:
        return cls(nn.Identity()) if config.get("use_note") else None

    def run(self, requests: Sequence[ToolRequest[ToolOptions]]) -> list[Note]:
        return [Note(labels=request.labels) for request in requests]

    def loss(self, requests: Sequence[ToolRequest[ToolOptions]], targets: Sequence[Any]) -> ToolLoss:
        return ToolLoss(
            total=torch.stack([link.states.sum() for one in requests for link in one.links]).sum()
        )


def variant(**attributes: Any) -> ToolClass:
    """NoteTool with other class attributes."""
    return type("Variant", (NoteTool,), attributes)


@pytest.fixture
def depth(monkeypatch: pytest.MonkeyPatch) -> ToolClass:
    """The tool of the third-party package, found by its entry point alone."""
    monkeypatch.syspath_prepend(THIRD_PARTY)
    return discover_tools().by_name("depth")


@pytest.fixture
def model(depth: ToolClass) -> Model:
    """A model that was taught [DEPTH]."""
    torch.manual_seed(0)
    return with_tool(fresh_model(), depth, SECTION)


# -- contract ----------------------------------------------------------------------------------------------


def test_the_contract_imports_no_torch():
    code = "import sys, visionllm_sdk.registry as r; r.ToolRegistry(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_registry_knows_names_and_tokens():
    registry = ToolRegistry([NoteTool])
    assert (registry.names, registry.token_texts, len(registry)) == (("note",), ("[NOTE]",), 1)
    assert registry.by_name("note") is registry.by_token("[NOTE]") is NoteTool
    assert registry.token("[NOTE]").grouped
    assert list(registry.select(["note"])) == [NoteTool]
    assert "note" in registry


class NeedsArgument(ToolOptions):
    """Options that free routing could not fill in."""

    count: int


COLLISIONS: dict[str, tuple[list[object], str]] = {
    "the same name": ([NoteTool, variant(checkpoint_prefix="b.")], "share one name"),
    "the same prefix": ([NoteTool, variant(name="b")], "same checkpoint prefix"),
    "the same token": ([NoteTool, variant(name="b", checkpoint_prefix="b.")], "claim one routing token"),
    "no class": ([NoteTool(nn.Identity())], "not a subclass"),
    "no token": ([variant(tokens=())], "no routing token"),
    "no dot": ([variant(checkpoint_prefix="note")], "End it with a dot"),
    "required options": ([variant(options_type=NeedsArgument)], "count"),
}


@pytest.mark.parametrize("case", list(COLLISIONS))
def test_bad_registrations_are_named(case: str):
    tools, message = COLLISIONS[case]
    with pytest.raises(ToolError, match=message):
        ToolRegistry(tools)


def test_missing_class_attributes_are_named():
    class Bare(NoteTool):
        """Hides an attribute."""

        name: ClassVar[str]

    bare = type("Bare", (RoutedTool,), {"name": "bare"})
    with pytest.raises(ToolError, match="lacks description, tokens, table"):
        ToolRegistry([bare])


def test_unknown_names_and_tokens_list_the_known_ones():
    registry = ToolRegistry([NoteTool])
    with pytest.raises(ToolError, match="note"):
        registry.by_name("detect")
    with pytest.raises(ToolError, match=r"\[NOTE\]"):
        registry.token("[DET]")


@pytest.mark.parametrize("text", ["DEPTH", "[depth]", "[]", "[A B]", "[EMB]", "[EMB2]", "[DEPTH"])
def test_misspelled_routing_tokens_are_refused(text: str):
    with pytest.raises(ToolError, match="routing token"):
        RoutingToken(text=text)


def test_layouts_need_their_slots():
    with pytest.raises(ToolError, match=r"\{items\}"):
        ForcedLayout(question="?", answer="no")
    with pytest.raises(ToolError, match=r"\{token\}"):
        ForcedLayout(question="?", item="{label}")


def test_the_number_of_queries_comes_from_the_configuration():
    table = QueryTable(name="det", count=4, count_field="num_embs")
    assert table.size({"num_embs": 8}) == 8
    assert table.size({}) == 4
    with pytest.raises(ToolError, match="at least 1"):
        table.size({"num_embs": "4"})


def test_a_call_needs_a_link():
    with pytest.raises(ToolError, match="no super-link"):
        ToolRequest(token="[NOTE]", links=(), options=ToolOptions())


def test_descriptions_are_json(depth: ToolClass):
    described = json.loads(depth.describe().model_dump_json())
    assert described["tokens"] == {"[DEPTH]": "Estimates how far away named objects are."}
    assert described["options_schema"]["properties"]["unit"]["default"] == "m"
    assert "distances" in described["result_schema"]["properties"]


# -- discovery ---------------------------------------------------------------------------------------------


def test_entry_points_that_cannot_be_imported_name_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    info = tmp_path / "broken_tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-tools\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[visionllm_sdk.tools]\nbroken = nowhere.tool:Tool\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ToolError, match="'broken' of package broken-tools"):
        discover_tools()


# -- a third-party tool from end to end --------------------------------------------------------------------


def test_teaching_a_tool_adds_its_tokens_table_and_decoder(model: Model):
    plain = fresh_model()
    assert model.tokenizer.vocab_size == plain.tokenizer.vocab_size + 3
    assert [model.tokenizer.has_control(text) for text in ("<depth>", "</depth>", "[DEPTH]")] == [True] * 3
    assert model.core.tables()["depth"].shape == (3, 64)
    assert torch.equal(model.core.llm.lm_head.weight[:626], plain.core.llm.lm_head.weight)
    assert model.core.plan.by_text("[DEPTH]").count == 3


def test_the_taught_model_survives_saving(model: Model, depth: ToolClass, tmp_path: Path):
    model.save(tmp_path)
    again = load_model(tmp_path, registry=ToolRegistry([depth]))
    assert list(again.tools) == ["depth"]
    assert torch.equal(again.core.tables()["depth"], model.core.tables()["depth"])
    found, wanted = (one.tools["depth"].decoder.state_dict() for one in (again, model))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert load_model(tmp_path, registry=ToolRegistry()).unclaimed == ("depth_net.",)


def test_generation_routes_to_the_tool(model: Model):
    """Token emitted, queries entered, states in the decoder, typed result back."""
    picture = Image.new("RGB", (90, 60), (200, 10, 10))
    prompt = Generator(model).builder.build([Turn((*image_parts(), "How far is it?"))], [model.tile(picture)])
    options = GenerationOptions(
        max_new_tokens=8, require="[DEPTH]", routing_bias={"[DEPTH]": 20.0}, max_calls=1
    )
    reply = Generator(model).generate([GenerationRequest(prompt=prompt, options=options)])[0]
    call = reply.calls[0]
    assert (call.token, call.links[0].super_link.states.shape) == ("[DEPTH]", (3, 64))
    assert 0 < call.probability < 1
    result = run_tools([ToolJob(call=call, image=picture)], model.tools)[0]
    assert (result.unit, result.width, result.height) == ("m", 90, 60)
    assert list(result.distances) == [call.labels[0]]


def test_forced_routing_reaches_the_tool_in_a_batch_of_mixed_calls(model: Model):
    picture = Image.new("RGB", (64, 64), (0, 200, 0))
    image = model.tile(picture)
    token = model.registry.token("[DEPTH]")
    requests = [
        ForcedRequest(calls=(ForcedCall(token=token, labels=labels),), images=(image,))
        for labels in (("a", "b", "c"), ("b",))
    ]
    calls = [call for [call] in Generator(model).forced(requests)]
    options = model.tools["depth"].options_type(unit="ft")
    jobs = [ToolJob(call=calls[0], image=picture, options=options), ToolJob(call=calls[1], image=picture)]
    first, second = run_tools(jobs, model.tools)
    assert (list(first.distances), first.unit) == (["a", "b", "c"], "ft")
    assert (list(second.distances), second.unit) == (["b"], "m")


def test_the_loss_trains_decoder_and_queries(model: Model):
    tool = model.tools["depth"]
    states = model.core.tables()["depth"] * 1.0
    link = SuperLink(token="[DEPTH]", label="a", states=states)
    request = ToolRequest(
        token="[DEPTH]", links=(link,), options=tool.options_type(), image=Image.new("RGB", (8, 8))
    )
    loss = tool.loss([request], [[2.0]])
    loss.total.backward()
    assert tool.decoder.out.weight.grad.abs().sum() > 0
    assert model.core.emb_embeddings_depth.weight.grad.abs().sum() > 0
    assert set(loss.terms) == {"depth"}


def test_a_checkpoint_without_the_decoder_says_so(depth: ToolClass, tmp_path: Path):
    fresh_model().save(tmp_path)
    assert load_model(tmp_path, registry=ToolRegistry([depth])).tools == {}
    with pytest.raises(ToolError, match="no decoder for the tool"):
        load_model(tmp_path, registry=ToolRegistry([depth]), tools=["depth"])


def test_teaching_refuses_what_cannot_work(model: Model, depth: ToolClass):
    with pytest.raises(ToolError, match="already"):
        with_tool(model, depth, SECTION)
    with pytest.raises(ToolError, match="no decoder in the configuration"):
        with_tool(fresh_model(), depth)
    with pytest.raises(ConfigError, match="depth_config"):
        with_tool(fresh_model(), depth, SECTION | {"depth_config": {}})
    with pytest.raises(ToolError, match="another size"):
        with_tool(fresh_model(), variant(table=QueryTable(name="det", count=9)), {"use_note": True})


def test_a_tool_may_share_a_released_table():
    model = with_tool(fresh_model(), variant(table=QueryTable(name="det", count=4)), {"use_note": True})
    assert "note" not in model.core.table_names
    assert model.core.plan.by_text("[NOTE]").table == "det"
    assert released_config()["num_embs"] == 4


# -- dispatch ----------------------------------------------------------------------------------------------


class Short(NoteTool):
    """Loses a result."""

    def run(self, requests: Sequence[ToolRequest[ToolOptions]]) -> list[Note]:
        return []


def noted(model: Model) -> Any:
    token = RoutingToken(text="[NOTE]")
    return Generator(model).forced([ForcedRequest(calls=(ForcedCall(token=token, labels=("x",)),))])[0][0]


def test_dispatch_refuses_what_does_not_fit(model: Model):
    model = with_tool(model, NoteTool, {"use_note": True})
    call = noted(model)
    assert run_tools([ToolJob(call=call)], model.tools) == [Note(labels=("x",))]
    with pytest.raises(ToolError, match="no loaded tool"):
        run_tools([ToolJob(call=call)], {"depth": model.tools["depth"]})
    with pytest.raises(ToolError, match="wrong number of results"):
        run_tools([ToolJob(call=call)], {"note": Short(nn.Identity())})
    with pytest.raises(ToolError, match="options of another tool"):
        run_tools([ToolJob(call=call, options=model.tools["depth"].options_type())], {"note": _strict()})
    with pytest.raises(ToolError, match="needs an image"):
        run_tools([ToolJob(call=call)], {"note": variant(needs_image=True)(nn.Identity())})


class OwnOptions(ToolOptions):
    """Options of the strict tool."""


def _strict() -> RoutedTool[Any, Any]:
    return variant(options_type=OwnOptions)(nn.Identity())


def test_dispatch_keeps_the_order_of_mixed_jobs(model: Model):
    model = with_tool(model, NoteTool, {"use_note": True})
    picture = Image.new("RGB", (64, 64))
    token = model.registry.token("[DEPTH]")
    [[depth]] = Generator(model).forced(
        [ForcedRequest(calls=(ForcedCall(token=token, labels=("a",)),), images=(model.tile(picture),))]
    )
    jobs = [ToolJob(call=noted(model)), ToolJob(call=depth, image=picture), ToolJob(call=noted(model))]
    assert [type(one).__name__ for one in run_tools(jobs, model.tools)] == ["Note", "Depth", "Note"]
