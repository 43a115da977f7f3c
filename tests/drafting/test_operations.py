"""Every operation of the library against examples judged by hand, or against the file it was made from."""

import pytest

import data
from describe.drafting.rules.forms import Listing, in_direction
from describe.drafting.rules.lexicon import REPLACED_RELATIONS, listed_pairs
from describe.drafting.rules.numbers import roman
from describe.drafting.rules.operations import operations, token_classes
from describe.relations import load_relations

# name: (pairs for which it holds, pairs for which it does not)
EXAMPLES = {
    # copying, casing
    "copy_token": ([(" cat", " cat"), ("<0xE2>", "<0xE2>")], [(" cat", "cat"), (" cat", " Cat")]),
    "copy_word": ([(" cat", " cat"), (" cat", "Cat")], [(" cat", " cats"), (" .", " .")]),
    "copy_variant": ([(" cat", "cat"), (" cat", " CAT")], [(" cat", " cat"), (" cat", " cats")]),
    "add_leading_space": ([("cat", " cat"), ("(", " (")], [(" cat", "cat"), ("cat", " Cat"), ("", " ")]),
    "remove_leading_space": ([(" cat", "cat")], [("cat", " cat"), (" cat", "Cat")]),
    "capitalise": (
        [(" house", " House"), ("a", " A")],
        [(" House", " house"), (" house", " HOUSE"), (" 1", " 1")],
    ),
    "lowercase": ([(" The", " the"), ("NASA", "nasa")], [(" the", " The"), (" the", " the")]),
    "uppercase": ([(" war", " WAR"), ("News", " NEWS")], [(" WAR", " WAR"), (" a", " A")]),
    "remove_accents": ([(" café", " cafe"), (" São", "Sao")], [(" cafe", " cafe"), (" cafe", " café")]),
    "add_accents": ([(" cafe", " café")], [(" café", " cafe"), (" cafe", " caffe")]),
    # spelling
    "same_beginning_2": ([(" stone", " star")], [(" stone", " tone"), (" st", " st")]),
    "same_beginning_3": ([(" stone", "Stop")], [(" stone", " star"), (" stone", " Stone")]),
    "same_beginning_4": ([(" stonework", " stonily")], [(" stone", " stop")]),
    "same_beginning_5": ([(" international", " internal")], [(" stone", " stony")]),
    "same_ending_2": ([(" night", " fight")], [(" night", " nigh")]),
    "same_ending_3": ([(" night", " light")], [(" night", " bet")]),
    "same_ending_4": ([(" nation", " station")], [(" nation", " mission")]),
    "same_ending_5": ([(" creation", " recreation")], [(" nation", " mission")]),
    "extends_beginning": ([("photo", " photograph")], [(" photograph", "photo"), ("a", " apple")]),
    "extends_ending": ([("berg", " Goldberg")], [("berg", " bergamot"), (" Goldberg", "berg")]),
    "beginning_of_source": ([(" unhappy", "un")], [("un", " unhappy"), (" unhappy", "u")]),
    "ending_of_source": ([(" running", "ing")], [("ing", " running"), (" running", "run")]),
    "one_letter_changed": (
        [(" night", " light")],
        [(" night", " nights"), (" cat", " bat"), (" night", " sights")],
    ),
    "one_letter_added": ([(" light", " flight")], [(" flight", " light"), (" light", " night")]),
    "one_letter_removed": ([(" flight", " light")], [(" light", " flight"), (" light", " night")]),
    "same_letters": ([(" listen", " silent")], [(" listen", " listen"), (" listen", " silence")]),
    "completes_word": (
        [(" educ", "ation"), (" run", "ning")],
        [(" educ", " ation"), (" cat", "ation"), ("ation", " educ")],
    ),
    "precedes_to_word": ([("ation", " educ")], [(" educ", "ation"), ("ation", " cat")]),
    "first_letter": ([(" bend", "b"), (" model", " M")], [(" bend", "d"), ("b", "b")]),
    "second_letter": ([(" bend", " e")], [(" bend", " b"), ("b", "e")]),
    "last_letter": ([(" heavy", "y")], [(" heavy", "h")]),
    "any_letter": ([(" bend", "n")], [(" bend", "x"), ("b", "b")]),
    "first_letter_inverse": ([(" M", " model")], [(" M", " film"), (" model", " M")]),
    "last_letter_inverse": ([("m", " film")], [("m", " model")]),
    "same_first_letter": ([(" model", " Mars")], [(" model", " star"), (" m", " model")]),
    "same_last_letter": ([(" model", " all")], [(" model", " star")]),
    "word_length": ([(" cat", "3"), (" along", " five")], [(" cat", "4"), (" 333", "3")]),
    "same_length": ([(" cat", " dog")], [(" cat", " dogs"), (" cat", " Cat")]),
    # inflection
    "plural": (
        [(" dog", " dogs"), (" man", " men")],
        [(" dogs", " dog"), (" sheep", " sheep"), (" dog", " cats")],
    ),
    "singular": ([(" dogs", " dog"), (" men", " man")], [(" dog", " dogs"), (" dogs", " cat")]),
    "past_tense": (
        [(" go", " went"), (" walk", "Walked"), (" going", " went")],
        [(" put", " put"), (" go", " gone")],
    ),
    "past_participle": ([(" take", " taken"), (" went", " gone")], [(" take", " took"), (" put", " put")]),
    "gerund": ([(" run", " running"), (" made", " making")], [(" running", " run"), (" run", " walking")]),
    "third_person": ([(" go", " goes"), (" said", " says")], [(" goes", " go"), (" go", " gos")]),
    "base_form": ([(" went", " go"), (" walked", " walk")], [(" go", " went"), (" put", " put")]),
    "comparative": (
        [(" big", " bigger"), (" biggest", " bigger")],
        [(" bigger", " big"), (" big", " biggest")],
    ),
    "superlative": ([(" big", " biggest"), (" good", " best")], [(" big", " bigger")]),
    "positive_degree": (
        [(" bigger", " big"), (" oldest", " old")],
        [(" big", " bigger"), (" big", " small")],
    ),
    "same_lemma": (
        [(" walks", " walked"), (" mice", " mouse")],
        [(" walks", " walks"), (" walks", " talks")],
    ),
    "object_pronoun": ([(" he", " him"), ("I", " me")], [(" him", " he"), (" he", " her")]),
    "possessive": ([(" he", " his"), (" they", " their")], [(" his", " he"), (" he", " her")]),
    "reflexive": ([(" he", " himself"), (" we", " ourselves")], [(" he", " herself")]),
    "function_word_plural": (
        [(" this", " these"), (" is", " are")],
        [(" these", " this"), (" this", " those")],
    ),
    "contraction": ([(" not", "n't"), (" will", "'ll")], [("n't", " not"), (" will", "'s")]),
    # sequences and numbers
    "next_weekday": (
        [(" Monday", " Tuesday"), (" Sun", "Monday")],
        [(" Tuesday", " Monday"), (" sun", " Monday")],
    ),
    "previous_weekday": ([(" Monday", " Sunday")], [(" Monday", " Tuesday")]),
    "next_month": ([(" December", " January"), (" Apr", " May")], [(" April", " may"), (" May", " April")]),
    "previous_month": ([(" January", " December")], [(" December", " January")]),
    "next_number_word": ([(" nine", " ten"), ("One", " two")], [(" two", " one"), (" twenty", " zero")]),
    "previous_number_word": ([(" ten", " nine")], [(" nine", " ten"), (" zero", " twenty")]),
    "next_ordinal": ([(" first", " second")], [(" second", " first"), (" first", " two")]),
    "previous_ordinal": ([(" second", " first")], [(" first", " second")]),
    "next_letter": ([("A", "B"), (" p", " q")], [("B", "A"), ("z", "a")]),
    "previous_letter": ([("B", "A")], [("A", "B"), ("a", "z")]),
    "next_greek_letter": ([(" alpha", " beta"), ("α", "β")], [(" beta", " alpha")]),
    "previous_greek_letter": ([(" beta", "alpha")], [(" alpha", " beta")]),
    "next_planet": ([(" Earth", " Mars")], [(" Mars", " Earth"), (" earth", " Mars")]),
    "previous_planet": ([(" Mars", " Earth")], [(" Earth", " Mars")]),
    "next_magnitude": ([(" thousand", " million"), (" millions", " billions")], [(" million", " thousand")]),
    "previous_magnitude": ([(" million", " thousand")], [(" thousand", " million")]),
    "next_time_unit": ([(" day", " weeks")], [(" weeks", " day"), (" day", " days")]),
    "previous_time_unit": ([(" week", " day")], [(" day", " week")]),
    "next_number": ([("7", "8"), (" 99", "100")], [("8", "7"), ("07", "8"), ("seven", "8")]),
    "previous_number": ([("8", "7")], [("7", "8"), ("0", "-1")]),
    "next_year": ([(" 1999", "2000")], [("2000", "1999"), ("999", "1000")]),
    "previous_year": ([("2000", " 1999")], [("1999", "2000")]),
    "next_decade": ([("1980", "1990"), ("1980s", "1990s")], [("1985", "1995"), ("1990", "1980")]),
    "previous_decade": ([("1990", "1980")], [("1980", "1990")]),
    "double": ([("16", " 32")], [("32", "16"), ("0", "0")]),
    "half": ([("32", "16")], [("16", "32"), ("7", "3")]),
    "ten_times": ([("5", "50")], [("50", "5"), ("0", "0")]),
    "close_number": ([("7", "9"), ("7", "6")], [("7", "10"), ("7", " 7")]),
    "close_year": ([("1914", "1918")], [("1914", "1920"), ("14", "18")]),
    "same_century": ([("1914", "1989")], [("1914", "1814"), ("1914", "1914")]),
    "same_number_of_digits": ([("12", " 99")], [("12", "123"), ("12", " 12")]),
    "digit_to_number_word": ([("3", " three"), ("12", "twelve")], [("three", "3"), ("3", " four")]),
    "number_word_to_digit": ([(" seven", "7")], [("7", "seven"), (" seven", "8")]),
    "cardinal_to_ordinal": ([(" one", " first"), (" twenty", " twentieth")], [(" first", " one")]),
    "ordinal_to_cardinal": ([(" third", " three")], [(" three", " third")]),
    "digit_to_ordinal": ([("2", " second")], [("2", " two"), (" second", "2")]),
    "ordinal_to_digit": ([(" second", "2")], [("2", " second")]),
    "digit_to_roman": ([("4", " IV"), ("1", "I")], [("4", "VI"), ("1", "i")]),
    "roman_to_digit": (
        [("IX", "9"), (" iii", "3"), ("M", "1000")],
        [("9", "IX"), ("ix", "11"), ("MIX", "1009")],
    ),
    "next_roman": ([("II", "III"), (" XL", "XLI")], [("III", "II"), ("i", "ii")]),
    "previous_roman": ([("III", "II")], [("II", "III")]),
    "number_to_ordinal_suffix": ([("1", "st"), ("22", "nd"), ("11", "th")], [("11", "st"), ("st", "1")]),
    "same_number": ([("3", " three"), (" third", "III")], [("3", " four"), ("3", " 3")]),
    "month_to_number": ([(" March", "3")], [("3", " March"), (" March", "4"), (" march", "3")]),
    "number_to_month": ([("3", " March")], [(" March", "3")]),
    "month_to_abbreviation": ([(" January", "Jan")], [("Jan", " January"), (" January", "Feb")]),
    "abbreviation_to_month": ([(" Sept", "September")], [("September", " Sept")]),
    "weekday_to_abbreviation": ([(" Monday", "Mon")], [("Mon", "Monday"), ("Sunday", "sun")]),
    "abbreviation_to_weekday": ([("Thurs", " Thursday")], [("Thursday", "Thurs")]),
    # lists of words
    "question_word_to_answer": ([(" where", " place"), ("Who", " someone")], [(" where", " time")]),
    "correlative_partner": (
        [(" more", " than"), (" neither", " nor")],
        [(" than", " more"), (" more", " nor")],
    ),
    # signs
    "closing_bracket": (
        [("(", ")"), (" ([", "])"), ("“", "”"), ("<!--", "-->")],
        [(")", "("), ("(", "]"), ("((", ")")],
    ),
    "opening_bracket": ([(")", " ("), ("])", "([")], [("(", ")")]),
    "same_bracket_kind": ([("(", "))"), ("(", " (")], [("(", "]"), ("(", "(")]),
    "closing_tag": (
        [("<div", "</div>"), (" <p>", "</p")],
        [("</div>", "<div"), ("<div", "</p>"), ("<0xE2>", "</0xE2>")],
    ),
    "same_sign_repeated": ([("--", "----"), ("=", " ===")], [("--", "--"), ("--", "=="), ("a", "aa")]),
    "same_kind_of_sign": ([(".", "?"), (" +", "*")], [(".", ","), (".", " .")]),
    "extends_sign": ([(".", ".)"), ("=", "==")], [("==", "="), (".", ".")]),
    "shares_sign": ([("(", ".(")], [("(", "]"), ("(", " (")]),
}

PAIRS = {
    name: (pairs, family)
    for family in ("derivation", "inflection", "lexical", "code")
    for name, pairs in listed_pairs(family).items()
}
RELATIONS = {relation.name: relation for relation in load_relations()}
INVERSES = {relation.inverse.name: relation for relation in RELATIONS.values() if relation.inverse}
OPERATIONS = {operation.name: operation for operation in operations()}
CLASSES = {token_class.name: token_class for token_class in token_classes()}


def examples(name):
    """By hand, or from the list that the operation stands for, whose absent pairs are the negatives."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    if name == "same_word_class":
        return (
            [(" France", " Spain"), (" red", " Blue")],
            [(" France", " red"), (" red", " red"), (" qqq", " qqq")],
        )
    if name == "same_family":
        return (
            [(" creator", " creation"), (" unhappy", " happiness")],
            [(" create", " creak"), (" art", " Art")],
        )
    if name.startswith("same_class_"):
        return _class_examples(name.removeprefix("same_class_"))
    pairs = _pairs_of(name)
    if pairs is None:
        return ((), ())
    answers = {}
    for source, target in pairs:
        answers.setdefault(source.casefold(), set()).add(target.casefold())
    held = [
        (f" {source}", f" {target}") for source, target in pairs if source.casefold() != target.casefold()
    ]
    if all(source == target for source, target in pairs):
        held = [(f" {source}", f" {target}") for source, target in pairs]
    others = zip(pairs, [*pairs[1:], pairs[0]], strict=True)
    missed = [(f" {s}", f" {t}") for (s, _), (_, t) in others if t.casefold() not in answers[s.casefold()]]
    return held, [*missed, (" qqq", f" {pairs[0][1]}")]


def _pairs_of(name):
    if name == "opposite_program_word":
        listed = PAIRS[name][0]
        return [*listed, *((target, source) for source, target in listed)]
    if name in PAIRS:
        return PAIRS[name][0]
    if name in RELATIONS:
        return RELATIONS[name].pairs
    if name in INVERSES:
        return [(target, source) for source, target in INVERSES[name].pairs]
    forward = name.removesuffix("_inverse")
    return [(target, source) for source, target in PAIRS[forward][0]] if forward in PAIRS else None


def _class_examples(name):
    members = data.word_classes()[name].members
    distinct = sorted({member.casefold(): member for member in members}.values())
    held = [(f" {one}", f" {other}") for one, other in zip(distinct, distinct[1:], strict=False)]
    return held, [
        (f" {members[0]}", f" {members[0]}"),
        (f" {members[0]}", " qqq"),
        (" qqq", f" {members[0]}"),
    ]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_judges_its_examples(name):
    held, missed = examples(name)
    assert held, f"{name} has no positive example"
    assert missed, f"{name} has no negative example"
    wrong = [pair for pair in held if not OPERATIONS[name].holds(*pair)]
    assert not wrong, f"{name} should hold for {wrong[:5]}"
    wrong = [pair for pair in missed if OPERATIONS[name].holds(*pair)]
    assert not wrong, f"{name} should not hold for {wrong[:5]}"


def test_examples_are_of_operations_that_exist():
    assert not EXAMPLES.keys() - OPERATIONS.keys()


def test_the_library_is_large_named_once_and_in_a_fixed_order():
    assert len(OPERATIONS) == len(operations()) >= 100
    assert len(CLASSES) == len(token_classes()) >= 100
    assert operations.__wrapped__() != () and [o.name for o in operations.__wrapped__()] == list(OPERATIONS)
    assert all(name.isidentifier() and name == name.lower() for name in [*OPERATIONS, *CLASSES])


def test_sentences_read_after_the_head_and_are_said_once():
    sentences = [operation.sentence for operation in operations()]
    assert all(sentence.startswith("writes ") and not sentence.endswith(".") for sentence in sentences)
    assert len(set(sentences)) == len(sentences)
    for operation in operations():
        assert operation.clause("promote") == operation.sentence
        assert operation.clause("suppress").startswith("suppresses ")
    assert all(token_class.plural and not token_class.plural[0].isspace() for token_class in token_classes())


def test_directions_change_the_verb_alone():
    assert in_direction("writes the plural of the noun it reads", "suppress") == (
        "suppresses the plural of the noun it reads"
    )
    assert CLASSES["single_letters"].clause("suppress") == "suppresses single letters"


def test_copies_never_pass_for_an_inflection_or_a_fact():
    texts = [" put", " sheep", " cut", " Singapore", " fast", " read", " spread", " run"]
    lenient = {"copying", "casing"}
    allowed = {name for name, relation in RELATIONS.items() if all(s == t for s, t in relation.pairs)}
    for operation in operations():
        if operation.family in lenient or operation.name in allowed or operation.name == "same_bracket_kind":
            continue
        assert not any(operation.holds(text, text) or operation.holds(text, text.strip()) for text in texts)


def test_more_specific_operations_stand_above_the_general_ones_that_they_imply():
    def rank(name):
        return OPERATIONS[name].specificity

    for special, general in [
        ("copy_token", "copy_word"),
        ("capitalise", "copy_variant"),
        ("copy_variant", "copy_word"),
        ("past_tense", "same_lemma"),
        ("same_lemma", "same_family"),
        ("same_lemma", "same_beginning_3"),
        ("next_year", "next_number"),
        ("next_number", "close_number"),
        ("next_weekday", "same_length"),
        ("same_beginning_4", "same_beginning_3"),
        ("same_beginning_3", "same_first_letter"),
        ("first_letter", "any_letter"),
        ("digit_to_number_word", "same_number"),
        ("closing_bracket", "same_bracket_kind"),
    ]:
        assert rank(special) > rank(general), (special, general)


def test_words_that_may_have_keys_are_named_truthfully():
    texts = [f" {w}" for pair in EXAMPLES.values() for pairs in pair for p in pairs for w in p]
    texts += [f" {word}" for relation in RELATIONS.values() for pair in relation.pairs[::15] for word in pair]
    texts += [text.strip().upper() for text in texts] + [text.strip().title() for text in texts]
    texts = sorted(set(texts))
    assert len(texts) > 1000
    for operation in operations():
        for keys, words in (
            (operation.source_keys, operation.source_words),
            (operation.target_keys, operation.target_words),
        ):
            if words is not None:
                assert not [t for t in texts if t.strip().casefold() not in words and set(keys(t))], (
                    operation.name
                )
    for token_class in token_classes():
        if token_class.words is not None:
            assert not [
                t for t in texts if t.strip().casefold() not in token_class.words and token_class.contains(t)
            ]


def test_relations_that_the_library_replaces_are_replaced_by_operations_that_hold_for_their_pairs():
    assert REPLACED_RELATIONS.keys() <= RELATIONS.keys()
    for relation, operation in REPLACED_RELATIONS.items():
        assert relation not in OPERATIONS or relation == operation
        pairs = [
            (f" {s}", f" {t}")
            for s, t in RELATIONS[relation].pairs
            if s.casefold() != t.casefold() or operation == "copy_word"
        ]
        wrong = [pair for pair in pairs if not OPERATIONS[operation].holds(*pair)]
        assert len(pairs) >= 6 and not wrong, (relation, wrong[:5])


def test_every_other_relation_and_inverse_is_an_operation():
    kept = {name: relation for name, relation in RELATIONS.items() if name not in REPLACED_RELATIONS}
    assert kept.keys() | {r.inverse.name for r in kept.values() if r.inverse} <= OPERATIONS.keys()


def test_a_listing_tells_names_from_common_words():
    listing = Listing(["May", "He", "red", "NASA"])
    assert [
        listing.find(text) for text in (" May", "MAY", " may", "RED", " Red", "HE", "he", " NASA", "nasa")
    ] == (["May", "May", None, "red", "red", None, None, "NASA", None])


def test_roman_numerals_add_up():
    worth = {"I": 1, "V": 5, "X": 10}
    for number in range(1, 40):
        values = [worth[sign] for sign in roman(number)]
        assert number == sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))
    assert [roman(number) for number in (40, 90, 400, 500, 999)] == ["XL", "XC", "CD", "D", "CMXCIX"]


CLASS_EXAMPLES = {
    "plural_nouns": ([" dogs", " men"], [" dog"]),
    "past_tense_verbs": ([" went", "Walked"], [" go"]),
    "past_participles": ([" taken"], [" take"]),
    "ing_forms": ([" running"], [" king", " run"]),
    "third_person_verbs": ([" goes"], [" go"]),
    "base_verbs": ([" go"], [" went"]),
    "singular_nouns": ([" dog"], [" dogs"]),
    "comparatives": ([" bigger"], [" big", " letter"]),
    "superlatives": ([" biggest"], [" forest"]),
    "gradable_adjectives": ([" big"], [" bigger"]),
    "english_words": ([" house", "Houses"], [" xqz", " 12"]),
    "capitalised_words": ([" House"], [" HOUSE", " house", " A"]),
    "all_capitals": ([" HOUSE"], [" House", "A"]),
    "lower_case_words": ([" house"], [" House", " a"]),
    "word_pieces": (["ation", "s"], [" cat", "Cat", "1"]),
    "word_starts": ([" cat", " A"], ["cat", "  cat", " 1"]),
    "short_pieces": (["ing"], ["ation", " ing", "s"]),
    "long_words": ([" international"], [" house"]),
    "single_letters": ([" a", "B"], ["ab", "1"]),
    "capital_letters": ([" A"], [" a", "AB"]),
    "accented_words": ([" café"], [" cafe", " мир"]),
    "contractions": (["'s", "n't", " don't"], [" don", "'"]),
    "numbers": (["12", " 7"], ["x1", "one"]),
    "single_digits": (["7"], ["12"]),
    "years": ([" 1999"], ["999", "9999"]),
    "numbers_with_letters": (["x1", "3rd"], ["12", "ab"]),
    "non_latin_text": ([" мир", "中"], [" cat", " café", "."]),
    "whitespace": (["\n\n", "  "], ["", " a"]),
    "line_breaks": (["\n"], [" "]),
    "punctuation": ([".", " -->"], ["a.", " "]),
    "single_signs": ([" ."], [".."]),
    "sentence_ends": ([".", "?!"], [",", "a."]),
    "commas_and_colons": ([",", " ;"], ["."]),
    "brackets": (["(", "[]"], ["(a"]),
    "quotation_marks": (['"', "”"], ["("]),
    "dashes": (["—", "--"], ["-a"]),
    "currency_signs": ([" $", "€"], ["dollar"]),
    "arithmetic_signs": (["+", "<="], ["a+b"]),
    "emoji": (["😀"], ["a", "°"]),
    "code_signs": (["){", "->"], ["{", "==", "a("]),
    "code_names": (["getName", "my_var", " ArrayList"], [" Array", " name"]),
    "tags": (["<div", "</p>"], ["<", "<0xE2>", "div"]),
    "escapes": (["\\n"], ["n"]),
    "byte_pieces": (["<0xE2>", "\ufffd"], ["<div"]),
}
SCRIPT_EXAMPLES = {
    "cyrillic": "мир",
    "greek": "λόγος",
    "arabic": "سلام",
    "hebrew": "שלום",
    "devanagari": "नमस्ते",
    "bengali": "বাংলা",
    "tamil": "தமிழ்",
    "telugu": "తెలుగు",
    "thai": "ไทย",
    "georgian": "ქართული",
    "armenian": "հայ",
    "cjk": "中文",
    "hiragana": "ひらがな",
    "katakana": "カナ",
    "hangul": "한국",
}


def class_examples(name):
    if name in CLASS_EXAMPLES:
        return CLASS_EXAMPLES[name]
    kind, _, part = name.partition("_")
    if kind == "ending":
        return [f" maw{part}", f"Maw{part}"], [f" {part}", f" {part}aw", " 12"]
    if kind == "beginning":
        return [f" {part}wam", f"{part.title()}wam"], [f" {part}", f" wa{part}"]
    if kind == "initial":
        return [f" {part}ug", f"{part.upper()}ug"], [f" {part}", "1" + part, f" -{part}"]
    if kind == "script":
        others = [text for script, text in SCRIPT_EXAMPLES.items() if script != part]
        return [SCRIPT_EXAMPLES[part], " " + SCRIPT_EXAMPLES[part]], [*others, "cat", "."]
    members = data.word_classes()[name].members if name in data.word_classes() else ()
    return [f" {member}" for member in members], [" qqq", "."]


@pytest.mark.parametrize("name", CLASSES)
def test_every_token_class_judges_its_examples(name):
    inside, outside = class_examples(name)
    assert inside and outside
    assert not [text for text in inside if not CLASSES[name].contains(text)]
    assert not [text for text in outside if CLASSES[name].contains(text)]
