from __future__ import annotations

import torch

from tests.sdk.model.reference import reference_model
from visionllm_sdk.model.conversation import Turn, image_parts, region_parts
from visionllm_sdk.model.prompt import Prompt, RegionPrompt, TiledImage
from visionllm_sdk.model.session import Session, content_ids, cut_prompt, image_key, rest_of

MODEL = reference_model("tiny_core")
LAYOUT = MODEL.core.layout
BUILDER = MODEL.prompt_builder()


def picture(seed: int, tiles: int = 1) -> TiledImage:
    pixels = torch.randn(tiles, 3, 56, 56, generator=torch.Generator().manual_seed(seed))
    return TiledImage(pixels, key=image_key(pixels))


def ask(text: str, *images: TiledImage) -> Prompt:
    return BUILDER.build([Turn((*image_parts(len(images)), text))], images)


def test_content_tells_images_apart_and_finds_them_again():
    first, again, other = (content_ids(ask("Hi", picture(seed)), LAYOUT) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    patches = torch.tensor(ask("Hi", picture(1)).ids) == LAYOUT.patch_id
    assert (first[patches] != other[patches]).all()
    assert torch.equal(first[~patches], other[~patches])
    assert len(set(first[patches].tolist())) == 16


def test_images_without_key_equal_nothing():
    image = TiledImage(picture(1).pixels)
    one, two = content_ids(ask("Hi", image), LAYOUT), content_ids(ask("Hi", image), LAYOUT)
    assert not torch.equal(one, two)


def test_regions_are_part_of_the_content():
    image = picture(1)
    masks = [torch.ones(56, 56), torch.eye(56)]
    turns = [Turn((*image_parts(), *region_parts("it")))]
    contents = [
        content_ids(BUILDER.build(turns, [image], [RegionPrompt(mask)]), LAYOUT)
        for mask in (masks[0], masks[0], masks[1])
    ]
    assert torch.equal(contents[0], contents[1])
    assert int((contents[0] != contents[2]).sum()) == 1


def test_a_cut_never_parts_an_image_or_a_region_from_its_image():
    images = [picture(1, 3), picture(2)]
    turns = [Turn((*image_parts(), "and ", *image_parts(), *region_parts("it"), " now"))]
    prompt = BUILDER.build(turns, images, [RegionPrompt(torch.ones(56, 56), image=1)])
    ids = prompt.ids
    second = ids.index(LAYOUT.patch_id, ids.index(LAYOUT.patch_id) + 48)
    region = ids.index(LAYOUT.region_id)
    assert cut_prompt(prompt, second - 20, LAYOUT) == ids.index(LAYOUT.patch_id)
    assert cut_prompt(prompt, region, LAYOUT) == second
    assert cut_prompt(prompt, region + 1, LAYOUT) == region + 1
    rest = rest_of(prompt, second, LAYOUT)
    assert rest.images == (images[1],)
    assert rest.regions[0].image == 0
    assert rest_of(prompt, region + 1, LAYOUT).images == ()


def test_a_cut_never_parts_a_routing_token_from_its_queries():
    turns = [Turn(("x",), tuple(MODEL.tokenizer.parse_template("a[DET]"))), Turn(("y",))]
    prompt = BUILDER.build(turns)
    routing = prompt.ids.index(MODEL.tokenizer.control_id("[DET]"))
    assert cut_prompt(prompt, routing + 3, LAYOUT) == routing
    assert cut_prompt(prompt, routing + 5, LAYOUT) == routing + 5


def test_the_longest_prefix_wins_and_old_ones_go():
    session = Session(max_prefixes=2)
    one, two = torch.arange(10), torch.tensor([0, 1, 2, 9, 9])
    caches = [[(torch.full((1, 10, 1), float(n)),) * 2] for n in range(3)]
    session.keep_prefix(one, caches[0])
    session.keep_prefix(two, caches[1])
    assert session.longest_prefix(torch.tensor([0, 1, 2, 9, 5])) == (4, caches[1])
    assert session.longest_prefix(torch.arange(4)) == (3, caches[0])  # one token has to run
    assert session.longest_prefix(torch.tensor([7, 7])) == (0, [])
    session.keep_prefix(torch.arange(12), caches[2])  # continues the first one and replaces it
    assert session.longest_prefix(torch.arange(12))[0] == 11
    assert session.longest_prefix(two)[0] == 4
    session.clear()
    assert session.longest_prefix(two) == (0, [])


def test_features_are_kept_by_content():
    session = Session(max_images=1)
    image, other = picture(1), picture(2)
    features = MODEL.core.see([image])
    assert session.recall(image) is image
    session.remember(image, features)
    assert session.recall(TiledImage(image.pixels, key=image.key)).features is features
    session.remember(other, features)
    assert session.recall(image).features is None
    session.remember(TiledImage(image.pixels), features)
    assert session.recall(other).features is features
