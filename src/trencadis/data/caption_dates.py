"""Patterns of dates in captions, and of the phrases that tell when a picture was taken. All ignore case."""

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
# German, French, Spanish, Italian, Portuguese, Dutch, Polish and Russian; read only behind a day.
_OTHER_MONTH = (
    r"(?:januar|jänner|februar|märz|mai|juni|juli|oktober|dezember"
    r"|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre"
    r"|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
    r"|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre"
    r"|janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro"
    r"|januari|februari|maart|mei|augustus"
    r"|stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|sierpnia|września|października|listopada|grudnia"
    r"|января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря)\b"
)
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?"
_TIME = r"(?:,?\s*(?:at\s+|T)?\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\.?)?)?"
_YEAR = r"(?:19|20)\d{2}"
_DAYS = (
    r"\d{4}[-/.:]\d{1,2}[-/.:]\d{1,2}",
    r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})",
    rf"\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+\d{{4}}",
    rf"{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}",
    rf"{_MONTH}\s+\d{{4}}",
    rf"\d{{1,2}}\.?\s+(?:de\s+)?(?:{_OTHER_MONTH}|{_MONTH})\s+(?:del?\s+)?\d{{4}}(?:\s*г\.?)?",
    r"\d{4}\s?[年년]\s?\d{1,2}\s?[月월](?:\s?\d{1,2}\s?[日일])?",
    rf"{_YEAR}\d{{4}}",
)
DATE = rf"{_WEEKDAY}(?:{'|'.join((*_DAYS, _YEAR))}){_TIME}"
# In a phrase, a year alone must end the sentence: "picture of 1967 VW" tells what is drawn.
_DATE_IN_PHRASE = rf"{_WEEKDAY}(?:{'|'.join(_DAYS)}|{_YEAR}(?=\s*(?:$|[.,;|)\]]))){_TIME}(?!\w)"
_THING = r"(?:(?:the|this|a|an|my)\s+)?(?:photo(?:graph)?s?|pictures?|images?|pics?|snapshots?|videos?|scans?)"
_WAS = r"(?:(?:was|were|is)\s+)?(?:originally\s+)?"
_TAKEN = r"(?:photographed|taken|uploaded|posted|scanned|digiti[sz]ed)"
_DONE = rf"(?:{_TAKEN}|shot|captured|created|published|recorded|dated?)"
_WHEN = rf"\s*(?:on|in|at|:)?\s*{_DATE_IN_PHRASE}"

TAKEN = rf"(?:(?:{_THING}\s+)?{_WAS}{_TAKEN}{_WHEN}|{_THING}\s+{_WAS}{_DONE}{_WHEN})"
"""What tells when a picture was taken, such as "photographed on 3 May 2011", and cannot be about what is drawn."""
DATED = rf"(?:\b{TAKEN}|^\W*{_DONE}{_WHEN}|\b{_THING}\s*(?:from|of|on|:)?\s*{_DATE_IN_PHRASE})"
"""Those, and others that are no description where they are most of a caption. "A coin, dated 1890" is one."""
