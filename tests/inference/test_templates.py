"""Templates as tokens: the prompt is what the tokenizer makes of the whole text, and the source is where it says."""

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from describe.subject import load_subject
from eval.inference.templates import TEMPLATES, Template

# Words of the templates themselves too: a search for the source would find the wrong place.
WORDS = ("house", "story", "think", "document", "no", "Paris", "about")


@pytest.mark.parametrize("name", ["smollm2", "gemma3-270m"])
@pytest.mark.parametrize("text", TEMPLATES)
def test_prompts_are_those_of_the_tokenizer(name, text):
    vocabulary = load_subject(name).vocabulary
    template = Template.of(text, vocabulary)
    # Gemma begins every text with <bos>, its file says; SmolLM2 begins with nothing.
    assert [vocabulary.texts[token] for token in template.before if token in vocabulary.special] == (
        ["<bos>"] if name == "gemma3-270m" else []
    )
    for word in WORDS:
        source = vocabulary.word_id(word)
        assert source is not None
        prompt = template.prompt([source])
        assert list(prompt) == vocabulary.tokenizer.encode(text.replace("<X>", word)).ids
        assert prompt[template.position([source])] == source
    pieces = vocabulary.pieces(" Zimbabwean archaeopteryx")
    assert len(pieces) > 2
    prompt = template.prompt(pieces)
    assert list(prompt) == vocabulary.tokenizer.encode(text.replace("<X>", "Zimbabwean archaeopteryx")).ids
    assert prompt[template.position(pieces)] == pieces[-1]


def trained(pre_tokenizer, decoder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    texts = [template.replace("<X>", word) for template in TEMPLATES for word in WORDS]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(texts * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


@pytest.mark.parametrize("kind", ["bytes", "sentence pieces"])
@pytest.mark.parametrize("text", TEMPLATES)
def test_what_begins_a_text_is_kept_and_what_ends_it_is_not(kind, text):
    if kind == "bytes":
        tokenizer = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())
        mark = "Ġ"
    else:
        tokenizer, mark = trained(pre_tokenizers.Metaspace(), decoders.Metaspace()), "▁"
    template = Template.of(text, SimpleNamespace(tokenizer=tokenizer))
    for word in ("story", "think", "house"):
        source = tokenizer.token_to_id(f"{mark}{word}")
        whole = tokenizer.encode(text.replace("<X>", word)).ids
        assert list(template.prompt([source])) == whole[:-1]  # without </s>
        assert whole[template.position([source])] == source
    assert template.before[0] == 0 and 1 not in template.prompt([source])
