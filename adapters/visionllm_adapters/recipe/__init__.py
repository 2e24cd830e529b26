"""How the embedded model is trained, from nothing, on procedurally drawn scenes.

Stages, each a resumable command (`make embedded` runs them all; see CONTRIBUTING.md):

1. `vocabulary`  a sentencepiece model from the sentences of `visionllm_sdk.scenes.language`
2. `language`    the language model on *symbolic* scenes: one token per object, no pixels
3. `backbone`    shapes and colours on crops; then
   `detector`    the detector with a stand-in label encoder in place of super-links
4. `vision`      the vision encoder, taught to put into each patch what the symbolic token of its cell says
5. `joint`       language model on real image tokens; super-links distilled towards the stand-in labels
6. `export`      one checkpoint in the released layout, half precision, into `visionllm_sdk/embedded`
"""
