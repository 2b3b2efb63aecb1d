"""Credits at the end of captions: who made a picture, where it was published, when it was taken.

A credit says nothing of what the picture shows, so it is cut off and the rest of the caption is kept. A pattern must
reach to the end of the caption and mostly begin behind a separator, so that "a photo by the lake" and "a © sign" stay
whole. Where a phrase may as well describe the picture, it stays.
"""

import re
import unicodedata

from trencadis.data.caption_dates import TAKEN

# Groups are atomic (`?>`) wherever two ways to read a word would be tried in turn, so that no caption takes long.
_SMALL = "".join(filter(str.islower, map(chr, range(0x530))))
_CAPITAL = rf"[^\W\d_{_SMALL}]"  # letters of scripts without capitals count as such
_DOMAIN = r"(?:[\w-]+\.)+(?:com|org|net|co|io|de|fr|uk|ru|cn|jp|gov|edu|info)\b\S*"
_NAME_START = rf"(?>{_DOMAIN}|{_CAPITAL}[\w'’.-]*|@[\w.]+)"
_PARTICLE = r"(?:de|del|der|den|da|dos|du|di|la|le|el|al|bin|ter|van|von|of|and|und|et|y|the|for|on|via)"
_NAMES = rf"(?>(?:the\s+)?{_NAME_START}(?:[\s,/&|+]+(?>{_NAME_START}|\d{{4}}\b|{_PARTICLE}\b))*)"
# Anything but a further sentence: a full stop before a space must be one of an initial or a short title.
_REST = r"(?>\S(?:[^.!?。！？;]|(?<![^\W\d_]{3})\.(?=\s)|[.!?](?!\s))*)"
_YEARS = r"\d{4}(?:\s*[-–]\s*\d{2,4})?"
_COLON = r"\s*[:：]\s*"

_PHOTO = r"(?:photo(?:graph|graphy)?s?|pictures?|images?|pic|foto|fotograf(?:ía|ia|ie)|bild)"
_MADE = rf"(?:{_PHOTO}|illustrations?|artwork|videos?)"
_AGENCY = (
    r"(?:getty\s+images?|shutterstock|alamy|i\s?stock(?:photo)?|adobe\s+stock|dreamstime|depositphotos|123rf|corbis"
    r"|ap\s+(?:photo|images)|associated\s+press|wikimedia(?:\s+commons)?|bigstock|fotolia|freepik|picture\s+alliance"
    r"|rex\s+features|wireimage|nurphoto|vectorstock)"
)
_NEWS = r"(?:afp|reuters|dpa|epa|xinhua|wikipedia|新华社|新華社|共同通信|時事通信|연합뉴스|뉴시스|тасс|риа\s+новости)"
_GALLERY = r"(?:flickr|unsplash|pixabay|pexels|pinterest|deviantart|500px|tumblr)"
_SITE = rf"(?:{_AGENCY}|{_NEWS}|{_GALLERY}|instagram|facebook|twitter|youtube|reddit)"
_STOCK_KIND = r"(?:photo(?:graph|graphy)?|image|vector|illustration|picture|footage|video)"
_STOCK_SORT = r"(?:(?:royalty[- ]free|free|editorial)\s+)?"
_STOCK = rf"(?:{_STOCK_SORT}stock\s+{_STOCK_KIND}s?(?:\s*(?:&|and)\s+(?:royalty[- ]free|b-roll)\s+footage)?)"
_STOCK_ABROAD = (
    r"(?:stock\s?(?:foto(?:grafie)?|vektor(?:grafik)?|vectorbeeld|illustratie)"
    r"|(?:foto(?:grafia)?|imagen|ilustración|v[ei]c?tor(?:ial)?|vettoriali?)\s+(?:de\s+)?stock)"
)
# Without a separator, many of them must be a title's: "he sells stock photos".
_STOCK_TITLE = (
    rf"(?:(?i:{_STOCK_SORT}stock\s+{_STOCK_KIND}|royalty[- ]free\s+stock\s+{_STOCK_KIND}s)"
    rf"|(?:Free\s+|Editorial\s+)?Stock\s+(?=[A-Z])(?i:{_STOCK_KIND}s))"
)
_STOCK_NUMBER = r"(?:[\s.\-#:]*(?:image|photo|id)?[\s.\-#:]*\d+)?"
_FREE = (
    r"royalty[- ]free\s+(?>(?:(?:stock|photos?|photography|images?|vectors?|illustrations?|cliparts?|and)\b[\s,]*)+)"
)
_ENLARGE = (
    r"(?:(?:click|tap)\s+(?:(?:here|on)\s+)?(?:(?:the\s+)?(?:image|picture|photo|thumbnail)\s+)?(?:to|for)\b"
    r"[^.]{0,30}?\b(?:enlarge|zoom|larger|bigger|full|expand|original)\b[^.]{0,30}"
    r"|(?:view|open|see)\s+(?:full|larger|original)[- ]?(?:size|image|picture|photo|version)*(?:\s+image)?"
    r"|(?:opens?|view)\s+in\s+(?:a\s+)?new\s+(?:tab|window)|enlarge\s+(?:this\s+)?(?:image|picture|photo))"
)

# What follows these is a credit whatever it is.
_CREDIT_LABEL = (
    rf"(?:{_MADE}\s+(?:credits?|courtesy|sources?)(?:\s+(?:of|to))?|(?:bild|foto)(?:nachweis|quelle|rechte|credits?)"
    r"|crédits?\s+(?:photos?|images?)|créditos?(?:\s+(?:de\s+)?(?:foto|imagen|imagem))?|автор\s+(?:фото|снимка)"
    r"|mandatory\s+credit|photographer|photographe|fotograf|fotógraf[oa]|фотограф"
    r"|图片来源|圖片來源|图源|圖源|摄影|攝影|撮影|出典|画像提供|사진\s?제공|출처|קרדיט|צילום|تصوير)"
)
# These are credits before a name.
_SOURCE_LABEL = (
    r"(?:credits?|courtesy|source|copyright|quelle|fuente|fonte|bron|crédits?|källa|kilde|lähde|źródło|kaynak|nguồn"
    r"|sumber|источник|джерело|来源|來源|المصدر|מקור)"
)
# These are credits before a name behind other text: alone they are labels ("Photo: Red Car").
_PHOTO_LABEL = (
    rf"(?:{_MADE}|fotoğraf(?:lar)?|zdjęci[ea]|fotky?|imagen|imagem|immagine|valokuva|kuva|kép|ảnh|фото|снимок|світлина"
    r"|写真|照片|图片|사진|صورة|الصورة)"
)
_DENSE_LABEL = (
    r"(?:图片来源|圖片來源|图源|圖源|摄影|攝影|撮影|出典|写真|照片|来源|來源|사진|출처)"  # no separator is needed
)

_APART = (
    rf"(?i:{_CREDIT_LABEL}){_COLON}{_REST}",
    rf"(?i:{_MADE}\s+(?:credits?|courtesy)(?:\s+(?:of|to))?)\s+{_NAMES}",
    rf"(?i:{_SOURCE_LABEL}){_COLON}(?:{_NAMES}|(?i:{_SITE}))",
    rf"(?i:{_PHOTO_LABEL}){_COLON}(?:{_NAMES}[\s/]+)?(?i:{_AGENCY}|{_NEWS})",
    rf"(?i:courtesy\s+of|{_PHOTO}\s+(?:by|par|por)|photographed\s+by|{_PHOTO}\s+(?:was\s+)?(?:taken|shot)\s+by)\s+{_NAMES}",
    rf"(?i:{_PHOTO}\s+(?:from|via))\s+(?i:{_SITE})",
    rf"fot\.\s+{_NAMES}",
    rf"(?i:copyright)\s*(?i:by\s+)?{_NAMES}",
    rf"(?i:{_AGENCY}(?:\s+{_STOCK})?(?:\s+\.?\s?(?:eps\s+)?vector\s+#\d+)?)(?:\s*/\s*{_NAMES})?",
    rf"(?<![,、，])(?<![,、，]\s)(?i:{_NEWS})(?:\s*/\s*{_NAMES})?",
    rf"(?<=\()(?:[\w .'’-]{{1,40}}/\s*(?:AP|(?i:{_NEWS}))|AP/\s*{_NAMES}|(?i:photo:?\s+{_NEWS})\s*/\s*{_NAMES})",
    r"[图圖]\s*[/／]\s*\S{1,20}",
    rf"(?i:(?:{_STOCK}|{_STOCK_ABROAD}|{_FREE})(?:,?\s+(?:picture|image)s?\s+and\s+{_FREE})?{_STOCK_NUMBER})",
    r"(?i:cc[- ](?:by|0)(?:[- ](?:nc|nd|sa))*(?:\s*\d\.\d)?|creative\s+commons|public\s+domain)",
    rf"(?i:{TAKEN})",
    rf"(?i:{_ENLARGE})",
    r"(?i:all\s+rights\s+reserved)",
)
_AFTER_TEXT = (
    rf"(?i:{_PHOTO_LABEL}){_COLON}{_NAMES}",
    rf"사진\s*=\s*{_NAMES}",
)
_BEHIND_SPACE = (
    rf"(?:(?:\([cC]\)|(?i:copyright)\s*(?:©|\([cC]\))?)\s*(?i:by\s+)?{_YEARS}(?:\s*,?\s*{_NAMES})?|\(c\)\s*{_NAMES})",
    rf"(?i:via)\s+(?:(?i:{_SITE})|@[\w.]+)|(?i:on\s+{_GALLERY}|from\s+{_AGENCY})",
    rf"[📷📸]\ufe0f?\s*(?:(?:(?i:by\s)|[:：])\s*{_NAMES}|@[\w.]+)",
    r"(?i:https?://|www\.)\S+",
)
_SPACE_AFTER_TEXT = (rf"{_STOCK_TITLE}(?i:{_STOCK_NUMBER}|\s*©\s*\w+)", rf"(?:Фото|Источник){_COLON}{_NAMES}")
_COPYRIGHT = (
    rf"(?:(?<!\w)(?i:{_PHOTO})(?:\s+(?i:by)|\s*:)?\s*)?[©ⓒ]\s*(?i:by\s+)?(?:{_YEARS}(?:\s*,?\s*{_NAMES})?|{_NAMES})"
)

_SEPARATOR = r"(?:[.!?,;|/(\[•·。！？，、；（【]\s*|\s[-–—~]+\s*)"
_CREDIT = re.compile(
    rf"(?:(?:^\W*|{_SEPARATOR})(?:{'|'.join(_APART)})|(?<=\S)\s*{_SEPARATOR}(?:{'|'.join(_AFTER_TEXT)})"
    rf"|(?:^|\s+|{_SEPARATOR})(?:{'|'.join(_BEHIND_SPACE)})|(?<=\S)\s+(?:{'|'.join(_SPACE_AFTER_TEXT)})"
    rf"|(?<=\S)\s*{_DENSE_LABEL}\s*[:：/／=]\s*{_REST}|(?:^|{_SEPARATOR}|\s*){_COPYRIGHT}"
    r"|\|\s*(?i:" + _GALLERY + r"|" + _DOMAIN + r"))[\s.)\]）】\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]*$"
)
# A caption does not end with one of these, so what follows one belongs to it: "a sign that says www.example.com".
_OPEN_END = re.compile(
    r"(?<!\w)(?:a|an|the|of|by|with|on|in|at|to|for|from|and|or|that|which|is|are|was|like|as|shows?|showing|spelling"
    r"|says?|saying|said|reads?|reading|marked|labell?ed|called|named|titled|letters?|words?|logos?|symbols?|signs?"
    r"|ein|eine|einen|der|die|das|von|mit|und|zu|im|am|un|une|le|la|les|de|du|des|et|avec|el|los|una|y|con|il|lo|di|e"
    r"|и|в|на|с|из|от)$",
    re.IGNORECASE,
)
_CREDIT_CHARS = 200
"""Credits are at most so long together. Only so much of the end is searched, so that no caption takes long."""
_MOST_CREDITS = 6


def without_credits(caption: str) -> str:
    """Return a caption without the credits at its end; empty if it is nothing else."""
    start = max(0, len(caption) - _CREDIT_CHARS)
    before, end = caption[:start], unicodedata.normalize("NFC", caption[start:])
    kept = end
    for _ in range(_MOST_CREDITS):
        shorter = _without_one(kept, is_whole=not start)
        if shorter is None:
            break
        kept = shorter
    return caption if kept == end else before + kept


def _without_one(text: str, *, is_whole: bool) -> str | None:
    found = next((match for match in _CREDIT.finditer(text) if is_whole or match.start()), None)
    if found is None:
        return None
    kept = text[: found.start()].rstrip(" ,;:|/-–—~([•·（【，、；")
    is_apart = re.match(_SEPARATOR, found[0]) is not None
    if not is_apart and _OPEN_END.search(kept):
        return None
    # A full stop belongs to the sentence before it.
    return kept + found[0][0] if kept and found[0][0] in ".!?。！？" else kept
