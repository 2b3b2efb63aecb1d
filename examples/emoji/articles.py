"""English articles: "an hourglass", "a unicorn", none before "grapes"."""

import re

# Singular nouns that end in "s".
SINGULAR_S = {
    "abacus",
    "bus",
    "cactus",
    "compass",
    "hibiscus",
    "hippopotamus",
    "lotus",
    "minibus",
    "octopus",
    "rhinoceros",
    "tennis",
    "trolleybus",
}
PLURALS = {"people", "men", "women", "children", "teeth", "feet", "headphones"}

# Uncountable nouns and names take no article.
UNCOUNTED = {"bacon", "bread", "broccoli", "butter", "camping", "coral", "food", "hair", "ice", "rice", "salt", "water"}
BARE_STARTS = re.compile(
    r"^(a|an|the|two|three|one|Mount|Tokyo|Santa|Mrs\.|Mx|Saturn|praying|leafy|strips|drops|soap|fries|flying|"
    r"headphones|theatre|hands|men|women|people|meat|leaves|liquid|flower playing)(?![-\w])"
)

_PREPOSITION = re.compile(
    r" (?:with|without|of|in|on|for|behind|from|tilted|facing|pointing|by|under|at|after|between|getting|holding|"
    r"lifting|savoring|wrestling|playing|low|medium|high|curving)\b"
)
# Words whose sound differs from their spelling.
_SOUNDS_LIKE_CONSONANT = re.compile(r"^(one|once|uni|use|UFO|euro|ewe|U[. ])")
_SOUNDS_LIKE_VOWEL = re.compile(r"^(hour|heir|honest|e-mail|x-ray|SUV|SOS|NG|ATM|ID|OK|8\b|11\b|18\b)")


def head(phrase: str) -> str:
    """The head noun of a phrase: "boot" in "hiking boot", "face" in "smiling face with hearts"."""
    return _PREPOSITION.split(phrase, maxsplit=1)[0].split()[-1]


def is_plural(phrase: str) -> bool:
    """Whether a phrase names several things."""
    noun = head(phrase)
    return noun in PLURALS or (noun.endswith("s") and not noun.endswith(("'s", "ss")) and noun not in SINGULAR_S)


def article(phrase: str) -> str:
    """Choose "a", "an" or nothing, by the sound of the first word and the number of the head noun."""
    if BARE_STARTS.match(phrase) or is_plural(phrase) or head(phrase) in UNCOUNTED:
        return ""
    if _SOUNDS_LIKE_CONSONANT.match(phrase):
        return "a"
    return "an" if _SOUNDS_LIKE_VOWEL.match(phrase) or phrase[0].lower() in "aeiou" else "a"


def with_article(phrase: str) -> str:
    """The phrase with its article, if it takes one."""
    return f"{article(phrase)} {phrase}".lstrip()
