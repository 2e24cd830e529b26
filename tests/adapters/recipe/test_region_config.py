from __future__ import annotations

from visionllm_adapters.recipe.export import released_config
from visionllm_adapters.recipe.region_config import REGION_SHAPE, with_regions
from visionllm_adapters.recipe.train_joint import REGION_SHAPE as TRAINED
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.skills.regional import LAYOUTS, worded


def test_the_exported_configuration_describes_what_was_trained() -> None:
    plain = released_config(1500, [])
    config = ModelConfig.from_released(with_regions(plain))
    assert REGION_SHAPE == TRAINED
    assert config.region_encoder
    assert not ModelConfig.from_released(plain).region_encoder
    assert config.sdk.region_kernels == TRAINED["kernels"]
    assert config.sdk.region_widths == TRAINED["stem_widths"]
    assert config.sdk.region_place is TRAINED["place"]
    assert config.sdk.closer_look is not None
    assert ModelConfig.from_released(plain).sdk.closer_look is None
    assert set(LAYOUTS) <= set(config.sdk.layouts)


def test_questions_are_those_of_training() -> None:
    from visionllm_sdk.scenes.region_language import REGION_TRAINING

    layouts = ModelConfig.from_released(with_regions(released_config(1500, []))).sdk.layouts
    for name in LAYOUTS:
        parts = worded(layouts[name], ("{r}",))
        text = "".join(part if isinstance(part, str) else part.text for part in parts)
        assert text in REGION_TRAINING[name]
