"""Credits at the end of captions: who made a picture, where it was published, when it was taken.

A credit says nothing of what the picture shows, so it is cut off and the rest of the caption is kept. A pattern must
reach to the end of the caption and begin behind a separator, so that "a photo by the lake" and "a © sign" stay whole.
"""

import re

_UPPER = r"[^\W\d_a-zß-öø-ÿ]"  # a letter that is not a small Latin one; other scripts count as capitals
_DOMAIN = r"[\w-]+\.(?:com|org|net|co|io|de|fr|uk|ru|cn|jp)\b\S*"
_NAME_START = rf"(?:{_UPPER}[\w'’.-]*|@[\w.]+|{_DOMAIN})"
_PARTICLE = r"(?:de|del|der|den|da|dos|du|di|la|le|el|al|bin|ter|van|von|of|and|und|et|y|the|for|on|via)"
_NAME_WORD = rf"(?:{_NAME_START}|\d{{4}}|{_PARTICLE}\b)"
_NAMES = rf"{_NAME_START}(?:[\s,/&|+]+{_NAME_WORD})*"
_MADE = r"(?:photo(?:graph|graphy)?s?|pictures?|images?|pic|foto|fotograf(?:ía|ia|ie)|bild|illustration|artwork|video)"
_YEARS = r"\d{4}(?:\s*[-–]\s*\d{2,4})?"
_AGENCIES = (
    r"(?:getty\s+images?|shutterstock|alamy|i\s?stock(?:photo)?|adobe\s+stock|dreamstime|depositphotos|123rf|afp|reuters"
    r"|ap\s+(?:photo|images)|associated\s+press|wikimedia(?:\s+commons)?|wikipedia|corbis|bigstock|fotolia|freepik)"
)
_SITES = rf"(?:{_AGENCIES}|flickr|unsplash|pixabay|pexels|pinterest|instagram|facebook|twitter|deviantart|500px|tumblr)"
_STOCK = r"(?:royalty[- ]free\s+)?stock\s+(?:photo(?:graph|graphy)?|image|vector|illustration|picture|footage)s?"

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*\.?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?"
_TIME = r"(?:,?\s*(?:at\s+|T)?\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\.?)?)?"
_DATES = (
    r"\d{4}[-/.:]\d{1,2}[-/.:]\d{1,2}",
    r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})",
    rf"\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+\d{{4}}",
    rf"{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}",
    rf"{_MONTH}\s+\d{{4}}",
    r"(?:19|20)\d{6}",
    r"(?:19|20)\d{2}",
)
DATE = rf"{_WEEKDAY}(?:{'|'.join(_DATES)}){_TIME}"
THING = r"(?:(?:the|this|a|an|my)\s+)?(?:photo(?:graph)?s?|pictures?|images?|pics?|snapshots?|videos?|scans?)"
_DONE = r"(?:photographed|taken|shot|captured|created|uploaded|posted|scanned|digiti[sz]ed|published|recorded|dated?)"
TAKEN = rf"(?:{THING}\s+)?(?:(?:was|were|is)\s+)?(?:originally\s+)?{_DONE}\s*(?:on|in|at|:)?\s*{DATE}(?!\w)"

# Behind a full stop, a comma, a bar, a bracket or a dash between spaces; or the whole caption.
_APART = (
    rf"(?i:{_MADE}\s+(?:credits?|courtesy)(?:\s+(?:of|to))?)\s*[:：]?\s*\S.*",
    r"(?i:credits?|courtesy(?:\s+of)?|source|quelle|fuente|crédits?(?:\s+photos?)?|bildquelle)\s*[:：]\s*\S.*",
    rf"(?i:courtesy\s+of|{_MADE}\s+(?:by|par|por)|photographed\s+by|shot\s+by)\s+{_NAMES}",
    rf"(?i:copyright)\s*(?i:by\s+)?{_NAMES}",
    rf"(?i:{_AGENCIES}(?:\s+{_STOCK})?)(?:\s*/\s*{_NAMES})?",
    rf"(?i:{_STOCK})(?:\s+#?\d+)?",
    rf"(?i:{TAKEN})",
    r"(?i:all\s+rights\s+reserved)",
)
# Only behind other text: alone they are labels ("Photo: Red Car").
_AFTER_TEXT = (
    rf"(?i:{_MADE})\s*[:：]\s*{_NAMES}",
    r"(?i:фото|снимок|источник)\s*[:：]\s*\S.*",
    r"(?:写真|撮影|图片来源|图源|摄影|来源|圖片來源|사진|출처)\s*[:：/／]\s*\S.*",
)
# Behind a space.
_ANYWHERE = (
    rf"(?:©|\([cC]\)|(?i:copyright)\s*(?:©|\([cC]\))?(?=\s*\d{{4}}))\s*(?i:by\s+)?(?:{_YEARS}\s*,?\s*)?(?:{_NAMES})?",
    rf"(?i:via|on)\s+(?i:{_SITES})",
    r"(?i:https?://|www\.)\S+",
)
_SEPARATOR = r"[.,;|/(\[•·。，；（]\s*|\s[-–—~]+\s*"
_CREDIT = re.compile(
    rf"(?:(?:^|{_SEPARATOR})(?:{'|'.join(_APART)})|(?:{_SEPARATOR}|(?<=\S)\s+)(?:{'|'.join(_AFTER_TEXT)})"
    rf"|(?:^|\s+|{_SEPARATOR})(?:{'|'.join(_ANYWHERE)}))"
    r"[\s.)\]）]*$"
)
_CREDIT_CHARS = 200
"""A credit is at most so long. Only so much of the end is searched, so that no caption takes long."""


def without_credits(caption: str) -> str:
    """Return a caption without the credits at its end; empty if it is nothing else."""
    while True:
        start = max(0, len(caption) - _CREDIT_CHARS)
        found = next((match for match in _CREDIT.finditer(caption, start) if match.start() > start or not start), None)
        if found is None or found.start() == found.end():
            return caption
        kept = caption[: found.start()].rstrip(" ,;:|/-–—~([•·（，；")
        # A full stop belongs to the sentence before it.
        caption = kept + found[0][0] if kept and found[0][0] in ".。" else kept
