"""Prompts: a nested, seeded sample; the tokenizer's own tokens and cutting; nothing lost without a count."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from layerscope.config import TextSpec
from layerscope.errors import UserError
from layerscope.inputs import prompts
from layerscope.inputs.prompts import Prompt, select_prompts, special_ids, tokenize
from layerscope.inputs.texts import Text, TextSet

CLS, SEP, CONTROL = 256, 257, 258


def bytes_tokenizer(template):
    """A tokenizer of 256 byte tokens and three special ones, with or without [CLS] and [SEP] around a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["[CLS]", "[SEP]", "<|control|>"])
    if template:
        special = [("[CLS]", CLS), ("[SEP]", SEP)]
        core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=core, cls_token="[CLS]", sep_token="[SEP]", model_max_length=16)


PLAIN, FRAMED = bytes_tokenizer(template=False), bytes_tokenizer(template=True)


def text_set(lengths, **options):
    """Texts of so many letters, each with its own letter: in PLAIN one token a letter, in FRAMED two more."""
    texts = tuple(Text(f"t{index}", chr(97 + index % 26) * length) for index, length in enumerate(lengths))
    return TextSet(texts, source="made", revision="none", filters=("made up",), **options)


def select(texts, tokenizer=PLAIN, context=None, **options):
    return select_prompts(texts, TextSpec(**options), tokenizer, context)


def ids(chosen):
    return [prompt.id for prompt in chosen.prompts]


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=60)


@settings(max_examples=50, deadline=None)
@given(
    lengths=LENGTHS, small=st.integers(1, 40), more=st.integers(0, 40), seed=st.integers(0, 9), least=st.integers(0, 10)
)
def test_a_smaller_sample_is_part_of_a_larger_one_and_keeps_the_order(lengths, small, more, seed, least):
    texts = text_set([*lengths, 30])
    chosen = [select(texts, n=n, sample_seed=seed, min_tokens=least) for n in (small, small + more)]
    few, many = map(ids, chosen)
    assert set(few) <= set(many)
    order = [text.id for text in texts.texts]
    assert many == [row for row in order if row in set(many)]
    passing = sum(length >= least for length in [*lengths, 30])
    assert len(few) == min(small, passing)
    assert chosen[0].counts["missing"] == max(0, small - passing)


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 9))
def test_every_examined_text_is_taken_or_counted_once(lengths, seed):
    counts = select(text_set([*lengths, 10]), n=5, sample_seed=seed, min_tokens=5, max_tokens=20).counts
    parts = ("too_short", "too_long", "no_tokens", "prompts")
    assert sum(counts[part] for part in parts) == counts["examined"] <= counts["candidates"]
    assert counts["asked"] == counts["prompts"] + counts["missing"]


def test_neither_counts_nor_prompts_depend_on_how_many_texts_are_tokenised_at_once(monkeypatch):
    texts = text_set([length % 17 + 1 for length in range(90)])
    options = {"n": 20, "min_tokens": 5, "max_tokens": 12}
    expected = select(texts, **options)
    for chunk in (1, 7, 1000):
        monkeypatch.setattr(prompts, "_CHUNK", chunk)
        assert select(texts, **options) == expected


@pytest.mark.parametrize("n", [5, 20, 33])
def test_other_texts_do_not_change_the_order_of_those_that_are_there(n):
    texts = text_set([5] * 40)
    fewer = TextSet(texts.texts[::2], source="made", revision="none", filters=())
    kept = {text.id for text in fewer.texts}
    still_there = [row for row in ids(select(texts, n=n)) if row in kept]
    assert ids(select(fewer, n=len(still_there))) == still_there


def test_seeds_give_different_samples_close_to_uniform():
    texts = text_set([3] * 40)
    samples = [ids(select(texts, n=10, sample_seed=seed)) for seed in range(200)]
    counts = [sum(text.id in sample for sample in samples) for text in texts.texts]
    assert sum(counts) == 2000
    assert all(20 <= count <= 85 for count in counts)  # 50 expected, standard deviation 6


def test_all_texts_come_where_no_number_is_asked():
    chosen = select(text_set([1, 2, 3]), n=None)
    assert ids(chosen) == ["t0", "t1", "t2"]
    assert "asked" not in chosen.counts


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
@pytest.mark.parametrize("tokenizer", [PLAIN, FRAMED])
def test_tokens_are_those_of_each_text_alone_with_the_tokenizers_defaults(tokenizer, texts):
    assert tokenize(texts, tokenizer, None) == [tuple(tokenizer(text)["input_ids"]) for text in texts]


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), context=st.integers(3, 20))
def test_cutting_keeps_the_special_tokens_at_both_ends(text, context):
    (whole,) = tokenize([text], FRAMED, None)
    (cut,) = tokenize([text], FRAMED, context)
    assert len(cut) == min(len(whole), context)
    assert (cut[0], cut[-1]) == (CLS, SEP)
    assert cut[1:-1] == whole[1 : len(cut) - 1]


def test_long_texts_cause_no_warning(caplog, recwarn):
    # the tokenizer's model_max_length is 16
    assert len(tokenize(["x" * 100], PLAIN, None)[0]) == 100
    assert len(select(text_set([100]), n=1, context=8).prompts[0].tokens) == 8
    assert not caplog.records
    assert not recwarn.list


def test_no_texts_give_no_tokens():
    assert tokenize([], PLAIN, None) == []


def test_min_and_max_tokens_count_special_tokens():
    texts = text_set([3, 4, 5, 6])
    assert ids(select(texts, PLAIN, min_tokens=5)) == ["t2", "t3"]
    framed = select(texts, FRAMED, min_tokens=6, max_tokens=7)
    assert ids(framed) == ["t1", "t2"]
    assert (framed.counts["too_short"], framed.counts["too_long"]) == (1, 1)
    assert framed.filters == ("made up", "at least 6 tokens", "at most 7 tokens")


def test_the_sources_own_minimum_holds_unless_another_is_given():
    texts = text_set([3, 40], default_min_tokens=30)
    assert ids(select(texts)) == ["t1"]
    assert ids(select(texts, min_tokens=0)) == ["t0", "t1"]


def test_long_prompts_are_cut_to_the_models_context_with_a_note_and_a_count():
    chosen = select(text_set([3, 10, 30]), FRAMED, context=12)
    assert [len(prompt.tokens) for prompt in chosen.prompts] == [5, 12, 12]
    assert [prompt.note for prompt in chosen.prompts] == ["", "", "cut from 32 to 12 tokens"]
    assert chosen.prompts[2].text == "c" * 30
    assert chosen.counts["cut"] == 1
    assert chosen.filters == ("made up", "cut to 12 tokens")


def test_a_context_asked_for_goes_before_the_models_and_may_not_be_larger():
    def lengths(spec_context, model_context):
        spec = TextSpec(context=spec_context)
        return len(select_prompts(text_set([30]), spec, PLAIN, model_context).prompts[0].tokens)

    assert [lengths(8, 16), lengths(None, 16), lengths(8, None), lengths(None, None)] == [8, 16, 8, 30]
    with pytest.raises(UserError, match="a context of 20 tokens is longer than the 16 the model was built for"):
        lengths(20, 16)


def test_refusing_long_prompts_says_how_many_and_which_is_the_longest():
    with pytest.raises(UserError, match=r"2 of 3 prompts .* context of 12 tokens, the longest \(t2\) has 32: cut them"):
        select(text_set([3, 20, 30]), FRAMED, context=12, too_long="refuse")
    assert len(select(text_set([3, 20, 30]), FRAMED, context=32, too_long="refuse").prompts) == 3


@pytest.mark.parametrize("context", [1, 2])
def test_a_context_without_room_for_a_text_is_refused(context):
    with pytest.raises(UserError, match="has no room beside the tokenizer's 2 special ones"):
        select(text_set([9]), FRAMED, context=context)


def test_a_tokenizer_that_ignores_a_tiny_context_is_caught():
    # Hugging Face's truncation gives the whole text back where the special tokens alone do not fit
    with pytest.raises(UserError, match="a context of 1 tokens has no room"):
        tokenize(["a long text"], FRAMED, 1)


def test_a_text_without_tokens_is_skipped_with_the_reason():
    silent = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    texts = TextSet(
        (Text("x", "§"), Text("y", "a")), source="made", revision="none", filters=(), skipped=(("z", "is empty"),)
    )
    chosen = select(texts, silent)
    assert ids(chosen) == ["y"]
    assert [(skip.prompt_id, skip.n_tokens, skip.reason) for skip in chosen.skipped] == [
        ("z", 0, "is empty"),
        ("x", 0, "the tokenizer makes no token of it"),
    ]
    assert chosen.counts["no_tokens"] == 1


def test_no_prompt_left_is_an_error_with_the_counts():
    texts = text_set([3, 4, 90], skipped=(("row-9", "is empty"),), counts={"headings": 7})
    with pytest.raises(UserError) as failure:
        select(texts, min_tokens=10, max_tokens=20)
    message = str(failure.value)
    for part in ("'made'", "3 candidates", "2 too short", "1 too long", "7 headings", "(row-9) because it is empty"):
        assert part in message
    with pytest.raises(UserError, match="no rows at all"):
        select(text_set([]))


def test_a_minimum_above_the_maximum_is_refused():
    with pytest.raises(UserError, match="min_tokens 9 is more than max_tokens 3"):
        select(text_set([5]), min_tokens=9, max_tokens=3)


def test_repeated_texts_are_counted_and_the_sources_counts_are_kept():
    texts = TextSet((Text("1", "aa"), Text("2", "bb"), Text("3", "aa")), "made", "r1", (), counts={"headings": 4})
    chosen = select(texts)
    assert chosen.counts["duplicates"] == 1
    assert chosen.counts["headings"] == 4
    assert chosen.revision == "r1"


def test_special_ids_are_the_named_and_the_control_tokens():
    assert special_ids(FRAMED) == {CLS, SEP, CONTROL}


@pytest.mark.parametrize("kind", ["repetition", "randomness"])
def test_a_perturbation_follows_the_cut_keeps_the_ends_and_is_noted(kind):
    plain = select(text_set([30, 5]), FRAMED, context=12)
    none = select(text_set([30, 5]), FRAMED, context=12, perturbation=f"{kind}:0")
    full = select(text_set([30, 5]), FRAMED, context=12, perturbation=f"{kind}:1")
    assert [prompt.tokens for prompt in none.prompts] == [prompt.tokens for prompt in plain.prompts]
    assert [len(prompt.tokens) for prompt in full.prompts] == [12, 7]
    for prompt in full.prompts:
        assert (prompt.tokens[0], prompt.tokens[-1]) == (CLS, SEP)
        assert not {CLS, SEP, CONTROL} & set(prompt.tokens[1:-1])
    assert full.prompts[0].note == f"cut from 32 to 12 tokens; {kind}:1"
    assert full.filters[-1] == f"{kind}:1"


def test_a_perturbed_prompt_does_not_depend_on_the_others():
    texts = text_set([20] * 30)
    every = {prompt.id: prompt for prompt in select(texts, n=None, perturbation="randomness:0.5").prompts}
    some = select(texts, n=4, perturbation="randomness:0.5").prompts
    assert all(every[prompt.id] == prompt for prompt in some)


@pytest.mark.parametrize("tokenizer", [PLAIN, FRAMED])
def test_random_prompts_have_the_length_and_the_frame_that_was_asked(tokenizer):
    chosen = select(text_set([]), tokenizer, n=12, perturbation="random:9", context=16)
    assert ids(chosen)[:2] == ["random-0000", "random-0001"]
    assert {len(prompt.tokens) for prompt in chosen.prompts} == {9}
    assert len({prompt.tokens for prompt in chosen.prompts}) == 12
    inner = [prompt.tokens[1:-1] if tokenizer is FRAMED else prompt.tokens for prompt in chosen.prompts]
    assert not {CLS, SEP, CONTROL} & {token for tokens in inner for token in tokens}
    if tokenizer is FRAMED:
        assert {(prompt.tokens[0], prompt.tokens[-1]) for prompt in chosen.prompts} == {(CLS, SEP)}
    assert chosen.prompts[:5] == select(text_set([]), tokenizer, n=5, perturbation="random:9").prompts
    assert chosen.prompts != select(text_set([]), tokenizer, n=12, perturbation="random:9", sample_seed=1).prompts
    assert chosen.prompts[0] == Prompt("random-0000", "", chosen.prompts[0].tokens, "random:9")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perturbation": "random:9", "n": None}, "so n must be a number"),
        ({"perturbation": "random:90", "context": 16}, "prompts of 90 tokens, and the context is 16"),
        ({"perturbation": "random:2"}, "leaves no token beside the tokenizer's 2 special ones"),
    ],
)
def test_random_prompts_that_cannot_be_made_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        select(text_set([]), FRAMED, **options)
