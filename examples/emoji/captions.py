"""Captions for emoji: CLDR labels ("woman astronaut: dark skin tone") as people would type them.

`subjects` turns a label into noun phrases ("a woman astronaut with dark skin"); most captions use the first. `captions`
adds a style and related words. Nothing is random: a hash of label and style selects the variant, so every build gives
the same words.
"""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from articles import is_plural, with_article

STYLE_NAMES = {
    "3d": "3D style",
    "flat": "flat style",
    "noto": "Noto style",
    "twemoji": "Twemoji style",
    "emojione": "EmojiOne style",
    "fxemoji": "Firefox style",
    "noto-v1": "Android style",
    "streamline": "outline style",
}

SKIN = {f"{tone} skin tone": f"{tone} skin" for tone in ("light", "medium-light", "medium", "medium-dark", "dark")}

HAIR = {
    "red hair": "red hair",
    "curly hair": "curly hair",
    "white hair": "white hair",
    "blond hair": "blond hair",
    "beard": "a beard",
}

# CLDR leaves out the article before these nouns: "man with white cane", "person taking bath".
INNER_NOUNS = (
    "white cane|motorized wheelchair|manual wheelchair|tuxedo|turban|skullcap|headscarf|veil|crown|massage|haircut|"
    "bath|steamy room|suit|ball|boat|baby|hearing aid|halo|tear|raised eyebrow|medical mask|thermometer|monocle|"
    "head-bandage|arrow|ribbon|hat|umbrella|spoon|straw|popping cork|garden|hand|swirl|curl|open mouth|diagonal mouth|"
    "peeking eye|wry smile"
)
_BARE_NOUN = re.compile(rf"\b(with|in|wearing|getting|taking|feeding|rowing|bouncing|raising) ({INNER_NOUNS})\b")

# The state names whose flags read wrong with the label's own spelling.
PLACES = {
    "Congo - Kinshasa": "the Democratic Republic of the Congo",
    "Congo - Brazzaville": "the Republic of the Congo",
    "Hong Kong SAR China": "Hong Kong",
    "Macao SAR China": "Macao",
    "Myanmar (Burma)": "Myanmar",
    "Cocos (Keeling) Islands": "the Cocos Islands",
    "Vatican City": "the Vatican City",
    "Heard & McDonald Islands": "Heard and McDonald Islands",
    "South Georgia & South Sandwich Islands": "South Georgia and the South Sandwich Islands",
    "St. Vincent & Grenadines": "Saint Vincent and the Grenadines",
}
_THE_PLACE = re.compile(
    r"^(United|European|Central|Dominican|Netherlands|Philippines|Bahamas|Maldives|Comoros|Gambia|Isle|British|U\.S\.|"
    r"Caribbean|Palestinian|French Southern)|Islands$"
)

NUMBER_WORDS = {"#": "the hash sign", "*": "an asterisk", "10": "the number 10"}

_HEAD = r"(?:(?:older|old|deaf|pregnant) )?(?:man|woman|person|men|women|people|child|boy|girl|baby)"
_ROLE = re.compile(r"^(man|woman) (?!and |with |in |.*ing\b)(.+)$")


@functools.cache
def phrase_table() -> dict[str, tuple[bool, tuple[str, ...]]]:
    """Read `phrases.txt`: for each label, whether its phrases replace the generated ones, and the phrases."""
    table = {}
    for line in Path(__file__).with_name("phrases.txt").read_text(encoding="utf-8").splitlines():
        found = re.match(r"^([^#].*?) ([=+]) (.+)$", line)
        if found:
            table[found[1]] = (found[2] == "=", tuple(part.strip() for part in found[3].split(" | ")))
    return table


def subjects(label: str) -> list[str]:
    """Noun phrases for a label, the most common first: "red heart" gives ["a red heart"]."""
    kind, _, detail = label.partition(": ")
    if kind == "flag":
        return _flag(detail)
    if kind == "keycap":
        return _keycap(detail)
    details = detail.split(", ") if detail else []
    skins = [SKIN[part] for part in details if part in SKIN]
    traits = [part for part in details if part not in SKIN]
    if kind in ("kiss", "couple with heart"):
        return _couple(kind, traits or ["person", "person"], skins)
    if kind == "family":
        return _family(traits)
    return _with_traits(_plain(kind), skins, traits)


def _flag(place: str) -> list[str]:
    name = PLACES.get(place) or place.replace("&", "and").replace("St.", "Saint").replace("’", "'")
    if place not in PLACES and _THE_PLACE.search(place):
        name = f"the {name}"
    bare = name.removeprefix("the ")
    return [f"the flag of {name}", f"the {bare} flag", f"{name}'{'' if name.endswith('s') else 's'} flag"]


def _keycap(sign: str) -> list[str]:
    name = NUMBER_WORDS.get(sign, f"the number {sign}")
    return [f"a key with {name}", f"a keycap with {name}", f"{name} on a button"]


def _family(members: list[str]) -> list[str]:
    if not members:
        return ["a family", "a family portrait"]
    together = _counted(members)
    return [f"a family of {together}", f"{together} as a family"]


def _counted(members: list[str]) -> str:
    """Name the members of a group: "a man, a woman and two girls"."""
    counts = Counter(members)
    named = [with_article(who) if number == 1 else f"two {_PLURALS[who]}" for who, number in counts.items()]
    return " and ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0]


_PLURALS = {
    "man": "men",
    "woman": "women",
    "person": "people",
    "adult": "adults",
    "boy": "boys",
    "girl": "girls",
    "child": "children",
}


def _couple(kind: str, pair: list[str], skins: list[str]) -> list[str]:
    one, other = (with_article(member) for member in pair)
    if len(skins) == 2 and skins[0] != skins[1]:
        if kind == "kiss":
            return [f"{one} with {skins[0]} kissing {other} with {skins[1]}"]
        return [f"a couple with a heart, {one} with {skins[0]} and {other} with {skins[1]}"]
    together, skin = _counted(pair), f" with {skins[0]}" if skins else ""
    if kind == "kiss":
        return [f"{together}{skin} kissing", f"a kissing couple, {together}{skin}"]
    between = f"{together}{skin} {'and' if skin else 'with'} a heart between them"
    return [between, f"a couple with a heart, {together}{skin}"]


def _plain(label: str) -> list[str]:
    """Phrases for a label without traits."""
    clock = re.match(r"^(\w+)(?: o’clock|-(thirty))$", label)
    if clock:
        return _clock(clock[1], half=bool(clock[2]))
    button = re.match(r"^Japanese “(.+)” button$", label)
    if button:
        return [f"a Japanese button that means {button[1]}", f"a button with the Japanese sign for {button[1]}"]
    replaces, phrases = phrase_table().get(label, (False, ()))
    if replaces:
        return list(phrases)
    text = _BARE_NOUN.sub(lambda found: f"{found[1]} {with_article(found[2])}", label)
    text = text.replace("in lotus position", "in the lotus position").replace("’", "'")
    variants = [with_article(text)]
    role = _ROLE.match(text)
    if role:
        variants.append(f"a {'male' if role[1] == 'man' else 'female'} {role[2]}")
    return [*variants, *phrases]


def _clock(hour: str, *, half: bool) -> list[str]:
    if half:
        return [f"a clock at half past {hour}", f"a clock showing {hour}-thirty"]
    return [f"a clock at {hour} o'clock", f"a clock showing {hour} o'clock"]


def _with_traits(plain: list[str], skins: list[str], traits: list[str]) -> list[str]:
    """Add hair, skin and direction to each phrase of a person or a body part."""
    if len(skins) == 2 and skins[0] != skins[1]:
        return [_two_skins(phrase, skins) for phrase in plain]
    end = " facing right" if "facing right" in traits else ""
    bald = "bald" in traits
    hair = [HAIR[trait] for trait in traits if trait in HAIR]
    bases = [re.sub(r"^an? ", "a bald ", phrase) for phrase in plain] if bald else plain
    built = [_adorned(base, " and ".join(skins[:1] + hair)) + end for base in bases]
    if skins and skins[0] in ("light skin", "dark skin") and not plain[0][0].isupper():
        built.append(_adorned(_skinned(bases[0], skins[0].split()[0]), " and ".join(hair)) + end)
    return built


def _skinned(phrase: str, tone: str) -> str:
    """Put a tone in front: "a dark-skinned woman astronaut", "two dark-skinned men"."""
    found = re.match(r"^(an?|two|the) (.+)$", phrase)
    if not found:
        return f"{tone}-skinned {phrase}"
    return f"{'a' if found[1] == 'an' else found[1]} {tone}-skinned {found[2]}"


def _adorned(phrase: str, looks: str) -> str:
    """Insert "with dark skin" at a natural place in a phrase."""
    if not looks:
        return phrase
    if " with " in phrase:
        return phrase.replace(" with ", f" with {looks} and ", 1)
    person = re.match(rf"^((?:a woman and )?(?:an? |two )?(?:bald )?{_HEAD}) ((?:mountain )?\w+ing\b.*|in .*)$", phrase)
    return f"{person[1]} with {looks} {person[2]}" if person else f"{phrase} with {looks}"


def _two_skins(phrase: str, skins: list[str]) -> str:
    pair = re.match(r"^(a woman) and (a man) (.+)$", phrase)
    if pair:
        return f"{pair[1]} with {skins[0]} and {pair[2]} with {skins[1]} {pair[3]}"
    if is_plural(phrase):
        return f"two {phrase.removeprefix('two ')}, one with {skins[0]} and one with {skins[1]}"
    return f"{phrase} of a hand with {skins[0]} and a hand with {skins[1]}"


def related_words(label: str, tags: Sequence[str]) -> list[str]:
    """Tags that add something to the label, in CLDR's order."""
    words = set(re.findall(r"[a-z]+", label.lower()))
    return [tag for tag in tags if re.fullmatch(r"[a-z]{3,}(?: [a-z]{3,})?", tag) and not set(tag.split()) & words]


def captions(label: str, tags: Sequence[str], style: str) -> list[str]:
    """All captions of one picture, the simplest first, without duplicates.

    Args:
        label: The CLDR short name, with its skin tone and hair if it has them.
        tags: CLDR keywords.
        style: A key of `STYLE_NAMES`, or an empty string for no style.
    """
    return styled(subjects(label), style, words=related_words(label, tags), bare=_bare(label))


def _bare(label: str) -> str | None:
    """The label itself, as a quick prompt; None if it is unclear without a sentence."""
    replaces, _ = phrase_table().get(label, (False, ()))
    return None if ":" in label or replaces or len(label) < 3 else label.replace("’", "'")


def styled(phrases: Sequence[str], style: str, *, words: Sequence[str] = (), bare: str | None = None) -> list[str]:
    """Add a style to noun phrases: five captions with it and one without.

    Args:
        phrases: Noun phrases, the most common first.
        style: A key of `STYLE_NAMES`, or an empty string.
        words: Related words; one caption gets two of them.
        bare: The first phrase without its article, for one short caption.
    """
    usual = phrases[0]
    seed = hashlib.sha256(f"{usual}|{style}".encode()).digest()
    other = phrases[1 + seed[0] % (len(phrases) - 1)] if len(phrases) > 1 else usual
    name = STYLE_NAMES.get(style, "")
    if not name:
        return list(dict.fromkeys([usual, other, *([bare] if bare else [])]))
    result = [f"{usual}, {name}", f"{other}, {name}", f"{other} in {name}"]
    if bare:
        result.append(f"{bare}, {name}")
    if words:
        first = seed[1] % len(words)
        picked = dict.fromkeys([words[first], words[(first + 1) % len(words)]])
        result.append(f"{usual}, {', '.join(picked)}, {name}")
    result.append(f"an emoji of {usual}, {name}" if seed[2] % 2 else f"{name}, {usual}")
    result.append(usual if seed[3] % 2 else other)
    return list(dict.fromkeys(result))
