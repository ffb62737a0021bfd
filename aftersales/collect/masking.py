"""Personal data inside free text: found by pattern, checksum and the words around it, replaced by neutral tokens.

`find` says what stands where, `mask` replaces it. First match wins, in this order: e-mail, resident id, bank card,
telephone, number plate, VIN, messenger account, IP address, names. Full-width digits and signs are folded before the
search; the fold keeps lengths, so positions hold for the text as written.

What is left alone: order numbers, part numbers, prices, dates, campaign numbers, mileages. A number that has exactly
the shape of a mobile number is masked whatever stands before it. Business hotlines (400, 800, 1-800) are masked like
any other number: nobody can tell a dealer's desk from a person's by its digits. Names are masked where they are known
(the row's own name columns) or announced ("联系人: ..."); a name that nobody announced cannot be found reliably.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

KINDS = ("email", "id", "card", "phone", "plate", "vin", "account", "ip", "name")
"""What is looked for; the token of a kind is `⟨kind⟩`."""

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0xA0: 0x20}
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−"), ord("-"))
_FOLD = _WIDE | _DASHES
_FOLDED = re.compile("[\uff01-\uff5e\u3000\u00a0‐‑‒–—―−]")

_GATE = r"[0-9０-９@＠]|联系人|收件人|收货人|姓名"
_SIGNS = (
    r"[@＠]",
    r"[0-9０-９]{3}[-. ()（）－‐‑‒–—―−　\x{a0}]{0,4}[0-9０-９]{3}",
    r"[+＋][0-9０-９]|00[1-9][0-9]{0,2}[ -]",
    rf"[{_PROVINCES}][A-Za-zＡ-Ｚａ-ｚ][·•・\-－ ]?[0-9A-Za-z０-９Ａ-Ｚａ-ｚ]{{5}}",
    r"[0-9A-Za-z０-９Ａ-Ｚａ-ｚ]{17}",
    r"(?i:qq|微信|wechat)|[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
    r"(?:联系人|收件人|收货人|姓名)\s?[:：]",
)
# the same for one text at a time; only the engine's spelling of a blank differs
_GATED = re.compile(_GATE)
_SIGNED = re.compile("|".join(_SIGNS).replace(r"\x{a0}", r"\xa0"))


def may_hold(column: str) -> str:
    """SQL (DuckDB): false where `find` would find nothing without names, at a fraction of its cost.

    Examples
    --------
    >>> may_hold("body").startswith("case when not regexp_matches(body, ")
    True
    """
    signs = " ".join(f"when regexp_matches({column}, '{sign}') then true" for sign in _SIGNS)
    return f"case when not regexp_matches({column}, '{_GATE}') then false {signs} else false end"


@dataclass(frozen=True)
class Finding:
    """Something personal in a text: its kind and where it stands, as offsets into the text."""

    kind: str
    start: int
    end: int


def mask(text: str, names: Iterable[str] = ()) -> str:
    """`text` with everything personal replaced by its token; the very same text when there is nothing.

    Parameters
    ----------
    names
        Names known to belong to this row: Chinese ones are masked wherever they stand, also as surname with a title;
        Latin ones as whole words.

    Examples
    --------
    >>> mask("请致电138-1234-5678,京A·12345")
    '请致电⟨phone⟩,⟨plate⟩'
    >>> mask("order 4500123456, part 25430-3E201")
    'order 4500123456, part 25430-3E201'
    """
    names = list(names)
    if not names and not (_GATED.search(text) and _SIGNED.search(text)):
        return text
    found = find(text, names)
    if not found:
        return text
    parts, last = [], 0
    for finding in found:
        parts += [text[last : finding.start], f"⟨{finding.kind}⟩"]
        last = finding.end
    return "".join([*parts, text[last:]])


def find(text: str, names: Iterable[str] = ()) -> list[Finding]:
    """Everything personal in `text`, in the order in which it stands there; findings never overlap.

    Examples
    --------
    >>> find("mail: a.b@example.com")
    [Finding(kind='email', start=6, end=21)]
    """
    folded = text.translate(_FOLD) if _FOLDED.search(text) else text
    taken: list[Finding] = []

    def take(kind: str, start: int, end: int) -> None:
        if all(end <= other.start or start >= other.end for other in taken):
            taken.append(Finding(kind, start, end))

    for detector in _DETECTORS:
        for match in detector.pattern.finditer(folded):
            if detector.holds(folded, match):
                take(detector.kind, *match.span(detector.group))
    for pattern in _name_patterns(names):
        for match in pattern.finditer(folded):
            take("name", *match.span())
    return sorted(taken, key=lambda finding: finding.start)


# ------------------------------------------------------------------------------------------------------- detectors


@dataclass(frozen=True)
class _Detector:
    """A pattern, what else must hold, and which part of the match is replaced."""

    kind: str
    pattern: re.Pattern[str]
    holds: Callable[[str, re.Match[str]], bool] = lambda text, match: True
    group: int = 0


_PHONE_WORDS = re.compile(
    r"电话|座机|手机|联系|热线|致电|拨打|来电|回电|传真|客服|投诉|打|tel|phone|fax|call|cell|mobile|contact|hotline|"
    r"dial|reach|text|number is|whatsapp|ph[:#.]",
    re.I,
)
_CARD_WORDS = re.compile(r"卡|银行|账号|帐号|账户|card|visa|master|bank|iban|debit|credit|account", re.I)
_ORDER_WORDS = re.compile(r"单号|订单|运单|编号|流水|条码|order|tracking|invoice|parcel|barcode|s/?n\b|no\.", re.I)
_ID_WORDS = re.compile(r"身份证|证件|身份|id card|identity|resident|citizen", re.I)
_PLATE_WORDS = re.compile(r"车牌|牌照|车号|牌号|号牌|plate", re.I)
_VIN_WORDS = re.compile(r"\bvin\b|车架|车辆识别|底盘号|chassis|frame", re.I)


def _near(words: re.Pattern[str], text: str, match: re.Match[str], before: int = 16, after: int = 8) -> bool:
    """Whether one of `words` stands shortly before or after the match."""
    return bool(
        words.search(text, max(0, match.start() - before), match.start())
        or words.search(text, match.end(), match.end() + after)
    )


def _digits(text: str) -> str:
    return "".join(sign for sign in text if "0" <= sign <= "9")


def _is_day(digits: str) -> bool:
    """Whether eight (or, of last century, six) digits are a day of the calendar."""
    full = digits if len(digits) == 8 else "19" + digits
    try:
        day = dt.date(int(full[:4]), int(full[4:6]), int(full[6:8]))
    except ValueError:
        return False
    return 1900 <= day.year < 2100


_REGIONS = frozenset(map(str, [*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55),
                               *range(61, 66), 71, 81, 82, 83, 91]))  # fmt: skip
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _is_resident_id(text: str, match: re.Match[str]) -> bool:
    """GB 11643: region, day of birth and, of 18 digits, the check digit; 15 digits only where the words say so."""
    number = re.sub(r"[ \-]", "", match[0]).upper()
    if number[:2] not in _REGIONS:
        return False
    if len(number) == 15:
        return _is_day(number[6:12]) and _near(_ID_WORDS, text, match)
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, number, strict=False))
    return _is_day(number[6:14]) and "10X98765432"[total % 11] == number[17]


def _is_card(text: str, match: re.Match[str]) -> bool:
    """Luhn's check digit, an issuer's first digit, and groups of four, a bank's wording, or UnionPay's 62."""
    digits = _digits(match[0])
    if not 13 <= len(digits) <= 19:
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    if digits[0] not in "3456" or len(set(digits)) < 3 or sum(value // 10 + value % 10 for value in doubled) % 10:
        return False
    grouped = re.fullmatch(r"\d{4}([ \-])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ \-])\d{6}\2\d{5}", match[0])
    if grouped or _near(_CARD_WORDS, text, match, 20, 10):
        return True
    is_plain = match[0] == digits
    return is_plain and digits.startswith("62") and len(digits) >= 16 and not _near(_ORDER_WORDS, text, match, 12, 0)


_MAY_PRECEDE = re.compile(
    r"(tel|phone|mobile|call|cell|ph|mob|wechat|weixin|wx|vx|v|qq|whatsapp|contact|at|on|is|number|no|to|or|and|me|my)$",
    re.I,
)


def _is_mobile(text: str, match: re.Match[str]) -> bool:
    """Not the digits of a serial or part number: `SN13812345678`, `PN-13812345678`."""
    before = text[max(0, match.start() - 12) : match.start()]
    if re.search(r"[A-Za-z0-9][\-_/.]$", before):
        return _PHONE_WORDS.search(before) is not None
    letters = re.search(r"([A-Za-z]+)$", before)
    return letters is None or _MAY_PRECEDE.search(letters[1]) is not None


def _is_american(text: str, match: re.Match[str]) -> bool:
    """Groups parted by blanks alone are a number only with an area code, and an exchange or wording."""
    area, exchange = match[1] or match[2] or match[3], match[4]
    if match[3] is None or re.search(r"[.\-]", match[0][match.end(3) - match.start() :]):
        return True
    return area[0] in "23456789" and (exchange[0] in "23456789" or _near(_PHONE_WORDS, text, match))


def _is_plain_american(text: str, match: re.Match[str]) -> bool:
    """Ten or eleven digits without a sign: toll-free with the leading 1, else where the words say so."""
    number = _digits(match[0])
    toll_free = len(number) == 11 and number[1:4] in ("800", "833", "844", "855", "866", "877", "888")
    return toll_free or (_near(_PHONE_WORDS, text, match, 18, 0) and not _near(_ORDER_WORDS, text, match, 12, 0))


def _is_international(text: str, match: re.Match[str]) -> bool:
    number = _digits(match[0])
    return (10 if match[0][1:] == number else 8) <= len(number) <= 15


def _is_landline(text: str, match: re.Match[str]) -> bool:
    """An area code of the plan; without a sign between code and number the words must say it is a telephone."""
    subscriber = _digits(match[3])
    spoken = _near(_PHONE_WORDS, text, match)
    if len(subscriber) == 8 and subscriber[:2] in ("19", "20") and _is_day(subscriber):
        return spoken
    return spoken or match[1].startswith("(") or bool(match[2])


def _is_hotline(text: str, match: re.Match[str]) -> bool:
    return match[0] != _digits(match[0]) or _near(_PHONE_WORDS, text, match)


def _is_local(text: str, match: re.Match[str]) -> bool:
    """Seven or eight digits right after "电话"; not a day."""
    return not (len(match[1]) == 8 and _is_day(match[1]))


_MAY_END_BEFORE_PLATE = "的车是为牌号开到位辆主叫挂"
_HAN = re.compile("[\u4e00-\u9fff]")


def _is_plate(text: str, match: re.Match[str]) -> bool:
    """With the dot, or where no word ends in the province's sign (最新A12345), at least two digits."""
    if sum("0" <= sign <= "9" for sign in match[2]) < 2:
        return False
    before = text[max(0, match.start() - 1) : match.start()]
    free = not _HAN.match(before) or before in _MAY_END_BEFORE_PLATE
    capital = match[0].upper() == match[0]
    return (capital and (free or any(sign in match[0] for sign in "·•・"))) or _near(_PLATE_WORDS, text, match, 10, 0)


_VIN_VALUES = {sign: value for value, signs in enumerate(
    ("0", "1AJ", "2BKS", "3CLT", "4DMU", "5ENV", "6FW", "7GPX", "8HY", "9RZ")) for sign in signs}  # fmt: skip
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def _is_vin(text: str, match: re.Match[str]) -> bool:
    """ISO 3779 with the check digit of North America and China; without it only where the words say so."""
    vin = match[0].upper()
    letters = sum("A" <= sign <= "Z" for sign in vin)
    if not 1 <= letters <= 14 or not vin[13:].isdigit():
        return False
    if _near(_VIN_WORDS, text, match, 16, 0):
        return True
    total = sum(weight * _VIN_VALUES[sign] for weight, sign in zip(_VIN_WEIGHTS, vin, strict=True))
    return letters >= 3 and vin == match[0] and vin[8] == "0123456789X"[total % 11]


def _is_address(text: str, match: re.Match[str]) -> bool:
    """An IPv4 address that is called one; four numbers with dots are a firmware version otherwise."""
    try:
        ipaddress.IPv4Address(match[0])
    except ValueError:
        return False
    return bool(re.search(r"\bip\b|网址|地址", text[max(0, match.start() - 12) : match.start()], re.I))


_DETECTORS: Sequence[_Detector] = (
    _Detector(
        "email",
        re.compile(
            r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9_][A-Za-z0-9._%+\-]{0,63}@(?:[A-Za-z0-9\-]{1,63}\.)+[A-Za-z]{2,24}"
        ),
    ),
    _Detector(
        "id",
        re.compile(
            r"(?<![0-9A-Za-z])[1-9]\d{5}"
            r"(?:[ \-]?(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])\d{2}[ \-]?\d{3}[\dXx]|\d{9})(?![0-9A-Za-z])"
        ),
        _is_resident_id,
    ),
    _Detector(
        "card", re.compile(r"(?<![0-9A-Za-z\-])\d{4}[ \-]?\d{4,6}(?:[ \-]?\d{1,11}){1,3}(?![0-9A-Za-z\-])"), _is_card
    ),
    _Detector(
        "phone",
        re.compile(
            r"(?<![\w+])\+\d{1,3}[ .\-]{0,2}(?:\(\d{1,4}\)[ .\-]{0,2})?\d{1,14}(?:[ .\-]{1,2}\d{1,5}){0,5}(?!\d)"
        ),
        _is_international,
    ),
    _Detector("phone", re.compile(r"(?<!\d)00[1-9]\d{0,2}[ \-]\d{1,4}(?:[ \-]\d{2,5}){1,4}(?!\d)"), _is_international),
    _Detector(
        "phone",
        re.compile(
            r"(?<!\d)(?:(?:\+|00)?86[ \-]{0,2})?1[3-9]\d"
            r"(?:[ .\-]{0,2}\d{4}[ .\-]{0,2}\d{4}|\d[ .\-]{1,2}\d{3}[ .\-]{1,2}\d{4})(?!\d)"
        ),
        _is_mobile,
    ),
    _Detector(
        "phone",
        re.compile(
            r"(?<!\d)(?<!\d[.\-/])(?:\+?1[ .\-]{0,3})?"
            r"(?:\((\d{3})\)[ .\-]{0,4}|(\d{3})[ ]{0,3}[.\-][ .\-]{0,3}|(\d{3})[ ]{1,4})"
            r"(\d{3})[ .\-]{1,4}\d{4}(?!\d)(?!-\d)"
        ),
        _is_american,
    ),
    _Detector("phone", re.compile(r"(?<![\w.\-/])1?[2-9]\d{2}[2-9]\d{6}(?![\w\-])"), _is_plain_american),
    _Detector(
        "phone",
        re.compile(r"(?<![\d\-])[48]00(?:[ \-]{0,2}\d{3}[ \-]{0,2}\d{4}|[ \-]{0,2}\d{4}[ \-]{0,2}\d{3})(?!\d)"),
        _is_hotline,
    ),
    _Detector(
        "phone",
        re.compile(
            r"(?<![\d\-A-Za-z])(\((?:010|02[0-57-9]|0[3-9]\d\d)\)|010|02[0-57-9]|0[3-9]\d\d)"
            r"([ \-]{0,2})(\d{3,4}[ \-]?\d{4})(?:\s?(?:-|转|转接|分机|ext\.?)\s?\d{1,6})?(?![\dA-Za-z])"
        ),
        _is_landline,
    ),
    _Detector(
        "phone",
        re.compile(r"(?:电话|座机|传真)(?:号码|号)?(?:是|为)?[:\s]{0,2}([2-8]\d{6,7})(?![\d\-.])"),
        _is_local,
        group=1,
    ),
    _Detector(
        "plate",
        re.compile(
            rf"([{_PROVINCES}][A-Za-z])[·•・\- ]?((?:[A-HJ-NP-Za-hj-np-z0-9]{{4}}[A-HJ-NP-Za-hj-np-z0-9挂学警港澳]|"
            rf"[DFdf][A-HJ-NP-Za-hj-np-z0-9]\d{{4}}|\d{{5}}[DFdf])(?![A-Za-z0-9]))"
        ),
        _is_plate,
    ),
    _Detector("vin", re.compile(r"(?<![A-Za-z0-9])[A-HJ-NPR-Za-hj-npr-z0-9]{17}(?![A-Za-z0-9])"), _is_vin),
    _Detector(
        "account",
        re.compile(r"(?i:qq|微信|wechat)(?:号码|号|群)?(?:是|为)?[:\s]{0,3}([1-9]\d{4,10})(?!\d)"),
        group=1,
    ),
    _Detector("ip", re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"), _is_address),
    _Detector(
        "name",
        re.compile(r"(?:联系人|收件人|收货人|姓名)\s?:\s{0,2}([\u4e00-\u9fff]{2,4})(?![\u4e00-\u9fff])"),
        group=1,
    ),
)


# ----------------------------------------------------------------------------------------------------- known names

_TITLES = "先生|女士|小姐|老师|师傅|经理|太太|总"
_TWO_SIGN_SURNAMES = ("欧阳", "上官", "司马", "诸葛", "司徒", "东方", "皇甫", "尉迟", "公孙", "慕容", "令狐", "夏侯")


def _name_patterns(names: Iterable[str]) -> list[re.Pattern[str]]:
    """One pattern per known name, the longest first; single letters and signs are no names."""
    known = sorted({name.translate(_FOLD).strip() for name in names if name}, key=lambda name: (-len(name), name))
    return [pattern for name in known for pattern in (_han_name(name) if _HAN.search(name) else _latin_name(name))]


def _han_name(name: str) -> list[re.Pattern[str]]:
    if len(name) < 2:
        return []
    surname = name[:2] if name[:2] in _TWO_SIGN_SURNAMES and len(name) > 2 else name[:1]
    return [re.compile(re.escape(name)), re.compile(f"{re.escape(surname)}(?={_TITLES})")]


def _latin_name(name: str) -> list[re.Pattern[str]]:
    """The whole name in any case, and its parts of three letters or more where they are written with a capital."""
    words = [word for word in re.split(r"[\s,;.]+", name) if word]
    if not any(len(word) > 1 and word[0].isalpha() for word in words):
        return []
    whole = re.compile(r"(?<!\w)" + r"[\s,.]+".join(map(re.escape, words)) + r"(?!\w)", re.I)
    parts = [word for word in words if len(word) > 2 and word.isalpha()]
    capital = [
        re.compile(rf"(?<!\w)(?:{re.escape(part.capitalize())}|{re.escape(part.upper())})(?!\w)") for part in parts
    ]
    return [whole, *capital]
